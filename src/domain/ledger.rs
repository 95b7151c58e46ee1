//! Ledgers: exact sliding windows of who did what when, over a [`SlidingLog`].
//!
//! The log stores entries rather than counters. Must not read a clock: each call receives the time.
//! The memory store uses this module. The Redis store implements the same rules in Lua.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use super::limit::{Limit, Policy, Window};
use super::time::EntryId;
use super::time::{Millis, millis};

/// The state of the tightest window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState {
    /// The policy that the window belongs to.
    pub policy: Policy,
    /// The window.
    pub window: Window,
    /// How many more entries it allows now.
    pub remaining: u32,
    /// The time until its oldest entry leaves it. Zero if it has no entry.
    pub reset: Duration,
    /// The time until it allows one more entry. Zero if it does so now.
    pub wait: Duration,
}

/// The entries of a ledger, oldest first. A rule counts all of them, or those whose partition
/// begins with the same bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SlidingLog {
    entries: Vec<(EntryId, Partition)>,
}

/// Bytes of a partition.
pub const PARTITION_BYTES: usize = 8;

/// What an entry is counted under, within a ledger that several share.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Partition(pub [u8; PARTITION_BYTES]);

impl fmt::Debug for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Partition({:016x})", u64::from_be_bytes(self.0))
    }
}

/// The rule for one view of a log.
#[derive(Debug, Clone, Copy)]
pub struct LimitRule<'a> {
    /// The policy that it enforces.
    pub policy: Policy,
    /// The windows.
    pub limit: &'a Limit,
    /// Multiplies the maximum of each window.
    pub factor: NonZeroU32,
    /// How many bytes of the partition an entry must share to count. Zero means that all entries
    /// count.
    pub partition_bytes: usize,
}

impl LimitRule<'_> {
    /// Returns the windows, with the factor applied.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        let widen = |window: &Window| Window { most: window.most.saturating_mul(self.factor), ..*window };
        self.limit.windows().iter().map(widen)
    }
}

impl SlidingLog {
    /// Returns the state of the tightest window of this rule for an entry with this partition,
    /// unless it has none.
    #[must_use]
    pub fn limit_state(&self, rule: &LimitRule<'_>, partition: Partition, now: Millis) -> Option<LimitState> {
        tightest(rule.windows().map(|window| self.window(rule, window, partition, now)))
    }

    fn window(&self, rule: &LimitRule<'_>, window: Window, partition: Partition, now: Millis) -> LimitState {
        let span = millis(window.span);
        // Saturates, so that a clock before the first span does not wrap.
        let counts = |(id, of): &&(EntryId, Partition)| {
            id.saturating_add(span) > now
                && of.0.iter().zip(partition.0).take(rule.partition_bytes).all(|(a, b)| *a == b)
        };
        let counted: Vec<EntryId> = self.entries.iter().filter(counts).map(|(id, _)| *id).collect();
        let until_left = |id: EntryId| Duration::from_millis((id + span).saturating_sub(now));
        let most = window.most.get() as usize;
        let room = most.saturating_sub(counted.len());
        let reset = counted.first().map_or(Duration::ZERO, |id| until_left(*id));
        let in_the_way = counted.len().checked_sub(most).and_then(|at| counted.get(at));
        let wait = in_the_way.map_or(Duration::ZERO, |id| until_left(*id));
        let remaining = u32::try_from(room).unwrap_or(u32::MAX);
        LimitState { policy: rule.policy, window, remaining, reset, wait }
    }

    /// Returns the id of the newest entry.
    #[must_use]
    pub fn newest(&self) -> Option<EntryId> {
        self.entries.last().map(|(id, _)| *id)
    }

    /// Adds an entry that is newer than all others, and removes those that are older than
    /// `retention`.
    pub fn add(&mut self, id: EntryId, partition: Partition, retention: Duration, now: Millis) {
        self.entries.retain(|(id, _)| id.saturating_add(millis(retention)) > now);
        self.entries.push((id, partition));
    }

    /// Removes one entry, if it is still there.
    pub fn remove(&mut self, id: EntryId) {
        self.entries.retain(|(entry, _)| *entry != id);
    }

    /// Returns whether every entry is older than `retention`.
    #[must_use]
    pub fn is_forgotten(&self, retention: Duration, now: Millis) -> bool {
        self.entries.last().is_none_or(|(id, _)| id.saturating_add(millis(retention)) <= now)
    }
}

/// Returns the state of the tightest of these windows: that with the longest wait, then with the
/// least room, then the first.
pub fn tightest(limit_states: impl IntoIterator<Item = LimitState>) -> Option<LimitState> {
    limit_states.into_iter().reduce(|tightest, other| {
        let tighter = (other.wait, tightest.remaining) > (tightest.wait, other.remaining);
        if tighter { other } else { tightest }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(text: &str) -> Limit {
        text.parse().unwrap()
    }

    fn rule(limit: &Limit) -> LimitRule<'_> {
        LimitRule { policy: Policy::IpSends, limit, factor: NonZeroU32::MIN, partition_bytes: 0 }
    }

    fn log(ids: &[EntryId]) -> SlidingLog {
        SlidingLog { entries: ids.iter().map(|id| (*id, Partition::default())).collect() }
    }

    fn limit_state(log: &SlidingLog, limit: &Limit, now: Millis) -> LimitState {
        log.limit_state(&rule(limit), Partition::default(), now).unwrap()
    }

    #[test]
    fn an_entry_counts_until_it_is_as_old_as_the_window() {
        let limit = limit("1/60s");
        let log = log(&[1_000_000]);
        let before = limit_state(&log, &limit, 1_059_999);
        assert_eq!((before.remaining, before.wait), (0, Duration::from_millis(1)));
        let after = limit_state(&log, &limit, 1_060_000);
        assert_eq!((after.remaining, after.wait, after.reset), (1, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn entries_in_the_future_count() {
        let stands = limit_state(&log(&[1_000_000]), &limit("1/60s"), 900_000);
        assert_eq!((stands.remaining, stands.wait), (0, Duration::from_secs(160)));
    }

    #[test]
    fn the_longest_wait_decides_then_the_least_room_then_the_first() {
        let entries = log(&[1_000_000, 1_010_000]);
        let decides = |text: &str| limit_state(&entries, &limit(text), 1_010_000).window.most.get();
        assert_eq!(decides("1/60s 2/1h"), 2);
        assert_eq!(decides("9/60s 4/1h"), 4);
        assert_eq!(decides("4/60s 5/1h"), 4);
        let first = limit("2/1h");
        let second = limit("2/1h");
        let tied = [rule(&first), LimitRule { policy: Policy::EmailSendsTotal, ..rule(&second) }];
        let state = |rule| entries.limit_state(rule, Partition::default(), 1_010_000);
        let tied = tightest(tied.iter().filter_map(state)).unwrap();
        assert_eq!(tied.policy, Policy::IpSends);
    }

    proptest! {
        #[test]
        fn after_the_wait_one_more_is_admitted_and_not_a_moment_before(
            gaps in prop::collection::vec(0_u64..50_000, 0..40),
            since in 0_u64..100_000,
        ) {
            let ids: Vec<_> = gaps.iter().scan(1_000_000, |at, gap| { *at += gap + 1; Some(*at) }).collect();
            let log = log(&ids);
            let limit = limit("2/60s 10/400s 15/10m");
            let now = ids.last().unwrap_or(&1_000_000) + since;
            let wait = millis(limit_state(&log, &limit, now).wait);
            prop_assert_eq!(limit_state(&log, &limit, now + wait).wait, Duration::ZERO);
            if wait > 0 {
                prop_assert!(!limit_state(&log, &limit, now + wait - 1).wait.is_zero());
            }
        }
    }
}

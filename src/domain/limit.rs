//! Ledgers: exact sliding windows over what was done.
//!
//! An action is admitted if, in each window, fewer entries than it may hold are later than the window is long
//! ago; entries in the future of a clock that was set back count. A refusal leaves no entry. Must not know the
//! time: each step is told it. The memory store runs on this; the Redis store says the same in Lua.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::slot::TENANT_OCTETS;
use super::verification::{LONGEST_LIFE, Millis, millis};

/// The longest way from a send's entry to its code being live (step 4 to step 6 of a send).
pub const SLOWEST_OPENING: Duration = Duration::from_secs(10);
/// What a limit calls a day: 24 hours, the longest life of a verification and the slowest opening, so that
/// guesses made late on early openings stay inside what a day of 24 hours may hold.
pub const DAY: Duration =
    Duration::from_secs(24 * 60 * 60 + LONGEST_LIFE.as_secs() + SLOWEST_OPENING.as_secs());
/// How many networks of one /48 it takes to meet its wider limit.
pub const NETWORKS_PER_SITE: u32 = 5;

/// The longest window that can be set.
const LONGEST_WINDOW: Duration = Duration::from_hours(31 * 24);
/// The most entries that a window can be set to hold: a ledger is read as a whole.
const MOST_ENTRIES: u32 = 100_000;
/// The most windows of one limit.
const MOST_WINDOWS: usize = 4;

/// What is counted; the names are those that callers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ledger {
    /// Sends of a network at a tenant.
    NetworkSends,
    /// Guesses of a network at a tenant.
    NetworkGuesses,
    /// Sends to a person for a tenant.
    SubjectSends,
    /// One site's share of those.
    SiteSends,
    /// One site's guesses at a person.
    SiteGuesses,
    /// Sends to a person for all tenants.
    AddressSends,
}

/// No more than so many entries in so long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Entries that it may hold.
    pub most: NonZeroU32,
    /// How long an entry stands in it.
    pub span: Duration,
}

/// The windows of a ledger; all of them hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit(Vec<Window>);

/// A text that is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no limit: one to four windows such as 5/1h, 10/day or 1/60s, with spaces between")]
pub struct InvalidLimit;

/// How the tightest of some windows stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whose window it is.
    pub ledger: Ledger,
    /// Which window.
    pub window: Window,
    /// How many more entries it would take now.
    pub remaining: u32,
    /// When the oldest of its entries leaves it; zero where it has none.
    pub reset: Duration,
    /// When it admits one more; zero where it does so now.
    pub wait: Duration,
}

impl Ledger {
    /// The name that callers see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NetworkSends => "network_sends",
            Self::NetworkGuesses => "network_guesses",
            Self::SubjectSends => "subject_sends",
            Self::SiteSends => "site_sends",
            Self::SiteGuesses => "site_guesses",
            Self::AddressSends => "address_sends",
        }
    }
}

impl Ledger {
    /// Whether it counts what one network does, whoever it does it to.
    #[must_use]
    pub fn is_a_networks(self) -> bool {
        matches!(self, Self::NetworkSends | Self::NetworkGuesses)
    }
}

impl Limit {
    /// Its windows, as they were written.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.0
    }

    /// The same windows with room for so many times the entries.
    #[must_use]
    pub fn times(&self, factor: u32) -> Self {
        let widen = |window: &Window| {
            let factor = NonZeroU32::new(factor).unwrap_or(NonZeroU32::MIN);
            Window { most: window.most.saturating_mul(factor), ..*window }
        };
        Self(self.0.iter().map(widen).collect())
    }

    /// The time that must pass between two entries; zero where no window holds one alone.
    #[must_use]
    pub fn cooldown(&self) -> Duration {
        let single = self.0.iter().filter(|window| window.most == NonZeroU32::MIN);
        single.map(|window| window.span).max().unwrap_or_default()
    }

    /// The longest time that an entry matters.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|window| window.span).max().unwrap_or_default()
    }

    /// The most entries that any stretch of so long a time can hold: each window covers it by as many of its
    /// spans as it takes.
    #[must_use]
    pub fn most_in(&self, time: Duration) -> u64 {
        let bound = |window: &Window| {
            millis(time).div_ceil(millis(window.span).max(1)).saturating_mul(window.most.get().into())
        };
        self.0.iter().map(bound).min().unwrap_or(u64::MAX)
    }
}

impl FromStr for Limit {
    type Err = InvalidLimit;

    /// Reads windows such as `1/60s 5/1h 10/day`: entries from 1 to 100,000, times from 1 s to 31 days.
    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let windows: Vec<_> =
            text.split_ascii_whitespace().map(Window::from_str).collect::<Result<_, _>>()?;
        if windows.is_empty() || windows.len() > MOST_WINDOWS {
            return Err(InvalidLimit);
        }
        Ok(Self(windows))
    }
}

impl FromStr for Window {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let (most, span) = text.split_once('/').ok_or(InvalidLimit)?;
        let most = whole(most).filter(|most| *most <= u64::from(MOST_ENTRIES));
        let most = most.and_then(|most| NonZeroU32::new(u32::try_from(most).ok()?)).ok_or(InvalidLimit)?;
        let span = span_of(span).ok_or(InvalidLimit)?;
        if span.is_zero() || span > LONGEST_WINDOW {
            return Err(InvalidLimit);
        }
        Ok(Self { most, span })
    }
}

fn span_of(text: &str) -> Option<Duration> {
    if text == "day" {
        return Some(DAY);
    }
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|number| (number, seconds)))?;
    whole(number)?.checked_mul(seconds).map(Duration::from_secs)
}

/// Decimal digits and nothing else: `parse` alone would take a sign.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Limit {
    /// The form that is read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, window) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{window}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.span.as_secs();
        match seconds {
            _ if self.span == DAY => write!(f, "{}/day", self.most),
            _ if seconds.is_multiple_of(3600) => write!(f, "{}/{}h", self.most, seconds / 3600),
            _ => write!(f, "{}/{seconds}s", self.most),
        }
    }
}

/// How a network is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkLimit {
    /// An IPv4 address, or an IPv6 /64.
    pub network: Limit,
    /// An IPv6 /48.
    pub site: Limit,
}

/// How sends to one person are limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendLimits {
    /// For one tenant.
    pub subject: Limit,
    /// For one tenant, from one site.
    pub site: Limit,
    /// For all tenants.
    pub address: Limit,
}

/// Every limit that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sends of a network.
    pub network_sends: NetworkLimit,
    /// Guesses of a network.
    pub network_guesses: NetworkLimit,
    /// Sends to a person.
    pub sends: SendLimits,
    /// Guesses of one site at a subject.
    pub site_guesses: Limit,
    /// Mails that the relay takes.
    pub relay_mails: RelayMails,
}

/// How many mails the relay takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayMails {
    /// As many as there are.
    Unlimited,
    /// So many in a day.
    PerDay(NonZeroU32),
}

impl NetworkLimit {
    /// A limit of networks, and what follows from it for a site.
    #[must_use]
    pub fn new(network: Limit) -> Self {
        let site = network.times(NETWORKS_PER_SITE);
        Self { network, site }
    }

    /// The longest time that an entry matters to one of them.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.network.longest().max(self.site.longest())
    }
}

impl SendLimits {
    /// The ledgers over the log of a person's sends, in the order in which they are named to callers.
    #[must_use]
    pub fn quotas(&self, has_site: bool) -> Vec<Quota<'_>> {
        let subject = Quota { ledger: Ledger::SubjectSends, limit: &self.subject, shared: TENANT_OCTETS };
        let site = Quota { ledger: Ledger::SiteSends, limit: &self.site, shared: MARK_OCTETS };
        let address = Quota { ledger: Ledger::AddressSends, limit: &self.address, shared: 0 };
        if has_site { vec![subject, site, address] } else { vec![subject, address] }
    }

    /// The longest time that an entry matters to one of them.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.subject.longest().max(self.site.longest()).max(self.address.longest())
    }
}

/// The entries of one or more ledgers, oldest first. A ledger can count all of them, or those whose mark
/// begins alike.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Log {
    entries: Vec<(Stamp, Mark)>,
}

/// When an entry was made, in milliseconds since the Unix epoch; bumped where needed, so that in one log it
/// names the entry.
pub type Stamp = Millis;

/// Octets of a mark.
pub const MARK_OCTETS: usize = 8;

/// On whose account an entry stands: for sends to a person, tenant and site (four octets of a keyed hash each).
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Mark(pub [u8; MARK_OCTETS]);

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mark({:016x})", u64::from_be_bytes(self.0))
    }
}

/// One ledger's view of a log.
#[derive(Debug, Clone, Copy)]
pub struct Quota<'a> {
    /// Which ledger.
    pub ledger: Ledger,
    /// How it is limited.
    pub limit: &'a Limit,
    /// How many octets of the mark an entry must share to count; none: all entries count.
    pub shared: usize,
}

impl Log {
    /// How the tightest window of these quotas stands for an entry with this mark: the one with the longest
    /// wait, then the one with the least room, then the first.
    #[must_use]
    pub fn standing(&self, quotas: &[Quota<'_>], mark: Mark, now: Millis) -> Option<Standing> {
        let standings = quotas.iter().flat_map(|quota| {
            quota.limit.windows().iter().map(move |window| self.window(quota, *window, mark, now))
        });
        tightest(standings)
    }

    fn window(&self, quota: &Quota<'_>, window: Window, mark: Mark, now: Millis) -> Standing {
        let span = millis(window.span);
        // Written so that a clock before the first span does not wrap.
        let counts = |(stamp, of): &&(Stamp, Mark)| {
            stamp.saturating_add(span) > now
                && of.0.iter().zip(mark.0).take(quota.shared).all(|(a, b)| *a == b)
        };
        let counted: Vec<Stamp> = self.entries.iter().filter(counts).map(|(stamp, _)| *stamp).collect();
        let until_left = |stamp: Stamp| Duration::from_millis((stamp + span).saturating_sub(now));
        let most = window.most.get() as usize;
        let room = most.saturating_sub(counted.len());
        let reset = counted.first().map_or(Duration::ZERO, |stamp| until_left(*stamp));
        let in_the_way = counted.len().checked_sub(most).and_then(|at| counted.get(at));
        let wait = in_the_way.map_or(Duration::ZERO, |stamp| until_left(*stamp));
        let remaining = u32::try_from(room).unwrap_or(u32::MAX);
        Standing { ledger: quota.ledger, window, remaining, reset, wait }
    }

    /// The stamp of the newest entry.
    #[must_use]
    pub fn newest(&self) -> Option<Stamp> {
        self.entries.last().map(|(stamp, _)| *stamp)
    }

    /// Adds an entry that is newer than all others, and forgets those that `keep` has passed.
    pub fn add(&mut self, stamp: Stamp, mark: Mark, keep: Duration, now: Millis) {
        self.entries.retain(|(stamp, _)| stamp.saturating_add(millis(keep)) > now);
        self.entries.push((stamp, mark));
    }

    /// Takes one entry out, if it is still there.
    pub fn remove(&mut self, stamp: Stamp) {
        self.entries.retain(|(entry, _)| *entry != stamp);
    }

    /// Whether no entry is younger than `keep`.
    #[must_use]
    pub fn is_forgotten(&self, keep: Duration, now: Millis) -> bool {
        self.entries.last().is_none_or(|(stamp, _)| stamp.saturating_add(millis(keep)) <= now)
    }
}

/// The standing that decides: the longest wait, then the least room, then the first.
#[must_use]
pub fn tightest(standings: impl IntoIterator<Item = Standing>) -> Option<Standing> {
    standings.into_iter().reduce(|tightest, other| {
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

    fn quota(limit: &Limit) -> Quota<'_> {
        Quota { ledger: Ledger::NetworkSends, limit, shared: 0 }
    }

    fn log(stamps: &[Stamp]) -> Log {
        Log { entries: stamps.iter().map(|stamp| (*stamp, Mark::default())).collect() }
    }

    fn standing(log: &Log, limit: &Limit, now: Millis) -> Standing {
        log.standing(&[quota(limit)], Mark::default(), now).unwrap()
    }

    #[test]
    fn limits_read_back() {
        for text in ["1/60s 5/1h 10/day", "100/24h", "1/1s 2/61s 3/2h 4/day", "100000/744h"] {
            assert_eq!(limit(text).to_string(), text);
        }
        assert_eq!(limit("5/60m").to_string(), "5/1h");
        assert_eq!(limit("1/day").longest(), Duration::from_secs(24 * 3600 + 30 * 60 + 10));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "",
            " ",
            "5",
            "5/",
            "/1h",
            "5/h",
            "0/1h",
            "5/0s",
            "+5/1h",
            "5/+1h",
            "-1/1h",
            "5/1d",
            "5/1H",
            "5 / 1h",
            "100001/1h",
            "1/745h",
            "5/1h,10/day",
            "1/1s 1/2s 1/3s 1/4s 1/5s",
            "5/18446744073709551615h",
            "5/1h x",
        ] {
            assert_eq!(text.parse::<Limit>(), Err(InvalidLimit), "{text:?}");
        }
    }

    #[test]
    fn an_entry_counts_until_it_is_as_old_as_the_window() {
        let limit = limit("1/60s");
        let log = log(&[1_000_000]);
        let before = standing(&log, &limit, 1_059_999);
        assert_eq!((before.remaining, before.wait), (0, Duration::from_millis(1)));
        let after = standing(&log, &limit, 1_060_000);
        assert_eq!((after.remaining, after.wait, after.reset), (1, Duration::ZERO, Duration::ZERO));
    }

    #[test]
    fn entries_in_the_future_count() {
        let stands = standing(&log(&[1_000_000]), &limit("1/60s"), 900_000);
        assert_eq!((stands.remaining, stands.wait), (0, Duration::from_secs(160)));
    }

    #[test]
    fn the_longest_wait_decides_then_the_least_room_then_the_first() {
        let entries = log(&[1_000_000, 1_010_000]);
        let decides = |text: &str| standing(&entries, &limit(text), 1_010_000).window.most.get();
        assert_eq!(decides("1/60s 2/1h"), 2);
        assert_eq!(decides("9/60s 4/1h"), 4);
        assert_eq!(decides("4/60s 5/1h"), 4);
        let (first, second) = (limit("2/1h"), limit("2/1h"));
        let tied = [quota(&first), Quota { ledger: Ledger::AddressSends, ..quota(&second) }];
        let tied = entries.standing(&tied, Mark::default(), 1_010_000).unwrap();
        assert_eq!(tied.ledger, Ledger::NetworkSends);
    }

    #[test]
    fn a_limit_bounds_any_stretch_of_time() {
        assert_eq!(limit("1/60s 5/1h 10/day").most_in(DAY), 10);
        assert_eq!(limit("100/24h").most_in(Duration::from_hours(24)), 100);
        assert_eq!(limit("100/24h").most_in(DAY), 200);
        assert_eq!(limit("1/60s 5/1h").cooldown(), Duration::from_mins(1));
        assert_eq!(limit("2/60s").cooldown(), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn any_text_is_a_limit_that_reads_back_or_none(text in "[0-9/smhday ]{0,20}|.{0,20}") {
            if let Ok(limit) = text.parse::<Limit>() {
                prop_assert_eq!(limit.to_string().parse::<Limit>(), Ok(limit));
            }
        }

        #[test]
        fn after_the_wait_one_more_is_admitted_and_not_a_moment_before(
            gaps in prop::collection::vec(0_u64..50_000, 0..40),
            since in 0_u64..100_000,
        ) {
            let stamps: Vec<_> = gaps.iter().scan(1_000_000, |at, gap| { *at += gap + 1; Some(*at) }).collect();
            let (log, limit) = (log(&stamps), limit("2/60s 10/400s 15/10m"));
            let now = stamps.last().unwrap_or(&1_000_000) + since;
            let wait = millis(standing(&log, &limit, now).wait);
            prop_assert_eq!(standing(&log, &limit, now + wait).wait, Duration::ZERO);
            if wait > 0 {
                prop_assert!(!standing(&log, &limit, now + wait - 1).wait.is_zero());
            }
        }
    }
}

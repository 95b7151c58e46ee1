//! A second implementation of the ledgers, as naive as possible: every entry is in the list of each
//! ledger that it was made in, a refund removes it, and each window is counted at each request.
//! Shares nothing with the code that it checks.

use std::collections::HashMap;

use super::model::{Entry, Millis};

/// For each window, the largest number of entries and its span.
pub type Windows = Vec<(usize, Millis)>;

/// One ledger: what is counted, and for whom. Tenants, recipients and /48 prefixes are numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ledger {
    IpSends(u8, ClientNetwork),
    IpAttempts(u8, ClientNetwork),
    EmailSends(u8, u8),
    IpEmailSends(u8, u8, u8),
    IpEmailAttempts(u8, u8, u8),
    EmailSendsTotal(u8),
}

/// A network: a whole IPv4 address or /48, or one /64 of a /48.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientNetwork {
    Prefix48(u8),
    Prefix64(u8, u8),
}

/// The state of the tightest window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitState {
    pub policy: &'static str,
    pub window: (usize, Millis),
    pub remaining: usize,
    pub reset: Millis,
    pub wait: Millis,
}

/// The outcome of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Admitted(Entry, LimitState),
    Refused(LimitState),
}

/// Every entry that was made and not refunded.
#[derive(Default)]
pub struct Ledgers(HashMap<Ledger, Vec<Millis>>);

impl Ledger {
    pub fn name(self) -> &'static str {
        match self {
            Self::IpSends(..) => "ip_sends",
            Self::IpAttempts(..) => "ip_attempts",
            Self::EmailSends(..) => "email_sends",
            Self::IpEmailSends(..) => "ip_email_sends",
            Self::IpEmailAttempts(..) => "ip_email_attempts",
            Self::EmailSendsTotal(_) => "email_sends_total",
        }
    }

    /// Returns whether the entries of both ledgers are stored and dropped together. Those of all
    /// sends to one recipient are.
    fn shares_its_log_with(self, other: Self) -> bool {
        self.log() == other.log()
    }

    /// Returns the widest ledger that has all entries of this one.
    fn log(self) -> Self {
        match self {
            Self::EmailSends(_, recipient) | Self::IpEmailSends(_, recipient, _) => {
                Self::EmailSendsTotal(recipient)
            }
            widest => widest,
        }
    }
}

impl Ledgers {
    /// Enters a request into all of these ledgers or, if a window of one is full, into none. `keep`
    /// is the longest window of any ledger that shares entries with them.
    pub fn charge(&mut self, step: &[(Ledger, Windows)], keep: Millis, now: Millis) -> Verdict {
        let before = self.tightest(step, now);
        if before.wait > 0 {
            return Verdict::Refused(before);
        }
        // The id of an entry is its time, or the next free millisecond.
        let newest = step.iter().flat_map(|(ledger, _)| self.entries(*ledger)).max();
        let entry = newest.map_or(now, |newest| now.max(newest + 1));
        for (ledger, _) in step {
            self.0.entry(*ledger).or_default().push(entry);
        }
        // An entry older than all windows is dropped permanently, even if the clock steps back
        // later.
        for (ledger, entries) in &mut self.0 {
            if step.iter().any(|(charged, _)| charged.shares_its_log_with(*ledger)) {
                entries.retain(|entry| *entry > now - keep);
            }
        }
        Verdict::Admitted(entry.unsigned_abs(), self.tightest(step, now))
    }

    /// Removes an entry from the ledgers that it was made in.
    pub fn refund(&mut self, ledgers: &[Ledger], entry: Entry) {
        for ledger in ledgers {
            self.0.entry(*ledger).or_default().retain(|other| other.unsigned_abs() != entry);
        }
    }

    fn entries(&self, ledger: Ledger) -> impl Iterator<Item = Millis> + Clone {
        self.0.get(&ledger).into_iter().flatten().copied()
    }

    /// Returns the state with the longest wait, then the least room, then the first.
    fn tightest(&self, step: &[(Ledger, Windows)], now: Millis) -> LimitState {
        let limit_states: Vec<_> = step
            .iter()
            .flat_map(|(ledger, windows)| {
                windows.iter().map(|window| self.limit_state(*ledger, *window, now))
            })
            .collect();
        let longest =
            limit_states.iter().map(|limit_state| limit_state.wait).max().expect("a ledger has windows");
        let waiting = || limit_states.iter().filter(|limit_state| limit_state.wait == longest);
        let least = waiting().map(|limit_state| limit_state.remaining).min().expect("one waits longest");
        *waiting().find(|limit_state| limit_state.remaining == least).expect("one has least room")
    }

    fn limit_state(&self, ledger: Ledger, window @ (most, span): (usize, Millis), now: Millis) -> LimitState {
        let counted = |now| self.entries(ledger).filter(move |entry| *entry > now - span);
        let is_free = |now: &Millis| counted(*now).count() < most;
        // Room appears when an entry leaves the window.
        let leaves = counted(now).map(|entry| entry + span);
        let free = [now].into_iter().chain(leaves.clone()).filter(is_free).min().expect("all entries leave");
        let remaining = most.saturating_sub(counted(now).count());
        let reset = leaves.min().map_or(0, |first| first - now);
        LimitState { policy: ledger.name(), window, remaining, reset, wait: free - now }
    }
}

//! The logs of the ledgers in memory: charged together or not at all.

use std::time::Duration;

use super::State;
use crate::domain::ledger::{self, EntryId, LimitRule, Partition, SlidingLog};
use crate::domain::limit::{IpLimit, Limit};
use crate::domain::store_key::{KeyedHash, Recipient};
use crate::domain::verification::Millis;
use crate::ports::{ChargeOutcome, IpLedger};

/// Which log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum LogName {
    /// Of an IPv4 address or an IPv6 /48.
    Site(IpLedger),
    /// Of an IPv6 /64.
    Link(IpLedger),
    /// Of the sends to a person.
    Person(KeyedHash),
    /// Of a site's guesses at a subject.
    Guesses(Recipient, KeyedHash),
}

/// A log and how long its entries matter.
#[derive(Default)]
pub(super) struct Kept {
    pub log: SlidingLog,
    pub keep: Duration,
}

impl State {
    /// Enters an action into all of these logs, each under its own rules, or into none. Entries are kept for as
    /// long as they matter to anybody: it may be longer than the windows asked about here.
    pub(super) fn charge(
        &mut self,
        logs: &[(LogName, Vec<LimitRule<'_>>)],
        mark: Partition,
        keep: Duration,
        now: Millis,
    ) -> Option<ChargeOutcome> {
        let before = self.tightest(logs, mark, now)?;
        if !before.wait.is_zero() {
            return Some(ChargeOutcome::Refused(before));
        }
        let newest = logs.iter().filter_map(|(name, _)| self.logs.get(name)?.log.newest()).max();
        let entry = newest.map_or(now, |newest| now.max(newest + 1));
        for (name, _) in logs {
            let kept = self.logs.entry(name.clone()).or_default();
            kept.keep = keep;
            kept.log.add(entry, mark, keep, now);
        }
        self.sweep_now_and_then(now);
        let limit_state = self.tightest(logs, mark, now)?;
        Some(ChargeOutcome::Admitted { entry, limit_state })
    }

    pub(super) fn tightest(
        &self,
        logs: &[(LogName, Vec<LimitRule<'_>>)],
        mark: Partition,
        now: Millis,
    ) -> Option<ledger::LimitState> {
        let empty = SlidingLog::default();
        ledger::tightest(logs.iter().filter_map(|(name, rules)| {
            self.logs.get(name).map_or(&empty, |kept| &kept.log).limit_state(rules, mark, now)
        }))
    }

    pub(super) fn remove(&mut self, name: &LogName, entry: EntryId) {
        if let Some(kept) = self.logs.get_mut(name) {
            kept.log.remove(entry);
        }
    }
}

/// The logs of a network, with what limits each.
pub(super) fn logs_of<'a>(profile: &IpLedger, limit: &'a IpLimit) -> Vec<(LogName, Vec<LimitRule<'a>>)> {
    let ledger = profile.action.ledger();
    let rule = |limit: &'a Limit| vec![LimitRule { ledger, limit, partition_bytes: 0 }];
    if profile.network.link.is_none() {
        return vec![(LogName::Site(profile.clone()), rule(&limit.network))];
    }
    let site = IpLedger { network: profile.network.site_alone(), ..profile.clone() };
    vec![(LogName::Link(profile.clone()), rule(&limit.network)), (LogName::Site(site), rule(&limit.site))]
}

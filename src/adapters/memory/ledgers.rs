//! The logs of the ledgers in memory. They are charged together or not at all.

use std::time::Duration;

use super::MemoryState;
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::{self, LimitRule, Partition, SlidingLog};
use crate::domain::limit::Limit;
use crate::domain::limits::IpLimit;
use crate::domain::store_key::Recipient;
use crate::domain::time::EntryId;
use crate::domain::time::Millis;
use crate::ports::{ChargeOutcome, IpLedger};

/// The name of a log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum LedgerName {
    /// Of an IPv4 address or an IPv6 /48.
    Prefix48(IpLedger),
    /// Of an IPv6 /64.
    Prefix64(IpLedger),
    /// Of the sends to an email address.
    EmailSends(KeyedHash),
    /// Of a client prefix's attempts at a recipient.
    IpEmailAttempts(Recipient, KeyedHash),
}

/// A log, with the retention of its entries.
#[derive(Default)]
pub(super) struct Retained {
    pub log: SlidingLog,
    pub retention: Duration,
}

impl MemoryState {
    /// Charges all of these logs, each under its own rules, or none. Entries are stored for
    /// `retention`, which may be longer than these windows.
    pub(super) fn charge(
        &mut self,
        logs: &[(LedgerName, Vec<LimitRule<'_>>)],
        partition: Partition,
        retention: Duration,
        now: Millis,
    ) -> Option<ChargeOutcome> {
        let before = self.tightest(logs, partition, now)?;
        if !before.wait.is_zero() {
            return Some(ChargeOutcome::Refused(before));
        }
        let newest = logs.iter().filter_map(|(name, _)| self.logs.get(name)?.log.newest()).max();
        let entry = newest.map_or(now, |newest| now.max(newest + 1));
        for (name, _) in logs {
            let retained = self.logs.entry(name.clone()).or_default();
            retained.retention = retention;
            retained.log.add(entry, partition, retention, now);
        }
        self.sweep_now_and_then(now);
        let limit_state = self.tightest(logs, partition, now)?;
        Some(ChargeOutcome::Admitted { entry, limit_state })
    }

    pub(super) fn tightest(
        &self,
        logs: &[(LedgerName, Vec<LimitRule<'_>>)],
        partition: Partition,
        now: Millis,
    ) -> Option<ledger::LimitState> {
        let empty = SlidingLog::default();
        ledger::tightest(logs.iter().filter_map(|(name, rules)| {
            self.logs.get(name).map_or(&empty, |retained| &retained.log).limit_state(rules, partition, now)
        }))
    }

    pub(super) fn remove(&mut self, name: &LedgerName, entry: EntryId) {
        if let Some(retained) = self.logs.get_mut(name) {
            retained.log.remove(entry);
        }
    }
}

/// Returns the logs of an IP, with the rules of each.
pub(super) fn logs_of<'a>(profile: &IpLedger, limit: &'a IpLimit) -> Vec<(LedgerName, Vec<LimitRule<'a>>)> {
    let policy = profile.action.policy();
    let rule = |limit: &'a Limit| vec![LimitRule { policy, limit, partition_bytes: 0 }];
    if profile.network.prefix64.is_none() {
        return vec![(LedgerName::Prefix48(profile.clone()), rule(&limit.prefix64))];
    }
    let prefix48 = IpLedger { network: profile.network.without_prefix64(), ..profile.clone() };
    vec![
        (LedgerName::Prefix64(profile.clone()), rule(&limit.prefix64)),
        (LedgerName::Prefix48(prefix48), rule(&limit.prefix48)),
    ]
}

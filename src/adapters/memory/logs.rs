//! The logs of the ledgers in memory: charged together or not at all.

use std::time::Duration;

use super::State;
use crate::domain::ledger::{self, Log, Mark, Quota, Stamp};
use crate::domain::limit::{Limit, IpLimit};
use crate::domain::slot::{Subject, Tag};
use crate::domain::verification::Millis;
use crate::ports::{Charged, NetworkAccount};

/// Which log.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum LogName {
    /// Of an IPv4 address or an IPv6 /48.
    Site(NetworkAccount),
    /// Of an IPv6 /64.
    Link(NetworkAccount),
    /// Of the sends to a person.
    Person(Tag),
    /// Of a site's guesses at a subject.
    Guesses(Subject, Tag),
}

/// A log and how long its entries matter.
#[derive(Default)]
pub(super) struct Kept {
    pub log: Log,
    pub keep: Duration,
}

impl State {
    /// Enters an action into all of these logs, each under its own quotas, or into none. Entries are kept for as
    /// long as they matter to anybody: it may be longer than the windows asked about here.
    pub(super) fn charge(
        &mut self,
        logs: &[(LogName, Vec<Quota<'_>>)],
        mark: Mark,
        keep: Duration,
        now: Millis,
    ) -> Option<Charged> {
        let before = self.tightest(logs, mark, now)?;
        if !before.wait.is_zero() {
            return Some(Charged::Refused(before));
        }
        let newest = logs.iter().filter_map(|(name, _)| self.logs.get(name)?.log.newest()).max();
        let entry = newest.map_or(now, |newest| now.max(newest + 1));
        for (name, _) in logs {
            let kept = self.logs.entry(name.clone()).or_default();
            kept.keep = keep;
            kept.log.add(entry, mark, keep, now);
        }
        self.sweep_now_and_then(now);
        let standing = self.tightest(logs, mark, now)?;
        Some(Charged::Admitted { entry, standing })
    }

    pub(super) fn tightest(
        &self,
        logs: &[(LogName, Vec<Quota<'_>>)],
        mark: Mark,
        now: Millis,
    ) -> Option<ledger::Standing> {
        let empty = Log::default();
        ledger::tightest(logs.iter().filter_map(|(name, quotas)| {
            self.logs.get(name).map_or(&empty, |kept| &kept.log).standing(quotas, mark, now)
        }))
    }

    pub(super) fn remove(&mut self, name: &LogName, entry: Stamp) {
        if let Some(kept) = self.logs.get_mut(name) {
            kept.log.remove(entry);
        }
    }
}

/// The logs of a network, with what limits each.
pub(super) fn logs_of<'a>(
    account: &NetworkAccount,
    limit: &'a IpLimit,
) -> Vec<(LogName, Vec<Quota<'a>>)> {
    let ledger = account.action.ledger();
    let quota = |limit: &'a Limit| vec![Quota { ledger, limit, shared: 0 }];
    if account.network.link.is_none() {
        return vec![(LogName::Site(account.clone()), quota(&limit.network))];
    }
    let site = NetworkAccount { network: account.network.site_alone(), ..account.clone() };
    vec![(LogName::Link(account.clone()), quota(&limit.network)), (LogName::Site(site), quota(&limit.site))]
}

//! The ledgers in memory.

use std::iter;
use std::time::Duration;

use super::MemoryState;
use crate::domain::ledger::{LimitState, SlidingLog, tightest};
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::Charge;
use crate::domain::time::{EntryId, Millis};
use crate::ports::{ChargeOutcome, StoreError};

/// A log, with the retention of its entries.
#[derive(Default)]
pub(super) struct Retained {
    pub log: SlidingLog,
    pub retention: Duration,
}

impl MemoryState {
    pub(super) fn charge(&mut self, charge: &Charge<'_>, now: Millis) -> Result<ChargeOutcome, StoreError> {
        let before = self.peek(charge, now)?;
        if !before.wait.is_zero() {
            return Ok(ChargeOutcome::Refused(before));
        }
        let ledgers = || iter::once(&charge.ledger).chain(&charge.of_partition);
        let newest = ledgers().filter_map(|ledger| self.ledgers.get(ledger)?.log.newest()).max();
        let entry = newest.map_or(now, |newest| now.max(newest + 1));
        for ledger in ledgers() {
            let Retained { log, retention } = self.ledgers.entry(ledger.clone()).or_default();
            log.add(entry, charge.partition, charge.retention, now);
            *retention = charge.retention;
        }
        self.sweep_now_and_then(now);
        Ok(ChargeOutcome::Admitted { entry, limit_state: self.peek(charge, now)? })
    }

    pub(super) fn peek(&self, charge: &Charge<'_>, now: Millis) -> Result<LimitState, StoreError> {
        let empty = SlidingLog::default();
        let limit_states = charge.rules.iter().flatten().filter_map(|rule| {
            let of_partition = charge.of_partition.as_ref().filter(|_| rule.partition_bytes > 0);
            let ledger = of_partition.unwrap_or(&charge.ledger);
            let log = self.ledgers.get(ledger).map_or(&empty, |retained| &retained.log);
            log.limit_state(rule, charge.partition, now)
        });
        tightest(limit_states)
            .filter(|_| !charge.has_rule_without_window())
            .ok_or_else(|| StoreError::new("a limit has no window"))
    }

    pub(super) fn refund(&mut self, ledger: &LedgerKey, of_partition: Option<&LedgerKey>, entry: EntryId) {
        for ledger in iter::once(ledger).chain(of_partition) {
            if let Some(retained) = self.ledgers.get_mut(ledger) {
                retained.log.remove(entry);
            }
        }
    }
}

//! The ledgers in memory.

use std::time::Duration;

use super::MemoryState;
use crate::domain::ledger::{LimitState, SlidingLog};
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
        let Retained { log, retention } = self.ledgers.entry(charge.ledger.clone()).or_default();
        let entry = log.newest().map_or(now, |newest| now.max(newest + 1));
        log.add(entry, charge.partition, charge.retention, now);
        *retention = charge.retention;
        self.sweep_now_and_then(now);
        Ok(ChargeOutcome::Admitted { entry, limit_state: self.peek(charge, now)? })
    }

    pub(super) fn peek(&self, charge: &Charge<'_>, now: Millis) -> Result<LimitState, StoreError> {
        let empty = SlidingLog::default();
        let log = self.ledgers.get(&charge.ledger).map_or(&empty, |retained| &retained.log);
        let limit_state = log.limit_state(&charge.rules, charge.partition, now);
        limit_state
            .filter(|_| !charge.has_rule_without_window())
            .ok_or_else(|| StoreError::new("a limit has no window"))
    }

    pub(super) fn refund(&mut self, ledger: &LedgerKey, entry: EntryId) {
        if let Some(retained) = self.ledgers.get_mut(ledger) {
            retained.log.remove(entry);
        }
    }
}

//! A charge as arguments of the scripts, and the scripts' replies to it.

use std::time::Duration;

use redis::Value;

use super::answer::{number, unexpected};
use super::scripts::Argument;
use crate::domain::ledger::LimitState;
use crate::domain::limit::{Policy, Window};
use crate::domain::limits::Charge;
use crate::domain::time::millis;
use crate::ports::{ChargeOutcome, StoreError};

/// The arguments of a charge, with the policies that the reply refers to.
pub(super) struct ChargeArguments<'a> {
    partition: &'a [u8],
    /// Retention, number of windows, then three numbers for each window: the bytes of the partition
    /// that must match, its maximum, its span.
    numbers: Vec<u64>,
    windows: Vec<(Policy, Window)>,
}

impl<'a> ChargeArguments<'a> {
    /// Returns the arguments of a charge.
    ///
    /// # Errors
    /// Fails if a rule has no window.
    pub(super) fn of(charge: &'a Charge<'_>) -> Result<Self, StoreError> {
        if charge.has_rule_without_window() {
            return Err(StoreError::new("a limit has no window"));
        }
        let partition = charge.partition.0.get(..charge.ledger.partition_bytes()).unwrap_or_default();
        let mut windows = Vec::new();
        let mut numbers = Vec::new();
        for rule in &charge.rules {
            for window in rule.windows() {
                numbers.extend([rule.partition_bytes as u64, window.most.get().into(), millis(window.span)]);
                windows.push((rule.policy, window));
            }
        }
        numbers.splice(..0, [millis(charge.retention), windows.len() as u64]);
        Ok(Self { partition, numbers, windows })
    }

    /// Returns the arguments in the order in which the scripts read them.
    pub(super) fn in_order(&self) -> [&dyn Argument; 2] {
        [&self.partition, &self.numbers]
    }

    /// Parses the reply of `charge`.
    pub(super) fn charged(&self, parts: &[Value]) -> Result<ChargeOutcome, StoreError> {
        let limit_state = self.limit_state(parts)?;
        Ok(match parts.first().map(number).transpose()? {
            None | Some(0) => ChargeOutcome::Refused(limit_state),
            Some(entry) => ChargeOutcome::Admitted { entry, limit_state },
        })
    }

    /// Parses the limit state in the reply of `charge` or `peek`.
    pub(super) fn limit_state(&self, parts: &[Value]) -> Result<LimitState, StoreError> {
        let [_, window, room, reset, wait] = parts else { return Err(unexpected()) };
        let (policy, window) = usize::try_from(number(window)?)
            .ok()
            .and_then(|at| self.windows.get(at))
            .ok_or_else(unexpected)?;
        Ok(LimitState {
            policy: *policy,
            window: *window,
            remaining: u32::try_from(number(room)?).map_err(StoreError::new)?,
            reset: Duration::from_millis(number(reset)?),
            wait: Duration::from_millis(number(wait)?),
        })
    }
}

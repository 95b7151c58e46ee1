//! Windows as arguments of the scripts, and the scripts' replies about them.

use std::time::Duration;

use redis::Value;

use super::answer::{number, unexpected};
use crate::domain::ledger::{LimitRule, LimitState};
use crate::domain::limit::{Policy, Window};
use crate::domain::time::millis;
use crate::ports::{ChargeOutcome, StoreError};

/// The windows of a charge as arguments of a script, with the policies that its reply refers to.
pub(super) struct Windows {
    /// Three numbers for each window: the bytes of the partition that must match, its maximum, its
    /// span.
    pub numbers: Vec<u64>,
    of: Vec<(Policy, Window)>,
}

impl Windows {
    /// Returns the windows of all rules.
    pub(super) fn of(rules: &[LimitRule<'_>]) -> Self {
        let mut windows = Self { numbers: Vec::new(), of: Vec::new() };
        for rule in rules {
            for window in rule.windows() {
                let numbers = [rule.partition_bytes as u64, window.most.get().into(), millis(window.span)];
                windows.numbers.extend(numbers);
                windows.of.push((rule.policy, window));
            }
        }
        windows
    }

    pub(super) fn count(&self) -> u64 {
        self.of.len() as u64
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
        let (policy, window) =
            usize::try_from(number(window)?).ok().and_then(|at| self.of.get(at)).ok_or_else(unexpected)?;
        Ok(LimitState {
            policy: *policy,
            window: *window,
            remaining: u32::try_from(number(room)?).map_err(StoreError::new)?,
            reset: Duration::from_millis(number(reset)?),
            wait: Duration::from_millis(number(wait)?),
        })
    }
}

//! Windows as the scripts take them, and what their answer about one of them means.

use std::time::Duration;

use redis::Value;

use super::answer::{number, unexpected};
use crate::domain::ledger::{LimitRule, LimitState};
use crate::domain::limit::{Policy, Window};
use crate::domain::verification::millis;
use crate::ports::{ChargeOutcome, StoreError};

/// Windows as a script takes them, and what the answer about one of them means.
#[derive(Default)]
pub(super) struct Windows {
    /// Four for each window: its log, the octets of the mark that must be shared, its most, its span.
    pub numbers: Vec<u64>,
    of: Vec<(Policy, Window)>,
}

impl Windows {
    /// The windows of ledgers over one log.
    pub fn of(rules: &[LimitRule<'_>]) -> Self {
        let mut windows = Self::default();
        for rule in rules {
            windows.add(1, rule);
        }
        windows
    }

    /// Adds the windows of a ledger over the `log`-th log, the first being 1.
    pub fn add(&mut self, log: u64, rule: &LimitRule<'_>) {
        for window in rule.limit.windows() {
            let numbers = [log, rule.partition_bytes as u64, window.most.get().into(), millis(window.span)];
            self.numbers.extend(numbers);
            self.of.push((rule.policy, *window));
        }
    }

    pub fn count(&self) -> u64 {
        self.of.len() as u64
    }

    /// Reads what `charge` answers.
    pub fn charged(&self, parts: &[Value]) -> Result<ChargeOutcome, StoreError> {
        let limit_state = self.limit_state(parts)?;
        Ok(match parts.first().map(number).transpose()? {
            None | Some(0) => ChargeOutcome::Refused(limit_state),
            Some(entry) => ChargeOutcome::Admitted { entry, limit_state },
        })
    }

    /// Reads how the window that decides stands, in what `charge` and `outlook` answer.
    pub fn limit_state(&self, parts: &[Value]) -> Result<LimitState, StoreError> {
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

//! A charge as arguments of the scripts, and the scripts' replies to it.

use std::time::Duration;

use redis::Value;

use super::answer::{number, unexpected};
use super::scripts::Argument;
use crate::domain::ledger::{LimitRule, LimitState};
use crate::domain::limit::Window;
use crate::domain::limits::Charge;
use crate::domain::time::millis;
use crate::ports::{ChargeOutcome, StoreError};

/// How many values a reply to a charge has.
pub(super) const CHARGED: usize = 5;

/// The arguments of a charge.
pub(super) struct ChargeArguments<'a> {
    charge: &'a Charge<'a>,
    partition: &'a [u8],
    /// Retention, number of windows, then three numbers for each window: the bytes of the partition
    /// that must match, its maximum, its span.
    numbers: Vec<u64>,
}

/// Iterates over the windows of a charge, with their rules, in the order that replies refer to.
fn windows<'a>(charge: &'a Charge<'_>) -> impl Iterator<Item = (&'a LimitRule<'a>, Window)> {
    charge.rules.iter().flat_map(|rule| rule.windows().map(move |window| (rule, window)))
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
        let count = windows(charge).count();
        let mut numbers = Vec::with_capacity(2 + 3 * count);
        numbers.extend([millis(charge.retention), count as u64]);
        for (rule, window) in windows(charge) {
            numbers.extend([rule.partition_bytes as u64, window.most.get().into(), millis(window.span)]);
        }
        Ok(Self { charge, partition, numbers })
    }

    /// Returns the arguments in the order in which the scripts read them.
    pub(super) fn in_order(&self) -> [&dyn Argument; 2] {
        [&self.partition, &self.numbers]
    }

    /// Returns how many arguments there are.
    pub(super) fn len(&self) -> usize {
        1 + self.numbers.len()
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
        let (rule, window) = usize::try_from(number(window)?)
            .ok()
            .and_then(|at| windows(self.charge).nth(at))
            .ok_or_else(unexpected)?;
        Ok(LimitState {
            policy: rule.policy,
            window,
            remaining: u32::try_from(number(room)?).map_err(StoreError::new)?,
            reset: Duration::from_millis(number(reset)?),
            wait: Duration::from_millis(number(wait)?),
        })
    }
}

//! A charge as arguments of the scripts, and the scripts' replies to it.

use std::time::Duration;

use redis::{Cmd, Value};
use smallvec::SmallVec;

use super::answer::{number, unexpected};
use super::scripts::Argument;
use crate::domain::ledger::{LimitRule, LimitState};
use crate::domain::limit::Window;
use crate::domain::limits::Charge;
use crate::domain::time::millis;
use crate::ports::{ChargeOutcome, StoreError};

/// How many values a reply to a charge has.
pub(super) const CHARGED: usize = 5;
/// The bytes of a packed window: one for the number of bytes of the partition that must match, four
/// for its maximum, six for its span in ms, all big-endian. `sliding_log.lua` unpacks them.
const PACKED_WINDOW: usize = 11;

/// The three arguments of a charge: the partition, the retention, and the packed windows.
pub(super) struct ChargeArguments<'a> {
    charge: &'a Charge<'a>,
    partition: &'a [u8],
}

/// Iterates over the windows of a charge, with their rules, in the order that replies refer to.
fn windows<'a>(charge: &'a Charge<'_>) -> impl Iterator<Item = (&'a LimitRule<'a>, Window)> {
    charge.rules.iter().flatten().flat_map(|rule| rule.windows().map(move |window| (rule, window)))
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
        Ok(Self { charge, partition })
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

impl Argument for ChargeArguments<'_> {
    fn add_to(&self, command: &mut Cmd) {
        // In one argument, because packing and parsing arguments costs more than the numbers do.
        let mut packed = SmallVec::<[u8; 8 * PACKED_WINDOW]>::new();
        for (rule, window) in windows(self.charge) {
            let [_, _, span @ ..] = millis(window.span).to_be_bytes();
            packed.push(u8::try_from(rule.partition_bytes).unwrap_or(u8::MAX));
            packed.extend_from_slice(&window.most.get().to_be_bytes());
            packed.extend_from_slice(&span);
        }
        command.arg(self.partition).arg(millis(self.charge.retention)).arg(packed.as_slice());
    }
}

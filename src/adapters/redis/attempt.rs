//! The call that takes an attempt, and its answer.

use redis::Value;

use super::answer::{codes, count, encrypted, moment, status, unexpected};
use super::charge::ChargeArguments;
use super::key;
use super::scripts::Argument;
use crate::domain::limits::Charge;
use crate::domain::store_key::StoreKey;
use crate::domain::time::millis;
use crate::domain::verification::VerificationRules;
use crate::ports::{AttemptOutcome, StoreError};

/// The keys and arguments of `take_attempt.lua`.
pub(super) struct AttemptCall<'a> {
    pub keys: Vec<String>,
    retention: u64,
    most: u64,
    charge: Option<ChargeArguments<'a>>,
}

impl<'a> AttemptCall<'a> {
    pub(super) fn new(
        store_key: &StoreKey,
        rules: &VerificationRules,
        charge: Option<&'a Charge<'_>>,
    ) -> Result<Self, StoreError> {
        let mut keys = Vec::with_capacity(2);
        keys.push(key::verification(store_key));
        keys.extend(charge.map(|charge| key::ledger(&charge.ledger)));
        Ok(Self {
            keys,
            retention: millis(store_key.retention()),
            most: rules.attempts.into(),
            charge: charge.map(ChargeArguments::of).transpose()?,
        })
    }

    pub(super) fn arguments(&self) -> Vec<&dyn Argument> {
        let own: [&dyn Argument; 2] = [&self.retention, &self.most];
        own.into_iter().chain(self.charge.iter().flat_map(ChargeArguments::in_order)).collect()
    }

    /// Parses the answer.
    pub(super) fn outcome(&self, answer: &Value) -> Result<AttemptOutcome, StoreError> {
        match answer {
            Value::Nil => Ok(AttemptOutcome::Unknown),
            Value::Array(parts) => match parts.as_slice() {
                [Value::BulkString(what), refused @ ..] if what == b"limited" => {
                    let charge = self.charge.as_ref().ok_or_else(unexpected)?;
                    charge.limit_state(refused).map(AttemptOutcome::Limited)
                }
                [Value::BulkString(what), entry, attempts, about, stored @ ..] if what == b"taken" => {
                    Ok(AttemptOutcome::Compare {
                        codes: codes(stored)?,
                        attempts: count(attempts)?,
                        encrypted: encrypted(about)?,
                        entry: moment(entry)?,
                    })
                }
                _ => Err(unexpected()),
            },
            answer => status(answer).map(AttemptOutcome::Closed),
        }
    }
}

//! The call that takes an attempt, and its answer.

use redis::{Cmd, Value};

use super::answer::{codes, count, encrypted, moment, status, unexpected};
use super::charge::ChargeArguments;
use super::key::{RedisKey, RedisKeys};
use super::scripts::Argument;
use crate::domain::limits::Charge;
use crate::domain::store_key::StoreKey;
use crate::domain::time::millis;
use crate::domain::verification::VerificationRules;
use crate::ports::{AttemptOutcome, StoreError};

/// The keys and arguments of `take_attempt.lua`.
pub(super) struct AttemptCall<'a> {
    pub keys: RedisKeys<'a>,
    retention: u64,
    most: u64,
    charge: Option<ChargeArguments<'a>>,
}

impl<'a> AttemptCall<'a> {
    pub(super) fn new(
        store_key: &'a StoreKey,
        rules: &VerificationRules,
        charge: Option<&'a Charge<'_>>,
    ) -> Result<Self, StoreError> {
        let ledger = charge.map(|charge| RedisKey::Ledger(&charge.ledger));
        Ok(Self {
            keys: [RedisKey::Verification(store_key)].into_iter().chain(ledger).collect(),
            retention: millis(store_key.retention()),
            most: rules.attempts.into(),
            charge: charge.map(ChargeArguments::of).transpose()?,
        })
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

impl Argument for AttemptCall<'_> {
    fn add_to(&self, command: &mut Cmd) {
        command.arg(self.retention).arg(self.most);
        if let Some(charge) = &self.charge {
            charge.add_to(command);
        }
    }
}

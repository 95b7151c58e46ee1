//! The call that charges a recipient for a send, and its answer.

use redis::{Cmd, Value};

use super::answer::{code_salt, unexpected};
use super::charge::{CHARGED, ChargeArguments};
use super::key::{RedisKey, RedisKeys};
use super::scripts::Argument;
use crate::domain::code_hash::CodeSalt;
use crate::domain::limits::Charge;
use crate::domain::store_key::StoreKey;
use crate::domain::time::millis;
use crate::domain::verification::VerificationRules;
use crate::ports::{ChargeOutcome, StoreError};

/// The keys and arguments of `charge_send.lua`; without a pending verification, those of
/// `charge.lua`.
pub(super) struct SendCall<'a> {
    pub keys: RedisKeys<'a>,
    /// The retention of the verification and its most attempts.
    pending: Option<[u64; 2]>,
    charge: ChargeArguments<'a>,
}

impl<'a> SendCall<'a> {
    pub(super) fn new(
        charge: &'a Charge<'_>,
        pending: Option<(&'a StoreKey, &VerificationRules)>,
    ) -> Result<Self, StoreError> {
        let verification = pending.map(|(store_key, _)| RedisKey::Verification(store_key));
        Ok(Self {
            keys: verification.into_iter().chain([RedisKey::Ledger(&charge.ledger)]).collect(),
            pending: pending.map(|(store_key, rules)| [millis(store_key.retention()), rules.attempts.into()]),
            charge: ChargeArguments::of(charge)?,
        })
    }

    /// Parses the answer.
    pub(super) fn outcome(&self, answer: &Value) -> Result<(ChargeOutcome, Option<CodeSalt>), StoreError> {
        let Value::Array(parts) = answer else { return Err(unexpected()) };
        let (charged, salt) = parts.split_at_checked(CHARGED).ok_or_else(unexpected)?;
        Ok((self.charge.charged(charged)?, code_salt(salt)?))
    }
}

impl Argument for SendCall<'_> {
    fn add_to(&self, command: &mut Cmd) {
        command.arg(self.pending.as_ref().map_or(&[][..], |numbers| numbers));
        self.charge.add_to(command);
    }
}

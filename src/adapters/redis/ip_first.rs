//! Calls that charge an IP first: one script on keys of two hash slots, which a cluster does not
//! have.

use std::error::Error as _;
use std::sync::atomic::Ordering;

use redis::{RedisError, Value};

use super::answer::unexpected;
use super::attempt::AttemptCall;
use super::charge::ChargeArguments;
use super::key::RedisKeys;
use super::scripts::{Argument, NamedScript};
use super::send::SendCall;
use super::{RedisStore, key};
use crate::domain::code_hash::CodeSalt;
use crate::domain::limits::Charge;
use crate::domain::store_key::StoreKey;
use crate::domain::verification::VerificationRules;
use crate::ports::{AttemptOutcome, ChargeOutcome, StoreError};

impl RedisStore {
    /// Makes a call on keys of several hash slots. Returns `None` if this Redis has no such calls:
    /// it is a cluster, or a server in cluster mode, which says so before it runs anything.
    pub(super) async fn in_one_call<T>(
        &self,
        call: impl AsyncFnOnce() -> Result<T, StoreError>,
    ) -> Result<Option<T>, StoreError> {
        if !self.spans_slots.load(Ordering::Relaxed) {
            return Ok(None);
        }
        match call().await {
            Err(error) if is_cross_slot(&error) => {
                self.spans_slots.store(false, Ordering::Relaxed);
                tracing::info!("this Redis is in cluster mode: an IP is charged in a call of its own");
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }

    /// Charges an IP, then a recipient for a send.
    pub(super) async fn send_after_ip(
        &self,
        ip: &Charge<'_>,
        charge: &Charge<'_>,
        pending: Option<(&StoreKey, &VerificationRules)>,
    ) -> Result<(ChargeOutcome, Option<(ChargeOutcome, Option<CodeSalt>)>), StoreError> {
        let call = SendCall::new(charge, pending)?;
        let script = match pending {
            None => &self.scripts.charge_ip_and_new_send,
            Some(_) => &self.scripts.charge_ip_and_send,
        };
        let (charged, answer) = self.after_ip(script, ip, &call.keys, &call).await?;
        Ok((charged, answer.map(|answer| call.outcome(&answer)).transpose()?))
    }

    /// Charges an IP, then takes an attempt.
    pub(super) async fn attempt_after_ip(
        &self,
        ip: &Charge<'_>,
        call: AttemptCall<'_>,
    ) -> Result<(ChargeOutcome, Option<AttemptOutcome>), StoreError> {
        let script = &self.scripts.charge_ip_and_take_attempt;
        let (charged, answer) = self.after_ip(script, ip, &call.keys, &call).await?;
        Ok((charged, answer.map(|answer| call.outcome(&answer)).transpose()?))
    }

    /// Calls a script that charges an IP and then runs another, and returns the answer of that one
    /// if the IP was admitted.
    async fn after_ip(
        &self,
        script: &NamedScript,
        ip: &Charge<'_>,
        keys: &RedisKeys<'_>,
        arguments: &dyn Argument,
    ) -> Result<(ChargeOutcome, Option<Value>), StoreError> {
        let charge = ChargeArguments::of(ip)?;
        let mut all_keys = key::ledgers(&ip.ledger, ip.of_partition.as_ref());
        let keys_of_ip = all_keys.len();
        all_keys.extend_from_slice(keys);
        let answer = self.call(script, &all_keys, &[&keys_of_ip, &charge, arguments]).await?;
        let Value::Array(parts) = answer else { return Err(unexpected()) };
        let mut parts = parts.into_iter();
        let Some(Value::Array(charged)) = parts.next() else { return Err(unexpected()) };
        match charge.charged(&charged)? {
            refused @ ChargeOutcome::Refused(_) => Ok((refused, None)),
            admitted => Ok((admitted, Some(parts.next().unwrap_or(Value::Nil)))),
        }
    }
}

fn is_cross_slot(error: &StoreError) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<RedisError>());
    cause.and_then(RedisError::code) == Some("CROSSSLOT")
}

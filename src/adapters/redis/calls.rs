//! Calls of the scripts: their keys and arguments, and which calls are sent again. Must not
//! interpret an answer.

use std::error::Error as _;

use redis::{RedisError, Value};
use thiserror::Error;
use tokio::time::Instant;

use super::RedisStore;
use super::charge::ChargeArguments;
use super::connections::{CONNECTIONS, is_refused};
use super::key::{self, RedisKey};
use super::scripts::{Argument, NamedScript};
use crate::domain::code_hash::CodeHash;
use crate::domain::details::EncryptedDetails;
use crate::domain::limit::MAX_OPEN_DELAY;
use crate::domain::limits::Charge;
use crate::domain::store_key::StoreKey;
use crate::domain::time::{EntryId, millis};
use crate::domain::verification::{MAX_LIFETIME, VerificationRules};
use crate::metrics::metrics;
use crate::ports::StoreError;
use crate::traces;

/// Too few replicas have acknowledged a write, which the primary may therefore lose.
#[derive(Debug, Error)]
#[error("{acknowledged} of {wanted} replicas have acknowledged a write (WAIT)")]
struct Unacknowledged {
    acknowledged: u64,
    wanted: u32,
}

impl RedisStore {
    /// Calls a script on keys that share a hash tag.
    pub(super) async fn call(
        &self,
        script: &NamedScript,
        keys: &[RedisKey<'_>],
        args: &[&dyn Argument],
    ) -> Result<Value, StoreError> {
        let begun = Instant::now();
        let span = traces::redis(script.name);
        let answer = self.call_until_accepted(script, keys, args).await;
        let error = answer.as_ref().err().map(kind);
        if let Some(kind) = error {
            traces::fail(&span, kind);
        }
        metrics().redis_call(script.name, begun.elapsed(), error);
        answer
    }

    async fn call_until_accepted(
        &self,
        script: &NamedScript,
        keys: &[RedisKey<'_>],
        args: &[&dyn Argument],
    ) -> Result<Value, StoreError> {
        let wanted = self.durability.replicas;
        let mut retries = 0;
        loop {
            let mut connection = self.connections.get().await?;
            match self.clock.call(&mut connection, script, wanted, keys, args).await {
                // Redis did not run the script. The next connection may be accepted.
                Err(error) if is_refused(&error) && retries < CONNECTIONS => retries += 1,
                Ok(answer) if answer.replicas < wanted.into() => {
                    connection.discard_unacknowledged();
                    return Err(StoreError::new(Unacknowledged { acknowledged: answer.replicas, wanted }));
                }
                Ok(answer) => return Ok(answer.value),
                Err(error) => return Err(StoreError::new(error)),
            }
        }
    }

    /// Calls a script on the ledgers of a charge.
    pub(super) async fn call_with(
        &self,
        script: &NamedScript,
        charge: &Charge<'_>,
        args: &ChargeArguments<'_>,
    ) -> Result<Value, StoreError> {
        let keys = key::ledgers(&charge.ledger, charge.of_partition.as_ref());
        self.call(script, &keys, &[args]).await
    }

    pub(super) async fn ask(
        &self,
        script: &NamedScript,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Value, StoreError> {
        let retention = millis(store_key.retention());
        let attempts = u64::from(rules.attempts);
        self.call(script, &[RedisKey::Verification(store_key)], &[&retention, &attempts]).await
    }

    pub(super) async fn write(
        &self,
        script: &NamedScript,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
        about: &EncryptedDetails,
    ) -> Result<Value, StoreError> {
        let life = millis(rules.life);
        let longest = millis(MAX_LIFETIME);
        let overlap = millis(rules.overlap);
        let slowest = millis(MAX_OPEN_DELAY);
        let attempts = u64::from(rules.attempts);
        let salt = hash.salt().as_bytes().as_slice();
        let retention = millis(store_key.retention());
        let hash = hash.to_bytes();
        let about = about.as_bytes();
        let args: [&dyn Argument; 10] =
            [&retention, &attempts, &life, &longest, &overlap, &salt, &hash, &entry, &slowest, &about];
        self.call(script, &[RedisKey::Verification(store_key)], &args).await
    }
}

/// Returns the kind of an error, for metrics.
fn kind(error: &StoreError) -> &'static str {
    let Some(cause) = error.source() else { return "connection" };
    match cause.downcast_ref::<RedisError>() {
        None if cause.is::<Unacknowledged>() => "unacknowledged",
        Some(error) if error.is_timeout() => "timeout",
        Some(error) if error.code().is_some() => "reply",
        // The pool had no connection, or the connection broke.
        _ => "connection",
    }
}

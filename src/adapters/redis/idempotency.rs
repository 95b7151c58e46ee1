//! Idempotency keys in Redis: one script per call, like everything else.

use async_trait::async_trait;
use redis::Value;

use super::RedisStore;
use super::answer::unexpected;
use super::key::RedisKey;
use crate::domain::idempotency::{BeginOutcome, IN_PROGRESS_TIMEOUT, IdempotentRequest, RETENTION};
use crate::domain::time::millis;
use crate::domain::verification_id::VerificationId;
use crate::ports::{IdempotencyStore, StoreError};

/// Returns the arguments of every script: fingerprint and token.
fn arguments(request: &IdempotentRequest) -> [&[u8]; 2] {
    [request.fingerprint.as_bytes(), &request.token]
}

#[async_trait]
impl IdempotencyStore for RedisStore {
    async fn begin(&self, request: &IdempotentRequest) -> Result<BeginOutcome, StoreError> {
        let [fingerprint, token] = arguments(request);
        let keys = [RedisKey::Idempotency(&request.key)];
        let life = millis(IN_PROGRESS_TIMEOUT);
        match self.call(&self.scripts.begin, &keys, &[&fingerprint, &token, &life]).await? {
            Value::BulkString(word) => match word.as_slice() {
                b"begun" => Ok(BeginOutcome::Begun),
                b"in progress" => Ok(BeginOutcome::InProgress),
                b"mismatch" => Ok(BeginOutcome::Mismatch),
                _ => Err(unexpected()),
            },
            Value::Array(parts) => match parts.as_slice() {
                [Value::BulkString(id)] => {
                    let id = id.as_slice().try_into().map_err(StoreError::new)?;
                    Ok(BeginOutcome::Done(VerificationId::new(id)))
                }
                _ => Err(unexpected()),
            },
            _ => Err(unexpected()),
        }
    }

    async fn complete(&self, request: &IdempotentRequest, id: &VerificationId) -> Result<(), StoreError> {
        let [fingerprint, token] = arguments(request);
        let keys = [RedisKey::Idempotency(&request.key)];
        let id = id.as_bytes().as_slice();
        let kept = millis(RETENTION);
        self.call(&self.scripts.complete, &keys, &[&fingerprint, &token, &id, &kept]).await.map(|_| ())
    }

    async fn abandon(&self, request: &IdempotentRequest) -> Result<(), StoreError> {
        let [fingerprint, token] = arguments(request);
        let keys = [RedisKey::Idempotency(&request.key)];
        self.call(&self.scripts.abandon, &keys, &[&fingerprint, &token]).await.map(|_| ())
    }
}

//! Idempotency keys in Redis: one script a call, as for everything else.

use async_trait::async_trait;
use redis::Value;

use super::answer::unexpected;
use super::{RedisStore, key};
use crate::domain::idempotency::{CLAIM_LIFE, Claim, Claimed, KEPT};
use crate::domain::verification::millis;
use crate::domain::verification_id::VerificationId;
use crate::ports::{Claims, StoreError};

/// What every script asks by.
fn words(claim: &Claim) -> [&[u8]; 2] {
    [claim.fingerprint.as_bytes(), &claim.claimant]
}

#[async_trait]
impl Claims for RedisStore {
    async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let [fingerprint, claimant] = words(claim);
        let (keys, life) = ([key::claim(&claim.key)], millis(CLAIM_LIFE));
        match self.call(&self.scripts.claim, &keys, &[&fingerprint, &claimant, &life]).await? {
            Value::BulkString(word) => match word.as_slice() {
                b"begun" => Ok(Claimed::Begun),
                b"in progress" => Ok(Claimed::InProgress),
                b"mismatch" => Ok(Claimed::Mismatch),
                _ => Err(unexpected()),
            },
            Value::Array(parts) => match parts.as_slice() {
                [Value::BulkString(id)] => {
                    let id = id.as_slice().try_into().map_err(StoreError::new)?;
                    Ok(Claimed::Done(VerificationId::new(id)))
                }
                _ => Err(unexpected()),
            },
            _ => Err(unexpected()),
        }
    }

    async fn settle(&self, claim: &Claim, id: &VerificationId) -> Result<(), StoreError> {
        let [fingerprint, claimant] = words(claim);
        let (keys, id, kept) = ([key::claim(&claim.key)], id.as_bytes().as_slice(), millis(KEPT));
        self.call(&self.scripts.settle, &keys, &[&fingerprint, &claimant, &id, &kept]).await.map(|_| ())
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let [fingerprint, claimant] = words(claim);
        let keys = [key::claim(&claim.key)];
        self.call(&self.scripts.release, &keys, &[&fingerprint, &claimant]).await.map(|_| ())
    }
}

//! What the service needs so that a request that is repeated is done once.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::idempotency::{Claim, Claimed};
use crate::domain::verification_id::VerificationId;

/// The memory of idempotency keys. Every call is one atomic step; none is retried.
#[async_trait]
pub trait Claims: Send + Sync {
    /// Takes a key for a request, for [`CLAIM_LIFE`](crate::domain::idempotency::CLAIM_LIFE) at most, if it is free.
    async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError>;

    /// Remembers what came of the request, for [`KEPT`](crate::domain::idempotency::KEPT), if the key is still its own.
    async fn settle(&self, claim: &Claim, id: &VerificationId) -> Result<(), StoreError>;

    /// Frees the key, if it is still the request's own.
    async fn release(&self, claim: &Claim) -> Result<(), StoreError>;
}

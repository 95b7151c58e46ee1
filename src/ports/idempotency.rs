//! What the service needs so that a request that is repeated is done once.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::idempotency::{BeginOutcome, IdempotentRequest};
use crate::domain::verification_id::VerificationId;

/// The memory of idempotency keys. Every call is one atomic step; none is retried.
#[async_trait]
pub trait IdempotencyStore: Send + Sync {
    /// Takes a key for a request, for [`IN_PROGRESS_TIMEOUT`](crate::domain::idempotency::IN_PROGRESS_TIMEOUT) at most, if it is free.
    async fn begin(&self, request: &IdempotentRequest) -> Result<BeginOutcome, StoreError>;

    /// Remembers what came of the request, for [`RETENTION`](crate::domain::idempotency::RETENTION), if the key is still its own.
    async fn complete(&self, request: &IdempotentRequest, id: &VerificationId) -> Result<(), StoreError>;

    /// Frees the key, if it is still the request's own.
    async fn abandon(&self, request: &IdempotentRequest) -> Result<(), StoreError>;
}

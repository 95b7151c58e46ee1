//! The store of idempotency keys, which lets a repeated request take effect once.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::idempotency::{BeginOutcome, IdempotentRequest};
use crate::domain::verification_id::VerificationId;

/// The store of idempotency keys. Every call is one atomic step. The store retries none.
#[async_trait]
pub trait IdempotencyStore: Send + Sync {
    /// Begins a request under its key, if the key is free.
    ///
    /// The key stays taken for
    /// [`IN_PROGRESS_TIMEOUT`](crate::domain::idempotency::IN_PROGRESS_TIMEOUT) at most.
    async fn begin(&self, request: &IdempotentRequest) -> Result<BeginOutcome, StoreError>;

    /// Stores the result of the request if the key is still taken by it.
    ///
    /// The result is stored for [`RETENTION`](crate::domain::idempotency::RETENTION).
    async fn complete(&self, request: &IdempotentRequest, id: &VerificationId) -> Result<(), StoreError>;

    /// Frees the key if it is still taken by the request.
    async fn abandon(&self, request: &IdempotentRequest) -> Result<(), StoreError>;
}

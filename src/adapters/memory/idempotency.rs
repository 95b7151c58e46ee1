//! Idempotency keys in the memory of one process.

use async_trait::async_trait;

use super::{MemoryState, MemoryStore};
use crate::domain::idempotency::{
    BeginOutcome, IN_PROGRESS_TIMEOUT, IdempotentRequest, REQUEST_TOKEN_BYTES, RETENTION,
};
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::time::{Millis, millis};
use crate::domain::verification_id::VerificationId;
use crate::ports::{IdempotencyStore, StoreError};

/// A key that is not free.
pub(super) struct Held {
    fingerprint: KeyedHash,
    until: Millis,
    by: Holder,
}

enum Holder {
    Claimant([u8; REQUEST_TOKEN_BYTES]),
    Settled(VerificationId),
}

impl Held {
    pub(super) fn is_over(&self, now: Millis) -> bool {
        now >= self.until
    }
}

impl MemoryState {
    /// Returns the record of a key, until it expires.
    fn holder(&self, key: &KeyedHash, now: Millis) -> Option<&Held> {
        self.held.get(key).filter(|held| !held.is_over(now))
    }

    fn is_own(&self, request: &IdempotentRequest, now: Millis) -> bool {
        self.holder(&request.key, now).is_some_and(|held| {
            let is_claimant = matches!(held.by, Holder::Claimant(token) if token == request.token);
            is_claimant && held.fingerprint == request.fingerprint
        })
    }
}

#[async_trait]
impl IdempotencyStore for MemoryStore {
    async fn begin(&self, request: &IdempotentRequest) -> Result<BeginOutcome, StoreError> {
        let (mut state, now) = self.lock();
        Ok(match state.holder(&request.key, now) {
            Some(held) if held.fingerprint != request.fingerprint => BeginOutcome::Mismatch,
            Some(Held { by: Holder::Claimant(_), .. }) => BeginOutcome::InProgress,
            Some(Held { by: Holder::Settled(id), .. }) => BeginOutcome::Done(*id),
            None => {
                let until = now + millis(IN_PROGRESS_TIMEOUT);
                let held =
                    Held { fingerprint: request.fingerprint, until, by: Holder::Claimant(request.token) };
                state.held.insert(request.key, held);
                state.sweep_now_and_then(now);
                BeginOutcome::Begun
            }
        })
    }

    async fn complete(&self, request: &IdempotentRequest, id: &VerificationId) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        if state.is_own(request, now) {
            let until = now + millis(RETENTION);
            let held = Held { fingerprint: request.fingerprint, until, by: Holder::Settled(*id) };
            state.held.insert(request.key, held);
        }
        Ok(())
    }

    async fn abandon(&self, request: &IdempotentRequest) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        if state.is_own(request, now) {
            state.held.remove(&request.key);
        }
        Ok(())
    }
}

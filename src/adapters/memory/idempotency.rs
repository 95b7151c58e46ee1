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

/// The record of an idempotency key.
pub(super) struct Record {
    fingerprint: KeyedHash,
    until: Millis,
    owner: Owner,
}

enum Owner {
    InProgress([u8; REQUEST_TOKEN_BYTES]),
    Done(VerificationId),
}

impl Record {
    pub(super) fn is_over(&self, now: Millis) -> bool {
        now >= self.until
    }
}

impl MemoryState {
    /// Returns the record of a key, until it expires.
    fn record(&self, key: &KeyedHash, now: Millis) -> Option<&Record> {
        self.idempotency.get(key).filter(|record| !record.is_over(now))
    }

    fn is_own(&self, request: &IdempotentRequest, now: Millis) -> bool {
        self.record(&request.key, now).is_some_and(|record| {
            let is_in_progress = matches!(record.owner, Owner::InProgress(token) if token == request.token);
            is_in_progress && record.fingerprint == request.fingerprint
        })
    }
}

#[async_trait]
impl IdempotencyStore for MemoryStore {
    async fn begin(&self, request: &IdempotentRequest) -> Result<BeginOutcome, StoreError> {
        let (mut state, now) = self.lock();
        Ok(match state.record(&request.key, now) {
            Some(record) if record.fingerprint != request.fingerprint => BeginOutcome::Mismatch,
            Some(Record { owner: Owner::InProgress(_), .. }) => BeginOutcome::InProgress,
            Some(Record { owner: Owner::Done(id), .. }) => BeginOutcome::Done(*id),
            None => {
                let until = now + millis(IN_PROGRESS_TIMEOUT);
                let record = Record {
                    fingerprint: request.fingerprint,
                    until,
                    owner: Owner::InProgress(request.token),
                };
                state.idempotency.insert(request.key, record);
                state.sweep_now_and_then(now);
                BeginOutcome::Begun
            }
        })
    }

    async fn complete(&self, request: &IdempotentRequest, id: &VerificationId) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        if state.is_own(request, now) {
            let until = now + millis(RETENTION);
            let record = Record { fingerprint: request.fingerprint, until, owner: Owner::Done(*id) };
            state.idempotency.insert(request.key, record);
        }
        Ok(())
    }

    async fn abandon(&self, request: &IdempotentRequest) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        if state.is_own(request, now) {
            state.idempotency.remove(&request.key);
        }
        Ok(())
    }
}

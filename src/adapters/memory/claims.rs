//! Idempotency keys in the memory of one process.

use async_trait::async_trait;

use super::{MemoryStore, State};
use crate::domain::idempotency::{CLAIM_LIFE, CLAIMANT_OCTETS, Claim, Claimed, KEPT};
use crate::domain::slot::Tag;
use crate::domain::verification::{Millis, millis};
use crate::domain::verification_id::VerificationId;
use crate::ports::{Claims, StoreError};

/// A key that is not free.
pub(super) struct Held {
    fingerprint: Tag,
    until: Millis,
    by: Holder,
}

enum Holder {
    Claimant([u8; CLAIMANT_OCTETS]),
    Settled(VerificationId),
}

impl Held {
    pub(super) fn is_over(&self, now: Millis) -> bool {
        now >= self.until
    }
}

impl State {
    /// What holds a key, as long as it does.
    fn holder(&self, key: &Tag, now: Millis) -> Option<&Held> {
        self.held.get(key).filter(|held| !held.is_over(now))
    }

    fn is_own(&self, claim: &Claim, now: Millis) -> bool {
        self.holder(&claim.key, now).is_some_and(|held| {
            let is_claimant = matches!(held.by, Holder::Claimant(claimant) if claimant == claim.claimant);
            is_claimant && held.fingerprint == claim.fingerprint
        })
    }
}

#[async_trait]
impl Claims for MemoryStore {
    async fn claim(&self, claim: &Claim) -> Result<Claimed, StoreError> {
        let (mut state, now) = self.lock();
        Ok(match state.holder(&claim.key, now) {
            Some(held) if held.fingerprint != claim.fingerprint => Claimed::Mismatch,
            Some(Held { by: Holder::Claimant(_), .. }) => Claimed::InProgress,
            Some(Held { by: Holder::Settled(id), .. }) => Claimed::Done(*id),
            None => {
                let until = now + millis(CLAIM_LIFE);
                let held =
                    Held { fingerprint: claim.fingerprint, until, by: Holder::Claimant(claim.claimant) };
                state.held.insert(claim.key, held);
                state.sweep_now_and_then(now);
                Claimed::Begun
            }
        })
    }

    async fn settle(&self, claim: &Claim, id: &VerificationId) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        if state.is_own(claim, now) {
            let until = now + millis(KEPT);
            let held = Held { fingerprint: claim.fingerprint, until, by: Holder::Settled(*id) };
            state.held.insert(claim.key, held);
        }
        Ok(())
    }

    async fn release(&self, claim: &Claim) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        if state.is_own(claim, now) {
            state.held.remove(&claim.key);
        }
        Ok(())
    }
}

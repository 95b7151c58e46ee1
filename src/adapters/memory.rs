//! The store of `otpd dev`: verifications in the memory of one process, gone when it ends.
//!
//! Must not be used where more than one process serves, or where a restart must not lose what was counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;

use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::slot::Slot;
use crate::domain::verification::{GuessToken, Millis, Policy, Verification, millis};
use crate::ports::{Clock, Opened, Recoded, Spend, Store, StoreError};

/// After this many openings, what nobody can ask about any more is swept out.
const SWEEP_EVERY: usize = 1024;

/// Verifications behind one lock: each call is atomic because it holds it.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    verifications: Mutex<Verifications>,
}

#[derive(Default)]
struct Verifications {
    by_slot: HashMap<Slot, Verification>,
    openings: usize,
}

impl MemoryStore {
    /// An empty store that runs on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, verifications: Mutex::default() }
    }

    fn lock(&self) -> (MutexGuard<'_, Verifications>, Millis) {
        // Nothing in here can panic halfway through a change, so a poisoned lock still guards a whole state.
        let guard = self.verifications.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now().duration_since(UNIX_EPOCH).map_or(0, millis);
        (guard, now)
    }
}

impl Verifications {
    /// The verification of a slot, as long as it can be asked about.
    fn find(&mut self, slot: &Slot, now: Millis) -> Option<&mut Verification> {
        self.by_slot.get_mut(slot).filter(|verification| !is_forgotten(slot, verification, now))
    }

    fn sweep_now_and_then(&mut self, now: Millis) {
        self.openings += 1;
        if self.openings.is_multiple_of(SWEEP_EVERY) {
            self.by_slot.retain(|slot, verification| !is_forgotten(slot, verification, now));
        }
    }
}

fn is_forgotten(slot: &Slot, verification: &Verification, now: Millis) -> bool {
    now >= verification.expires_at() + millis(slot.remembrance())
}

fn opened(verification: &Verification, now: Millis) -> Opened {
    Opened { valid_for: Duration::from_millis(verification.expires_at().saturating_sub(now)) }
}

#[async_trait]
impl Store for MemoryStore {
    async fn open(&self, slot: &Slot, hash: &CodeHash, policy: &Policy) -> Result<Opened, StoreError> {
        let (mut verifications, now) = self.lock();
        if let Some(verification) = verifications.find(slot, now)
            && verification.recode(hash.clone(), policy, now).is_ok()
        {
            return Ok(opened(verification, now));
        }
        let verification = Verification::open(hash.clone(), policy, now);
        let answer = opened(&verification, now);
        verifications.by_slot.insert(slot.clone(), verification);
        verifications.sweep_now_and_then(now);
        Ok(answer)
    }

    async fn recode(&self, slot: &Slot, hash: &CodeHash, policy: &Policy) -> Result<Recoded, StoreError> {
        let (mut verifications, now) = self.lock();
        Ok(match verifications.find(slot, now) {
            None => Recoded::Unknown,
            Some(verification) => match verification.recode(hash.clone(), policy, now) {
                Ok(()) => Recoded::Live(opened(verification, now)),
                Err(closed) => Recoded::Closed(closed),
            },
        })
    }

    async fn spend(&self, slot: &Slot, policy: &Policy) -> Result<Spend, StoreError> {
        let (mut verifications, now) = self.lock();
        Ok(match verifications.find(slot, now) {
            None => Spend::Unknown,
            Some(verification) => match verification.spend(policy.guesses, now) {
                Ok(hash) => Spend::Compare(hash),
                Err(closed) => Spend::Closed(closed),
            },
        })
    }

    async fn consume(&self, slot: &Slot, token: &GuessToken) -> Result<bool, StoreError> {
        let (mut verifications, now) = self.lock();
        Ok(verifications.find(slot, now).is_some_and(|verification| verification.consume(token, now)))
    }

    async fn fail(&self, slot: &Slot, code: &Salt) -> Result<(), StoreError> {
        let (mut verifications, now) = self.lock();
        if let Some(verification) = verifications.find(slot, now) {
            verification.fail(code, now);
        }
        Ok(())
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

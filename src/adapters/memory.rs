//! The store of `otpd dev`: verifications and ledgers in the memory of one process. They are lost
//! when it ends.
//!
//! Must not be used if more than one process serves, or if the limits must survive a restart.

mod idempotency;
mod ledgers;
mod test_mails;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;

use self::ledgers::Retained;
use crate::domain::code_hash::{CodeHash, CodeId, CodeSalt};
use crate::domain::details::EncryptedDetails;
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limit::MAX_OPEN_DELAY;
use crate::domain::limits::Charge;
use crate::domain::provider_id::ProviderId;
use crate::domain::store_key::StoreKey;
use crate::domain::time::EntryId;
use crate::domain::time::{Millis, millis};
use crate::domain::verification::{
    ApproveOutcome, AttemptToken, Status, Verification, VerificationRules, View,
};
use crate::ports::{
    AttemptOutcome, ChargeOutcome, Clock, IpEntry, Live, OpenOutcome, ReplaceOutcome, Store, StoreError,
};

/// After this many additions, expired records are removed.
const SWEEP_EVERY: usize = 1024;

/// Verifications and ledgers behind one lock. Each call is atomic because it holds the lock.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<MemoryState>,
}

#[derive(Default)]
struct MemoryState {
    verifications: HashMap<StoreKey, Verification>,
    ledgers: HashMap<LedgerKey, Retained>,
    idempotency: HashMap<KeyedHash, idempotency::Record>,
    test_mails: HashMap<KeyedHash, test_mails::MemoryMails>,
    additions: usize,
}

impl MemoryStore {
    /// Creates an empty store that runs on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Deletes everything: verifications, ledgers, idempotency keys and captured emails of sandbox
    /// keys.
    pub fn reset(&self) {
        let (mut state, _) = self.lock();
        *state = MemoryState::default();
    }

    fn lock(&self) -> (MutexGuard<'_, MemoryState>, Millis) {
        // Nothing panics halfway through a change, so the state behind a poisoned lock is still
        // consistent.
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now().duration_since(UNIX_EPOCH).map_or(0, millis);
        (guard, now)
    }
}

impl MemoryState {
    /// Returns the verification of a store key, until its retention is over.
    fn find(&mut self, store_key: &StoreKey, now: Millis) -> Option<&mut Verification> {
        self.verifications
            .get_mut(store_key)
            .filter(|verification| !is_forgotten(store_key, verification, now))
    }

    fn sweep_now_and_then(&mut self, now: Millis) {
        self.additions += 1;
        if self.additions.is_multiple_of(SWEEP_EVERY) {
            self.verifications.retain(|store_key, verification| !is_forgotten(store_key, verification, now));
            self.ledgers.retain(|_, retained| !retained.log.is_forgotten(retained.retention, now));
            self.idempotency.retain(|_, record| !record.is_over(now));
            self.test_mails.retain(|_, mails| !mails.is_over(now));
        }
    }
}

fn is_forgotten(store_key: &StoreKey, verification: &Verification, now: Millis) -> bool {
    now >= verification.expires_at() + millis(store_key.retention())
}

fn is_late(entry: EntryId, now: Millis) -> bool {
    now > entry + millis(MAX_OPEN_DELAY)
}

fn live(verification: &Verification, now: Millis) -> OpenOutcome {
    let expires_at = verification.expires_at();
    let valid_for = Duration::from_millis(expires_at.saturating_sub(now));
    OpenOutcome::Live(Live { valid_for, expires_at, attempts: verification.attempts() })
}

#[async_trait]
impl Store for MemoryStore {
    async fn charge(&self, charge: &Charge<'_>) -> Result<ChargeOutcome, StoreError> {
        let (mut state, now) = self.lock();
        state.charge(charge, now)
    }

    async fn charge_send(
        &self,
        charge: &Charge<'_>,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<(ChargeOutcome, Option<CodeSalt>), StoreError> {
        let (mut state, now) = self.lock();
        let outcome = state.charge(charge, now)?;
        let verification = state.find(store_key, now);
        Ok((outcome, verification.and_then(|verification| verification.code_salt(rules.attempts, now))))
    }

    async fn peek(&self, charge: &Charge<'_>) -> Result<LimitState, StoreError> {
        let (state, now) = self.lock();
        state.peek(charge, now)
    }

    async fn refund(
        &self,
        ledger: &LedgerKey,
        of_partition: Option<&LedgerKey>,
        entry: EntryId,
    ) -> Result<(), StoreError> {
        let (mut state, _) = self.lock();
        state.refund(ledger, of_partition, entry);
        Ok(())
    }

    async fn open(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
        encrypted: &EncryptedDetails,
    ) -> Result<OpenOutcome, StoreError> {
        let (mut state, now) = self.lock();
        if is_late(entry, now) {
            return Ok(OpenOutcome::Late);
        }
        if let Some(verification) = state.find(store_key, now)
            && verification.replace_code(hash.clone(), rules, now).is_ok()
        {
            return Ok(live(verification, now));
        }
        let verification = Verification::open(hash.clone(), rules, entry, encrypted.clone(), now);
        let answer = live(&verification, now);
        state.verifications.insert(store_key.clone(), verification);
        state.sweep_now_and_then(now);
        Ok(answer)
    }

    async fn replace_code(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
    ) -> Result<ReplaceOutcome, StoreError> {
        let (mut state, now) = self.lock();
        if is_late(entry, now) {
            return Ok(ReplaceOutcome::Opened(OpenOutcome::Late));
        }
        Ok(match state.find(store_key, now) {
            None => ReplaceOutcome::Unknown,
            Some(verification) => match verification.replace_code(hash.clone(), rules, now) {
                Ok(()) => ReplaceOutcome::Opened(live(verification, now)),
                Err(closed) => ReplaceOutcome::Closed(closed),
            },
        })
    }

    async fn take_attempt(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
        charge: Option<&Charge<'_>>,
    ) -> Result<AttemptOutcome, StoreError> {
        let (mut state, now) = self.lock();
        let mut charged = None;
        if let Some(charge) = charge {
            match state.charge(charge, now)? {
                ChargeOutcome::Admitted { entry, .. } => charged = Some(entry),
                ChargeOutcome::Refused(limit_state) => return Ok(AttemptOutcome::Limited(limit_state)),
            }
        }
        Ok(match state.find(store_key, now) {
            None => AttemptOutcome::Unknown,
            Some(verification) => match verification.take_attempt(rules.attempts, now) {
                Ok(codes) => AttemptOutcome::Compare {
                    codes,
                    attempts: verification.attempts(),
                    encrypted: verification.encrypted().clone(),
                    entry: charged,
                },
                Err(closed) => AttemptOutcome::Closed(closed),
            },
        })
    }

    async fn approve(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<(&LedgerKey, EntryId)>,
        ip: Option<IpEntry<'_>>,
    ) -> Result<Option<Millis>, StoreError> {
        let (mut state, now) = self.lock();
        let outcome = state
            .find(store_key, now)
            .map_or(ApproveOutcome::Lost, |verification| verification.approve(token, now));
        // Only once: later the id may belong to the entry of another attempt.
        if let ApproveOutcome::Taken(_) = outcome {
            if let Some((ledger, entry)) = charged {
                state.refund(ledger, None, entry);
            }
            if let Some(IpEntry { charge, id }) = ip {
                state.refund(&charge.ledger, charge.of_partition.as_ref(), id);
            }
        }
        Ok(match outcome {
            ApproveOutcome::Taken(at) | ApproveOutcome::Repeated(at) => Some(at),
            ApproveOutcome::Lost => None,
        })
    }

    async fn find(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Option<View>, StoreError> {
        let (mut state, now) = self.lock();
        Ok(state.find(store_key, now).map(|verification| verification.view(rules.attempts, now)))
    }

    async fn cancel(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Option<Status>, StoreError> {
        let (mut state, now) = self.lock();
        Ok(state.find(store_key, now).map(|verification| verification.cancel(rules.attempts, now)))
    }

    async fn mark_failed(
        &self,
        store_key: &StoreKey,
        code: &CodeId,
        entry: EntryId,
    ) -> Result<bool, StoreError> {
        let (mut state, now) = self.lock();
        Ok(state.find(store_key, now).is_some_and(|verification| verification.fail(code, entry, now)))
    }

    async fn mark_accepted(
        &self,
        store_key: &StoreKey,
        code: &CodeId,
        provider_id: Option<&ProviderId>,
    ) -> Result<Option<Millis>, StoreError> {
        let (mut state, now) = self.lock();
        let verification = state.find(store_key, now);
        Ok(verification.and_then(|verification| verification.accept(code, provider_id.cloned(), now)))
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

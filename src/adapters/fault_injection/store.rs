//! A store that refuses charges, or fails.
//!
//! A request meets a fault before it has changed a verification: a send as its recipient is
//! charged (a resend also as it is looked up), an attempt as it is taken, any other request as it
//! shows or cancels. Only `limited`
//! meets an attempt earlier, as its IP is charged, because on v1 an attempt has no other charge.
//! All other calls go to the inner store, so that no request is cut off halfway.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{FaultInjector, cause};
use crate::domain::code_hash::{CodeHash, CodeId, CodeSalt};
use crate::domain::details::EncryptedDetails;
use crate::domain::fault_plan::InjectedFault;
use crate::domain::ledger::{LimitRule, LimitState};
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limit::Policy;
use crate::domain::limits::Charge;
use crate::domain::provider_id::ProviderId;
use crate::domain::store_key::StoreKey;
use crate::domain::time::{EntryId, Millis};
use crate::domain::verification::{AttemptToken, Status, VerificationRules, View};
use crate::ports::{AttemptOutcome, ChargeOutcome, IpEntry, OpenOutcome, ReplaceOutcome, Store, StoreError};

/// How long a refused charge has to wait, if its window is not shorter.
const WAIT: Duration = Duration::from_secs(5);

/// Injects faults in front of another store.
pub struct FaultyStore {
    inner: Arc<dyn Store>,
    injector: Arc<FaultInjector>,
}

impl FaultyStore {
    /// Creates a store that passes what it spares on to `inner`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, injector: Arc<FaultInjector>) -> Self {
        Self { inner, injector }
    }

    /// Returns the limit state of the charge if it is to be refused, and an error if the store is
    /// to fail. Spares all charges but that of a send's recipient and that of an attempt's IP.
    fn refusal(&self, charge: &Charge<'_>) -> Result<Option<LimitState>, StoreError> {
        let [Some(rule), ..] = &charge.rules else { return Ok(None) };
        let is_send = rule.policy == Policy::EmailSends;
        if (is_send || rule.policy == Policy::IpAttempts)
            && let Some(limit_state) = exceeded(rule)
            && self.injector.injects(InjectedFault::Limited).map_err(StoreError::new)?
        {
            return Ok(Some(limit_state));
        }
        if is_send { self.fail().map(|()| None) } else { Ok(None) }
    }

    /// Returns an error if the store is to fail.
    fn fail(&self) -> Result<(), StoreError> {
        match self.injector.injects(InjectedFault::Unavailable) {
            Ok(false) => Ok(()),
            Ok(true) => Err(StoreError::new(cause(InjectedFault::Unavailable))),
            Err(error) => Err(StoreError::new(error)),
        }
    }
}

/// Returns the state of a full window of the rule whose oldest entry is about to leave it. It is
/// the first window that is long enough, or else the first.
fn exceeded(rule: &LimitRule<'_>) -> Option<LimitState> {
    let window = rule.windows().find(|window| window.span >= WAIT).or_else(|| rule.windows().next())?;
    let wait = window.span.min(WAIT);
    Some(LimitState { policy: rule.policy, window, remaining: 0, reset: wait, wait })
}

#[async_trait]
impl Store for FaultyStore {
    async fn charge(&self, charge: &Charge<'_>) -> Result<ChargeOutcome, StoreError> {
        match self.refusal(charge)? {
            Some(limit_state) => Ok(ChargeOutcome::Refused(limit_state)),
            None => self.inner.charge(charge).await,
        }
    }

    async fn charge_send(
        &self,
        charge: &Charge<'_>,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<(ChargeOutcome, Option<CodeSalt>), StoreError> {
        match self.refusal(charge)? {
            Some(limit_state) => Ok((ChargeOutcome::Refused(limit_state), None)),
            None => self.inner.charge_send(charge, store_key, rules).await,
        }
    }

    async fn peek(&self, charge: &Charge<'_>) -> Result<LimitState, StoreError> {
        self.inner.peek(charge).await
    }

    async fn refund(
        &self,
        ledger: &LedgerKey,
        of_partition: Option<&LedgerKey>,
        entry: EntryId,
    ) -> Result<(), StoreError> {
        self.inner.refund(ledger, of_partition, entry).await
    }

    async fn open(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
        encrypted: &EncryptedDetails,
    ) -> Result<OpenOutcome, StoreError> {
        self.inner.open(store_key, hash, rules, entry, encrypted).await
    }

    async fn replace_code(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
    ) -> Result<ReplaceOutcome, StoreError> {
        self.inner.replace_code(store_key, hash, rules, entry).await
    }

    async fn take_attempt(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
        charge: Option<&Charge<'_>>,
    ) -> Result<AttemptOutcome, StoreError> {
        self.fail()?;
        self.inner.take_attempt(store_key, rules, charge).await
    }

    async fn approve(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<(&LedgerKey, EntryId)>,
        ip: Option<IpEntry<'_>>,
    ) -> Result<Option<Millis>, StoreError> {
        self.inner.approve(store_key, token, charged, ip).await
    }

    async fn find(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Option<View>, StoreError> {
        self.fail()?;
        self.inner.find(store_key, rules).await
    }

    async fn cancel(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Option<Status>, StoreError> {
        self.fail()?;
        self.inner.cancel(store_key, rules).await
    }

    async fn mark_failed(
        &self,
        store_key: &StoreKey,
        code: &CodeId,
        entry: EntryId,
    ) -> Result<bool, StoreError> {
        self.inner.mark_failed(store_key, code, entry).await
    }

    async fn mark_accepted(
        &self,
        store_key: &StoreKey,
        code: &CodeId,
        provider_id: Option<&ProviderId>,
    ) -> Result<Option<Millis>, StoreError> {
        self.inner.mark_accepted(store_key, code, provider_id).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.inner.ready().await
    }
}

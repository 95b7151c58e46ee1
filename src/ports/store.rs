//! The store: ledgers that are charged, and verifications that are opened, attempted and approved.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error as ThisError;

use crate::domain::code_hash::{CodeHash, CodeId, CodeSalt};
use crate::domain::details::EncryptedDetails;
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::Charge;
use crate::domain::live_codes::LiveCodes;
use crate::domain::provider_id::ProviderId;
use crate::domain::store_key::StoreKey;
use crate::domain::time::EntryId;
use crate::domain::time::Millis;
use crate::domain::verification::{AttemptToken, Status, VerificationRules, View};

/// The store of verifications and ledgers. Every call is one atomic step on the store's own clock.
///
/// The store retries no call, because a call that timed out may have taken effect.
#[async_trait]
pub trait Store: Send + Sync {
    /// Makes an entry in a ledger, unless a window of one of the rules is full. A rule without a
    /// window is an error.
    async fn charge(&self, charge: &Charge<'_>) -> Result<ChargeOutcome, StoreError>;

    /// Makes an entry as `charge` does, and returns what the next code of a pending verification
    /// must be hashed with, so that the code before can stay good. The ledger has the hash tag of
    /// the store key.
    async fn charge_send(
        &self,
        charge: &Charge<'_>,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<(ChargeOutcome, Option<CodeSalt>), StoreError>;

    /// Charges an IP, then a recipient for a send, unless the IP is refused. `pending` is the
    /// verification whose salt is returned, as `charge_send` does.
    ///
    /// One step where the store can make it one, else two.
    async fn charge_ip_and_send(
        &self,
        ip: &Charge<'_>,
        charge: &Charge<'_>,
        pending: Option<(&StoreKey, &VerificationRules)>,
    ) -> Result<(ChargeOutcome, Option<(ChargeOutcome, Option<CodeSalt>)>), StoreError> {
        charge_ip_then_send(self, ip, charge, pending).await
    }

    /// Charges an IP, then takes an attempt, unless the IP is refused.
    ///
    /// One step where the store can make it one, else two.
    async fn charge_ip_and_take_attempt(
        &self,
        ip: &Charge<'_>,
        store_key: &StoreKey,
        rules: &VerificationRules,
        charge: Option<&Charge<'_>>,
    ) -> Result<(ChargeOutcome, Option<AttemptOutcome>), StoreError> {
        charge_ip_then_take_attempt(self, ip, store_key, rules, charge).await
    }

    /// Returns the limit state that a charge would meet. Charges nothing.
    async fn peek(&self, charge: &Charge<'_>) -> Result<LimitState, StoreError>;

    /// Removes an entry from a ledger, and from that of its partition, if it is still there.
    async fn refund(
        &self,
        ledger: &LedgerKey,
        of_partition: Option<&LedgerKey>,
        entry: EntryId,
    ) -> Result<(), StoreError>;

    /// Makes this code the live one of the store key.
    ///
    /// A pending verification keeps its attempts, and its lifetime starts again (see
    /// `replace_code`). In any other state, or if there is no verification, a new one is opened and
    /// stores `encrypted`.
    ///
    /// `entry` is what the recipient was charged for the send. If that was more than
    /// [`MAX_OPEN_DELAY`](crate::domain::limit::MAX_OPEN_DELAY) ago, nothing happens and the
    /// outcome is `Late`.
    async fn open(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
        encrypted: &EncryptedDetails,
    ) -> Result<OpenOutcome, StoreError>;

    /// Replaces the code of a pending verification. The old code stays good for the overlap of the
    /// rules if both are hashed with the same [`CodeSalt`], and otherwise stops working. Attempts
    /// that were taken stay taken. Any other verification is left as it is. `entry` is as for
    /// `open`.
    async fn replace_code(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
    ) -> Result<ReplaceOutcome, StoreError>;

    /// Takes one attempt, permanently, and returns the codes to compare it with.
    ///
    /// A verification allows at most `rules.attempts` attempts, and none once it is closed.
    ///
    /// If a charge is given, it is made first, whatever the result of the attempt. If it is
    /// refused, no attempt is taken. Its ledger has the hash tag of the store key.
    async fn take_attempt(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
        charge: Option<&Charge<'_>>,
    ) -> Result<AttemptOutcome, StoreError>;

    /// Approves the verification for a correct attempt and returns the time of the approval.
    ///
    /// Only one token can approve a verification, and only while that token's code is good. The
    /// same token gets the same time again, so a call can be repeated. The same step deletes the
    /// stored hashes and refunds what was charged as the attempt was taken. What the IP was charged
    /// is refunded too; if that fails, the charge stays.
    async fn approve(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<(&LedgerKey, EntryId)>,
        ip: Option<IpEntry<'_>>,
    ) -> Result<Option<Millis>, StoreError>;

    /// Returns the visible state of a verification. Changes nothing.
    async fn find(&self, store_key: &StoreKey, rules: &VerificationRules)
    -> Result<Option<View>, StoreError>;

    /// Cancels a verification if it is pending, and deletes its code. Returns its status
    /// afterwards, or `None` if there is no verification. Refunds nothing.
    async fn cancel(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Option<Status>, StoreError>;

    /// Ends the code of an email that was refused. If it is the newest, the code before is the live
    /// one again if it is still good; otherwise the verification has failed. Never affects the code
    /// of another send.
    ///
    /// Returns true if the recipient's charge `entry` may be refunded: the email opened this
    /// verification, so that it replaced no live code, and no attempt was taken.
    async fn mark_failed(
        &self,
        store_key: &StoreKey,
        code: &CodeId,
        entry: EntryId,
    ) -> Result<bool, StoreError>;

    /// Records that an email was accepted, if its code is still the newest. Returns when, or `None`
    /// if it is not.
    async fn mark_accepted(
        &self,
        store_key: &StoreKey,
        code: &CodeId,
        provider_id: Option<&ProviderId>,
    ) -> Result<Option<Millis>, StoreError>;

    /// Checks that the store answers now and does not lose what is written to it.
    async fn ready(&self) -> Result<(), StoreError>;
}

/// An entry that an IP was charged.
#[derive(Debug, Clone, Copy)]
pub struct IpEntry<'a> {
    /// The charge, which names the ledgers.
    pub charge: &'a Charge<'a>,
    /// The entry.
    pub id: EntryId,
}

/// Charges an IP, then a recipient for a send, in two steps of a store.
///
/// # Errors
/// Returns the error of the step that failed.
pub(crate) async fn charge_ip_then_send(
    store: &(impl Store + ?Sized),
    ip: &Charge<'_>,
    charge: &Charge<'_>,
    pending: Option<(&StoreKey, &VerificationRules)>,
) -> Result<(ChargeOutcome, Option<(ChargeOutcome, Option<CodeSalt>)>), StoreError> {
    let charged = store.charge(ip).await?;
    let send = match (charged, pending) {
        (ChargeOutcome::Refused(_), _) => None,
        (_, Some((store_key, rules))) => Some(store.charge_send(charge, store_key, rules).await?),
        (_, None) => Some((store.charge(charge).await?, None)),
    };
    Ok((charged, send))
}

/// Charges an IP, then takes an attempt, in two steps of a store.
///
/// # Errors
/// Returns the error of the step that failed.
pub(crate) async fn charge_ip_then_take_attempt(
    store: &(impl Store + ?Sized),
    ip: &Charge<'_>,
    store_key: &StoreKey,
    rules: &VerificationRules,
    charge: Option<&Charge<'_>>,
) -> Result<(ChargeOutcome, Option<AttemptOutcome>), StoreError> {
    let charged = store.charge(ip).await?;
    let attempt = match charged {
        ChargeOutcome::Refused(_) => None,
        ChargeOutcome::Admitted { .. } => Some(store.take_attempt(store_key, rules, charge).await?),
    };
    Ok((charged, attempt))
}

/// The outcome of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// It was charged.
    Admitted {
        /// The entry, by which it can be refunded.
        entry: EntryId,
        /// The limit state after the charge.
        limit_state: LimitState,
    },
    /// Nothing was charged. The limit state is that of the window with the longest wait.
    Refused(LimitState),
}

/// The outcome of opening a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The code is live.
    Live(Live),
    /// Too much time has passed since the entry: nothing was done.
    Late,
}

/// A live code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// How long it will be valid.
    pub valid_for: Duration,
    /// When it expires, on the store's clock.
    pub expires_at: Millis,
    /// Attempts that were taken at its verification.
    pub attempts: u8,
}

/// The outcome of a resend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplaceOutcome {
    /// The same as for opening.
    Opened(OpenOutcome),
    /// The verification is closed.
    Closed(Status),
    /// There is no such verification.
    Unknown,
}

/// The outcome of taking an attempt.
#[derive(Debug, Clone)]
pub enum AttemptOutcome {
    /// It was taken and can be compared.
    Compare {
        /// The codes that may be right.
        codes: LiveCodes,
        /// Attempts taken so far, including this one.
        attempts: u8,
        /// The encrypted details of the verification.
        encrypted: EncryptedDetails,
        /// The entry, if a charge was given.
        entry: Option<EntryId>,
    },
    /// Nothing was taken: the charge was refused.
    Limited(LimitState),
    /// Nothing was taken: the verification is closed.
    Closed(Status),
    /// Nothing was taken: there is no such verification.
    Unknown,
}

/// The store did not answer, refused, or gave an unexpected answer. The call may have taken effect.
#[derive(Debug, ThisError)]
#[error("a call of the store failed")]
pub struct StoreError(#[source] Box<dyn Error + Send + Sync>);

impl StoreError {
    /// Wraps the cause, for the log.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

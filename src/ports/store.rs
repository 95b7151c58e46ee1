//! The store: ledgers that are charged, and verifications that are opened, attempted and approved.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error as ThisError;

use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::details::EncryptedDetails;
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::Charge;
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

    /// Replaces the code of a pending verification. The old code stops working, and attempts that
    /// were taken stay taken. Any other verification is left as it is. `entry` is as for `open`.
    async fn replace_code(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
    ) -> Result<ReplaceOutcome, StoreError>;

    /// Takes one attempt, permanently, and returns the hash to compare it with.
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
    /// Only one token can approve a verification, and only while that token's code is live. The
    /// same token gets the same time again, so a call can be repeated. The same step deletes the
    /// stored hash and refunds what was charged as the attempt was taken.
    async fn approve(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<(&LedgerKey, EntryId)>,
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

    /// Marks a verification as failed because its email was refused, if that email's code is still
    /// the live one. Never affects the code of a later send.
    ///
    /// Returns true if the recipient's charge `entry` may be refunded: the email opened this
    /// verification, so that it replaced no live code, and no attempt was taken.
    async fn mark_failed(
        &self,
        store_key: &StoreKey,
        code: &Salt,
        entry: EntryId,
    ) -> Result<bool, StoreError>;

    /// Checks that the store answers now and does not lose what is written to it.
    async fn ready(&self) -> Result<(), StoreError>;
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
        /// The stored hash.
        hash: CodeHash,
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

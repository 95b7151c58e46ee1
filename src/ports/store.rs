//! What the service needs of a store: ledgers that are charged, verifications that are opened, guessed at and won.

use std::error::Error;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error as ThisError;

use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::details::EncryptedDetails;
use crate::domain::ledger::{EntryId, LimitState};
use crate::domain::limit::{IpLimit, Limit, Policy, SendLimits};
use crate::domain::store_key::{ClientNetwork, KeyedHash, Recipient, StoreKey};
use crate::domain::tenant::Tenant;
use crate::domain::verification::{AttemptToken, Millis, Status, VerificationRules, View};

/// The memory of verifications. Every call is one atomic step on the store's own clock; none is retried by the
/// store, since a call that timed out may have taken effect.
#[async_trait]
pub trait Store: Send + Sync {
    /// Charges a network for a send or an attempt: in all of its windows, or, where one of them is full, in none.
    async fn charge(&self, profile: &IpLedger, limit: &IpLimit) -> Result<ChargeOutcome, StoreError>;

    /// Gives back what a network was charged, if it is still there.
    async fn refund(&self, profile: &IpLedger, entry: EntryId) -> Result<(), StoreError>;

    /// Admits a send to a person: charges the recipient's sends, the site's share of them and the sends to that
    /// person for all tenants, or, where one of them is full, none.
    async fn admit(
        &self,
        recipient: &Recipient,
        client: Option<&KeyedHash>,
        limits: &SendLimits,
    ) -> Result<ChargeOutcome, StoreError>;

    /// How the ledgers of the recipient's sends, whatever the site, stand for one more; charges nothing.
    async fn outlook(&self, recipient: &Recipient, limits: &SendLimits) -> Result<LimitState, StoreError>;

    /// Gives back what `admit` charged, if it is still there.
    async fn withdraw(&self, recipient: &Recipient, entry: EntryId) -> Result<(), StoreError>;

    /// Makes this code the one live code of the store key. A pending verification keeps what was taken and gets its
    /// life restarted (see `replace_code`); in any other state, or none, a new verification begins.
    ///
    /// `entry` is what `admit` charged for it. Nothing is done more than [`MAX_OPEN_DELAY`](crate::domain::limit::MAX_OPEN_DELAY) after it.
    /// A new verification keeps `encrypted` to its end.
    async fn open(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
        encrypted: &EncryptedDetails,
    ) -> Result<OpenOutcome, StoreError>;

    /// Replaces the code of a pending verification: the old one dies, what was taken stays taken. Any other
    /// verification is left as it is. `entry` is as for `open`.
    async fn replace_code(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
    ) -> Result<ReplaceOutcome, StoreError>;

    /// Spends an attempt for good and hands out what to compare it with. No more than `rules.attempts` are handed
    /// out in the life of a verification, and none once it is closed.
    ///
    /// Where a attempter is given, their site is charged for an attempt at the recipient first, whatever becomes of the
    /// attempt; where that is refused nothing is taken.
    async fn take_attempt(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
        attempter: Option<&Attempter<'_>>,
    ) -> Result<AttemptOutcome, StoreError>;

    /// Takes the win. Says when it was won to exactly one token in the life of a verification, and only while that
    /// token's code is live; says so again to that same token. The stored code, and what its site was charged for the
    /// attempt, are gone before the answer.
    async fn approve(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<&SiteCharge>,
    ) -> Result<Option<Millis>, StoreError>;

    /// What can be seen of a verification; changes nothing.
    async fn find(&self, store_key: &StoreKey, rules: &VerificationRules)
    -> Result<Option<View>, StoreError>;

    /// Ends a pending verification as canceled, and its code with it. Says how it stands then; `None` where there is
    /// none. What was charged stays charged.
    async fn cancel(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Option<Status>, StoreError>;

    /// Ends the verification that a refused mail opened as failed if the mail's own code is still the live one.
    /// Never touches the code of a later send. True where what `admit` charged for the mail may be given back:
    /// the mail replaced no live code and no attempt has been attempts since it was opened.
    async fn mark_failed(
        &self,
        store_key: &StoreKey,
        code: &Salt,
        entry: EntryId,
    ) -> Result<bool, StoreError>;

    /// Whether fewer than `most` mails were handed to the relay in the last day; approximate: those that
    /// are on their way are not counted yet.
    async fn relay_has_room(&self, most: u32) -> Result<bool, StoreError>;

    /// Counts a mail that was handed to the relay.
    async fn count_mail(&self) -> Result<(), StoreError>;

    /// Whether the store answers now, and keeps what it is told.
    async fn ready(&self) -> Result<(), StoreError>;
}

/// Whose ledger of sends or attempts it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct IpLedger {
    /// At which tenant.
    pub tenant: Tenant,
    /// Which network.
    pub network: ClientNetwork,
    /// What is counted.
    pub action: Action,
}

/// What a network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Ask for a mail.
    Send,
    /// Try a code.
    Attempt,
}

impl Action {
    /// The ledger that counts it.
    #[must_use]
    pub fn policy(self) -> Policy {
        match self {
            Self::Send => Policy::IpSends,
            Self::Attempt => Policy::IpAttempts,
        }
    }
}

/// Who attempts, where that is limited for each recipient.
#[derive(Debug, Clone, Copy)]
pub struct Attempter<'a> {
    /// From where.
    pub client: KeyedHash,
    /// How often, at one recipient.
    pub limit: &'a Limit,
}

/// What a site was charged for an attempt at a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteCharge {
    /// Which site.
    pub client: KeyedHash,
    /// Which entry.
    pub entry: EntryId,
}

/// What became of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeOutcome {
    /// It is entered.
    Admitted {
        /// By this name it can be given back.
        entry: EntryId,
        /// How the ledger stands now.
        limit_state: LimitState,
    },
    /// It is not entered anywhere; this ledger is the one to wait for.
    Refused(LimitState),
}

/// What became of an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenOutcome {
    /// The code is live.
    Live(Live),
    /// Too long after it was admitted: nothing was done.
    Late,
}

/// A live code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// How long it will be valid.
    pub valid_for: Duration,
    /// Until when that is, on the store's clock.
    pub expires_at: Millis,
    /// Attempts that were taken on its verification.
    pub attempts: u8,
}

/// What became of a resend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplaceOutcome {
    /// As for an opening.
    OpenOutcome(OpenOutcome),
    /// The verification is over.
    Closed(Status),
    /// There is none.
    Unknown,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub enum AttemptOutcome {
    /// It is taken; compare it with this.
    Compare {
        /// The stored hash.
        hash: CodeHash,
        /// Attempts that are taken now, this one among them.
        attempts: u8,
        /// What the verification is about.
        encrypted: EncryptedDetails,
        /// What the attempter's site was charged, where a attempter was given.
        charged: Option<SiteCharge>,
    },
    /// Nothing was taken: the attempter's site has guessed at the recipient too often.
    Limited(LimitState),
    /// Nothing was taken: the verification is over.
    Closed(Status),
    /// Nothing was taken: there is no verification.
    Unknown,
}

/// The store could not answer, or answered what is none of ours. What was asked may still have happened.
#[derive(Debug, ThisError)]
#[error("the store did not answer")]
pub struct StoreError(#[source] Box<dyn Error + Send + Sync>);

impl StoreError {
    /// Keeps the cause for the log.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

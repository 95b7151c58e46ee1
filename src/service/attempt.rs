//! The steps that every attempt has in common: take it, compare the codes, and only then approve
//! the verification.
//!
//! The numbers are those of "An attempt, step by step" in ARCHITECTURE.md. On the simple endpoints
//! a wrong code costs the same work and gets the same response as an expired, used, exhausted or
//! unknown one. On v1 the holder of an id learns the status.

use thiserror::Error;

use super::error::{ServiceError, log};
use super::ip_charge::IpCharge;
use super::{Dependencies, UseCaseError};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, SALT_BYTES, Salt};
use crate::domain::details::{EncryptedDetails, VerificationDetails};
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::Charge;
use crate::domain::store_key::StoreKey;
use crate::domain::time::{EntryId, Millis};
use crate::domain::verification::{AttemptToken, Status};
use crate::ports::{AttemptOutcome, HashPermit, HashWork, Priority, StoreError};
use crate::random;

/// The address is confirmed.
pub struct Approved {
    /// A signed proof, if a proof key is set.
    pub proof: Option<String>,
}

/// Why the address is not confirmed.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The code is wrong, or was compared too late to approve the verification. On the simple
    /// endpoints this also stands for an expired, used or missing code, without saying which.
    #[error("invalid or expired code")]
    Invalid {
        /// Attempts that remain.
        left: u8,
    },
    /// The code is wrong, and no attempt remains.
    #[error("invalid code, and the last attempt")]
    Exhausted,
    /// The tenant has no verification with that id.
    #[error("there is no such verification")]
    Unknown,
    /// The verification with that id is closed.
    #[error("the verification is over")]
    Closed(Status),
    /// A limit is exceeded. The code was not compared.
    #[error("too many attempts")]
    Limited(LimitState),
    /// The attempt was not compared, its result is unknown, or the proof could not be signed.
    #[error(transparent)]
    Service(ServiceError),
}

/// One attempt.
pub(super) struct Attempt<'a> {
    /// What its IP was charged.
    pub ip_charge: &'a IpCharge,
    /// The verification that it is for.
    pub store_key: &'a StoreKey,
    /// On the simple endpoints, the charge of the client prefix for an attempt at this recipient.
    pub charge: Option<Charge<'a>>,
}

/// A correct attempt.
pub(super) struct ApprovedAttempt {
    /// When it approved the verification, on the store's clock.
    pub at: Millis,
    /// The details of a verification with an id.
    pub about: Option<VerificationDetails>,
}

/// An attempt that was taken, or a decoy that costs the same work.
#[derive(Default)]
struct TakenAttempt {
    stored: Option<CodeHash>,
    left: u8,
    encrypted: EncryptedDetails,
    entry: Option<EntryId>,
}

/// Runs steps 3 to 7.
pub(super) async fn attempt(
    deps: &Dependencies,
    attempt: &Attempt<'_>,
    code: Code,
) -> Result<ApprovedAttempt, CheckError> {
    let outcome = check(deps, attempt, code).await;
    // 7. Refund the IP's attempt if it was right, or if it was not taken.
    if matches!(outcome, Ok(_) | Err(CheckError::Service(ServiceError::Overloaded))) {
        attempt.ip_charge.refund(deps).await;
    }
    outcome
}

/// Runs steps 3 to 6.
async fn check(
    deps: &Dependencies,
    attempt: &Attempt<'_>,
    code: Code,
) -> Result<ApprovedAttempt, CheckError> {
    // 3. Reserve a place in the hash queue, before anything is taken.
    let permit = deps.hasher.reserve(Priority::Check).ok_or(ServiceError::Overloaded)?;
    // 4. Take an attempt.
    let attempts = take_attempt(deps, attempt).await?;
    let wrong = match (&attempts.stored, attempts.left) {
        (Some(_), 0) => CheckError::Exhausted,
        (_, left) => CheckError::Invalid { left },
    };
    // 5. Hash the submitted code and compare.
    let store_key = attempt.store_key;
    let Some(code) = compare(deps, permit, store_key, code, attempts.stored).await? else {
        return Err(wrong);
    };
    // Details that cannot be decrypted, because their pepper is gone, could not be returned after
    // the approval. So such a verification is not approved.
    let about = match store_key {
        StoreKey::Address { .. } => None,
        StoreKey::Id(_) => Some(deps.decrypt(store_key, &attempts.encrypted).ok_or(CheckError::Unknown)?),
    };
    // 6. Approve the verification.
    let token = AttemptToken { code, nonce: random::bytes()? };
    let charged = attempt.charge.as_ref().map(|charge| &charge.ledger).zip(attempts.entry);
    match approve_once(deps, store_key, &token, charged).await? {
        Some(at) => Ok(ApprovedAttempt { at, about }),
        None => Err(CheckError::Invalid { left: attempts.left }),
    }
}

async fn take_attempt(deps: &Dependencies, attempt: &Attempt<'_>) -> Result<TakenAttempt, CheckError> {
    let Attempt { ip_charge, store_key, charge } = attempt;
    match (deps.store.take_attempt(store_key, &deps.rules, charge.as_ref()).await?, store_key) {
        (AttemptOutcome::Compare { hash, attempts, encrypted, entry }, _) => {
            Ok(TakenAttempt { stored: Some(hash), left: deps.rules.left(attempts), encrypted, entry })
        }
        (AttemptOutcome::Limited(limit_state), _) => {
            Err(CheckError::Limited(ip_charge.or_longer_wait(limit_state)))
        }
        (AttemptOutcome::Closed(_) | AttemptOutcome::Unknown, StoreKey::Address { .. }) => {
            Ok(TakenAttempt::default())
        }
        (AttemptOutcome::Closed(status), StoreKey::Id(_)) => Err(CheckError::Closed(status)),
        (AttemptOutcome::Unknown, StoreKey::Id(_)) => Err(CheckError::Unknown),
    }
}

/// Derives the digest of the submitted code. Returns the salt of the stored code that it matches,
/// if any. If there is no stored code, or its pepper is gone, a decoy costs the same work.
async fn compare(
    deps: &Dependencies,
    permit: HashPermit,
    store_key: &StoreKey,
    code: Code,
    stored: Option<CodeHash>,
) -> Result<Option<Salt>, CheckError> {
    let peppers = &deps.reloadable.peppers;
    let known = stored.and_then(|hash| peppers.find(hash.kid()).cloned().map(|pepper| (hash, pepper)));
    let (salt, pepper) = match &known {
        Some((hash, pepper)) => (*hash.salt(), pepper.clone()),
        None => (Salt::new([0; SALT_BYTES]), peppers.current().clone()),
    };
    let digest = deps
        .hasher
        .digest(permit, HashWork { code, salt, associated_data: store_key.associated_data(), pepper })
        .await?;
    tracing::debug!(live = known.is_some(), "an attempt was compared");
    Ok(known.filter(|(hash, _)| hash.matches(&digest)).map(|(hash, _)| *hash.salt()))
}

/// Approves the verification. Retries once if the store fails. The retry is safe because the token
/// makes the call idempotent.
async fn approve_once(
    deps: &Dependencies,
    store_key: &StoreKey,
    token: &AttemptToken,
    charged: Option<(&LedgerKey, EntryId)>,
) -> Result<Option<Millis>, StoreError> {
    match deps.store.approve(store_key, token, charged).await {
        Err(error) => {
            log(&error, "the approval of a right attempt is retried");
            deps.store.approve(store_key, token, charged).await
        }
        answer => answer,
    }
}

impl UseCaseError for CheckError {
    fn exceeded(limit_state: LimitState) -> Self {
        Self::Limited(limit_state)
    }

    fn limited(&self) -> Option<LimitState> {
        match self {
            Self::Limited(limit_state) => Some(*limit_state),
            _ => None,
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::Invalid { .. } => "wrong",
            Self::Exhausted => "exhausted",
            Self::Unknown => "not_found",
            Self::Closed(_) => "closed",
            Self::Limited(_) => "rate_limited",
            Self::Service(error) => error.outcome(),
        }
    }
}

impl<E: Into<ServiceError>> From<E> for CheckError {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

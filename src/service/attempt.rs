//! The steps that every attempt has in common: spend it, compare it, and only then win.
//!
//! The numbers are the steps of an attempt in the ledgers' document. On the simple endpoints wrong, expired, used,
//! exhausted and unknown take the same work and give the same answer (SEC-13). Whoever holds an id is told which it is.

use thiserror::Error;

use super::ip_charge::{IpCharge, IpChargeError};
use super::{Dependencies, Limited, log};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, SALT_BYTES, Salt};
use crate::domain::details::{EncryptedDetails, VerificationDetails};
use crate::domain::ledger::LimitState;
use crate::domain::proof::SigningError;
use crate::domain::store_key::StoreKey;
use crate::domain::verification::{AttemptToken, Millis, Status};
use crate::ports::{
    AttemptOutcome, Attempter, HashPermit, HashWork, HasherError, Priority, SiteCharge, StoreError,
};
use crate::random::{self, SysError};

/// The address is confirmed.
pub struct Approved {
    /// A signed statement of it, where a proof key is set.
    pub proof: Option<String>,
}

/// Why the address is not confirmed.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The code is wrong, or came too late to win. On the simple endpoints also: it is expired, used, or there is none,
    /// and which of them is not said.
    #[error("invalid or expired code")]
    Invalid {
        /// Attempts that are left.
        left: u8,
    },
    /// The tenant has no verification of that id.
    #[error("there is no such verification")]
    Unknown,
    /// The verification of that id is over.
    #[error("the verification is over")]
    Closed(Status),
    /// A ledger is full; the attempt was not compared.
    #[error("too many attempts")]
    Limited(LimitState),
    /// Too much is being hashed, and there was no place to wait; nothing was taken.
    #[error("the hash queue is full")]
    Overloaded,
    /// The store or the hasher did not do its part.
    #[error("a part of the service is unavailable")]
    Unavailable,
    /// A fault of ours.
    #[error("internal fault")]
    Fault,
}

/// One attempt.
pub(super) struct Attempt<'a> {
    /// What its network was charged.
    pub ip_charge: &'a IpCharge,
    /// At which code.
    pub store_key: &'a StoreKey,
    /// Whose share of the recipient's attempts it is, on the simple endpoints.
    pub attempter: Option<Attempter<'a>>,
}

/// A right attempt.
pub(super) struct Won {
    /// When it won, on the store's clock.
    pub at: Millis,
    /// What its verification is about, where it has an id.
    pub about: Option<VerificationDetails>,
}

/// An attempt that was taken, or a decoy that costs the same.
#[derive(Default)]
struct TakenAttempt {
    stored: Option<CodeHash>,
    left: u8,
    encrypted: EncryptedDetails,
    charged: Option<SiteCharge>,
}

/// Steps 3 to 6. What was charged for an attempt that was not made, or that was right, is given back.
pub(super) async fn attempt(
    deps: &Dependencies,
    attempt: &Attempt<'_>,
    code: Code,
) -> Result<Won, CheckError> {
    let outcome = from_place_on(deps, attempt, code).await;
    if matches!(outcome, Ok(_) | Err(CheckError::Overloaded)) {
        attempt.ip_charge.give_back(deps).await;
    }
    outcome
}

async fn from_place_on(deps: &Dependencies, attempt: &Attempt<'_>, code: Code) -> Result<Won, CheckError> {
    // 3. A place in the hash queue, before anything is taken.
    let permit = deps.hasher.reserve(Priority::Check).ok_or(CheckError::Overloaded)?;
    // 4. AttemptOutcome.
    let attempts = take_attempt(deps, attempt).await?;
    let invalid = CheckError::Invalid { left: attempts.left };
    // 5. Compare.
    let store_key = attempt.store_key;
    let Some(code) = compare(deps, permit, store_key, code, attempts.stored).await? else {
        return Err(invalid);
    };
    // What could not be said afterwards is not won: its pepper is gone.
    let about = match store_key {
        StoreKey::Address { .. } => None,
        StoreKey::Id(_) => Some(deps.decrypt(store_key, &attempts.encrypted).ok_or(CheckError::Unknown)?),
    };
    // 6. ApproveOutcome.
    let token = AttemptToken { code, nonce: random::octets()? };
    match win(deps, store_key, &token, attempts.charged.as_ref()).await? {
        Some(at) => Ok(Won { at, about }),
        None => Err(invalid),
    }
}

async fn take_attempt(deps: &Dependencies, attempt: &Attempt<'_>) -> Result<TakenAttempt, CheckError> {
    let Attempt { ip_charge, store_key, attempter } = attempt;
    match (deps.store.take_attempt(store_key, &deps.rules, attempter.as_ref()).await?, store_key) {
        (AttemptOutcome::Compare { hash, attempts, encrypted, charged }, _) => {
            Ok(TakenAttempt { stored: Some(hash), left: deps.rules.left(attempts), encrypted, charged })
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

/// Derives the digest of the typed code and says which stored code it is, if any. Without a stored code, or
/// with one whose pepper is gone, the same work is done on a decoy.
async fn compare(
    deps: &Dependencies,
    permit: HashPermit,
    store_key: &StoreKey,
    code: Code,
    stored: Option<CodeHash>,
) -> Result<Option<Salt>, CheckError> {
    let peppers = &deps.secrets.peppers;
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

/// Takes the win. Asked once more where no answer came: the token makes that safe, and the attempt was right.
async fn win(
    deps: &Dependencies,
    store_key: &StoreKey,
    token: &AttemptToken,
    charged: Option<&SiteCharge>,
) -> Result<Option<Millis>, StoreError> {
    match deps.store.approve(store_key, token, charged).await {
        Err(error) => {
            log(&error, "a right attempt is taken to the store once more");
            deps.store.approve(store_key, token, charged).await
        }
        answer => answer,
    }
}

impl Limited for CheckError {
    fn limited(&self) -> Option<LimitState> {
        match self {
            Self::Limited(limit_state) => Some(*limit_state),
            _ => None,
        }
    }
}

impl From<IpChargeError> for CheckError {
    fn from(error: IpChargeError) -> Self {
        match error {
            IpChargeError::Refused(limit_state) => Self::Limited(limit_state),
            IpChargeError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for CheckError {
    fn from(error: StoreError) -> Self {
        log(&error, "an attempt was not checked");
        Self::Unavailable
    }
}

impl From<HasherError> for CheckError {
    fn from(error: HasherError) -> Self {
        log(&error, "an attempt was not checked");
        match error {
            HasherError::Late => Self::Unavailable,
            HasherError::Failed(_) => Self::Fault,
        }
    }
}

impl From<SysError> for CheckError {
    fn from(error: SysError) -> Self {
        log(&error, "an attempt was not checked");
        Self::Fault
    }
}

impl From<SigningError> for CheckError {
    fn from(error: SigningError) -> Self {
        log(&error, "an address was confirmed but its proof could not be signed");
        Self::Fault
    }
}

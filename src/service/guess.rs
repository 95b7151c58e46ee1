//! The steps that every guess has in common: spend it, compare it, and only then win.
//!
//! The numbers are the steps of a guess in the ledgers' document. On the simple endpoints wrong, expired, used,
//! exhausted and unknown take the same work and give the same answer (SEC-13). Whoever holds an id is told which it is.

use thiserror::Error;

use super::toll::{Toll, TollError};
use super::{Limited, Parts, log};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, SALT_OCTETS, Salt};
use crate::domain::ledger::Standing;
use crate::domain::proof::SigningError;
use crate::domain::sealed::{Particulars, Sealed};
use crate::domain::slot::Slot;
use crate::domain::verification::{GuessToken, Millis, Status};
use crate::ports::{Guesser, HashWork, HasherError, Place, SiteEntry, Spend, StoreError, Urgency};
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
        /// Guesses that are left.
        left: u8,
    },
    /// The tenant has no verification of that id.
    #[error("there is no such verification")]
    Unknown,
    /// The verification of that id is over.
    #[error("the verification is over")]
    Closed(Status),
    /// A ledger is full; the guess was not compared.
    #[error("too many guesses")]
    Limited(Standing),
    /// Too much is being hashed, and there was no place to wait; nothing was spent.
    #[error("the hash queue is full")]
    Overloaded,
    /// The store or the hasher did not do its part.
    #[error("a part of the service is unavailable")]
    Unavailable,
    /// A fault of ours.
    #[error("internal fault")]
    Fault,
}

/// One guess.
pub(super) struct Attempt<'a> {
    /// What its network was charged.
    pub toll: &'a Toll,
    /// At which code.
    pub slot: &'a Slot,
    /// Whose share of the subject's guesses it is, on the simple endpoints.
    pub guesser: Option<Guesser<'a>>,
}

/// A right guess.
pub(super) struct Won {
    /// When it won, on the store's clock.
    pub at: Millis,
    /// What its verification is about, where it has an id.
    pub about: Option<Particulars>,
}

/// A guess that was spent, or a decoy that costs the same.
#[derive(Default)]
struct Spent {
    stored: Option<CodeHash>,
    left: u8,
    sealed: Sealed,
    charged: Option<SiteEntry>,
}

/// Steps 3 to 6. What was charged for a guess that was not made, or that was right, is given back.
pub(super) async fn guess(parts: &Parts, attempt: &Attempt<'_>, code: Code) -> Result<Won, CheckError> {
    let outcome = from_place_on(parts, attempt, code).await;
    if matches!(outcome, Ok(_) | Err(CheckError::Overloaded)) {
        attempt.toll.give_back(parts).await;
    }
    outcome
}

async fn from_place_on(parts: &Parts, attempt: &Attempt<'_>, code: Code) -> Result<Won, CheckError> {
    // 3. A place in the hash queue, before anything is spent.
    let place = parts.hasher.place(Urgency::Check).ok_or(CheckError::Overloaded)?;
    // 4. Spend.
    let spent = spend(parts, attempt).await?;
    let invalid = CheckError::Invalid { left: spent.left };
    // 5. Compare.
    let slot = attempt.slot;
    let Some(code) = compare(parts, place, slot, code, spent.stored).await? else { return Err(invalid) };
    // What could not be said afterwards is not won: its pepper is gone.
    let about = match slot {
        Slot::Address { .. } => None,
        Slot::Id(_) => Some(parts.unseal(slot, &spent.sealed).ok_or(CheckError::Unknown)?),
    };
    // 6. Win.
    let token = GuessToken { code, nonce: random::octets()? };
    match win(parts, slot, &token, spent.charged.as_ref()).await? {
        Some(at) => Ok(Won { at, about }),
        None => Err(invalid),
    }
}

async fn spend(parts: &Parts, attempt: &Attempt<'_>) -> Result<Spent, CheckError> {
    let Attempt { toll, slot, guesser } = attempt;
    match (parts.store.spend(slot, &parts.policy, guesser.as_ref()).await?, slot) {
        (Spend::Compare { hash, spent, sealed, charged }, _) => {
            Ok(Spent { stored: Some(hash), left: parts.policy.left(spent), sealed, charged })
        }
        (Spend::Limited(standing), _) => Err(CheckError::Limited(toll.or_longer(standing))),
        (Spend::Closed(_) | Spend::Unknown, Slot::Address { .. }) => Ok(Spent::default()),
        (Spend::Closed(status), Slot::Id(_)) => Err(CheckError::Closed(status)),
        (Spend::Unknown, Slot::Id(_)) => Err(CheckError::Unknown),
    }
}

/// Derives the digest of the typed code and says which stored code it is, if any. Without a stored code, or
/// with one whose pepper is gone, the same work is done on a decoy.
async fn compare(
    parts: &Parts,
    place: Place,
    slot: &Slot,
    code: Code,
    stored: Option<CodeHash>,
) -> Result<Option<Salt>, CheckError> {
    let peppers = &parts.secrets.peppers;
    let known = stored.and_then(|hash| peppers.find(hash.kid()).cloned().map(|pepper| (hash, pepper)));
    let (salt, pepper) = match &known {
        Some((hash, pepper)) => (*hash.salt(), pepper.clone()),
        None => (Salt::new([0; SALT_OCTETS]), peppers.current().clone()),
    };
    let digest = parts.hasher.digest(place, HashWork { code, salt, binding: slot.binding(), pepper }).await?;
    tracing::debug!(live = known.is_some(), "a guess was compared");
    Ok(known.filter(|(hash, _)| hash.matches(&digest)).map(|(hash, _)| *hash.salt()))
}

/// Takes the win. Asked once more where no answer came: the token makes that safe, and the guess was right.
async fn win(
    parts: &Parts,
    slot: &Slot,
    token: &GuessToken,
    charged: Option<&SiteEntry>,
) -> Result<Option<Millis>, StoreError> {
    match parts.store.consume(slot, token, charged).await {
        Err(error) => {
            log(&error, "a right guess is taken to the store once more");
            parts.store.consume(slot, token, charged).await
        }
        answer => answer,
    }
}

impl Limited for CheckError {
    fn limited(&self) -> Option<Standing> {
        match self {
            Self::Limited(standing) => Some(*standing),
            _ => None,
        }
    }
}

impl From<TollError> for CheckError {
    fn from(error: TollError) -> Self {
        match error {
            TollError::Refused(standing) => Self::Limited(standing),
            TollError::Store(error) => error.into(),
        }
    }
}

impl From<StoreError> for CheckError {
    fn from(error: StoreError) -> Self {
        log(&error, "a guess was not checked");
        Self::Unavailable
    }
}

impl From<HasherError> for CheckError {
    fn from(error: HasherError) -> Self {
        log(&error, "a guess was not checked");
        match error {
            HasherError::Late => Self::Unavailable,
            HasherError::Failed(_) => Self::Fault,
        }
    }
}

impl From<SysError> for CheckError {
    fn from(error: SysError) -> Self {
        log(&error, "a guess was not checked");
        Self::Fault
    }
}

impl From<SigningError> for CheckError {
    fn from(error: SigningError) -> Self {
        log(&error, "an address was confirmed but its proof could not be signed");
        Self::Fault
    }
}

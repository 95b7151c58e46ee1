//! Checking a guess: spend it, compare it, and only then win.
//!
//! The numbers are the steps of a guess in the ledgers' document. Wrong, expired, used, exhausted and unknown
//! take the same work and give the same answer (SEC-13).

use std::net::IpAddr;
use std::time::UNIX_EPOCH;

use thiserror::Error;

use super::{Metered, Parts, log, longest};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, SALT_OCTETS, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::ledger::Standing;
use crate::domain::proof::{Claims, PROOF_LIFE};
use crate::domain::slot::{Slot, Tag, Tenant};
use crate::domain::verification::GuessToken;
use crate::domain::verification_id::VerificationId;
use crate::ports::{
    Action, Charged, Guesser, HashWork, HasherError, NetworkAccount, Place, SiteEntry, Spend, StoreError,
    Urgency,
};
use crate::random::{self, SysError};

/// The purpose in the proofs of the simple endpoints.
const SIMPLE_PURPOSE: &str = "simple";

/// The address is confirmed.
#[derive(Debug)]
pub struct Approved {
    /// A signed statement of it, where a proof key is set.
    pub proof: Option<String>,
}

/// Why the address is not confirmed.
#[derive(Debug, Error)]
pub enum CheckError {
    /// The code is wrong, expired, used, or there is none: which of them is not said.
    #[error("invalid or expired code")]
    Invalid,
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

pub(super) async fn check(
    parts: &Parts,
    address: &EmailAddress,
    typed: &str,
    client: IpAddr,
) -> Metered<Result<Approved, CheckError>> {
    // 1. What cannot be a code touches nothing.
    let Some(code) = Code::parse(typed) else { return Metered::not_at_all(Err(CheckError::Invalid)) };
    // 2. The network's guesses.
    let network = parts.secrets.index_key.network(client);
    let account = NetworkAccount { tenant: Tenant::SIMPLE, network, action: Action::Guess };
    let (entry, standing) = match parts.store.charge(&account, &parts.limits.network_guesses).await {
        Ok(Charged::Admitted { entry, standing }) => (entry, standing),
        Ok(Charged::Refused(standing)) => return Metered::at(standing, Err(CheckError::Limited(standing))),
        Err(error) => return Metered::not_at_all(Err(error.into())),
    };
    let outcome = guess(parts, address, code, network.site, standing).await;
    // 3. and 6. What was charged for a guess that was not made, or that was right, is given back.
    if matches!(outcome, Ok(()) | Err(CheckError::Overloaded))
        && let Err(error) = parts.store.refund(&account, entry).await
    {
        log(&error, "a network was not given back a guess");
    }
    match outcome {
        Err(CheckError::Limited(standing)) => Metered::at(standing, Err(CheckError::Limited(standing))),
        outcome => {
            Metered::at(standing, outcome.and_then(|()| Ok(Approved { proof: prove(parts, address)? })))
        }
    }
}

/// The steps from the hash queue on; `charged` is how the network stands.
async fn guess(
    parts: &Parts,
    address: &EmailAddress,
    code: Code,
    site: Tag,
    charged: Standing,
) -> Result<(), CheckError> {
    // 3. A place in the hash queue, before anything is spent.
    let place = parts.hasher.place(Urgency::Check).ok_or(CheckError::Overloaded)?;
    let subject = parts.secrets.index_key.subject(Tenant::SIMPLE, address);
    let slot = parts.secrets.index_key.address_slot(subject, address);

    // 4. Spend.
    let guesser = Guesser { site, limit: &parts.limits.site_guesses };
    let stored = match parts.store.spend(&slot, &parts.policy, Some(&guesser)).await? {
        Spend::Compare { hash, charged } => Some((hash, charged)),
        Spend::Closed(_) | Spend::Unknown => None,
        Spend::Limited(standing) => return Err(CheckError::Limited(longest([charged, standing]))),
    };
    let (stored, charged) = stored.unzip();
    // 5. Compare.
    let code = compare(parts, place, &slot, code, stored).await?.ok_or(CheckError::Invalid)?;

    // 6. Win.
    let token = GuessToken { code, nonce: random::octets()? };
    if !win(parts, &slot, &token, charged.flatten().as_ref()).await? {
        return Err(CheckError::Invalid);
    }
    tracing::info!("an address was confirmed");
    Ok(())
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
) -> Result<bool, StoreError> {
    match parts.store.consume(slot, token, charged).await {
        Err(error) => {
            log(&error, "a right guess is taken to the store once more");
            parts.store.consume(slot, token, charged).await
        }
        answer => answer,
    }
}

/// Signs a proof, where a key is set.
fn prove(parts: &Parts, address: &EmailAddress) -> Result<Option<String>, CheckError> {
    let Some(key) = &parts.secrets.proof_key else { return Ok(None) };
    let now = parts.clock.now().duration_since(UNIX_EPOCH).map_err(|_| CheckError::Fault)?.as_secs();
    let claims = Claims {
        iss: &parts.issuer,
        aud: Tenant::SIMPLE.name(),
        sub: address.as_str(),
        purpose: SIMPLE_PURPOSE,
        jti: &VerificationId::new(random::octets()?).to_string(),
        iat: now,
        exp: now + PROOF_LIFE.as_secs(),
    };
    key.sign(&claims).map(Some).map_err(|error| {
        log(&error, "an address was confirmed but its proof could not be signed");
        CheckError::Fault
    })
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

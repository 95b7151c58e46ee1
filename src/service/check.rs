//! Checking a typed code: against the one live code of an address, or against that of a verification.

use std::net::IpAddr;

use super::guess::{Approved, Attempt, CheckError, Won, guess};
use super::prove::{Proven, prove};
use super::toll::Toll;
use super::{Metered, Parts};
use crate::domain::code::Code;
use crate::domain::email_address::EmailAddress;
use crate::domain::sealed::Particulars;
use crate::domain::slot::Slot;
use crate::domain::tenant::Account;
use crate::domain::verification::Status;
use crate::domain::verification_id::VerificationId;
use crate::ports::{Action, Guesser};
use crate::random;

/// The purpose in the proofs of the simple endpoints.
const SIMPLE_PURPOSE: &str = "simple";

/// The simple endpoints' check.
pub(super) async fn check(
    parts: &Parts,
    address: &EmailAddress,
    typed: &str,
    client: IpAddr,
) -> Metered<Result<Approved, CheckError>> {
    // 1. What cannot be a code touches nothing.
    let Some(code) = Code::parse(typed) else {
        return Metered::not_at_all(Err(CheckError::Invalid { left: 0 }));
    };
    // 2. The network's guesses.
    let account = &parts.simple;
    let toll = match Toll::charge(parts, account, Action::Guess, Some(client)).await {
        Ok(toll) => toll,
        Err(error) => return Metered::refused(CheckError::from(error)),
    };
    let outcome = check_address(parts, &toll, address, code).await;
    Metered::after(&toll, outcome)
}

async fn check_address(
    parts: &Parts,
    toll: &Toll,
    address: &EmailAddress,
    code: Code,
) -> Result<Approved, CheckError> {
    let (account, index_key) = (&parts.simple, &parts.secrets.index_key);
    let slot = index_key.address_slot(index_key.subject(account.tenant.clone(), address), address);
    let guesser = toll.site().map(|site| Guesser { site, limit: &account.limits.ip_email_attempts });
    let id = VerificationId::new(random::octets()?);
    let won = guess(parts, &Attempt { toll, slot: &slot, guesser }, code).await?;
    tracing::info!(tenant.name = account.tenant.name(), "an address was confirmed");
    // The code is that of every spelling in case, so the proof names the one that stands for all of them.
    let (audience, purpose, address) = (&account.tenant, SIMPLE_PURPOSE, &address.folded());
    let proof = prove(parts, &Proven { audience, address, purpose, id: &id, at: won.at })?;
    Ok(Approved { proof })
}

/// The check of a verification under an id of its own.
pub(super) async fn check_by_id(
    parts: &Parts,
    account: &Account,
    id: &VerificationId,
    typed: &str,
    client: Option<IpAddr>,
) -> Metered<Result<Approved, CheckError>> {
    let slot = parts.secrets.index_key.id_slot(&account.tenant, id);
    // 1. What cannot be a code gets the answer of a wrong one and touches nothing.
    let Some(code) = Code::parse(typed) else {
        return Metered::not_at_all(Err(no_code(parts, &slot).await));
    };
    // 2. The network's guesses.
    let toll = match Toll::charge(parts, account, Action::Guess, client).await {
        Ok(toll) => toll,
        Err(error) => return Metered::refused(CheckError::from(error)),
    };
    let outcome = guess(parts, &Attempt { toll: &toll, slot: &slot, guesser: None }, code).await;
    Metered::after(&toll, outcome.and_then(|won| approve(parts, account, id, &won)))
}

async fn no_code(parts: &Parts, slot: &Slot) -> CheckError {
    match parts.store.look(slot, &parts.policy).await {
        Ok(Some(view)) if view.status == Status::Pending => {
            CheckError::Invalid { left: parts.policy.left(view.spent) }
        }
        Ok(Some(view)) => CheckError::Closed(view.status),
        Ok(None) => CheckError::Unknown,
        Err(error) => error.into(),
    }
}

fn approve(parts: &Parts, account: &Account, id: &VerificationId, won: &Won) -> Result<Approved, CheckError> {
    tracing::info!(tenant.name = account.tenant.name(), "an address was confirmed");
    let Particulars { address, purpose, .. } = won.about.as_ref().ok_or(CheckError::Fault)?;
    let (audience, purpose) = (&account.tenant, purpose.as_str());
    let proof = prove(parts, &Proven { audience, address, purpose, id, at: won.at })?;
    Ok(Approved { proof })
}

//! Checks a submitted code against the live code of an address, or against that of a verification.

use std::net::IpAddr;

use super::attempt::{Approved, ApprovedAttempt, Attempt, CheckError, attempt};
use super::ip_charge::IpCharge;
use super::prove::{Proven, prove};
use super::{Dependencies, WithLimitState};
use crate::domain::code::Code;
use crate::domain::details::VerificationDetails;
use crate::domain::email_address::EmailAddress;
use crate::domain::store_key::StoreKey;
use crate::domain::tenant::TenantProfile;
use crate::domain::verification::Status;
use crate::domain::verification_id::VerificationId;
use crate::ports::{Action, Attempter};
use crate::random;

/// The purpose in the proofs of the simple endpoints.
const SIMPLE_PURPOSE: &str = "simple";

/// Checks a code on the simple endpoint.
pub(super) async fn check(
    deps: &Dependencies,
    address: &EmailAddress,
    typed: &str,
    client: IpAddr,
) -> WithLimitState<Result<Approved, CheckError>> {
    // 1. Reject what cannot be a code. Nothing is charged.
    let Some(code) = Code::parse(typed) else {
        return WithLimitState::uncharged(Err(CheckError::Invalid { left: 0 }));
    };
    // 2. Charge the IP's attempts.
    let profile = &deps.simple;
    let ip_charge = match IpCharge::charge(deps, profile, Action::Attempt, Some(client)).await {
        Ok(ip_charge) => ip_charge,
        Err(error) => return WithLimitState::refused(CheckError::from(error)),
    };
    let outcome = check_address(deps, &ip_charge, address, code).await;
    WithLimitState::after(&ip_charge, outcome)
}

async fn check_address(
    deps: &Dependencies,
    ip_charge: &IpCharge,
    address: &EmailAddress,
    code: Code,
) -> Result<Approved, CheckError> {
    let profile = &deps.simple;
    let index_key = &deps.secrets.index_key;
    let store_key = index_key.email_key(index_key.recipient(profile.tenant.clone(), address), address);
    let attempter = ip_charge
        .client_prefix()
        .map(|client| Attempter { client, limit: &profile.limits.ip_email_attempts });
    let id = VerificationId::new(random::bytes()?);
    let approved = attempt(deps, &Attempt { ip_charge, store_key: &store_key, attempter }, code).await?;
    tracing::info!(tenant.name = profile.tenant.name(), "an address was confirmed");
    // The code is valid for the address in any case of letters, so the proof names the lower-case
    // form.
    let audience = &profile.tenant;
    let purpose = SIMPLE_PURPOSE;
    let address = &address.folded();
    let proof = prove(deps, &Proven { audience, address, purpose, id: &id, at: approved.at })?;
    Ok(Approved { proof })
}

/// Checks a code for a verification with an id.
pub(super) async fn check_by_id(
    deps: &Dependencies,
    profile: &TenantProfile,
    id: &VerificationId,
    typed: &str,
    client: Option<IpAddr>,
) -> WithLimitState<Result<Approved, CheckError>> {
    let store_key = deps.secrets.index_key.id_key(&profile.tenant, id);
    // 1. Reject what cannot be a code, with the response of a wrong code. Nothing is charged.
    let Some(code) = Code::parse(typed) else {
        return WithLimitState::uncharged(Err(no_code(deps, &store_key).await));
    };
    // 2. Charge the IP's attempts.
    let ip_charge = match IpCharge::charge(deps, profile, Action::Attempt, client).await {
        Ok(ip_charge) => ip_charge,
        Err(error) => return WithLimitState::refused(CheckError::from(error)),
    };
    let outcome =
        attempt(deps, &Attempt { ip_charge: &ip_charge, store_key: &store_key, attempter: None }, code).await;
    WithLimitState::after(&ip_charge, outcome.and_then(|approved| approve(deps, profile, id, &approved)))
}

async fn no_code(deps: &Dependencies, store_key: &StoreKey) -> CheckError {
    match deps.store.find(store_key, &deps.rules).await {
        Ok(Some(view)) if view.status == Status::Pending => {
            CheckError::Invalid { left: deps.rules.left(view.attempts) }
        }
        Ok(Some(view)) => CheckError::Closed(view.status),
        Ok(None) => CheckError::Unknown,
        Err(error) => error.into(),
    }
}

fn approve(
    deps: &Dependencies,
    profile: &TenantProfile,
    id: &VerificationId,
    approved: &ApprovedAttempt,
) -> Result<Approved, CheckError> {
    tracing::info!(tenant.name = profile.tenant.name(), "an address was confirmed");
    let VerificationDetails { address, purpose, .. } = approved.about.as_ref().ok_or(CheckError::Fault)?;
    let audience = &profile.tenant;
    let purpose = purpose.as_str();
    let proof = prove(deps, &Proven { audience, address, purpose, id, at: approved.at })?;
    Ok(Approved { proof })
}

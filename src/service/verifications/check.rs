//! Checks a submitted code for a verification with an id.

use std::net::IpAddr;

use crate::domain::details::VerificationDetails;
use crate::domain::limits::Action;
use crate::domain::store_key::StoreKey;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::verification::Status;
use crate::domain::verification_id::VerificationId;
use crate::service::attempt::{Approved, ApprovedAttempt, Attempt, CheckError, SubmittedCode, attempt};
use crate::service::decision::Decision;
use crate::service::error::ServiceError;
use crate::service::ip_charge::with_ip_charge;
use crate::service::prove::{Proven, prove};
use crate::service::{Dependencies, WithLimitState};

/// Checks a code for a verification with an id.
pub(in crate::service) async fn check(
    deps: &Dependencies,
    submitted: Option<SubmittedCode>,
    profile: &TenantProfile,
    id: &VerificationId,
    client: Option<IpAddr>,
) -> WithLimitState<Result<Approved, CheckError>> {
    let store_key = deps.index_key.id_key(&profile.tenant, id);
    let decision = &Decision::new(Action::Attempt, &profile.tenant);
    decision.set_verification(&store_key);
    // 1. Reject what cannot be a code, with the response of a wrong code. Nothing is charged.
    let step_1 = match submitted {
        Some(submitted) => Ok(submitted),
        None => Err(no_code(deps, &store_key).await),
    };
    with_ip_charge(deps, profile, decision, client, step_1, async |ip_charge, submitted| {
        let of = Attempt { decision, profile, ip_charge, store_key: &store_key, charge: None };
        let approved = attempt(deps, &of, submitted).await?;
        approve(deps, profile, id, decision, &approved)
    })
    .await
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
    decision: &Decision<'_>,
    approved: &ApprovedAttempt,
) -> Result<Approved, CheckError> {
    tracing::info!(tenant.name = profile.tenant.name(), "an address was confirmed");
    let VerificationDetails { address, purpose, is_test, .. } =
        approved.about.as_ref().ok_or(ServiceError::Fault)?;
    let audience = &profile.tenant;
    decision.set_email(deps.index_key.recipient(audience.clone(), address).email);
    let proven =
        Proven { audience, address, purpose: purpose.as_str(), id, is_test: *is_test, at: approved.at };
    let proof = prove(deps, &proven)?;
    Ok(Approved { proof, is_test: *is_test })
}

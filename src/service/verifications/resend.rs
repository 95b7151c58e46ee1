//! Sends another code for a verification. The old code stays good for a short time, because its
//! email may be late, and attempts that were taken stay taken.

use std::net::IpAddr;

use thiserror::Error;

use super::show::Snapshot;
use crate::domain::code_hash::CodeSalt;
use crate::domain::details::VerificationDetails;
use crate::domain::ledger::LimitState;
use crate::domain::limits::Action;
use crate::domain::store_key::StoreKey;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::verification::Status;
use crate::domain::verification_id::VerificationId;
use crate::ports::{HashPermit, ReplaceOutcome};
use crate::service::decision::Decision;
use crate::service::error::ServiceError;
use crate::service::ip_charge::with_ip_charge;
use crate::service::send::{OutgoingCode, StartError, check_domain_policy, check_mail, live, send};
use crate::service::{Dependencies, UseCaseError, WithLimitState};

/// Why no code was sent.
#[derive(Debug, Error)]
pub enum ResendError {
    /// The tenant has no verification with that id.
    #[error("there is no such verification")]
    Unknown,
    /// The verification is closed.
    #[error("the verification is over")]
    Closed(Status),
    /// The email may still arrive. Its code is live.
    #[error("it is unknown whether the email was sent")]
    OutcomeUnknown(VerificationId),
    /// No code was sent, for a reason that every send shares.
    #[error("no code was sent")]
    Send(#[source] StartError),
}

pub(in crate::service) async fn resend(
    deps: &Dependencies,
    permit: HashPermit,
    profile: &TenantProfile,
    id: &VerificationId,
    client: Option<IpAddr>,
) -> WithLimitState<Result<Snapshot, ResendError>> {
    let index_key = &deps.index_key;
    let store_key = index_key.id_key(&profile.tenant, id);
    let decision = &Decision::new(Action::Send, &profile.tenant);
    decision.set_verification(&store_key);
    with_ip_charge(deps, profile, decision, client, Ok(()), async |ip_charge, ()| {
        // 2. Charge the IP's sends, before the id is looked up.
        ip_charge.make::<ResendError>(deps).await?;
        let (details, code_salt) = pending(deps, &store_key).await?;
        decision.set_email(index_key.recipient(profile.tenant.clone(), &details.address).email);
        check_domain_policy(deps, &details.address)?;
        let is_test = details.is_test;
        if is_test {
            decision.set_test();
        }
        let address = &details.address;
        check_mail(deps, decision, ip_charge, address, is_test).await?;
        let outgoing = OutgoingCode {
            decision,
            profile,
            ip_charge,
            store_key: &store_key,
            id: Some(id),
            code_salt,
            address,
            purpose: Some(&details.purpose),
            reference: Some(details.reference),
            languages: details.locale.as_slice(),
            is_test,
        };
        let sent = send(deps, permit, &outgoing, async |hash, entry| {
            match deps.store.replace_code(&store_key, hash, &deps.rules, entry).await? {
                ReplaceOutcome::Opened(opened) => Ok(live(opened)?),
                ReplaceOutcome::Closed(status) => Err(ResendError::Closed(status)),
                ReplaceOutcome::Unknown => Err(ResendError::Unknown),
            }
        });
        let sent = sent.await.map_err(|error| match error {
            ResendError::Send(StartError::OutcomeUnknown) => ResendError::OutcomeUnknown(*id),
            error => error,
        })?;
        Ok(Snapshot::sent(*id, details, &sent, &deps.rules))
    })
    .await
}

/// Returns the details of a pending verification, which name the recipient, and what its next code
/// must be hashed with.
async fn pending(
    deps: &Dependencies,
    store_key: &StoreKey,
) -> Result<(VerificationDetails, Option<CodeSalt>), ResendError> {
    let view = deps.store.find(store_key, &deps.rules).await?.ok_or(ResendError::Unknown)?;
    if view.status != Status::Pending {
        return Err(ResendError::Closed(view.status));
    }
    let details = deps.decrypt(store_key, &view.encrypted).ok_or(ResendError::Unknown)?;
    Ok((details, view.code_salt))
}

impl UseCaseError for ResendError {
    fn exceeded(limit_state: LimitState) -> Self {
        Self::Send(StartError::exceeded(limit_state))
    }

    fn limited(&self) -> Option<LimitState> {
        match self {
            Self::Send(error) => error.limited(),
            _ => None,
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::Unknown => "not_found",
            Self::Closed(_) => "closed",
            Self::OutcomeUnknown(_) => StartError::OutcomeUnknown.outcome(),
            Self::Send(error) => error.outcome(),
        }
    }
}

impl From<StartError> for ResendError {
    fn from(error: StartError) -> Self {
        Self::Send(error)
    }
}

impl<E: Into<ServiceError>> From<E> for ResendError {
    fn from(error: E) -> Self {
        Self::Send(StartError::Service(error.into()))
    }
}

//! Shows a verification to its tenant.
//!
//! Reads only: charges nothing and changes nothing.

use thiserror::Error;

use crate::domain::delivery::DeliveryRecord;
use crate::domain::details::VerificationDetails;
use crate::domain::proof::{PROOF_LIFETIME, SigningError};
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::time::{Millis, millis};
use crate::domain::verification::{Status, VerificationRules, View};
use crate::domain::verification_id::VerificationId;
use crate::ports::StoreError;
use crate::service::Dependencies;
use crate::service::error::ServiceError;
use crate::service::prove::{Proven, prove};
use crate::service::send::Sent;

/// A verification as its tenant sees it.
pub struct Snapshot {
    /// Its id.
    pub id: VerificationId,
    /// Its status.
    pub status: Status,
    /// Its details.
    pub details: VerificationDetails,
    /// When its code expires or expired.
    pub expires_at: Millis,
    /// When the limits allow the next send to the recipient, while it is pending.
    pub resend_at: Option<Millis>,
    /// What is known of its newest email.
    pub delivery: DeliveryRecord,
    /// Attempts that remain, while it is pending.
    pub attempts_remaining: u8,
    /// A signed proof, for a limited time after the approval.
    pub proof: Option<String>,
}

impl Snapshot {
    /// Returns the snapshot of a verification whose code was just sent.
    pub(super) fn sent(
        id: VerificationId,
        details: VerificationDetails,
        sent: &Sent,
        rules: &VerificationRules,
    ) -> Self {
        Self {
            id,
            status: Status::Pending,
            details,
            expires_at: sent.live.expires_at,
            resend_at: Some(sent.resend_at),
            delivery: sent.delivery.clone(),
            attempts_remaining: rules.left(sent.live.attempts),
            proof: None,
        }
    }
}

/// Why nothing is shown.
#[derive(Debug, Error)]
pub enum ShowError {
    /// The tenant has no verification with that id.
    #[error("there is no such verification")]
    Unknown,
    /// It could not be read, or its proof could not be signed.
    #[error(transparent)]
    Service(ServiceError),
}

pub(in crate::service) async fn show(
    deps: &Dependencies,
    profile: &TenantProfile,
    id: &VerificationId,
) -> Result<Snapshot, ShowError> {
    let store_key = deps.index_key.id_key(&profile.tenant, id);
    let view = deps.store.find(&store_key, &deps.rules).await?.ok_or(ShowError::Unknown)?;
    let details = deps.decrypt(&store_key, &view.encrypted).ok_or(ShowError::Unknown)?;
    let is_pending = view.status == Status::Pending;
    let resend_at = if is_pending { Some(resend_at(deps, profile, &details, &view).await?) } else { None };
    Ok(Snapshot {
        id: *id,
        status: view.status,
        proof: proof(deps, profile, id, &details, &view)?,
        details,
        expires_at: view.expires_at,
        resend_at,
        delivery: view.delivery,
        attempts_remaining: if is_pending { deps.rules.left(view.attempts) } else { 0 },
    })
}

async fn resend_at(
    deps: &Dependencies,
    profile: &TenantProfile,
    details: &VerificationDetails,
    view: &View,
) -> Result<Millis, StoreError> {
    let recipient = deps.index_key.recipient(profile.tenant.clone(), &details.address);
    let limit_state = deps.store.peek(&profile.limits.send_charge(&recipient, None)).await?;
    Ok(view.seen_at + millis(limit_state.wait))
}

/// Returns the proof that was given at the approval, with the same claims, as long as it is valid.
fn proof(
    deps: &Dependencies,
    profile: &TenantProfile,
    id: &VerificationId,
    details: &VerificationDetails,
    view: &View,
) -> Result<Option<String>, SigningError> {
    match view.approved_at {
        Some(at) if view.seen_at < at + millis(PROOF_LIFETIME) => prove(
            deps,
            &Proven {
                audience: &profile.tenant,
                address: &details.address,
                purpose: details.purpose.as_str(),
                id,
                is_test: details.is_test,
                at,
            },
        ),
        _ => Ok(None),
    }
}

impl<E: Into<ServiceError>> From<E> for ShowError {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

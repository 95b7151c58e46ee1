//! Shows a verification to its tenant.
//!
//! Reads only: charges nothing and changes nothing.

use thiserror::Error;

use crate::domain::details::VerificationDetails;
use crate::domain::proof::{PROOF_LIFETIME, SigningError};
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::time::{Millis, millis};
use crate::domain::verification::{Status, VerificationRules, View};
use crate::domain::verification_id::VerificationId;
use crate::ports::StoreError;
use crate::service::prove::{Proven, prove};
use crate::service::send::Sent;
use crate::service::{Dependencies, log};

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
    /// The store failed or timed out.
    #[error("a part of the service is unavailable")]
    Unavailable,
    /// A fault in otpd.
    #[error("internal fault")]
    Fault,
}

pub(in crate::service) async fn show(
    deps: &Dependencies,
    profile: &TenantProfile,
    id: &VerificationId,
) -> Result<Snapshot, ShowError> {
    let store_key = deps.secrets.index_key.id_key(&profile.tenant, id);
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
        attempts_remaining: if is_pending { deps.rules.left(view.attempts) } else { 0 },
    })
}

async fn resend_at(
    deps: &Dependencies,
    profile: &TenantProfile,
    details: &VerificationDetails,
    view: &View,
) -> Result<Millis, StoreError> {
    let recipient = deps.secrets.index_key.recipient(profile.tenant.clone(), &details.address);
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
                at,
            },
        ),
        _ => Ok(None),
    }
}

impl From<StoreError> for ShowError {
    fn from(error: StoreError) -> Self {
        log(&error, "a verification was not shown");
        Self::Unavailable
    }
}

impl From<SigningError> for ShowError {
    fn from(error: SigningError) -> Self {
        log(&error, "a proof could not be signed");
        Self::Fault
    }
}

//! Showing a verification to its tenant.
//!
//! Reads only: nothing is charged, and nothing of it changes.

use thiserror::Error;

use super::prove::{Proven, prove};
use super::send::Sent;
use super::{Dependencies, log};
use crate::domain::details::VerificationDetails;
use crate::domain::proof::{PROOF_LIFETIME, SigningError};
use crate::domain::tenant::TenantProfile;
use crate::domain::verification::{Millis, Status, VerificationRules, View, millis};
use crate::domain::verification_id::VerificationId;
use crate::ports::StoreError;

/// A verification as its tenant sees it.
pub struct Snapshot {
    /// Its name.
    pub id: VerificationId,
    /// How it stands.
    pub status: Status,
    /// What it is about.
    pub details: VerificationDetails,
    /// When its code dies, or did.
    pub expires_at: Millis,
    /// When the ledgers admit the next send to that person, while it is pending.
    pub resend_at: Option<Millis>,
    /// Attempts that are left, while it is pending.
    pub attempts_remaining: u8,
    /// A signed statement that the address was confirmed, for a while after it was.
    pub proof: Option<String>,
}

impl Snapshot {
    /// A verification whose code was just mailed.
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
    /// The tenant has no verification of that id.
    #[error("there is no such verification")]
    Unknown,
    /// The store did not do its part.
    #[error("a part of the service is unavailable")]
    Unavailable,
    /// A fault of ours.
    #[error("internal fault")]
    Fault,
}

pub(super) async fn show(
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
    let limit_state = deps.store.outlook(&recipient, &profile.limits.sends).await?;
    Ok(view.seen_at + millis(limit_state.wait))
}

/// The proof that was given when it was approved: the same idempotency keys again, as long as they are good.
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

//! Showing a verification to its tenant.
//!
//! Reads only: nothing is charged, and nothing of it changes.

use thiserror::Error;

use super::prove::{Proven, prove};
use super::send::Sent;
use super::{Parts, log};
use crate::domain::proof::{PROOF_LIFE, SigningError};
use crate::domain::sealed::Particulars;
use crate::domain::tenant::Account;
use crate::domain::verification::{Millis, Policy, Status, View, millis};
use crate::domain::verification_id::VerificationId;
use crate::ports::StoreError;

/// A verification as its tenant sees it.
pub struct Snapshot {
    /// Its name.
    pub id: VerificationId,
    /// How it stands.
    pub status: Status,
    /// What it is about.
    pub particulars: Particulars,
    /// When its code dies, or did.
    pub expires_at: Millis,
    /// When the ledgers admit the next send to that person, while it is pending.
    pub resend_at: Option<Millis>,
    /// Guesses that are left, while it is pending.
    pub attempts_remaining: u8,
    /// A signed statement that the address was confirmed, for a while after it was.
    pub proof: Option<String>,
}

impl Snapshot {
    /// A verification whose code was just mailed.
    pub(super) fn sent(id: VerificationId, particulars: Particulars, sent: &Sent, policy: &Policy) -> Self {
        Self {
            id,
            status: Status::Pending,
            particulars,
            expires_at: sent.live.expires_at,
            resend_at: Some(sent.resend_at),
            attempts_remaining: policy.left(sent.live.spent),
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
    parts: &Parts,
    account: &Account,
    id: &VerificationId,
) -> Result<Snapshot, ShowError> {
    let slot = parts.secrets.index_key.id_slot(&account.tenant, id);
    let view = parts.store.look(&slot, &parts.policy).await?.ok_or(ShowError::Unknown)?;
    let particulars = parts.unseal(&slot, &view.sealed).ok_or(ShowError::Unknown)?;
    let is_pending = view.status == Status::Pending;
    let resend_at =
        if is_pending { Some(resend_at(parts, account, &particulars, &view).await?) } else { None };
    Ok(Snapshot {
        id: *id,
        status: view.status,
        proof: proof(parts, account, id, &particulars, &view)?,
        particulars,
        expires_at: view.expires_at,
        resend_at,
        attempts_remaining: if is_pending { parts.policy.left(view.spent) } else { 0 },
    })
}

async fn resend_at(
    parts: &Parts,
    account: &Account,
    particulars: &Particulars,
    view: &View,
) -> Result<Millis, StoreError> {
    let subject = parts.secrets.index_key.subject(account.tenant.clone(), &particulars.address);
    let standing = parts.store.outlook(&subject, &account.limits.sends).await?;
    Ok(view.seen_at + millis(standing.wait))
}

/// The proof that was given when it was approved: the same claims again, as long as they are good.
fn proof(
    parts: &Parts,
    account: &Account,
    id: &VerificationId,
    particulars: &Particulars,
    view: &View,
) -> Result<Option<String>, SigningError> {
    match view.won_at {
        Some(at) if view.seen_at < at + millis(PROOF_LIFE) => prove(
            parts,
            &Proven {
                audience: &account.tenant,
                address: &particulars.address,
                purpose: particulars.purpose.as_str(),
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

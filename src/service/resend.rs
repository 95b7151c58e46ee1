//! Sending a verification's code anew: another code, the old one dies, and what was spent stays spent.

use std::net::IpAddr;

use thiserror::Error;

use super::send::{Errand, StartError, admit_address, live, room, send};
use super::show::Snapshot;
use super::toll::Toll;
use super::{Limited, Metered, Parts};
use crate::domain::ledger::Standing;
use crate::domain::sealed::Particulars;
use crate::domain::slot::Slot;
use crate::domain::tenant::Account;
use crate::domain::verification::Status;
use crate::domain::verification_id::VerificationId;
use crate::ports::{Action, Recoded, StoreError};

/// Why no code was mailed.
#[derive(Debug, Error)]
pub enum ResendError {
    /// The tenant has no verification of that id.
    #[error("there is no such verification")]
    Unknown,
    /// It is over.
    #[error("the verification is over")]
    Closed(Status),
    /// The mail may still arrive; its code is live.
    #[error("the outcome of the mail is unknown")]
    OutcomeUnknown(VerificationId),
    /// As for any send.
    #[error("no code was mailed")]
    Send(#[source] StartError),
}

pub(super) async fn resend(
    parts: &Parts,
    account: &Account,
    id: &VerificationId,
    client: Option<IpAddr>,
) -> Metered<Result<Snapshot, ResendError>> {
    // 2. The network's sends.
    let toll = match Toll::charge(parts, account, Action::Send, client).await {
        Ok(toll) => toll,
        Err(error) => return Metered::refused(StartError::from(error).into()),
    };
    Metered::after(&toll, from_id_on(parts, account, &toll, id).await)
}

async fn from_id_on(
    parts: &Parts,
    account: &Account,
    toll: &Toll,
    id: &VerificationId,
) -> Result<Snapshot, ResendError> {
    let slot = parts.secrets.index_key.id_slot(&account.tenant, id);
    let particulars = pending(parts, &slot).await?;
    admit_address(parts, &particulars.address)?;
    let place = room(parts, toll).await?;
    let (address, reference) = (&particulars.address, Some(particulars.reference));
    let languages = particulars.locale.as_slice();
    let errand = Errand { account, toll, slot: &slot, address, reference, languages };
    let sent = send(parts, place, &errand, async |hash, entry| {
        match parts.store.recode(&slot, hash, &parts.policy, entry).await? {
            Recoded::Opened(opened) => Ok(live(opened)?),
            Recoded::Closed(status) => Err(ResendError::Closed(status)),
            Recoded::Unknown => Err(ResendError::Unknown),
        }
    });
    let sent = sent.await.map_err(|error| match error {
        ResendError::Send(StartError::OutcomeUnknown) => ResendError::OutcomeUnknown(*id),
        error => error,
    })?;
    Ok(Snapshot::sent(*id, particulars, &sent, &parts.policy))
}

/// What a pending verification is about: the id names the subject.
async fn pending(parts: &Parts, slot: &Slot) -> Result<Particulars, ResendError> {
    let view = parts.store.look(slot, &parts.policy).await?.ok_or(ResendError::Unknown)?;
    if view.status != Status::Pending {
        return Err(ResendError::Closed(view.status));
    }
    parts.unseal(slot, &view.sealed).ok_or(ResendError::Unknown)
}

impl Limited for ResendError {
    fn limited(&self) -> Option<Standing> {
        match self {
            Self::Send(error) => error.limited(),
            _ => None,
        }
    }
}

impl From<StartError> for ResendError {
    fn from(error: StartError) -> Self {
        Self::Send(error)
    }
}

impl From<StoreError> for ResendError {
    fn from(error: StoreError) -> Self {
        StartError::from(error).into()
    }
}

//! Creating a verification under an id of its own, once however often the request is repeated under one key.

use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;

use super::send::{Errand, StartError, admit_address, live, room, send};
use super::show::{ShowError, Snapshot, show};
use super::toll::Toll;
use super::{Limited, Metered, Parts, log};
use crate::domain::email_address::EmailAddress;
use crate::domain::idempotency::{Claim, Claimed, IdempotencyKey};
use crate::domain::ledger::Standing;
use crate::domain::locale::Locale;
use crate::domain::purpose::Purpose;
use crate::domain::reference::Reference;
use crate::domain::sealed::{Particulars, Sealed};
use crate::domain::slot::Tag;
use crate::domain::tenant::Account;
use crate::domain::verification_id::VerificationId;
use crate::ports::{Action, StoreError};
use crate::random::{self, SysRng};

/// How long to wait before what came of a key is told once more: together less than a request may take.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
    Duration::from_secs(3),
];
/// The route that idempotency keys of creations belong to.
const ROUTE: &str = "create";

/// A verification to be created.
pub struct Creation {
    /// The address to confirm.
    pub address: EmailAddress,
    /// What for; one of the tenant's purposes.
    pub purpose: Purpose,
    /// The language of the person.
    pub locale: Option<Locale>,
    /// For whom the tenant asks.
    pub client: Option<IpAddr>,
    /// The caller's name for this request, and what its body said.
    pub idempotency: Option<Idempotency>,
}

/// A request that may be repeated.
pub struct Idempotency {
    /// Its name.
    pub key: IdempotencyKey,
    /// The members of its body, always in the same order.
    pub members: Vec<Option<String>>,
}

/// Why no verification was created, or it is not known whether its mail arrives.
#[derive(Debug, Error)]
pub enum CreateError {
    /// No code was mailed.
    #[error("no code was mailed")]
    Send(#[source] StartError),
    /// The mail of this verification may still arrive; its code is live.
    #[error("the outcome of the mail is unknown")]
    OutcomeUnknown(VerificationId),
    /// Another request under that idempotency key is under way.
    #[error("a request under that idempotency key is under way")]
    InProgress,
    /// That idempotency key belongs to another body.
    #[error("that idempotency key belongs to another body")]
    Mismatch,
    /// What was created under that idempotency key has ended, and is forgotten.
    #[error("what was created under that idempotency key is forgotten")]
    Forgotten,
}

pub(super) async fn create(
    parts: &Parts,
    account: &Account,
    creation: &Creation,
) -> Metered<Result<Snapshot, CreateError>> {
    let Some(idempotency) = &creation.idempotency else { return create_anew(parts, account, creation).await };
    let claim = match claim_of(parts, account, idempotency) {
        Ok(claim) => claim,
        Err(error) => return Metered::not_at_all(Err(error.into())),
    };
    match parts.claims.claim(&claim).await {
        Ok(Claimed::Begun) => {}
        Ok(Claimed::Done(id)) => return Metered::not_at_all(replay(parts, account, id).await),
        Ok(Claimed::InProgress) => return Metered::not_at_all(Err(CreateError::InProgress)),
        Ok(Claimed::Mismatch) => return Metered::not_at_all(Err(CreateError::Mismatch)),
        Err(error) => {
            // It may be claimed all the same: the caller should not have to wait for that.
            give_up(parts, &claim).await;
            return Metered::not_at_all(Err(error.into()));
        }
    }
    let created = create_anew(parts, account, creation).await;
    match &created.outcome {
        Ok(snapshot) => settle(parts, &claim, &snapshot.id).await,
        Err(_) => give_up(parts, &claim).await,
    }
    created
}

/// Tried again for a while where no answer came: the claimant makes that safe, and a repeated request must not mail
/// again.
async fn settle(parts: &Parts, claim: &Claim, id: &VerificationId) {
    let mut pauses = PAUSES.into_iter();
    while let Err(error) = parts.claims.settle(claim, id).await {
        log(&error, "what came of an idempotency key was not remembered");
        let Some(pause) = pauses.next() else { return };
        sleep(pause).await;
    }
}

async fn give_up(parts: &Parts, claim: &Claim) {
    if let Err(error) = parts.claims.release(claim).await {
        log(&error, "an idempotency key stays claimed until its time is up");
    }
}

fn claim_of(parts: &Parts, account: &Account, idempotency: &Idempotency) -> Result<Claim, StartError> {
    let index_key = &parts.secrets.index_key;
    let members: Vec<Option<&str>> = idempotency.members.iter().map(Option::as_deref).collect();
    let fingerprint: Tag = index_key.fingerprint(&members);
    let key = index_key.idempotency_key(&account.tenant, ROUTE, &idempotency.key);
    Ok(Claim { key, fingerprint, claimant: random::octets()? })
}

/// The answer to a request that was served before, as things stand now. Charges nothing.
async fn replay(parts: &Parts, account: &Account, id: VerificationId) -> Result<Snapshot, CreateError> {
    show(parts, account, &id).await.map_err(|error| match error {
        ShowError::Unknown => CreateError::Forgotten,
        ShowError::Unavailable => StartError::Unavailable.into(),
        ShowError::Fault => StartError::Fault.into(),
    })
}

async fn create_anew(
    parts: &Parts,
    account: &Account,
    creation: &Creation,
) -> Metered<Result<Snapshot, CreateError>> {
    if let Err(error) = admit_address(parts, &creation.address) {
        return Metered::not_at_all(Err(error.into()));
    }
    // 2. The network's sends.
    let toll = match Toll::charge(parts, account, Action::Send, creation.client).await {
        Ok(toll) => toll,
        Err(error) => return Metered::refused(StartError::from(error).into()),
    };
    Metered::after(&toll, from_room_on(parts, account, &toll, creation).await)
}

async fn from_room_on(
    parts: &Parts,
    account: &Account,
    toll: &Toll,
    creation: &Creation,
) -> Result<Snapshot, CreateError> {
    let place = room(parts, toll).await?;
    let id = VerificationId::new(random::octets().map_err(StartError::from)?);
    let slot = parts.secrets.index_key.id_slot(&account.tenant, &id);
    let reference = Reference::draw(&mut SysRng).map_err(StartError::from)?;
    let (address, purpose) = (creation.address.clone(), creation.purpose.clone());
    let locale = creation.locale.clone();
    let particulars = Particulars { address, purpose, reference, locale };
    let pepper = parts.secrets.peppers.current();
    let sealed = Sealed::new(&particulars, &slot.binding(), pepper).map_err(StartError::from)?;
    let (address, languages) = (&particulars.address, particulars.locale.as_slice());
    let errand = Errand { account, toll, slot: &slot, address, reference: Some(reference), languages };
    let sent = send(parts, place, &errand, async |hash, entry| {
        live(parts.store.open(&slot, hash, &parts.policy, entry, &sealed).await?)
    });
    let sent = sent.await.map_err(|error| match error {
        StartError::OutcomeUnknown => CreateError::OutcomeUnknown(id),
        error => CreateError::Send(error),
    })?;
    Ok(Snapshot::sent(id, particulars, &sent, &parts.policy))
}

impl Limited for CreateError {
    fn limited(&self) -> Option<Standing> {
        match self {
            Self::Send(error) => error.limited(),
            _ => None,
        }
    }
}

impl From<StartError> for CreateError {
    fn from(error: StartError) -> Self {
        Self::Send(error)
    }
}

impl From<StoreError> for CreateError {
    fn from(error: StoreError) -> Self {
        StartError::from(error).into()
    }
}

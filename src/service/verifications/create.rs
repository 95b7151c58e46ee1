//! Creates a verification with its own id. Requests with the same idempotency key create it once.

use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::time::sleep;

use super::show::{ShowError, Snapshot, show};
use crate::domain::details::{EncryptedDetails, VerificationDetails};
use crate::domain::email_address::EmailAddress;
use crate::domain::idempotency::{BeginOutcome, IdempotencyKey, IdempotentRequest};
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::LimitState;
use crate::domain::limits::Action;
use crate::domain::locale::Locale;
use crate::domain::purpose::Purpose;
use crate::domain::reference::Reference;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::verification_id::VerificationId;
use crate::ports::HashPermit;
use crate::random::{self, SysRng};
use crate::service::decision::Decision;
use crate::service::error::{ServiceError, log};
use crate::service::ip_charge::with_ip_charge;
use crate::service::send::{OutgoingCode, StartError, check_domain_policy, check_mail, live, send};
use crate::service::{Dependencies, UseCaseError, WithLimitState};

/// Delays before the retries of storing the result of an idempotency key. Their sum is below the
/// time limit of a request.
const RETRY_DELAYS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(400),
    Duration::from_millis(1500),
    Duration::from_secs(3),
];
/// The route that the idempotency keys of this use case belong to.
const ROUTE: &str = "create";

/// A verification to create.
pub struct Creation {
    /// The address to confirm.
    pub address: EmailAddress,
    /// The purpose, one of the tenant's.
    pub purpose: Purpose,
    /// The language of the email.
    pub locale: Option<Locale>,
    /// The IP address of the user, as the tenant reports it.
    pub client: Option<IpAddr>,
    /// The idempotency key and the body of the request, if it has a key.
    pub idempotency: Option<Idempotency>,
}

/// A request that may be repeated.
pub struct Idempotency {
    /// Its idempotency key.
    pub key: IdempotencyKey,
    /// The members of its body, always in the same order.
    pub members: Vec<Option<String>>,
}

/// Why no verification was created, or why it is unknown whether its email arrives.
#[derive(Debug, Error)]
pub enum CreateError {
    /// No code was sent.
    #[error("no code was sent")]
    Send(#[source] StartError),
    /// The email of this verification may still arrive. Its code is live.
    #[error("it is unknown whether the email was sent")]
    OutcomeUnknown(VerificationId),
    /// Another request with that idempotency key is in progress.
    #[error("a request with that idempotency key is in progress")]
    InProgress,
    /// That idempotency key belongs to another body.
    #[error("that idempotency key belongs to another body")]
    Mismatch,
    /// The verification that was created under that idempotency key is closed, and its retention is
    /// over.
    #[error("the verification of that idempotency key is no longer stored")]
    Forgotten,
}

pub(in crate::service) async fn create(
    deps: &Dependencies,
    permit: HashPermit,
    profile: &TenantProfile,
    creation: &Creation,
) -> WithLimitState<Result<Snapshot, CreateError>> {
    let Some(idempotency) = &creation.idempotency else {
        return create_new(deps, permit, profile, creation).await;
    };
    let request = match idempotent_request(deps, profile, idempotency) {
        Ok(request) => request,
        Err(error) => return failed(profile, error),
    };
    match deps.idempotency.begin(&request).await {
        Ok(BeginOutcome::Begun) => {}
        Ok(BeginOutcome::Done(id)) => {
            // Nothing is hashed.
            drop(permit);
            return WithLimitState::uncharged(replay(deps, profile, id).await);
        }
        Ok(BeginOutcome::InProgress) => return WithLimitState::uncharged(Err(CreateError::InProgress)),
        Ok(BeginOutcome::Mismatch) => return WithLimitState::uncharged(Err(CreateError::Mismatch)),
        Err(error) => {
            // The key may be taken all the same. The caller should not have to wait until it
            // expires.
            abandon(deps, &request).await;
            return failed(profile, ServiceError::from(error));
        }
    }
    let created = create_new(deps, permit, profile, creation).await;
    match &created.outcome {
        Ok(snapshot) => complete(deps, &request, &snapshot.id).await,
        Err(_) => abandon(deps, &request).await,
    }
    created
}

/// Counts and returns a failure before anything was charged.
fn failed(profile: &TenantProfile, error: ServiceError) -> WithLimitState<Result<Snapshot, CreateError>> {
    let outcome = Err(error.into());
    Decision::new(Action::Send, &profile.tenant).end(&outcome);
    WithLimitState::uncharged(outcome)
}

/// Stores the result and retries for a while. The retries are safe because of the token, and a
/// repeated request must not send another email.
async fn complete(deps: &Dependencies, request: &IdempotentRequest, id: &VerificationId) {
    let mut pauses = RETRY_DELAYS.into_iter();
    while let Err(error) = deps.idempotency.complete(request, id).await {
        log(&error, "the result of an idempotency key was not stored");
        let Some(pause) = pauses.next() else { return };
        sleep(pause).await;
    }
}

async fn abandon(deps: &Dependencies, request: &IdempotentRequest) {
    if let Err(error) = deps.idempotency.abandon(request).await {
        log(&error, "an idempotency key may stay in progress until it expires");
    }
}

fn idempotent_request(
    deps: &Dependencies,
    profile: &TenantProfile,
    idempotency: &Idempotency,
) -> Result<IdempotentRequest, ServiceError> {
    let index_key = &deps.index_key;
    let members: Vec<Option<&str>> = idempotency.members.iter().map(Option::as_deref).collect();
    let fingerprint: KeyedHash = index_key.fingerprint(&members);
    let key = index_key.idempotency_key(&profile.tenant, ROUTE, &idempotency.key);
    Ok(IdempotentRequest { key, fingerprint, token: random::bytes()? })
}

/// Returns the current state of the verification that an earlier request created. Charges nothing.
async fn replay(
    deps: &Dependencies,
    profile: &TenantProfile,
    id: VerificationId,
) -> Result<Snapshot, CreateError> {
    show(deps, profile, &id).await.map_err(|error| match error {
        ShowError::Unknown => CreateError::Forgotten,
        ShowError::Service(error) => error.into(),
    })
}

async fn create_new(
    deps: &Dependencies,
    permit: HashPermit,
    profile: &TenantProfile,
    creation: &Creation,
) -> WithLimitState<Result<Snapshot, CreateError>> {
    let decision = &Decision::new(Action::Send, &profile.tenant);
    decision.set_email(deps.index_key.recipient(profile.tenant.clone(), &creation.address).email);
    let step_1 = check_domain_policy(deps, &creation.address).map_err(CreateError::from);
    with_ip_charge(deps, profile, decision, creation.client, step_1, async |ip_charge, ()| {
        let is_test = profile.is_sandbox() || deps.test_code(profile, &creation.address).is_some();
        if is_test {
            decision.set_test();
        }
        check_mail(deps, decision, ip_charge, &creation.address, is_test).await?;
        let id = VerificationId::new(random::bytes()?);
        let store_key = deps.index_key.id_key(&profile.tenant, &id);
        decision.set_verification(&store_key);
        let reference = Reference::generate(&mut SysRng)?;
        let address = creation.address.clone();
        let purpose = creation.purpose.clone();
        let locale = creation.locale.clone();
        let details = VerificationDetails { address, purpose, reference, locale, is_test };
        let pepper = deps.reloadable.peppers.current();
        let encrypted = EncryptedDetails::new(&details, &store_key.associated_data(), pepper)?;
        let address = &details.address;
        let languages = details.locale.as_slice();
        let outgoing = OutgoingCode {
            decision,
            profile,
            ip_charge,
            store_key: &store_key,
            id: Some(&id),
            code_salt: None,
            address,
            purpose: Some(&details.purpose),
            reference: Some(reference),
            languages,
            is_test,
        };
        let sent = send(deps, permit, &outgoing, async |hash, entry| {
            live(deps.store.open(&store_key, hash, &deps.rules, entry, &encrypted).await?)
        });
        let sent = sent.await.map_err(|error| match error {
            StartError::OutcomeUnknown => CreateError::OutcomeUnknown(id),
            error => CreateError::Send(error),
        })?;
        Ok(Snapshot::sent(id, details, &sent, &deps.rules))
    })
    .await
}

impl UseCaseError for CreateError {
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
            Self::Send(error) => error.outcome(),
            Self::OutcomeUnknown(_) => StartError::OutcomeUnknown.outcome(),
            Self::InProgress | Self::Mismatch | Self::Forgotten => "not_repeated",
        }
    }
}

impl From<StartError> for CreateError {
    fn from(error: StartError) -> Self {
        Self::Send(error)
    }
}

impl<E: Into<ServiceError>> From<E> for CreateError {
    fn from(error: E) -> Self {
        Self::Send(StartError::Service(error.into()))
    }
}

//! The use cases: send a code and check an attempt, on the simple endpoints and under ids.
//!
//! Decides in which order things happen and what each outcome means. Must not know HTTP, Redis or SMTP. Each use
//! case that changes something runs in a task of its own, so that a caller who hangs up cannot stop it halfway.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::domain::code::CodeLength;
use crate::domain::details::{EncryptedDetails, VerificationDetails};
use crate::domain::domain_policy::DomainPolicy;
use crate::domain::email_address::EmailAddress;
use crate::domain::exempt::ExemptNetworks;
use crate::domain::limit::RelayMails;
use crate::domain::locale::Locale;
use crate::domain::pepper::Peppers;
use crate::domain::proof::ProofKey;
use crate::domain::store_key::{IndexKey, StoreKey};
use crate::domain::tenant::TenantProfile;
use crate::domain::verification::VerificationRules;
use crate::domain::verification_id::VerificationId;
use crate::ports::{Hasher, IdempotencyStore, Mailer, Store};

mod attempt;
mod cancel;
mod check;
mod create;
mod ip_charge;
mod limit_state;
mod prove;
mod resend;
mod send;
mod show;
mod start;

pub use attempt::{Approved, CheckError};
pub use cancel::CancelError;
pub use create::{CreateError, Creation, Idempotency};
use limit_state::Limited;
pub use limit_state::WithLimitState;
pub use resend::ResendError;
pub use send::StartError;
pub use show::{ShowError, Snapshot};

/// How long use cases under way may take at shutdown: hash, store and relay all have shorter bounds of their own.
const DRAIN: Duration = Duration::from_secs(20);

/// How long an answer to whether the store is ready stands.
const READINESS_TTL: Duration = Duration::from_millis(100);

/// Everything that the use cases need.
pub struct Dependencies {
    /// Where verifications live.
    pub store: Arc<dyn Store>,
    /// Where idempotency keys live.
    pub idempotency: Arc<dyn IdempotencyStore>,
    /// How codes reach people.
    pub mailer: Arc<dyn Mailer>,
    /// What derives digests.
    pub hasher: Arc<dyn Hasher>,
    /// The secrets.
    pub secrets: Secrets,
    /// How long codes are.
    pub code_length: CodeLength,
    /// What a verification may cost.
    pub rules: VerificationRules,
    /// On whose profile the simple endpoints work.
    pub simple: TenantProfile,
    /// Whose callers are not counted per IP.
    pub exempt: ExemptNetworks,
    /// How many mails the relay takes.
    pub relay_mails: RelayMails,
    /// Checks under way at once, and sends, whatever they wait for: hash, store or relay. Those beyond it are
    /// refused, and a relay that is slow takes no place from a check.
    pub at_once: usize,
    /// Who signs proofs, as others see it.
    pub issuer: String,
    /// Which domains are mailed to.
    pub recipients: RwLock<DomainPolicy>,
}

/// The secrets of the deployment.
pub struct Secrets {
    /// They salt every digest from outside the store.
    pub peppers: Peppers,
    /// It hides addresses from the store.
    pub index_key: IndexKey,
    /// They sign proofs, where proofs are wanted: the first does, the others did.
    pub proof_keys: Vec<ProofKey>,
}

impl Dependencies {
    /// What a verification is about; `None`, as if it were not there, where its pepper is gone.
    fn decrypt(&self, store_key: &StoreKey, encrypted: &EncryptedDetails) -> Option<VerificationDetails> {
        let opened = encrypted.open(&store_key.associated_data(), &self.secrets.peppers);
        opened.inspect_err(|error| log(error, "a verification is as good as forgotten")).ok()
    }
}

/// The use cases, cheap to clone.
#[derive(Clone)]
pub struct Service {
    deps: Arc<Dependencies>,
    tasks: TaskTracker,
    sends: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    readiness: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Service {
    /// Puts the dependencies to work.
    #[must_use]
    pub fn new(deps: Dependencies) -> Self {
        let places = || Arc::new(Semaphore::new(deps.at_once));
        let (sends, checks) = (places(), places());
        Self { deps: Arc::new(deps), tasks: TaskTracker::new(), sends, checks, readiness: Arc::default() }
    }

    /// Mails a new code to the address, replacing the live one.
    ///
    /// # Errors
    /// [`StartError`]: no code was mailed, or it is not known whether it was.
    pub async fn start(
        &self,
        address: EmailAddress,
        client: IpAddr,
        languages: Vec<Locale>,
    ) -> WithLimitState<Result<(), StartError>> {
        let deps = Arc::clone(&self.deps);
        let work = async move { start::start(&deps, &address, client, &languages).await };
        self.with_permit(&self.sends, StartError::Overloaded, StartError::Fault, work).await
    }

    /// Checks a typed code against the live one of the address, at the price of an attempt.
    ///
    /// # Errors
    /// [`CheckError`]: the address is not confirmed.
    pub async fn check(
        &self,
        address: EmailAddress,
        typed: String,
        client: IpAddr,
    ) -> WithLimitState<Result<Approved, CheckError>> {
        let deps = Arc::clone(&self.deps);
        let work = async move { check::check(&deps, &address, &typed, client).await };
        self.with_permit(&self.checks, CheckError::Overloaded, CheckError::Fault, work).await
    }

    /// Starts a verification under an id of its own, and mails its code.
    ///
    /// # Errors
    /// [`CreateError`]: no code was mailed, or it is not known whether it was, or the request is none of its own.
    pub async fn create(
        &self,
        profile: Arc<TenantProfile>,
        creation: Creation,
    ) -> WithLimitState<Result<Snapshot, CreateError>> {
        let deps = Arc::clone(&self.deps);
        let work = async move { create::create(&deps, &profile, &creation).await };
        let [overloaded, fault] = [StartError::Overloaded, StartError::Fault].map(CreateError::Send);
        self.with_permit(&self.sends, overloaded, fault, work).await
    }

    /// Mails a new code of a verification; the old one dies.
    ///
    /// # Errors
    /// [`ResendError`]: no code was mailed, or it is not known whether it was.
    pub async fn resend(
        &self,
        profile: Arc<TenantProfile>,
        id: VerificationId,
        client: Option<IpAddr>,
    ) -> WithLimitState<Result<Snapshot, ResendError>> {
        let deps = Arc::clone(&self.deps);
        let work = async move { resend::resend(&deps, &profile, &id, client).await };
        let [overloaded, fault] = [StartError::Overloaded, StartError::Fault].map(ResendError::Send);
        self.with_permit(&self.sends, overloaded, fault, work).await
    }

    /// Checks a typed code against that of a verification, at the price of an attempt.
    ///
    /// # Errors
    /// [`CheckError`]: the address is not confirmed.
    pub async fn check_by_id(
        &self,
        profile: Arc<TenantProfile>,
        id: VerificationId,
        typed: String,
        client: Option<IpAddr>,
    ) -> WithLimitState<Result<Approved, CheckError>> {
        let deps = Arc::clone(&self.deps);
        let work = async move { check::check_by_id(&deps, &profile, &id, &typed, client).await };
        self.with_permit(&self.checks, CheckError::Overloaded, CheckError::Fault, work).await
    }

    /// Shows a verification to its tenant. Reads only: it ends where the caller goes away.
    ///
    /// # Errors
    /// [`ShowError`]: there is none, or it cannot be told.
    pub async fn show(&self, profile: &TenantProfile, id: &VerificationId) -> Result<Snapshot, ShowError> {
        show::show(&self.deps, profile, id).await
    }

    /// Takes a pending verification back. Done already is done.
    ///
    /// # Errors
    /// [`CancelError`]: there is none, or it ended otherwise.
    pub async fn cancel(&self, profile: Arc<TenantProfile>, id: VerificationId) -> Result<(), CancelError> {
        let deps = Arc::clone(&self.deps);
        let work = async move { cancel::cancel(&deps, &profile, &id).await };
        self.tasks.spawn(work.in_current_span()).await.unwrap_or(Err(CancelError::Fault))
    }

    /// From now on mails go to these.
    pub fn replace_domain_policy(&self, recipients: DomainPolicy) {
        *self.deps.recipients.write().unwrap_or_else(PoisonError::into_inner) = recipients;
    }

    /// The keys that sign proofs, the current one first.
    #[must_use]
    pub fn proof_keys(&self) -> &[ProofKey] {
        &self.deps.secrets.proof_keys
    }

    /// Whether a request could be served now. The store is asked once at a time and ten times a second at most,
    /// whoever wants to know.
    pub async fn is_ready(&self) -> bool {
        let mut known = self.readiness.lock().await;
        if let Some((asked, is_ready)) = *known
            && asked.elapsed() < READINESS_TTL
        {
            return is_ready;
        }
        let answer = self.deps.store.ready().await;
        let is_ready = answer.inspect_err(|error| log(error, "the store is not ready")).is_ok();
        *known = Some((Instant::now(), is_ready));
        is_ready
    }

    /// Waits until every use case that was begun has ended, though not for ever.
    pub async fn drain(&self) {
        self.tasks.close();
        if timeout(DRAIN, self.tasks.wait()).await.is_err() {
            tracing::error!(left = self.tasks.len(), "some requests did not end in time");
        }
    }

    /// Takes a place and runs `work` to its end even if the caller goes away. `overloaded` where there is no place,
    /// `fault` where it panicked.
    async fn with_permit<T: Send + 'static, E: Send + 'static>(
        &self,
        places: &Arc<Semaphore>,
        overloaded: E,
        fault: E,
        work: impl Future<Output = WithLimitState<Result<T, E>>> + Send + 'static,
    ) -> WithLimitState<Result<T, E>> {
        let Ok(permit) = Arc::clone(places).try_acquire_owned() else {
            return WithLimitState::uncharged(Err(overloaded));
        };
        let work = async {
            let outcome = work.await;
            drop(permit);
            outcome
        };
        let outcome = self.tasks.spawn(work.in_current_span()).await;
        outcome.unwrap_or(WithLimitState::uncharged(Err(fault)))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// Logs an error with its causes, once, where it turns into a decision.
fn log(error: &(dyn Error + 'static), what: &str) {
    tracing::warn!(error = causes(error), "{what}");
}

/// An error and all its causes, in one line.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

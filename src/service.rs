//! The use cases: start a verification, check a guess.
//!
//! Decides in which order things happen and what each outcome means. Must not know HTTP, Redis or SMTP. Each use
//! case runs in a task of its own, so that a caller who hangs up cannot stop it halfway.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};
use tokio_util::task::TaskTracker;

use crate::domain::code::CodeLength;
use crate::domain::email_address::EmailAddress;
use crate::domain::ledger::Standing;
use crate::domain::limit::Limits;
use crate::domain::pepper::Peppers;
use crate::domain::proof::ProofKey;
use crate::domain::slot::IndexKey;
use crate::domain::verification::Policy;
use crate::ports::{Clock, Hasher, Mailer, Store};

mod check;
mod start;

pub use check::{Approved, CheckError};
pub use start::StartError;

/// How long use cases under way may take at shutdown: hash, store and relay all have shorter bounds of their own.
const DRAIN: Duration = Duration::from_secs(16);

/// How long an answer to whether the store is ready stands.
const READINESS_HOLDS: Duration = Duration::from_millis(100);

/// Everything that the use cases need.
pub struct Parts {
    /// Where verifications live.
    pub store: Arc<dyn Store>,
    /// How codes reach people.
    pub mailer: Arc<dyn Mailer>,
    /// What derives digests.
    pub hasher: Arc<dyn Hasher>,
    /// The time of day, for proofs.
    pub clock: Arc<dyn Clock>,
    /// The secrets.
    pub secrets: Secrets,
    /// How long codes are.
    pub code_length: CodeLength,
    /// What a verification may cost.
    pub policy: Policy,
    /// How often anything may be done.
    pub limits: Limits,
    /// Checks under way at once, and sends, whatever they wait for: hash, store or relay. Those beyond it are
    /// refused, and a relay that is slow takes no place from a check.
    pub at_once: usize,
    /// Who signs proofs, as others see it.
    pub issuer: String,
}

/// The secrets of the deployment.
pub struct Secrets {
    /// They salt every digest from outside the store.
    pub peppers: Peppers,
    /// It hides addresses from the store.
    pub index_key: IndexKey,
    /// It signs proofs, where proofs are wanted.
    pub proof_key: Option<ProofKey>,
}

/// An outcome, and how the ledger of the caller's network stands, where it was charged.
#[derive(Debug)]
pub struct Metered<T> {
    /// What became of it.
    pub outcome: T,
    /// What the caller may be told of its own doings.
    pub standing: Option<Standing>,
}

impl<T> Metered<T> {
    fn at(standing: Standing, outcome: T) -> Self {
        Self { outcome, standing: Some(standing) }
    }

    fn not_at_all(outcome: T) -> Self {
        Self { outcome, standing: None }
    }
}

/// The use cases, cheap to clone.
#[derive(Clone)]
pub struct Service {
    parts: Arc<Parts>,
    tasks: TaskTracker,
    sends: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    readiness: Arc<Mutex<Option<(Instant, bool)>>>,
}

impl Service {
    /// Puts the parts to work.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let places = || Arc::new(Semaphore::new(parts.at_once));
        let (sends, checks) = (places(), places());
        Self { parts: Arc::new(parts), tasks: TaskTracker::new(), sends, checks, readiness: Arc::default() }
    }

    /// Mails a new code to the address, replacing the live one.
    ///
    /// # Errors
    /// [`StartError`]: no code was mailed, or it is not known whether it was.
    pub async fn start(&self, address: EmailAddress, client: IpAddr) -> Metered<Result<(), StartError>> {
        let parts = Arc::clone(&self.parts);
        let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else {
            return Metered::not_at_all(Err(StartError::Overloaded));
        };
        self.to_the_end(place, async move { start::start(&parts, address, client).await })
            .await
            .unwrap_or(Metered::not_at_all(Err(StartError::Fault)))
    }

    /// Checks a typed code against the live one of the address, at the price of a guess.
    ///
    /// # Errors
    /// [`CheckError`]: the address is not confirmed.
    pub async fn check(
        &self,
        address: EmailAddress,
        typed: String,
        client: IpAddr,
    ) -> Metered<Result<Approved, CheckError>> {
        let parts = Arc::clone(&self.parts);
        let Ok(place) = Arc::clone(&self.checks).try_acquire_owned() else {
            return Metered::not_at_all(Err(CheckError::Overloaded));
        };
        self.to_the_end(place, async move { check::check(&parts, &address, &typed, client).await })
            .await
            .unwrap_or(Metered::not_at_all(Err(CheckError::Fault)))
    }

    /// Whether a request could be served now. The store is asked once at a time and ten times a second at most,
    /// whoever wants to know.
    pub async fn is_ready(&self) -> bool {
        let mut known = self.readiness.lock().await;
        if let Some((asked, is_ready)) = *known
            && asked.elapsed() < READINESS_HOLDS
        {
            return is_ready;
        }
        let answer = self.parts.store.ready().await;
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

    /// Runs `work` to its end even if the caller goes away; `None` where it panicked.
    async fn to_the_end<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        use tracing::Instrument as _;
        let work = async {
            let outcome = work.await;
            drop(place);
            outcome
        };
        self.tasks.spawn(work.in_current_span()).await.ok()
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

/// The ledger to wait for: a request that waits as long as it says passes all of them.
fn longest([charged, refusing]: [Standing; 2]) -> Standing {
    if refusing.wait > charged.wait { refusing } else { charged }
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

//! The use cases: sending a code and checking an attempt, on the simple endpoints and under ids.
//!
//! Decides the order of the steps and what each outcome means. Must not depend on HTTP, Redis or
//! SMTP. Each use case that changes something runs in its own task, so that it completes even if
//! the client disconnects.

use std::fmt;
use std::future::Future;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::domain::email_address::EmailAddress;
use crate::domain::limits::Action;
use crate::domain::locale::Locale;
use crate::domain::proof::{ProofKey, PublicKey};
use crate::domain::tenant::Tenant;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::verification_id::VerificationId;

mod attempt;
mod decision;
mod dependencies;
mod error;
mod ip_charge;
mod limit_state;
mod prove;
mod readiness;
mod send;
mod simple;
mod verifications;

pub use attempt::{Approved, CheckError};
use decision::Decision;
pub use dependencies::{Dependencies, ReloadableDependencies};
pub use error::{ServiceError, causes};
pub use limit_state::{UseCaseError, WithLimitState};
use readiness::ReadinessCache;
pub use send::StartError;
pub use verifications::cancel::CancelError;
pub use verifications::create::{CreateError, Creation, Idempotency};
pub use verifications::resend::ResendError;
pub use verifications::show::{ShowError, Snapshot};

/// The use cases. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    deps: Arc<RwLock<Arc<Dependencies>>>,
    tasks: TaskTracker,
    sends: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    readiness: Arc<ReadinessCache>,
}

impl Service {
    /// Creates the service.
    #[must_use]
    pub fn new(deps: Dependencies) -> Self {
        let places = || Arc::new(Semaphore::new(deps.at_once));
        let sends = places();
        let checks = places();
        let deps = Arc::new(RwLock::new(Arc::new(deps)));
        Self { deps, tasks: TaskTracker::new(), sends, checks, readiness: Arc::default() }
    }

    /// Sends a new code to the address and replaces the live one.
    ///
    /// # Errors
    /// [`StartError`]: no code was sent, or it is unknown whether one was.
    pub async fn send_otp(
        &self,
        address: EmailAddress,
        client: IpAddr,
        languages: Vec<Locale>,
    ) -> WithLimitState<Result<(), StartError>> {
        let deps = self.deps();
        let tenant = deps.reloadable.simple.tenant.clone();
        let work = async move { simple::send_otp(&deps, &address, client, &languages).await };
        self.with_permit(Action::Send, tenant, work).await
    }

    /// Takes one attempt and compares the submitted code with the live code of the address.
    ///
    /// # Errors
    /// [`CheckError`]: the address is not confirmed.
    pub async fn verify_otp(
        &self,
        address: EmailAddress,
        typed: String,
        client: IpAddr,
    ) -> WithLimitState<Result<Approved, CheckError>> {
        let deps = self.deps();
        let tenant = deps.reloadable.simple.tenant.clone();
        let work = async move { simple::verify_otp(&deps, &address, &typed, client).await };
        self.with_permit(Action::Attempt, tenant, work).await
    }

    /// Creates a verification with its own id and sends its code.
    ///
    /// # Errors
    /// [`CreateError`]: no code was sent, it is unknown whether one was, or the idempotency key
    /// belongs to another request.
    pub async fn create(
        &self,
        profile: Arc<TenantProfile>,
        creation: Creation,
    ) -> WithLimitState<Result<Snapshot, CreateError>> {
        let deps = self.deps();
        let tenant = profile.tenant.clone();
        let work = async move { verifications::create::create(&deps, &profile, &creation).await };
        self.with_permit(Action::Send, tenant, work).await
    }

    /// Sends a new code for a verification. The old code stops working.
    ///
    /// # Errors
    /// [`ResendError`]: no code was sent, or it is unknown whether one was.
    pub async fn resend(
        &self,
        profile: Arc<TenantProfile>,
        id: VerificationId,
        client: Option<IpAddr>,
    ) -> WithLimitState<Result<Snapshot, ResendError>> {
        let deps = self.deps();
        let tenant = profile.tenant.clone();
        let work = async move { verifications::resend::resend(&deps, &profile, &id, client).await };
        self.with_permit(Action::Send, tenant, work).await
    }

    /// Takes one attempt and compares the submitted code with that of a verification.
    ///
    /// # Errors
    /// [`CheckError`]: the address is not confirmed.
    pub async fn check(
        &self,
        profile: Arc<TenantProfile>,
        id: VerificationId,
        typed: String,
        client: Option<IpAddr>,
    ) -> WithLimitState<Result<Approved, CheckError>> {
        let deps = self.deps();
        let tenant = profile.tenant.clone();
        let work = async move { verifications::check::check(&deps, &profile, &id, &typed, client).await };
        self.with_permit(Action::Attempt, tenant, work).await
    }

    /// Returns a verification of the tenant. Reads only, so it stops if the client disconnects.
    ///
    /// # Errors
    /// [`ShowError`]: there is no such verification, or it could not be read.
    pub async fn show(&self, profile: &TenantProfile, id: &VerificationId) -> Result<Snapshot, ShowError> {
        verifications::show::show(&self.deps(), profile, id).await
    }

    /// Cancels a pending verification. Succeeds if it is canceled already.
    ///
    /// # Errors
    /// [`CancelError`]: there is no such verification, or it has another final status.
    pub async fn cancel(&self, profile: Arc<TenantProfile>, id: VerificationId) -> Result<(), CancelError> {
        let deps = self.deps();
        let work = async move { verifications::cancel::cancel(&deps, &profile, &id).await };
        self.tasks.spawn(work.in_current_span()).await.unwrap_or(Err(ServiceError::Fault.into()))
    }

    /// Replaces what a reload replaces. Use cases in progress continue with what they began with.
    pub fn replace(&self, reloadable: ReloadableDependencies) {
        let mut held = self.deps.write().unwrap_or_else(PoisonError::into_inner);
        let new = Dependencies { reloadable: Arc::new(reloadable), ..Dependencies::clone(&held) };
        let old = mem::replace(&mut *held, Arc::new(new));
        drop(held);
        // Outside the lock, because a list of domains may be long.
        drop(old);
    }

    /// Returns the public keys that verify proofs, the current one first.
    #[must_use]
    pub fn public_proof_keys(&self) -> Vec<PublicKey> {
        self.deps().reloadable.proof_keys.iter().filter_map(ProofKey::public).collect()
    }

    /// Returns the dependencies, for one use case from its beginning to its end.
    fn deps(&self) -> Arc<Dependencies> {
        Arc::clone(&self.deps.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Returns whether the store is ready. One check runs at a time, and its result is reused for
    /// 100 ms, however many callers ask.
    pub async fn is_ready(&self) -> bool {
        self.readiness.is_ready(&*self.deps().store).await
    }

    /// Waits until all running use cases have ended, for `limit` at most.
    pub async fn drain(&self, limit: Duration) {
        self.tasks.close();
        if timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::error!(left = self.tasks.len(), "some requests did not end in time");
        }
    }

    /// Takes a permit and runs `work` to completion even if the client disconnects. The error is
    /// `Overloaded` if no permit is free, and `Fault` if `work` panicked.
    async fn with_permit<T: Send + 'static, E: UseCaseError + Send + 'static>(
        &self,
        action: Action,
        tenant: Tenant,
        work: impl Future<Output = WithLimitState<Result<T, E>>> + Send + 'static,
    ) -> WithLimitState<Result<T, E>> {
        let permits = match action {
            Action::Send => &self.sends,
            Action::Attempt => &self.checks,
        };
        let Ok(permit) = Arc::clone(permits).try_acquire_owned() else {
            let overloaded = Err(ServiceError::Overloaded.into());
            Decision::new(action, &tenant).end(&overloaded);
            return WithLimitState::uncharged(overloaded);
        };
        let work = async {
            let outcome = work.await;
            drop(permit);
            outcome
        };
        let outcome = self.tasks.spawn(work.in_current_span()).await;
        // The decision was recorded when the panic dropped it.
        outcome.unwrap_or_else(|_| WithLimitState::uncharged(Err(ServiceError::Fault.into())))
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

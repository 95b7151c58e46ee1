//! The use cases: sending a code and checking an attempt, on the simple endpoints and under ids.
//!
//! Decides the order of the steps and what each outcome means. Must not depend on HTTP, Redis or
//! SMTP. Each use case that changes something completes even if the client disconnects.

use std::fmt;
use std::future::Future;
use std::mem;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::domain::code::Code;
use crate::domain::email_address::EmailAddress;
use crate::domain::limits::Action;
use crate::domain::locale::Locale;
use crate::domain::proof::{ProofKey, PublicKey};
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::verification_id::VerificationId;
use crate::ports::HashPermit;

mod admission;
mod attempt;
mod decision;
mod dependencies;
mod error;
mod hand_over;
mod ip_charge;
mod limit_state;
mod prove;
mod readiness;
mod refused_clients;
mod run_to_end;
mod send;
mod simple;
mod test_mails;
mod verifications;

use admission::{Admission, Permits, UseCase};
use attempt::SubmittedCode;
pub use attempt::{Approved, CheckError};
pub use dependencies::{Dependencies, ReloadableDependencies};
pub use error::{ServiceError, causes};
pub use limit_state::{UseCaseError, WithLimitState};
use readiness::ReadinessCache;
use run_to_end::RunToEnd;
pub use send::StartError;
pub use test_mails::CapturedTestMail;
pub use verifications::cancel::CancelError;
pub use verifications::create::{CreateError, Creation, Idempotency};
pub use verifications::resend::ResendError;
pub use verifications::show::{ShowError, Snapshot};

/// The use cases. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    deps: Arc<RwLock<Arc<Dependencies>>>,
    tasks: TaskTracker,
    admission: Admission,
    readiness: Arc<ReadinessCache>,
}

impl Service {
    /// Creates the service.
    #[must_use]
    pub fn new(deps: Dependencies) -> Self {
        let admission = Admission::new(deps.at_once);
        let deps = Arc::new(RwLock::new(Arc::new(deps)));
        Self { deps, tasks: TaskTracker::new(), admission, readiness: Arc::default() }
    }

    /// Sends a new code to the address. The one before stays good for the overlap.
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
        let use_case =
            UseCase { action: Action::Send, profile: &deps.reloadable.simple, client: Some(client) };
        let work = |deps: Arc<Dependencies>, permit| async move {
            simple::send_otp(&deps, permit, &address, client, &languages).await
        };
        self.admitted(&deps, use_case, work).await
    }

    /// Takes one attempt and compares the submitted code with the codes of the address that are
    /// good.
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
        let use_case =
            UseCase { action: Action::Attempt, profile: &deps.reloadable.simple, client: Some(client) };
        let work = |deps: Arc<Dependencies>, submitted| async move {
            simple::verify_otp(&deps, submitted, &address, client).await
        };
        self.admitted_with_code(&deps, use_case, &typed, work).await
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
        let use_case = UseCase { action: Action::Send, profile: &profile, client: creation.client };
        let profile = Arc::clone(&profile);
        let work = |deps: Arc<Dependencies>, permit| async move {
            verifications::create::create(&deps, permit, &profile, &creation).await
        };
        self.admitted(&deps, use_case, work).await
    }

    /// Sends a new code for a verification. The one before stays good for the overlap.
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
        let use_case = UseCase { action: Action::Send, profile: &profile, client };
        let profile = Arc::clone(&profile);
        let work = |deps: Arc<Dependencies>, permit| async move {
            verifications::resend::resend(&deps, permit, &profile, &id, client).await
        };
        self.admitted(&deps, use_case, work).await
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
        let use_case = UseCase { action: Action::Attempt, profile: &profile, client };
        let profile = Arc::clone(&profile);
        let work = |deps: Arc<Dependencies>, submitted| async move {
            verifications::check::check(&deps, submitted, &profile, &id, client).await
        };
        self.admitted_with_code(&deps, use_case, &typed, work).await
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
        RunToEnd::new(self.tasks.track_future(work)).await
    }

    /// Returns the captured emails of the profile's sandbox key, newest first. `to` limits them to
    /// one address. Reads only, so it stops if the client disconnects.
    ///
    /// # Errors
    /// [`ServiceError`]: the key is no sandbox key, or the emails could not be read.
    pub async fn test_mails(
        &self,
        profile: &TenantProfile,
        to: Option<&EmailAddress>,
    ) -> Result<Vec<CapturedTestMail>, ServiceError> {
        test_mails::list(&self.deps(), profile, to).await
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

    /// Runs `work` with a submitted code once it is admitted. What cannot be a code is not hashed,
    /// so it is not kept waiting.
    async fn admitted_with_code<T: Send + 'static, W>(
        &self,
        deps: &Arc<Dependencies>,
        use_case: UseCase<'_>,
        typed: &str,
        work: impl FnOnce(Arc<Dependencies>, Option<SubmittedCode>) -> W,
    ) -> WithLimitState<Result<T, CheckError>>
    where
        W: Future<Output = WithLimitState<Result<T, CheckError>>> + Send + 'static,
    {
        match Code::parse(typed) {
            None => RunToEnd::new(self.tasks.track_future(work(Arc::clone(deps), None))).await,
            Some(code) => {
                let work = |deps, permit| work(deps, Some(SubmittedCode { code, permit }));
                self.admitted(deps, use_case, work).await
            }
        }
    }

    /// Runs `work` once it is admitted, with a permit of the hash queue, to completion even if the
    /// client disconnects.
    async fn admitted<T: Send + 'static, E: UseCaseError + Send + 'static, W>(
        &self,
        deps: &Arc<Dependencies>,
        use_case: UseCase<'_>,
        work: impl FnOnce(Arc<Dependencies>, HashPermit) -> W,
    ) -> WithLimitState<Result<T, E>>
    where
        W: Future<Output = WithLimitState<Result<T, E>>> + Send + 'static,
    {
        let Permits { use_case: permit, hash } = match self.admission.admit(deps, &use_case).await {
            Ok(permits) => permits,
            Err(refusal) => return use_case.refused(deps, refusal),
        };
        // An `async` block would have room for the work twice.
        let work = work(Arc::clone(deps), hash).map(move |ended| {
            drop(permit);
            ended
        });
        let ended = RunToEnd::new(self.tasks.track_future(work)).await;
        if let Some(client) = &ended.refused_client {
            self.admission.remember(client);
        }
        ended
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service").finish_non_exhaustive()
    }
}

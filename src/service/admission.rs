//! Admits use cases: those beyond what the service can process wait for a moment, and are then
//! refused.
//!
//! Comes before everything else, because callers that repeat at once what was refused would take
//! the time that the others need. Must not charge anything.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::decision::Decision;
use super::error::log;
use super::ip_charge::IpCharge;
use super::refused_clients::RefusedClients;
use super::{Dependencies, ServiceError, UseCaseError, WithLimitState};
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::LimitState;
use crate::domain::limits::Action;
use crate::domain::tenant_profile::TenantProfile;
use crate::ports::{HashPermit, Priority};

/// How long a use case may wait until it is admitted. An overload is answered within 100 ms (OWASP
/// ASVS 5.0, 15.2.2).
const ADMISSION_TIMEOUT: Duration = Duration::from_millis(75);

/// Admits use cases. Cheap to clone.
#[derive(Clone)]
pub(super) struct Admission {
    sends: Arc<Semaphore>,
    checks: Arc<Semaphore>,
    refused_clients: Arc<RefusedClients>,
}

/// A use case to be admitted.
pub(super) struct UseCase<'a> {
    /// What it does.
    pub action: Action,
    /// The profile of its tenant.
    pub profile: &'a TenantProfile,
    /// The IP address of its client, if it is known.
    pub client: Option<IpAddr>,
}

/// What a use case holds while it runs.
pub(super) struct Permits {
    /// Released at its end.
    pub use_case: OwnedSemaphorePermit,
    /// Used for its hash.
    pub hash: HashPermit,
}

/// Why a use case was not admitted. Nothing was charged.
#[derive(Clone, Copy)]
pub(super) enum Refusal {
    Overloaded,
    /// The limit of its client's IP is exceeded.
    Limited(LimitState),
}

impl Admission {
    /// Admits `at_once` sends, and as many checks, at the same time.
    pub(super) fn new(at_once: usize) -> Self {
        let permits = || Arc::new(Semaphore::new(at_once));
        Self { sends: permits(), checks: permits(), refused_clients: Arc::default() }
    }

    /// Waits for the permits of a use case. A client that exceeded the limit of its IP lately, and
    /// still does, is refused for that instead of waiting.
    pub(super) async fn admit(
        &self,
        deps: &Dependencies,
        use_case: &UseCase<'_>,
    ) -> Result<Permits, Refusal> {
        let (permits, priority) = match use_case.action {
            Action::Send => (&self.sends, Priority::Send),
            Action::Attempt => (&self.checks, Priority::Check),
        };
        let end = Instant::now() + ADMISSION_TIMEOUT;
        let mut permit = Arc::clone(permits).try_acquire_owned().ok();
        let hash = permit.as_ref().and_then(|_| deps.hasher.reserve(priority));
        if let (Some(permit), Some(hash)) = (permit.take_if(|_| hash.is_some()), hash) {
            return Ok(Permits { use_case: permit, hash });
        }
        if let Some(exceeded) = self.exceeded(deps, use_case)
            && let Some(limit_state) = exceeded.await
        {
            return Err(Refusal::Limited(limit_state));
        }
        let left = || end.saturating_duration_since(Instant::now());
        let permit = match permit {
            Some(permit) => permit,
            None => match timeout(left(), Arc::clone(permits).acquire_owned()).await {
                Ok(Ok(permit)) => permit,
                _ => return Err(Refusal::Overloaded),
            },
        };
        let hash = deps.hasher.reserve_within(priority, left()).await.ok_or(Refusal::Overloaded)?;
        Ok(Permits { use_case: permit, hash })
    }

    /// Returns a future that reads the limit state of the client's IP, if its limit was exceeded
    /// lately; it resolves to `None` if the limit has room again. Boxed, because it is rare.
    fn exceeded<'a>(
        &'a self,
        deps: &'a Dependencies,
        use_case: &UseCase<'a>,
    ) -> Option<BoxFuture<'a, Option<LimitState>>> {
        let ip_charge = use_case.ip_charge(deps);
        let client = ip_charge.client_prefix()?;
        if !self.refused_clients.contains(&client, Instant::now()) {
            return None;
        }
        Some(Box::pin(async move {
            match deps.store.peek(ip_charge.due()?).await {
                Ok(limit_state) if limit_state.wait.is_zero() => None,
                Ok(limit_state) => {
                    self.remember(&client);
                    Some(limit_state)
                }
                Err(error) => {
                    log(&error, "a limit was not read in an overload");
                    None
                }
            }
        }))
    }

    /// Remembers a client whose IP had exceeded its limit.
    pub(super) fn remember(&self, client: &KeyedHash) {
        self.refused_clients.add(client, Instant::now());
    }
}

impl<'a> UseCase<'a> {
    fn ip_charge(&self, deps: &Dependencies) -> IpCharge<'a> {
        IpCharge::new(deps, self.profile, self.action, self.client)
    }

    /// Ends it with a refusal, which it counts and records.
    pub(super) fn refused<T, E: UseCaseError>(
        &self,
        deps: &Dependencies,
        refusal: Refusal,
    ) -> WithLimitState<Result<T, E>> {
        let decision = Decision::new(self.action, &self.profile.tenant);
        let mut refused = WithLimitState::uncharged(Err(E::from(ServiceError::Overloaded)));
        if let Refusal::Limited(limit_state) = refusal {
            if let Some(client) = self.ip_charge(deps).client_prefix() {
                decision.set_client(client);
            }
            refused.outcome = Err(E::exceeded(limit_state));
            refused.limit_state = Some(limit_state);
        }
        decision.end(&refused.outcome);
        refused
    }
}

//! Outcomes with the limit state to report in the response headers.

use std::net::IpAddr;

use super::Dependencies;
use super::error::ServiceError;
use super::ip_charge::IpCharge;
use crate::domain::ledger::LimitState;
use crate::domain::limits::Action;
use crate::domain::tenant_profile::TenantProfile;

/// An outcome, with the limit state to report to the caller.
#[derive(Debug)]
pub struct WithLimitState<T> {
    /// The outcome.
    pub outcome: T,
    /// The limit state to report, if the caller's IP was charged or a limit was exceeded.
    pub limit_state: Option<LimitState>,
}

impl<T> WithLimitState<T> {
    pub(super) fn uncharged(outcome: T) -> Self {
        Self { outcome, limit_state: None }
    }
}

/// An error that may be an exceeded limit.
pub trait Limited: From<ServiceError> {
    /// Creates the error for an exceeded limit.
    fn exceeded(limit_state: LimitState) -> Self;

    /// Returns the limit state of the exceeded limit, if the error is one.
    fn limited(&self) -> Option<LimitState>;
}

impl<T, E: Limited> WithLimitState<Result<T, E>> {
    /// Wraps an error that came before anything was charged.
    fn refused(error: E) -> Self {
        Self { limit_state: error.limited(), outcome: Err(error) }
    }

    /// Wraps an outcome after an IP was charged. Reports the limit state of an exceeded limit, else
    /// that of the IP.
    fn after(ip_charge: &IpCharge, outcome: Result<T, E>) -> Self {
        let limit_state =
            outcome.as_ref().err().and_then(Limited::limited).or_else(|| ip_charge.limit_state());
        Self { outcome, limit_state }
    }
}

/// Step 2: charges the client's IP for the action at the tenant, then runs the other steps. Reports
/// the limit state of the IP, or of a limit that was exceeded.
pub(super) async fn with_ip_charge<T, E: Limited>(
    deps: &Dependencies,
    profile: &TenantProfile,
    action: Action,
    client: Option<IpAddr>,
    other_steps: impl AsyncFnOnce(&IpCharge) -> Result<T, E>,
) -> WithLimitState<Result<T, E>> {
    match IpCharge::charge::<E>(deps, profile, action, client).await {
        Ok(ip_charge) => {
            let outcome = other_steps(&ip_charge).await;
            WithLimitState::after(&ip_charge, outcome)
        }
        Err(error) => WithLimitState::refused(error),
    }
}

//! Outcomes with the limit state to report in the response headers.

use super::ip_charge::IpCharge;
use crate::domain::ledger::LimitState;

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
pub trait Limited {
    /// Returns the limit state of the exceeded limit, if the error is one.
    fn limited(&self) -> Option<LimitState>;
}

impl<T, E: Limited> WithLimitState<Result<T, E>> {
    /// Wraps an error that came before anything was charged.
    pub(super) fn refused(error: E) -> Self {
        Self { limit_state: error.limited(), outcome: Err(error) }
    }

    /// Wraps an outcome after an IP was charged. Reports the limit state of an exceeded limit, else
    /// that of the IP.
    pub(super) fn after(ip_charge: &IpCharge, outcome: Result<T, E>) -> Self {
        let limit_state =
            outcome.as_ref().err().and_then(Limited::limited).or_else(|| ip_charge.limit_state());
        Self { outcome, limit_state }
    }
}

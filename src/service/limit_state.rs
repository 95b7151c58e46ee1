//! Outcomes with the limit state to report in the response headers.

use super::error::ServiceError;
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::LimitState;

/// An outcome, with the limit state to report to the caller.
#[derive(Debug)]
pub struct WithLimitState<T> {
    /// The outcome.
    pub outcome: T,
    /// The limit state to report, if the caller's IP was charged or a limit was exceeded.
    pub limit_state: Option<LimitState>,
    /// The client whose IP had exceeded its limit.
    pub(super) refused_client: Option<KeyedHash>,
}

impl<T> WithLimitState<T> {
    pub(super) fn uncharged(outcome: T) -> Self {
        Self { outcome, limit_state: None, refused_client: None }
    }
}

/// The error of a use case that is charged.
pub trait UseCaseError: From<ServiceError> {
    /// Creates the error for an exceeded limit.
    fn exceeded(limit_state: LimitState) -> Self;

    /// Returns the limit state of the exceeded limit, if the error is one.
    fn limited(&self) -> Option<LimitState>;

    /// Returns the name of the outcome, for metrics.
    fn outcome(&self) -> &'static str;
}

//! Outcomes, and what the caller may be told of its own doings beside them.

use super::ip_charge::IpCharge;
use crate::domain::ledger::LimitState;

/// An outcome, and how the ledger of the caller's network stands, where it was charged.
#[derive(Debug)]
pub struct WithLimitState<T> {
    /// What became of it.
    pub outcome: T,
    /// What the caller may be told of its own doings.
    pub limit_state: Option<LimitState>,
}

impl<T> WithLimitState<T> {
    pub(super) fn uncharged(outcome: T) -> Self {
        Self { outcome, limit_state: None }
    }
}

/// An error that may be a full ledger.
pub trait Limited {
    /// The ledger that refused, if one did.
    fn limited(&self) -> Option<LimitState>;
}

impl<T, E: Limited> WithLimitState<Result<T, E>> {
    /// Refused before anything was charged.
    pub(super) fn refused(error: E) -> Self {
        Self { limit_state: error.limited(), outcome: Err(error) }
    }

    /// What became of it after a network was charged: the ledger that refused, else that of the network.
    pub(super) fn after(ip_charge: &IpCharge, outcome: Result<T, E>) -> Self {
        let limit_state =
            outcome.as_ref().err().and_then(Limited::limited).or_else(|| ip_charge.limit_state());
        Self { outcome, limit_state }
    }
}

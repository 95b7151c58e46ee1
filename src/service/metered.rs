//! Outcomes, and what the caller may be told of its own doings beside them.

use super::toll::Toll;
use crate::domain::ledger::Standing;

/// An outcome, and how the ledger of the caller's network stands, where it was charged.
#[derive(Debug)]
pub struct Metered<T> {
    /// What became of it.
    pub outcome: T,
    /// What the caller may be told of its own doings.
    pub standing: Option<Standing>,
}

impl<T> Metered<T> {
    pub(super) fn not_at_all(outcome: T) -> Self {
        Self { outcome, standing: None }
    }
}

/// An error that may be a full ledger.
pub trait Limited {
    /// The ledger that refused, if one did.
    fn limited(&self) -> Option<Standing>;
}

impl<T, E: Limited> Metered<Result<T, E>> {
    /// Refused before anything was charged.
    pub(super) fn refused(error: E) -> Self {
        Self { standing: error.limited(), outcome: Err(error) }
    }

    /// What became of it after a network was charged: the ledger that refused, else that of the network.
    pub(super) fn after(toll: &Toll, outcome: Result<T, E>) -> Self {
        let standing = outcome.as_ref().err().and_then(Limited::limited).or_else(|| toll.standing());
        Self { outcome, standing }
    }
}

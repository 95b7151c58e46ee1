//! What can go wrong in every use case, and how errors are logged.

use std::error::Error;

use crate::domain::details::DecryptionError;
use crate::domain::proof::SigningError;
use crate::ports::{HasherError, StoreError};
use crate::random::SysError;

/// Why a use case could not be carried out, whatever it is. The error of each use case contains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ServiceError {
    /// Too many use cases run, the hash queue is full, or the relay's daily limit is reached.
    /// Nothing was taken, and nothing stays charged.
    #[error("the service is overloaded")]
    Overloaded,
    /// The store, the hasher or the random number generator failed or timed out.
    #[error("a part of the service is unavailable")]
    Unavailable,
    /// A fault in otpd.
    #[error("internal fault")]
    Fault,
}

impl ServiceError {
    /// Returns the name of the outcome, for metrics.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Fault => "error",
        }
    }
}

impl From<StoreError> for ServiceError {
    fn from(error: StoreError) -> Self {
        log(&error, "the store failed");
        Self::Unavailable
    }
}

impl From<HasherError> for ServiceError {
    fn from(error: HasherError) -> Self {
        log(&error, "the hasher failed");
        Self::Unavailable
    }
}

impl From<SysError> for ServiceError {
    fn from(error: SysError) -> Self {
        log(&error, "the system's random number generator failed");
        Self::Unavailable
    }
}

impl From<DecryptionError> for ServiceError {
    fn from(error: DecryptionError) -> Self {
        log(&error, "the details of a verification could not be encrypted");
        Self::Fault
    }
}

impl From<SigningError> for ServiceError {
    fn from(error: SigningError) -> Self {
        log(&error, "a proof could not be signed");
        Self::Fault
    }
}

/// Logs an error with its causes, once, at the point where it is handled.
pub(super) fn log(error: &(dyn Error + 'static), what: &str) {
    tracing::warn!(error = causes(error), "{what}");
}

/// Returns an error and all its causes in one line.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let chain = std::iter::successors(Some(error), |&error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

//! Errors of getting an access token. They contain nothing that the server sent, except a
//! registered error code and Microsoft's error number.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::adapters::http::{HttpCause, HttpError};

/// Why there is no access token.
#[derive(Debug, Clone, Error)]
#[error("{cause}{}", if *.is_paused { "; it is not asked again for a moment" } else { "" })]
pub struct TokenError {
    cause: TokenCause,
    /// Whether otpd did not ask because an earlier request has just failed.
    is_paused: bool,
}

/// What failed.
#[derive(Debug, Clone, Error)]
#[non_exhaustive]
pub enum TokenCause {
    /// There is no response.
    #[error("the token endpoint does not answer: {0}")]
    Http(Arc<HttpError>),
    /// Time is up.
    #[error("the token endpoint did not answer in time")]
    Timeout,
    /// The server cannot answer now (429 or 5xx).
    #[error("the token endpoint answered with status {}", .0.as_u16())]
    Unavailable(StatusCode),
    /// The response is not one of a token endpoint.
    #[error("the answer of the token endpoint (status {}) {}", .status.as_u16(), .fault)]
    Invalid {
        /// Status of the response.
        status: StatusCode,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The token's life is shorter than the request took.
    #[error("the token endpoint granted a token that has expired already")]
    Expired,
    /// The server refuses to give a token.
    #[error("the token endpoint refused: {0}")]
    Refused(TokenRefusal),
    /// The request could not be made.
    #[error("{0}")]
    Request(&'static str),
}

/// The server's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRefusal {
    /// Error code (RFC 6749 section 5.2).
    pub error: String,
    /// Microsoft's number of the error, without `AADSTS`.
    pub aadsts: Option<u32>,
}

/// A failure of one request, and how long the server asks not to be asked again.
#[derive(Debug)]
pub(super) struct TokenFailure {
    pub(super) cause: TokenCause,
    pub(super) retry_after: Duration,
}

impl TokenError {
    pub(super) fn new(cause: TokenCause, is_paused: bool) -> Self {
        Self { cause, is_paused }
    }

    /// Returns what failed.
    #[must_use]
    pub fn cause(&self) -> &TokenCause {
        &self.cause
    }

    /// Returns whether the server answered the request as it does if it works, or otpd may not ask
    /// it, so that nothing is known of it.
    #[must_use]
    pub fn is_an_answer(&self) -> bool {
        match &self.cause {
            TokenCause::Refused(_) => true,
            TokenCause::Http(error) => matches!(error.cause(), HttpCause::NotAllowed),
            _ => false,
        }
    }

    /// Returns whether otpd did not ask because an earlier request has just failed.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.is_paused
    }
}

impl From<TokenCause> for TokenFailure {
    fn from(cause: TokenCause) -> Self {
        Self { cause, retry_after: Duration::ZERO }
    }
}

impl fmt::Display for TokenRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.error)?;
        self.aadsts.map_or(Ok(()), |number| write!(f, " (AADSTS{number})"))
    }
}

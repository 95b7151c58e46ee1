//! Errors of a request. They contain nothing that the other side sent.

use std::error::Error;
use std::io;

use hyper_util::client::legacy;
use thiserror::Error as ThisError;

/// Why there is no response.
#[derive(Debug, ThisError)]
#[error("{stage}: {cause}")]
pub struct HttpError {
    stage: HttpStage,
    cause: HttpCause,
}

/// Stage of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum HttpStage {
    /// DNS lookup.
    #[error("resolving the name")]
    Resolve,
    /// TCP connection, or the whole time until there is a connection.
    #[error("connecting")]
    Connect,
    /// TLS handshake.
    #[error("TLS handshake")]
    Tls,
    /// Sending the request and waiting for the response.
    #[error("waiting for the response")]
    Response,
}

/// What failed at a stage.
#[derive(Debug, Clone, ThisError)]
#[non_exhaustive]
pub enum HttpCause {
    /// DNS has no address for the name.
    #[error("the name has no address")]
    NoSuchHost,
    /// Every address of the host is one that otpd must not connect to.
    #[error(
        "the host's address is not public: if the request is meant to go there, allow its network in \
         OTP_OUTBOUND__ALLOWED_NETWORKS"
    )]
    NotAllowed,
    /// The operating system reported this error.
    #[error("{0}")]
    Unreachable(io::ErrorKind),
    /// The certificate is not valid, or the handshake failed otherwise.
    #[error("TLS could not be established: {0}")]
    Tls(String),
    /// Time is up.
    #[error("no answer in time")]
    Timeout,
    /// The connection was lost, or the response is not HTTP.
    #[error("the connection was lost before there was a response")]
    Lost,
}

impl HttpStage {
    /// Returns the name of the stage, for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Response => "response",
        }
    }
}

impl HttpError {
    /// Creates the error of a stage.
    pub(super) fn new(stage: HttpStage, cause: HttpCause) -> Self {
        Self { stage, cause }
    }

    /// Creates the error of a timeout.
    pub(super) fn timeout(stage: HttpStage) -> Self {
        Self::new(stage, HttpCause::Timeout)
    }

    /// Converts an error of the client. `is_connected` says whether the request had a connection.
    pub(super) fn of(error: &legacy::Error, is_connected: bool) -> Self {
        // hyper cancels only a request that it has not begun to send.
        if find::<hyper::Error>(error).is_some_and(hyper::Error::is_canceled) {
            return Self::new(HttpStage::Connect, HttpCause::Lost);
        }
        if is_connected {
            return Self::new(HttpStage::Response, HttpCause::Lost);
        }
        if let Some(HttpError { stage, cause }) = find::<Self>(error) {
            return Self::new(*stage, cause.clone());
        }
        match find::<rustls::Error>(error) {
            Some(tls) => Self::new(HttpStage::Tls, HttpCause::Tls(tls.to_string())),
            // The connection ended before it could be used.
            None => Self::new(HttpStage::Connect, HttpCause::Lost),
        }
    }

    /// Returns the stage that failed.
    #[must_use]
    pub fn stage(&self) -> HttpStage {
        self.stage
    }

    /// Returns the cause.
    #[must_use]
    pub fn cause(&self) -> &HttpCause {
        &self.cause
    }

    /// Returns whether the other side certainly did not receive the request.
    #[must_use]
    pub fn is_unsent(&self) -> bool {
        self.stage != HttpStage::Response
    }
}

/// Finds an error of this type among the causes. An I/O error hides the error that it wraps.
fn find<'a, T: Error + 'static>(error: &'a (dyn Error + 'static)) -> Option<&'a T> {
    if let Some(found) = error.downcast_ref() {
        return Some(found);
    }
    let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    match wrapped {
        Some(wrapped) => find(wrapped),
        None => error.source().and_then(find),
    }
}

//! What the transport needs of a provider: a request for an email, and what its response means.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::http::StatusCode;
use thiserror::Error;

use crate::adapters::http::HttpAnswer;
use crate::adapters::mailer::{Email, FailureKind};
use crate::domain::provider_id::ProviderId;

/// Maximum length of a [`Word`] in bytes.
const MAX_WORD: usize = 64;

/// An API that sends emails.
pub trait Provider: Send + Sync {
    /// Returns its name in the log and in metrics.
    fn name(&self) -> &'static str;

    /// Returns whether a second request with the same id of an email sends nothing.
    fn deduplicates(&self) -> bool {
        false
    }

    /// Returns the request that sends an email. Two requests for the same email are the same,
    /// except for signatures with a time.
    ///
    /// # Errors
    /// [`RequestError`] if there is none, such as for a secret that cannot be in a header.
    fn request(&self, email: &Email<'_>, now: SystemTime) -> Result<Request<Full<Bytes>>, RequestError>;

    /// Returns what a response means.
    fn judge(&self, answer: &HttpAnswer) -> Verdict;
}

/// What a response means.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The email was accepted, under this id.
    Accepted(Option<ProviderId>),
    /// It was not, or may not have been; with the provider's word for the reason.
    Failed(FailureKind, Option<Word>),
}

/// A provider's own word for an error, such as `validation_error`. Cannot be an address or a
/// sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word(String);

/// The request cannot be built.
#[derive(Debug, Error)]
#[error("the request cannot be built")]
pub struct RequestError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl RequestError {
    /// Wraps the cause.
    pub fn new(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

impl Word {
    /// Parses 1 to 64 letters, digits and the characters `_ - .`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"_-.".contains(&b);
        ((1..=MAX_WORD).contains(&text.len()) && text.bytes().all(is_plain)).then(|| Self(text.to_owned()))
    }

    /// Returns the word.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns what a status other than 2xx means, unless the provider says more. Without a documented
/// meaning, a failure of the server (5xx) leaves it open whether the email was accepted, except
/// that 503 means that the request was not handled (RFC 9110 section 15.6.4).
#[must_use]
pub(super) fn usual_meaning(status: StatusCode) -> FailureKind {
    match status {
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => FailureKind::Deferred,
        status if status.is_redirection() || status.is_client_error() => FailureKind::Refused,
        _ => FailureKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_no_address_and_no_sentence() {
        for text in ["validation_error", "AccountSuspendedException", "300", "a.b-c"] {
            assert_eq!(Word::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "a b", "someone@example.com", "a\n", "ä", &"a".repeat(65)] {
            assert!(Word::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn only_a_failure_of_the_server_leaves_the_outcome_open() {
        for (status, kind) in [
            (302, FailureKind::Refused),
            (400, FailureKind::Refused),
            (408, FailureKind::Refused),
            (429, FailureKind::Deferred),
            (500, FailureKind::Unknown),
            (502, FailureKind::Unknown),
            (503, FailureKind::Deferred),
            (504, FailureKind::Unknown),
        ] {
            assert_eq!(usual_meaning(StatusCode::from_u16(status).unwrap()), kind, "{status}");
        }
    }
}

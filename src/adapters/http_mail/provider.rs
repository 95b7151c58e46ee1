//! What the transport needs of a provider: a request for an email, and what its response means.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{HeaderValue, RETRY_AFTER};
use hyper::http::StatusCode;
use serde_json::Value;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::adapters::http::HttpAnswer;
use crate::adapters::mailer::{Email, FailureKind};
use crate::adapters::message::quoted;
use crate::domain::provider_id::ProviderId;
use crate::domain::sender::Sender;

/// Maximum length of a [`Word`] in bytes.
const MAX_WORD: usize = 64;

/// An API that sends emails.
pub trait MailApi: Send + Sync {
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

/// Returns what a status other than 2xx means, unless the provider says more. A failure of the
/// server (5xx) leaves it open whether the email was accepted. A 503 says that the request was not
/// handled only if it also says when to come back (RFC 9110 section 15.6.4): proxies answer 503
/// too, when they lose a server that had the request.
#[must_use]
pub(super) fn usual_meaning(answer: &HttpAnswer) -> FailureKind {
    match answer.status {
        StatusCode::TOO_MANY_REQUESTS => FailureKind::Deferred,
        StatusCode::SERVICE_UNAVAILABLE if answer.headers.contains_key(RETRY_AFTER) => FailureKind::Deferred,
        status if status.is_redirection() || status.is_client_error() => FailureKind::Refused,
        _ => FailureKind::Unknown,
    }
}

/// Returns the headers of an email that no provider writes by itself. An email over SMTP has them
/// too.
pub(super) fn own_headers<'a>(email: &'a Email<'_>) -> [(&'static str, &'a str); 3] {
    [
        ("Auto-Submitted", "auto-generated"),
        ("Content-Language", &email.content().language),
        ("X-Entity-Ref-ID", &email.id),
    ]
}

/// Returns the sender as a provider parses it: `"Name" <address>`. The name is always a quoted
/// string, so that nothing in a brand can be taken for an address. Other
/// characters than ASCII stay as they are (RFC 6532); the provider encodes them.
pub(super) fn from(sender: &Sender) -> String {
    format!("{} <{}>", quoted(&sender.brand), sender.address.as_str())
}

/// Returns a header's value that no log shows.
pub(super) fn secret_value(text: &Zeroizing<String>) -> Result<HeaderValue, RequestError> {
    let mut value = HeaderValue::from_str(text).map_err(RequestError::new)?;
    value.set_sensitive(true);
    Ok(value)
}

/// Returns a member of a body that is a JSON object.
pub(super) fn member(answer: &HttpAnswer, name: &str) -> Option<Value> {
    let mut body: Value = serde_json::from_slice(&answer.body).ok()?;
    body.get_mut(name).map(Value::take)
}

/// Returns what a 2xx means whose body must have the id of the email in this member. Without it,
/// the response is not one of the provider, or was cut: whether the email was accepted is unknown.
pub(super) fn acceptance(answer: &HttpAnswer, name: &str) -> Verdict {
    let id = member(answer, name).and_then(|id| ProviderId::parse(id.as_str()?));
    id.map_or(Verdict::Failed(FailureKind::Unknown, None), |id| Verdict::Accepted(Some(id)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::http_mail::fixture;

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
    fn a_sender_is_one_address_whatever_its_brand() {
        for (brand, name) in [
            ("Example", "\"Example\""),
            ("", "\"\""),
            ("Shop, Inc. <x@y.example>", "\"Shop, Inc. <x@y.example>\""),
            ("\" <x@y.example>, \"", r#""\" <x@y.example>, \"""#),
            ("a\\", r#""a\\""#),
            ("\\\" <x@y.example>", r#""\\\" <x@y.example>""#),
            ("Bücher, 店", "\"Bücher, 店\""),
        ] {
            let mail = fixture::mail(brand);
            assert_eq!(from(&mail.sender), format!("{name} <codes@sender.example>"));
        }
    }

    #[test]
    fn an_email_over_smtp_has_the_same_headers() {
        let mail = fixture::mail("Example");
        let email = fixture::email(&mail);
        let message = String::from_utf8(email.message().unwrap().to_vec()).unwrap();
        for (name, value) in own_headers(&email) {
            assert!(message.contains(&format!("\r\n{name}: {value}\r\n")), "{name}: {message}");
        }
    }

    #[test]
    fn a_secret_is_not_shown() {
        let value = secret_value(&"re_secret".to_owned().into()).unwrap();
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert!(secret_value(&"a\nb".to_owned().into()).is_err());
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
            (503, FailureKind::Unknown),
            (504, FailureKind::Unknown),
        ] {
            assert_eq!(usual_meaning(&fixture::answer(status, b"")), kind, "{status}");
        }
        let mut busy = fixture::answer(503, b"");
        busy.headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        assert_eq!(usual_meaning(&busy), FailureKind::Deferred);
    }
}

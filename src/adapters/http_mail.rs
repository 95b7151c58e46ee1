//! Hands emails over by HTTP: to the APIs of email providers, and to the operator's hook.
//!
//! A failure before the request was sent means that nobody has the code. Afterwards only the status
//! of the response tells; a status of 5xx does not, because the email may have been accepted before
//! the failure. Must not log the text of a response, because providers repeat addresses in it.

mod error;
#[cfg(test)]
mod fixture;
mod hook;
mod mailgun;
mod postmark;
mod provider;
mod resend;
mod ses;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::error::ProviderError;
pub use self::hook::HookApi;
pub use self::mailgun::MailgunApi;
pub use self::postmark::PostmarkApi;
pub use self::provider::{MailApi, RequestError, Verdict};
pub use self::resend::ResendApi;
pub use self::ses::SesApi;
use super::http::{HttpCause, HttpClient, HttpError, HttpStage};
use super::mailer::{AttemptError, Breaker, Deadlines, Email, FailureKind, Receipt, Transport};
use crate::metrics::metrics;
use crate::ports::Clock;

/// A provider or the hook, as a transport.
pub struct HttpTransport {
    provider: Box<dyn MailApi>,
    client: HttpClient,
    clock: Arc<dyn Clock>,
    /// One permit for each request in progress.
    permits: Semaphore,
    breaker: Breaker,
}

impl HttpTransport {
    /// Creates a transport with at most `connections` simultaneous requests.
    #[must_use]
    pub fn new(
        provider: Box<dyn MailApi>,
        client: HttpClient,
        clock: Arc<dyn Clock>,
        connections: usize,
    ) -> Self {
        let breaker = Breaker::new(metrics().relay_breaker(provider.name()));
        Self { provider, client, clock, permits: Semaphore::new(connections), breaker }
    }

    /// Records a request without a response, and returns what it means for the email.
    fn no_response(&self, error: HttpError, begun: Instant, deadlines: Deadlines) -> AttemptError {
        let kind = if error.is_unsent() { FailureKind::Refused } else { FailureKind::Unknown };
        let limit = if error.is_unsent() { deadlines.begin } else { deadlines.end };
        // An address that is not allowed says nothing about the provider.
        if !matches!(error.cause(), HttpCause::NotAllowed) {
            self.breaker.no_reply(self.provider.name(), &error, begun, limit);
        }
        AttemptError::new(kind, error.stage().name(), error)
    }
}

#[async_trait]
impl Transport for HttpTransport {
    fn name(&self) -> &str {
        self.provider.name()
    }

    fn deduplicates(&self) -> bool {
        self.provider.deduplicates()
    }

    async fn attempt(&self, email: &Email<'_>, deadlines: Deadlines) -> Result<Receipt, AttemptError> {
        let not_tried = |error| AttemptError::new(FailureKind::NotTried, HttpStage::Connect.name(), error);
        let permit = timeout_at(deadlines.begin, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| not_tried(ProviderError::NoneFree))?;
        let begun = Instant::now();
        if !self.breaker.admits(begun) {
            return Err(not_tried(ProviderError::BreakerOpen));
        }
        let request = self.provider.request(email, self.clock.now());
        let request = request
            .map_err(|error| AttemptError::new(FailureKind::Refused, HttpStage::Connect.name(), error))?;
        let stage = HttpStage::Response.name();
        let answer = match self.client.send(request, deadlines.begin, deadlines.end).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.no_response(error, begun, deadlines)),
        };
        self.breaker.succeeded(Instant::now());
        match self.provider.judge(&answer) {
            Verdict::Accepted(provider_id) => Ok(Receipt { stage, provider_id }),
            Verdict::Failed(kind, word) => {
                let error = ProviderError::Refused { status: answer.status.as_u16(), word };
                Err(AttemptError {
                    retry_after: answer.retry_after(),
                    ..AttemptError::new(kind, stage, error)
                })
            }
        }
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("provider", &self.provider.name()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// Returns all providers and the hook.
    fn all() -> [Box<dyn MailApi>; 5] {
        let url = fixture::url();
        [
            Box::new(ResendApi::new(&url, "re_key".into())),
            Box::new(PostmarkApi::new(&url, "pm_key".into(), "outbound".to_owned())),
            Box::new(MailgunApi::new(&url, "mg.example", "key".into())),
            Box::new(SesApi::new(&url, "eu-central-1".to_owned(), "AKIA".to_owned(), "secret".into())),
            Box::new(HookApi::new(url.clone(), fixture::hook_secret())),
        ]
    }

    /// Asserts that every provider judges the answer, and returns the words.
    fn words(status: u16, body: &[u8], kind: Option<&str>) -> Vec<Option<String>> {
        let judged = all().map(|provider| {
            let mut answer = fixture::answer(status, body);
            if let Some(kind) = kind.and_then(|kind| kind.parse().ok()) {
                answer.headers.insert("x-amzn-errortype", kind);
            }
            match provider.judge(&answer) {
                Verdict::Failed(_, word) => word.map(|word| word.as_str().to_owned()),
                Verdict::Accepted(_) => None,
            }
        });
        judged.into()
    }

    proptest! {
        #[test]
        fn any_answer_has_a_meaning_and_no_word_is_a_text(
            status in 100_u16..1000,
            body in proptest::collection::vec(any::<u8>(), 0..64),
            text in ".{0,70}",
            number in any::<i64>(),
        ) {
            let members = json!({
                "id": text, "name": text, "MessageID": number, "MessageId": text, "ErrorCode": number,
                "__type": text, "message": text,
            });
            let members = members.to_string();
            for body in [&body[..], members.as_bytes(), b"[]", b"null", b"\"Forbidden\"", b""] {
                for word in words(status, body, Some(&text)).into_iter().flatten() {
                    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
                    prop_assert!(!word.is_empty() && word.len() <= 64 && word.chars().all(is_plain), "{}", word);
                }
            }
        }
    }

    #[test]
    fn an_address_never_becomes_the_word_of_a_provider() {
        let members = json!({
            "name": "a@example.com", "ErrorCode": "a@example.com", "__type": "x#a@example.com",
        });
        let members = members.to_string();
        assert!(words(400, members.as_bytes(), Some("a@example.com")).iter().all(Option::is_none));
        assert!(words(422, members.as_bytes(), None).iter().all(Option::is_none));
        let words = words(400, br#"{"name":"n","ErrorCode":3,"__type":"t"}"#, None);
        assert_eq!(words.into_iter().flatten().collect::<Vec<_>>(), ["n", "3", "t"]);
    }

    #[test]
    fn a_second_request_for_an_email_has_the_same_body() {
        let mail = fixture::mail("Example");
        let email = fixture::email(&mail);
        for provider in all() {
            let body = |seconds| {
                let now = std::time::UNIX_EPOCH + Duration::from_secs(seconds);
                fixture::body(provider.request(&email, now).unwrap())
            };
            assert_eq!(body(1_800_000_000), body(1_800_000_009), "{}", provider.name());
        }
    }

    #[test]
    fn a_request_that_is_shown_has_no_secret() {
        let mail = fixture::mail("Example");
        let email = fixture::email(&mail);
        for provider in all() {
            let request = provider.request(&email, fixture::now()).unwrap();
            let (head, _) = request.into_parts();
            let shown = format!("{head:?}");
            for secret in ["re_key", "pm_key", "YXBpOmtleQ==", "Signature=", "AKIA"] {
                assert!(!shown.contains(secret), "{}: {shown}", provider.name());
            }
        }
    }
}

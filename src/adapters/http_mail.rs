//! Hands emails over by HTTP: to the APIs of email providers, and to the operator's hook.
//!
//! A failure before the request was sent means that nobody has the code. Afterwards only the status
//! of the response tells; a status of 5xx does not, because the email may have been accepted before
//! the failure. Must not log the text of a response, because providers repeat addresses in it.

mod error;
mod hook;
mod provider;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use self::error::ProviderError;
pub use self::hook::{Hook, InvalidHookSecret};
pub use self::provider::{Provider, RequestError, Verdict};
use super::http::{HttpClient, HttpError, HttpStage};
use super::mailer::{Breaker, Deadlines, Email, Failure, FailureKind, Receipt, Transport};
use crate::metrics::metrics;
use crate::ports::Clock;

/// Minimum time for an attempt to get a response; a shorter one does not count as a failure of the
/// provider.
const MIN_RESPONSE_TIME: Duration = Duration::from_secs(3);

/// A provider or the hook, as a transport.
pub struct HttpTransport {
    provider: Box<dyn Provider>,
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
        provider: Box<dyn Provider>,
        client: HttpClient,
        clock: Arc<dyn Clock>,
        connections: usize,
    ) -> Self {
        let breaker = Breaker::new(metrics().relay_breaker(provider.name()));
        Self { provider, client, clock, permits: Semaphore::new(connections), breaker }
    }

    /// Records a request without a response, and returns what it means for the email.
    fn no_response(&self, error: HttpError, begun: Instant, deadlines: Deadlines) -> Failure {
        let kind = if error.is_unsent() { FailureKind::Refused } else { FailureKind::Unknown };
        let limit = if error.is_unsent() { deadlines.begin } else { deadlines.end };
        // An attempt with too little time says nothing about the provider.
        let is_fair = limit.saturating_duration_since(begun) >= MIN_RESPONSE_TIME;
        if is_fair && self.breaker.failed(begun, Instant::now()) {
            let relay = self.provider.name();
            let error = error.to_string();
            tracing::error!(relay, error, "a relay is down: it is not used for a while");
        }
        Failure::new(kind, error.stage().name(), error)
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

    async fn attempt(&self, email: &Email<'_>, deadlines: Deadlines) -> Result<Receipt, Failure> {
        let not_tried = |error| Failure::new(FailureKind::NotTried, HttpStage::Connect.name(), error);
        let permit = timeout_at(deadlines.begin, self.permits.acquire()).await;
        let _permit = permit.map_err(|_| not_tried(ProviderError::NoneFree))?;
        let begun = Instant::now();
        if !self.breaker.admits(begun) {
            return Err(not_tried(ProviderError::BreakerOpen));
        }
        let request = self.provider.request(email, self.clock.now());
        let request =
            request.map_err(|error| Failure::new(FailureKind::Refused, HttpStage::Connect.name(), error))?;
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
                Err(Failure { retry_after: answer.retry_after(), ..Failure::new(kind, stage, error) })
            }
        }
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("provider", &self.provider.name()).finish_non_exhaustive()
    }
}

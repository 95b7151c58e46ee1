//! Sends an email by the first transport that accepts it, within a time limit.
//!
//! A transport is a relay, an email provider or the operator's hook. Must not pass an email to a
//! second transport if the first may have accepted it.

mod breaker;
mod transport;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

pub use self::breaker::Breaker;
pub use self::transport::{AttemptError, Deadlines, Email, FailureKind, Receipt, Transport};
use super::message::{Composer, new_id};
use crate::domain::tenant::Tenant;
use crate::metrics::metrics;
use crate::ports::{CodeMail, Content, Delivery, MailError, Mailer};
use crate::random;
use crate::traces;

/// Time limit for all attempts for one email, at all transports.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// Delays before the retries after a temporary failure.
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// Transports, in the order in which they are tried.
pub type Route = Vec<Arc<dyn Transport>>;

/// Sends emails by the transports of their tenant.
pub struct TransportMailer {
    composer: Composer,
    /// Of tenants without a route of their own.
    default_route: Route,
    of_tenants: BTreeMap<String, Route>,
}

/// Why a round ended without an email that was accepted, or that may have been.
struct Refused<'a> {
    error: AttemptError,
    /// The transports that failed temporarily.
    deferred: Vec<&'a dyn Transport>,
}

impl TransportMailer {
    /// Creates a mailer. `of_tenants` are the routes of tenants that have their own, by name; all
    /// others use `default_route`.
    #[must_use]
    pub fn new(composer: Composer, default_route: Route, of_tenants: BTreeMap<String, Route>) -> Self {
        Self { composer, default_route, of_tenants }
    }

    fn route(&self, tenant: &Tenant) -> &Route {
        self.of_tenants.get(tenant.name()).unwrap_or(&self.default_route)
    }

    fn email<'a>(&self, mail: &'a CodeMail) -> Result<Email<'a>, MailError> {
        let id = new_id(random::bytes().map_err(MailError::new)?);
        Ok(Email::new(mail, id, self.composer.compose(mail).map_err(MailError::new)?))
    }

    /// Tries the transports, and again those that failed temporarily, until one accepts the email
    /// or the time is up.
    async fn rounds(&self, mail: &CodeMail) -> Delivery {
        let end = Instant::now() + TIMEOUT;
        let email = match self.email(mail) {
            Ok(email) => email,
            Err(error) => return Delivery::Refused(error),
        };
        let mut transports: Vec<&dyn Transport> =
            self.route(&mail.tenant).iter().map(AsRef::as_ref).collect();
        let mut delays = RETRY_DELAYS.into_iter();
        loop {
            let refused = match round(&transports, &email, end).await {
                Ok(delivery) => return delivery,
                Err(refused) => refused,
            };
            let again = delays.next().map(|delay| Instant::now() + delay.max(refused.error.retry_after));
            match again.filter(|again| !refused.deferred.is_empty() && *again < end) {
                Some(again) => sleep_until(again).await,
                None => return Delivery::Refused(MailError::new(refused.error.error)),
            }
            transports = refused.deferred;
        }
    }
}

/// Tries each transport once until one accepts the email.
async fn round<'a>(
    transports: &[&'a dyn Transport],
    email: &Email<'_>,
    end: Instant,
) -> Result<Delivery, Refused<'a>> {
    let mut last = None;
    let mut deferred = Vec::new();
    for (transport, left) in transports.iter().copied().zip((1..=transports.len()).rev()) {
        let now = Instant::now();
        // Splits the remaining time, so that a slow transport leaves enough of it to the next ones.
        let begin = now + end.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
        // Leaves time to ask again whether the email was accepted.
        let answer =
            if transport.deduplicates() { now + end.saturating_duration_since(now) / 2 } else { end };
        let deadlines = Deadlines { first: begin.min(answer), begin: begin.min(answer), end: answer };
        let failure = match attempt(transport, email, deadlines).await {
            Ok(receipt) => return Ok(Delivery::Accepted { provider_id: receipt.provider_id }),
            Err(failure) if failure.kind == FailureKind::Unknown => {
                return Ok(ask_again(transport, email, failure, end).await);
            }
            Err(failure) => failure,
        };
        if left > 1 {
            let relay = transport.name();
            let error = failure.error.to_string();
            tracing::warn!(relay, error, "a relay did not accept an email: trying the next one");
        }
        if failure.kind == FailureKind::Deferred {
            deferred.push(transport);
        }
        last = Some(failure);
    }
    Err(Refused { error: last.unwrap_or_else(AttemptError::no_transport), deferred })
}

/// Hands an email over again whose outcome is unknown, if the transport drops duplicates. Only an
/// acceptance makes the outcome known: a refusal may be of the second attempt alone.
async fn ask_again(
    transport: &dyn Transport,
    email: &Email<'_>,
    mut failure: AttemptError,
    end: Instant,
) -> Delivery {
    if transport.deduplicates() {
        for delay in RETRY_DELAYS {
            let again = Instant::now() + delay.max(failure.retry_after);
            if again >= end {
                break;
            }
            sleep_until(again).await;
            match attempt(transport, email, Deadlines { first: end, begin: end, end }).await {
                Ok(receipt) => return Delivery::Accepted { provider_id: receipt.provider_id },
                Err(another) => failure = another,
            }
        }
    }
    Delivery::Unknown(MailError::new(failure.error))
}

/// Makes one attempt and records it.
async fn attempt(
    transport: &dyn Transport,
    email: &Email<'_>,
    deadlines: Deadlines,
) -> Result<Receipt, AttemptError> {
    let begun = Instant::now();
    let span = traces::relay(transport.name());
    let outcome = transport.attempt(email, deadlines).instrument(span.clone()).await;
    let (name, stage) = match &outcome {
        Ok(receipt) => ("accepted", receipt.stage),
        Err(failure) => (failure.kind.name(), failure.stage),
    };
    traces::record_handover(&span, name, stage);
    metrics().relay_attempt(transport.name(), name, stage);
    if !matches!(&outcome, Err(failure) if failure.kind == FailureKind::NotTried) {
        metrics().relay_took(transport.name(), begun.elapsed());
    }
    outcome
}

#[async_trait]
impl Mailer for TransportMailer {
    async fn deliver(&self, mail: &CodeMail) -> Delivery {
        let span = traces::email();
        let delivery = self.rounds(mail).instrument(span.clone()).await;
        match &delivery {
            Delivery::Accepted { .. } => {}
            Delivery::Refused(_) => traces::fail(&span, "refused"),
            Delivery::Unknown(_) => traces::fail(&span, "unknown"),
        }
        delivery
    }

    fn compose(&self, mail: &CodeMail) -> Result<Content, MailError> {
        self.composer.content(mail).map_err(MailError::new)
    }
}

impl fmt::Debug for TransportMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportMailer").finish_non_exhaustive()
    }
}

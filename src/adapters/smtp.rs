//! Sends emails by SMTP over pooled connections, within a time limit.
//!
//! Speaks SMTP stage by stage, because the outcome of a failure depends on the
//! stage. Before the message is transmitted, a failure means that nobody has the code; afterwards
//! only a reply tells. Must not pass an email to a second relay if the first may have accepted it,
//! and must not log the text of a reply, because relays repeat addresses in it.

mod breaker;
mod connection;
mod conversation;
mod error;
mod full_reply;
mod login;
mod pool;
mod reply;
mod secure;
mod stage;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use self::connection::{Deadlines, Envelope, HandoverError};
pub use self::connection::{Relay, Tls};
pub use self::error::{Cause, CertificateFault, Offer, SendError};
pub use self::full_reply::{Capabilities, FullReply, ReplyError};
pub use self::login::Login;
use self::pool::Pool;
pub use self::reply::Reply;
pub use self::secure::{NoSecurity, Security, TrustAnchors};
pub use self::stage::Stage;
use super::message::Composer;
use crate::ports::{CodeMail, Delivery, MailError, Mailer};
use crate::random;
use crate::traces;

/// Time limit for all attempts for one email, at all relays.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Delays before the retries after a temporary failure (a 4yz reply).
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// Sends emails by one or two relays.
pub struct SmtpMailer {
    composer: Composer,
    /// In the order in which they are tried.
    relays: Vec<Pool>,
}

impl SmtpMailer {
    /// Creates a mailer with at most `connections` simultaneous connections to each relay. Does not
    /// connect yet. Tries the relays in the given order. `hello` is the name for EHLO.
    #[must_use]
    pub fn new(composer: Composer, relays: Vec<Relay>, hello: &str, connections: usize) -> Self {
        let pool = |relay| Pool::new(relay, hello.to_owned(), connections);
        Self { composer, relays: relays.into_iter().map(pool).collect() }
    }

    /// Connects to each relay and logs in, without sending anything.
    ///
    /// # Errors
    /// For each relay, a [`SendError`] with the stage that failed.
    pub async fn probe(&self) -> Vec<Result<(), SendError>> {
        let mut outcomes = Vec::new();
        for relay in &self.relays {
            let deadline = Instant::now() + TIMEOUT;
            outcomes.push(match relay.connect(deadline).await {
                Ok(session) => {
                    session.quit(deadline).await;
                    Ok(())
                }
                Err(error) => Err(error),
            });
        }
        outcomes
    }

    fn message(&self, mail: &CodeMail) -> Result<Vec<u8>, MailError> {
        let id = random::bytes().map_err(MailError::new)?;
        self.composer.to_bytes(mail, id).map_err(MailError::new)
    }

    /// Tries each relay once until one accepts the email. Otherwise returns the last error, and the
    /// relays that failed temporarily (4yz).
    async fn round<'a>(
        &'a self,
        relays: &[&'a Pool],
        mail: &Envelope<'_>,
        end: Instant,
    ) -> Result<Delivery, (SendError, Vec<&'a Pool>)> {
        let mut last = None;
        let mut patient = Vec::new();
        for (relay, left) in relays.iter().zip((1..=relays.len()).rev()) {
            let now = Instant::now();
            // Splits the remaining time, so that a slow relay leaves enough of it to the next ones.
            let share = end.saturating_duration_since(now) / u32::try_from(left).unwrap_or(u32::MAX);
            let error = match relay
                .attempt(mail, Deadlines { first: now + share, begin: now + share, end })
                .await
            {
                Ok(()) => return Ok(Delivery::Accepted),
                Err(HandoverError::Unknown(error)) => return Ok(Delivery::Unknown(MailError::new(error))),
                Err(HandoverError::Refused(error)) => error,
            };
            if left > 1 {
                let relay = relay.host();
                let error = error.to_string();
                tracing::warn!(relay, error, "a relay did not accept an email: trying the next one");
            }
            if error.is_transient() {
                patient.push(*relay);
            }
            last = Some(error);
        }
        Err((last.unwrap_or(SendError::timeout(Stage::Connect)), patient))
    }

    /// Tries the relays, and again those that failed temporarily, until one accepts the email or
    /// the time is up.
    async fn rounds(&self, mail: &CodeMail) -> Delivery {
        let end = Instant::now() + TIMEOUT;
        let message = match self.message(mail) {
            Ok(message) => message,
            Err(error) => return Delivery::Refused(error),
        };
        let from = mail.sender.address.as_str();
        let envelope = Envelope { from, to: mail.to.as_str(), message: &message };
        let mut relays: Vec<&Pool> = self.relays.iter().collect();
        let mut pauses = RETRY_DELAYS.into_iter();
        loop {
            let (error, patient) = match self.round(&relays, &envelope, end).await {
                Ok(delivery) => return delivery,
                Err(refused) => refused,
            };
            match pauses.next() {
                Some(pause) if !patient.is_empty() && Instant::now() + pause < end => sleep(pause).await,
                _ => return Delivery::Refused(MailError::new(error)),
            }
            relays = patient;
        }
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn deliver(&self, mail: &CodeMail) -> Delivery {
        let span = traces::email();
        let delivery = self.rounds(mail).instrument(span.clone()).await;
        match &delivery {
            Delivery::Accepted => {}
            Delivery::Refused(_) => traces::fail(&span, "refused"),
            Delivery::Unknown(_) => traces::fail(&span, "unknown"),
        }
        delivery
    }
}

impl fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpMailer").finish_non_exhaustive()
    }
}

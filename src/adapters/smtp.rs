//! The way to the relays: hands mails over by SMTP, on pooled connections, inside a bound of time.
//!
//! Drives lettre's connection stage by stage, because its outcome depends on the stage: until the message is under
//! way a failure means that nobody has the code, after it only a reply tells. Must not hand a mail to a second relay
//! that the first may have taken, and must not let a relay's words into a log: they repeat addresses.

mod breaker;
mod connection;
mod error;
mod pool;
mod replies;
mod reply;
mod secure;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep};

use self::connection::{Deadlines, Envelope, HandoverError};
pub use self::connection::{Login, Relay, Tls};
pub use self::error::{Cause, CertificateFault, Offer, SendError, Stage};
use self::pool::Pool;
pub use self::reply::Reply;
pub use self::secure::{NoSecurity, Security, TrustAnchors};
use super::message::Composer;
use crate::ports::{CodeMail, Delivery, MailError, Mailer};
use crate::random;

/// All attempts for one mail, at all relays, end within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the attempts after the first, where a relay asked for patience (a 4yz reply).
const RETRY_DELAYS: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];

/// Mails by way of one relay, or of two.
pub struct SmtpMailer {
    composer: Composer,
    /// In the order in which they are tried.
    relays: Vec<Pool>,
}

impl SmtpMailer {
    /// Prepares to send over at most `connections` connections at a time to each relay, the first before the others;
    /// none is made yet. `hello` is as whom they are greeted.
    #[must_use]
    pub fn new(composer: Composer, relays: Vec<Relay>, hello: &str, connections: usize) -> Self {
        let pool = |relay| Pool::new(relay, hello.to_owned(), connections);
        Self { composer, relays: relays.into_iter().map(pool).collect() }
    }

    /// Connects to each relay and logs in, and sends nothing.
    ///
    /// # Errors
    /// For each relay, a [`SendError`] that says at which stage it ended.
    pub async fn probe(&self) -> Vec<Result<(), SendError>> {
        let mut outcomes = Vec::new();
        for relay in &self.relays {
            let deadline = Instant::now() + PATIENCE;
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
        let id = random::octets().map_err(MailError::new)?;
        self.composer.octets(mail, id).map_err(MailError::new)
    }

    /// Tries each of the relays once, while they refuse. Gives the last refusal, beside the relays that asked for
    /// patience.
    async fn round<'a>(
        &'a self,
        relays: &[&'a Pool],
        mail: &Envelope<'_>,
        end: Instant,
    ) -> Result<Delivery, (SendError, Vec<&'a Pool>)> {
        let (mut last, mut patient) = (None, Vec::new());
        for (relay, left) in relays.iter().zip((1..=relays.len()).rev()) {
            let now = Instant::now();
            // Those behind it have their share of the time, should this one be too slow.
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
                let (relay, error) = (relay.host(), error.to_string());
                tracing::warn!(relay, error, "a relay did not take a mail: the next one is tried");
            }
            if error.is_transient() {
                patient.push(*relay);
            }
            last = Some(error);
        }
        Err((last.unwrap_or(SendError::timeout(Stage::Connect)), patient))
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn deliver(&self, mail: &CodeMail) -> Delivery {
        let end = Instant::now() + PATIENCE;
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

impl fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpMailer").finish_non_exhaustive()
    }
}

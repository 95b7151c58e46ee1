//! The relay: hands mails over by SMTP, on pooled connections, inside a bound of time.
//!
//! Drives lettre's connection step by step, because its outcome depends on the step: until the message is under
//! way a failure means that nobody has the code, after it only a reply tells. Must not reuse a connection whose
//! exchange did not end cleanly, and must not let a relay's words into a log: they repeat addresses.

mod bounded;
mod connection;
mod fault;

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};

use self::connection::{Envelope, Handover, Session};
pub use self::connection::{Login, Relay, Tls};
pub use self::fault::{Fault, Step};
use super::message::{Composer, TemplateError};
use crate::domain::email_address::EmailAddress;
use crate::ports::{CodeMail, Delivery, MailError, Mailer};
use crate::random;

/// All attempts for one mail end within this.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long to wait before the attempts after the first, where the relay asked for patience (a 4yz reply).
const PAUSES: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(1500)];
/// A connection idle for longer is not used again: relays hang up after a minute or a few.
const IDLE: Duration = Duration::from_secs(30);

/// How long a connection that was idle may take for its first answer before it counts as dead.
const WAKES: Duration = Duration::from_secs(2);

/// Mails by way of one relay.
pub struct SmtpMailer {
    relay: Relay,
    composer: Composer,
    /// As whom it greets the relay: the domain of this address.
    sender: EmailAddress,
    /// One permit a connection: lettre's pool would bound idle ones only.
    connections: Semaphore,
    idle: Mutex<Vec<(Session, Instant)>>,
}

impl SmtpMailer {
    /// Prepares to send over at most `connections` connections at a time; none is made yet.
    ///
    /// # Errors
    /// [`TemplateError`] where a template is broken.
    pub fn new(relay: Relay, sender: EmailAddress, connections: usize) -> Result<Self, TemplateError> {
        let composer = Composer::new()?;
        Ok(Self { relay, composer, sender, connections: Semaphore::new(connections), idle: Mutex::default() })
    }

    /// Connects and logs in, and sends nothing.
    ///
    /// # Errors
    /// [`Fault`] says at which step it ended.
    pub async fn probe(&self) -> Result<(), Fault> {
        let deadline = Instant::now() + PATIENCE;
        let connecting = self.relay.connect(self.sender.domain());
        let session = timeout_at(deadline, connecting).await.unwrap_or(Err(Fault::timeout(Step::Connect)))?;
        session.quit(deadline).await;
        Ok(())
    }

    async fn attempt(&self, mail: &Envelope<'_>, deadline: Instant) -> Result<(), Handover> {
        let _permit = timeout_at(deadline, self.connections.acquire())
            .await
            .map_err(|_| Handover::refused(Fault::timeout(Step::Connect)))?;
        // A pooled connection may have died unseen; as long as nothing was under way, a fresh one is tried.
        while let Some(mut session) = self.take_idle() {
            match session.hand_over(mail, WAKES, deadline).await {
                Err(Handover::Refused { stale: true, .. }) => {}
                outcome => return self.keep(session, outcome),
            }
        }
        let connecting = self.relay.connect(self.sender.domain());
        let mut session = timeout_at(deadline, connecting)
            .await
            .unwrap_or(Err(Fault::timeout(Step::Connect)))
            .map_err(Handover::refused)?;
        let outcome = session.hand_over(mail, PATIENCE, deadline).await;
        self.keep(session, outcome)
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, since) = idle.pop()?;
        if since.elapsed() > IDLE {
            // The youngest is on top: all below are older.
            idle.clear();
            return None;
        }
        Some(session)
    }

    fn keep(&self, session: Session, outcome: Result<(), Handover>) -> Result<(), Handover> {
        if outcome.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((session, Instant::now()));
        }
        outcome
    }
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn deliver(&self, mail: &CodeMail) -> Delivery {
        let deadline = Instant::now() + PATIENCE;
        let message = match random::octets() {
            Ok(id) => self.composer.message(mail, id).map_err(MailError::new),
            Err(error) => Err(MailError::new(error)),
        };
        let message = match message {
            Ok(message) => message.formatted(),
            Err(error) => return Delivery::Refused(error),
        };
        let from = mail.sender.address.as_str();
        let envelope = Envelope { from, to: mail.to.as_str(), message: &message };
        let mut pauses = PAUSES.into_iter();
        loop {
            let fault = match self.attempt(&envelope, deadline).await {
                Ok(()) => return Delivery::Accepted,
                Err(Handover::Unknown(fault)) => return Delivery::Unknown(MailError::new(fault)),
                Err(Handover::Refused { fault, .. }) => fault,
            };
            match pauses.next() {
                Some(pause) if fault.is_transient() && Instant::now() + pause < deadline => {
                    sleep(pause).await;
                }
                _ => return Delivery::Refused(MailError::new(fault)),
            }
        }
    }
}

impl fmt::Debug for SmtpMailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SmtpMailer").finish_non_exhaustive()
    }
}

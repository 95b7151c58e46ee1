//! Hands emails over by SMTP, over pooled connections.
//!
//! The outcome of a failure depends on its stage. Before the message is transmitted, a failure
//! means that nobody has the code; afterwards only a reply tells. Must not log the text of a reply,
//! because relays repeat addresses in it.

mod connection;
mod conversation;
mod error;
mod full_reply;
mod login;
mod pool;
mod reply;
mod secure;
mod stage;

use async_trait::async_trait;
use tokio::time::Instant;

use self::connection::{Envelope, HandoverError};
pub use self::connection::{Relay, Tls};
pub use self::error::{Cause, CertificateFault, Offer, SendError};
pub use self::full_reply::{Capabilities, FullReply, ReplyError};
pub use self::login::Login;
use self::pool::Pool;
pub use self::reply::Reply;
pub use self::secure::{NoSecurity, Security, TrustAnchors};
pub use self::stage::Stage;
use super::mailer::{AttemptError, Deadlines, Email, FailureKind, Receipt, TIMEOUT, Transport};
use super::oauth::AccessToken;

/// The header by which Resend drops duplicates of an email.
pub const RESEND_IDEMPOTENCY_KEY: &str = "Resend-Idempotency-Key";

/// A relay, as a transport.
pub struct SmtpTransport {
    pool: Pool,
    /// The header by which the relay drops duplicates, with the id of the email.
    idempotency_header: Option<&'static str>,
}

impl SmtpTransport {
    /// Creates a transport with at most `connections` simultaneous connections. Does not connect
    /// yet. `hello` is the name for EHLO. If there is an `idempotency_header`, each email has it
    /// with its id, and the relay sends only one of two emails with the same id.
    #[must_use]
    pub fn new(
        relay: Relay,
        hello: &str,
        connections: usize,
        idempotency_header: Option<&'static str>,
    ) -> Self {
        Self { pool: Pool::new(relay, hello.to_owned(), connections), idempotency_header }
    }

    /// Returns an access token, if otpd logs in with one.
    ///
    /// # Errors
    /// [`SendError`] if there is none.
    pub async fn token(&self) -> Result<Option<AccessToken>, SendError> {
        self.pool.token(Instant::now() + TIMEOUT).await
    }

    /// Connects and logs in, without sending anything.
    ///
    /// # Errors
    /// [`SendError`] with the stage that failed.
    pub async fn probe(&self) -> Result<(), SendError> {
        let deadline = Instant::now() + TIMEOUT;
        let session = self.pool.connect(deadline).await?;
        session.quit(deadline).await;
        Ok(())
    }
}

#[async_trait]
impl Transport for SmtpTransport {
    fn name(&self) -> &str {
        self.pool.host()
    }

    fn deduplicates(&self) -> bool {
        self.idempotency_header.is_some()
    }

    async fn attempt(&self, email: &Email<'_>, deadlines: Deadlines) -> Result<Receipt, AttemptError> {
        let message = email.mime();
        let message =
            message.map_err(|error| AttemptError::new(FailureKind::Refused, Stage::Message.name(), error))?;
        let data = message.data();
        let with_header = self
            .idempotency_header
            .map(|name| [format!("{name}: {}\r\n", email.id).as_bytes(), &data].concat());
        let envelope = Envelope {
            from: email.mail.sender.address.as_str(),
            to: email.mail.to.as_str(),
            data: with_header.as_deref().unwrap_or(&data),
        };
        match self.pool.attempt(&envelope, deadlines).await {
            Ok(()) => Ok(Receipt { stage: Stage::Message.name(), provider_id: None }),
            Err(error) => Err(failure(error)),
        }
    }
}

fn failure(error: HandoverError) -> AttemptError {
    let (kind, error) = match error {
        HandoverError::Unknown(error) => (FailureKind::Unknown, error),
        HandoverError::Refused(error) if error.is_our_own() => (FailureKind::NotTried, error),
        HandoverError::Refused(error) if error.is_transient() => (FailureKind::Deferred, error),
        HandoverError::Refused(error) => (FailureKind::Refused, error),
    };
    AttemptError::new(kind, error.stage().name(), error)
}

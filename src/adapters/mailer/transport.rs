//! What the mailer needs of a transport, and what a transport answers.

use std::error::Error;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error as ThisError;
use tokio::time::Instant;

use crate::adapters::message::{Composed, MessageError, MimeMessage};
use crate::domain::provider_id::ProviderId;
use crate::ports::{CodeMail, Content};

/// A way to hand an email over.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Returns its name in the log and in metrics: the host of a relay, or the name of a provider.
    fn name(&self) -> &str;

    /// Returns whether an email that is handed over a second time, with the same id, is sent once.
    fn deduplicates(&self) -> bool {
        false
    }

    /// Hands an email over within the deadlines.
    async fn attempt(&self, email: &Email<'_>, deadlines: Deadlines) -> Result<Receipt, AttemptError>;
}

/// A composed email.
pub struct Email<'a> {
    /// What it was composed of.
    pub mail: &'a CodeMail,
    /// Random id, different for each email; the same for each attempt to hand it over.
    pub id: String,
    composed: Composed,
    content: OnceLock<Content>,
    message: OnceLock<MimeMessage>,
}

impl<'a> Email<'a> {
    /// Creates an email that was composed of `mail`.
    #[must_use]
    pub fn new(mail: &'a CodeMail, id: String, composed: Composed) -> Self {
        Self { mail, id, composed, content: OnceLock::new(), message: OnceLock::new() }
    }

    /// Returns what the reader sees.
    pub fn content(&self) -> &Content {
        self.content.get_or_init(|| self.composed.content(self.mail))
    }

    /// Returns the whole message in MIME form. It is made once, so that each attempt has the same
    /// bytes, and only for transports that need it.
    ///
    /// # Errors
    /// [`MessageError`], as for [`Composed::message`].
    pub fn mime(&self) -> Result<&MimeMessage, MessageError> {
        if let Some(message) = self.message.get() {
            return Ok(message);
        }
        let message = self.composed.message(self.mail, &self.id)?;
        Ok(self.message.get_or_init(|| message))
    }

    /// Returns the bytes of the whole message.
    ///
    /// # Errors
    /// [`MessageError`], as for [`Composed::message`].
    pub fn message(&self) -> Result<&[u8], MessageError> {
        self.mime().map(MimeMessage::as_bytes)
    }
}

/// Deadlines of the stages of one attempt.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For the reply to the first command on a connection.
    pub first: Instant,
    /// For the start of the email's transmission; after it another transport may be tried.
    pub begin: Instant,
    /// For the end of the attempt.
    pub end: Instant,
}

/// What a transport says about an email that it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The stage that decided it, for metrics.
    pub stage: &'static str,
    /// The provider's id of the email.
    pub provider_id: Option<ProviderId>,
}

/// Why an attempt failed.
#[derive(Debug)]
pub struct AttemptError {
    /// What it means for the email.
    pub kind: FailureKind,
    /// The stage that failed, for metrics.
    pub stage: &'static str,
    /// How long not to try again, as the other side asks.
    pub retry_after: Duration,
    /// The cause, for the log.
    pub error: Box<dyn Error + Send + Sync>,
}

/// What a failure means for the email.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// otpd did not try, because the transport is down or busy.
    NotTried,
    /// Not accepted; a later attempt may succeed.
    Deferred,
    /// Not accepted.
    Refused,
    /// It may have been accepted.
    Unknown,
}

/// There is no transport.
#[derive(Debug, ThisError)]
#[error("no transport is configured")]
struct NoTransport;

impl AttemptError {
    /// Creates a failure that does not say when to try again.
    pub fn new(
        kind: FailureKind,
        stage: &'static str,
        error: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { kind, stage, retry_after: Duration::ZERO, error: error.into() }
    }

    /// Creates the failure of an empty route.
    pub(super) fn no_transport() -> Self {
        Self::new(FailureKind::NotTried, "connect", NoTransport)
    }
}

impl FailureKind {
    /// Returns its name, for metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::NotTried => "not_tried",
            Self::Deferred => "deferred",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

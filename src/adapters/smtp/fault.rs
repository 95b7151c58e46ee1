//! Why a conversation with a relay ended, without the relay's words: they repeat addresses.

use std::error::Error as _;
use std::{fmt, io};

use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::response::Response;
use thiserror::Error;

/// At which step a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Name, TCP, greeting, or implicit TLS.
    Connect,
    /// STARTTLS.
    StartTls,
    /// AUTH.
    Login,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA, up to the reply that invites the message.
    Data,
    /// The message, up to its final reply.
    Message,
}

/// Why a conversation ended, without the relay's words.
#[derive(Debug, Error)]
#[error("{step}: {cause}")]
pub struct Fault {
    pub(super) step: Step,
    pub(super) cause: Cause,
}

#[derive(Debug, Error)]
pub(super) enum Cause {
    #[error("refused with reply {0}")]
    Reply(String, Severity),
    #[error("no answer in time")]
    Timeout,
    #[error("the relay could not be reached several times in a row and is left alone for a while")]
    Rests,
    #[error("no connection to the relay was free in time")]
    NoneFree,
    #[error("the relay does not offer STARTTLS, so nothing was sent to it")]
    NoStartTls,
    #[error("the relay does not offer AUTH PLAIN or LOGIN")]
    NoMechanism,
    #[error("TLS could not be established: {0}")]
    Certificate(String),
    #[error("TLS could not be established: {0}")]
    Tls(String),
    #[error("the name has no address")]
    NoSuchHost,
    #[error("{0}")]
    Unreachable(io::ErrorKind),
    #[error("the connection was lost or refused")]
    Lost,
    #[error("unexpected reply {0}")]
    Unexpected(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Severity {
    Transient,
    Permanent,
}

impl Fault {
    /// Nothing was heard in time.
    #[must_use]
    pub fn timeout(step: Step) -> Self {
        Self { step, cause: Cause::Timeout }
    }

    pub(super) fn unexpected(step: Step, reply: &Response) -> Self {
        Self { step, cause: Cause::Unexpected(reply.code().to_string()) }
    }

    pub(super) fn from_smtp(step: Step, error: &SmtpError) -> Self {
        if let Some(code) = error.status() {
            return Self::reply(step, code.into());
        }
        // What was wrong with the connection stands inside, if that is what it was.
        let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        io.map_or(Self { step, cause: Cause::Lost }, |error| Self::from_io(step, error))
    }

    pub(super) fn from_io(step: Step, error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let cause = match (tls, error.kind()) {
            (Some(tls @ rustls::Error::InvalidCertificate(_)), _) => Cause::Certificate(tls.to_string()),
            (Some(tls), _) => Cause::Tls(tls.to_string()),
            (None, io::ErrorKind::TimedOut) => Cause::Timeout,
            (None, io::ErrorKind::Other | io::ErrorKind::UnexpectedEof) => Cause::Lost,
            (None, kind) => Cause::Unreachable(kind),
        };
        Self { step, cause }
    }

    /// A reply that refuses, or none that was expected.
    pub(super) fn reply(step: Step, code: u16) -> Self {
        let cause = match code {
            400..500 => Cause::Reply(code.to_string(), Severity::Transient),
            500..600 => Cause::Reply(code.to_string(), Severity::Permanent),
            _ => Cause::Unexpected(code.to_string()),
        };
        Self { step, cause }
    }

    /// At which step it ended.
    #[must_use]
    pub fn step(&self) -> Step {
        self.step
    }

    /// Whether the relay asked to try again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.cause, Cause::Reply(_, Severity::Transient))
    }

    /// Whether the relay's certificate was not believed.
    #[must_use]
    pub fn is_about_the_certificate(&self) -> bool {
        matches!(self.cause, Cause::Certificate(_))
    }

    /// Whether the relay offers no way to log in.
    #[must_use]
    pub fn is_about_mechanisms(&self) -> bool {
        matches!(self.cause, Cause::NoMechanism)
    }

    /// Whether the relay had gone, or was about to (421), when spoken to.
    pub(super) fn is_hang_up(&self) -> bool {
        match &self.cause {
            Cause::Lost | Cause::Unreachable(_) => true,
            Cause::Reply(code, _) => code == "421",
            _ => false,
        }
    }

    /// Whether the relay has answered.
    #[must_use]
    pub fn is_an_answer(&self) -> bool {
        matches!(
            self.cause,
            Cause::Reply(..)
                | Cause::Unexpected(_)
                | Cause::NoStartTls
                | Cause::NoMechanism
                | Cause::Certificate(_)
        )
    }

    /// Whether the relay would not greet a connection now.
    pub(super) fn puts_a_connection_off(&self) -> bool {
        self.step == Step::Connect && self.is_transient()
    }

    /// Whether what an old connection said may be about the connection: it has carried as much as the relay allows, or
    /// an answer is left over from before. Only these codes speak of a mailbox and nothing else (RFC 5321 section 4.2.3).
    pub(super) fn may_be_about_the_connection(&self) -> bool {
        let is_of_mailbox = |code: &str| ["550", "551", "553"].contains(&code);
        !matches!(&self.cause, Cause::Reply(code, _) if self.step == Step::Recipient && is_of_mailbox(code))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "connecting",
            Self::StartTls => "STARTTLS",
            Self::Login => "AUTH",
            Self::Sender => "MAIL FROM",
            Self::Recipient => "RCPT TO",
            Self::Data => "DATA",
            Self::Message => "the message",
        })
    }
}

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
        let cause = match error.status() {
            Some(code) if error.is_transient() => Cause::Reply(code.to_string(), Severity::Transient),
            Some(code) => Cause::Reply(code.to_string(), Severity::Permanent),
            None if error.is_timeout() => Cause::Timeout,
            None => tls_error(error).map_or(Cause::Lost, Cause::Tls),
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

    /// Whether TLS could not be established, as with a certificate that nobody vouches for.
    #[must_use]
    pub fn is_about_tls(&self) -> bool {
        matches!(self.cause, Cause::Tls(_))
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
    pub(super) fn is_an_answer(&self) -> bool {
        matches!(self.cause, Cause::Reply(..) | Cause::Unexpected(_))
    }

    /// Whether the relay would not greet a connection now.
    pub(super) fn puts_a_connection_off(&self) -> bool {
        self.step == Step::Connect && self.is_transient()
    }

    /// Whether what an old connection said may be about the connection: it has carried as much as the relay allows, or
    /// an answer is left over from before. Until the relay has taken the sender, nothing else is sure either.
    pub(super) fn may_be_about_the_connection(&self) -> bool {
        self.step == Step::Sender || matches!(self.cause, Cause::Unexpected(_))
    }
}

/// What was wrong with TLS, such as the certificate, if that is what it was: it stands inside an I/O error.
fn tls_error(error: &SmtpError) -> Option<String> {
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Some(tls.to_string());
        }
        cause = error.source();
    }
    None
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

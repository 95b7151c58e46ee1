//! Why a conversation with a relay ended, without the relay's words: they repeat addresses.

use std::error::Error as _;
use std::{fmt, io};

use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::response::Response;
use rustls::CertificateError;
use thiserror::Error;

use super::reply::Reply;

/// At which stage a conversation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// The relay's name.
    Resolve,
    /// TCP.
    Connect,
    /// The TLS handshake, from the first byte or after STARTTLS.
    Tls,
    /// The relay's greeting.
    Greeting,
    /// EHLO.
    Hello,
    /// STARTTLS, up to its go-ahead.
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
#[error("{stage}: {cause}")]
pub struct SendError {
    pub(super) stage: Stage,
    pub(super) cause: Cause,
}

/// What went wrong at that stage.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Cause {
    /// 4yz or 5yz.
    #[error("refused with reply {0}")]
    Reply(Reply),
    /// Nothing came.
    #[error("no answer in time")]
    Timeout,
    /// It is not tried for a while.
    #[error("the relay could not be reached several times in a row and is left alone for a while")]
    BreakerOpen,
    /// All of ours were in use.
    #[error("no connection to the relay was free in time")]
    NoneFree,
    /// STARTTLS is not among what the relay offers.
    #[error("the relay does not offer STARTTLS, so nothing was sent to it")]
    NoStartTls,
    /// The relay offers no way to log in that otpd knows; these it does offer.
    #[error("the relay does not offer AUTH PLAIN or LOGIN{}", offered(*.0))]
    NoMechanism(Offer),
    /// The relay's certificate is not believed.
    #[error("TLS could not be established: {0}")]
    Certificate(CertificateFault),
    /// The relay knows no version of TLS that otpd speaks.
    #[error("TLS could not be established: the relay speaks neither TLS 1.2 nor TLS 1.3")]
    TlsVersion,
    /// What came is no TLS.
    #[error("TLS could not be established: the relay does not answer in TLS")]
    NotTls,
    /// Any other error of the handshake.
    #[error("TLS could not be established: {0}")]
    Tls(String),
    /// DNS does not know it.
    #[error("the name has no address")]
    NoSuchHost,
    /// By the system's word.
    #[error("{0}")]
    Unreachable(io::ErrorKind),
    /// It broke off.
    #[error("the connection was lost or refused")]
    Lost,
    /// A reply that does not fit.
    #[error("unexpected reply {0}")]
    Unexpected(Reply),
    /// A error of ours.
    #[error("an address that cannot be said")]
    Address,
}

/// The ways to log in that a relay offers and otpd does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// None at all.
    Nothing,
    /// OAuth: XOAUTH2 or OAUTHBEARER.
    OAuth,
    /// Others.
    Others,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFault {
    /// Its time is over.
    Expired,
    /// Its time has not begun.
    NotYetValid,
    /// It is for another name.
    OtherName,
    /// Nobody vouches for it that this machine believes.
    UnknownIssuer,
    /// Anything else, in the TLS library's words.
    Other(String),
}

impl SendError {
    /// Nothing was heard in time.
    #[must_use]
    pub fn timeout(stage: Stage) -> Self {
        Self { stage, cause: Cause::Timeout }
    }

    pub(super) fn unexpected(stage: Stage, reply: &Response) -> Self {
        Self { stage, cause: Cause::Unexpected(Reply::new(reply.code().into(), "")) }
    }

    pub(super) fn from_smtp(stage: Stage, error: &SmtpError) -> Self {
        if let Some(code) = error.status() {
            // The text of the reply stands inside.
            let text = error.source().map(ToString::to_string).unwrap_or_default();
            return Self::reply(stage, Reply::new(code.into(), &text));
        }
        // What was wrong with the connection stands inside, if that is what it was.
        let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>());
        io.map_or(Self { stage, cause: Cause::Lost }, |error| Self::from_io(stage, error))
    }

    pub(super) fn from_io(stage: Stage, error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let cause = match (tls, error.kind()) {
            (Some(tls), _) => tls_cause(tls),
            (None, io::ErrorKind::TimedOut) => Cause::Timeout,
            (None, io::ErrorKind::Other | io::ErrorKind::UnexpectedEof) => Cause::Lost,
            (None, kind) => Cause::Unreachable(kind),
        };
        Self { stage, cause }
    }

    /// A reply that refuses, or none that was expected.
    /// The relay answered so.
    #[must_use]
    pub fn reply(stage: Stage, reply: Reply) -> Self {
        let refuses = reply.is_transient() || reply.is_permanent();
        Self { stage, cause: if refuses { Cause::Reply(reply) } else { Cause::Unexpected(reply) } }
    }

    /// At which stage it ended.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// What went wrong there.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Whether the relay asked to try again later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.cause, Cause::Reply(reply) if reply.is_transient())
    }

    /// Whether the relay had gone, or was about to (421), when spoken to.
    pub(super) fn is_hang_up(&self) -> bool {
        match &self.cause {
            Cause::Lost | Cause::Unreachable(_) => true,
            Cause::Reply(reply) => reply.code() == 421,
            _ => false,
        }
    }

    /// Whether the relay has answered.
    #[must_use]
    pub fn is_an_answer(&self) -> bool {
        matches!(
            self.cause,
            Cause::Reply(_)
                | Cause::Unexpected(_)
                | Cause::NoStartTls
                | Cause::NoMechanism(_)
                | Cause::Certificate(_)
        )
    }

    /// Whether the relay would not greet a connection now.
    pub(super) fn refuses_connections(&self) -> bool {
        matches!(self.stage, Stage::Greeting | Stage::Hello) && self.is_transient()
    }

    /// Whether what a connection said that was used before may be about the connection: it has carried as much as the relay
    /// allows, its login has run out, or an answer is left over. A final refusal is so at MAIL and RCPT alone, and only where
    /// it does not speak of a mailbox: from DATA on it is about the mail.
    pub(super) fn may_be_about_the_connection(&self) -> bool {
        match &self.cause {
            Cause::Reply(reply) if reply.is_permanent() => {
                matches!(self.stage, Stage::Sender | Stage::Recipient) && !reply.is_about_a_mailbox()
            }
            _ => true,
        }
    }
}

fn tls_cause(error: &rustls::Error) -> Cause {
    use rustls::{AlertDescription, Error, PeerIncompatible};
    match error {
        Error::InvalidCertificate(error) => Cause::Certificate(match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => CertificateFault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                CertificateFault::NotYetValid
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                CertificateFault::OtherName
            }
            // An authority of the same name that has other keys is another.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                CertificateFault::UnknownIssuer
            }
            error => CertificateFault::Other(error.to_string()),
        }),
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Cause::TlsVersion,
        Error::InvalidMessage(_) => Cause::NotTls,
        error => Cause::Tls(error.to_string()),
    }
}

fn offered(offer: Offer) -> &'static str {
    match offer {
        Offer::Nothing => ", nor any other",
        Offer::OAuth => ", but OAuth (XOAUTH2 or OAUTHBEARER)",
        Offer::Others => ", but others",
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "the relay's certificate has expired",
            Self::NotYetValid => "the relay's certificate is not valid yet",
            Self::OtherName => "the relay's certificate is for another name",
            Self::UnknownIssuer => "the relay's certificate is from an unknown issuer",
            Self::Other(why) => return write!(f, "the relay's certificate cannot be used: {why}"),
        })
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resolve => "resolving the name",
            Self::Connect => "connecting",
            Self::Tls => "TLS handshake",
            Self::Greeting => "greeting",
            Self::Hello => "EHLO",
            Self::StartTls => "STARTTLS",
            Self::Login => "AUTH",
            Self::Sender => "MAIL FROM",
            Self::Recipient => "RCPT TO",
            Self::Data => "DATA",
            Self::Message => "the message",
        })
    }
}

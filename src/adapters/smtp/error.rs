//! Errors of a session with a relay. They never contain the text of a reply, because relays repeat
//! addresses in it.

use std::{fmt, io};

use rustls::CertificateError;
use thiserror::Error;

use super::reply::Reply;
use super::stage::Stage;
use crate::adapters::oauth::TokenError;

/// Why a session failed, without the text of a reply.
#[derive(Debug, Error)]
#[error("{stage}: {cause}")]
pub struct SendError {
    pub(super) stage: Stage,
    pub(super) cause: Cause,
}

/// What failed at a stage.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Cause {
    /// A 4yz or 5yz reply.
    #[error("refused with reply {0}")]
    Reply(Reply),
    /// The relay did not reply in time.
    #[error("no answer in time")]
    Timeout,
    /// The circuit breaker is open.
    #[error("the relay could not be reached several times in a row and is left alone for a while")]
    BreakerOpen,
    /// The limit of connections to the relay is reached.
    #[error("no connection to the relay was free in time")]
    NoneFree,
    /// The relay does not offer STARTTLS.
    #[error("the relay does not offer STARTTLS, so nothing was sent to it")]
    NoStartTls,
    /// The relay offers neither AUTH PLAIN nor AUTH LOGIN, only these.
    #[error("the relay does not offer AUTH PLAIN or LOGIN{}", offered(*.0))]
    NoMechanism(Offer),
    /// The relay offers neither AUTH XOAUTH2 nor AUTH OAUTHBEARER.
    #[error("the relay does not offer AUTH XOAUTH2 or OAUTHBEARER")]
    NoOAuth,
    /// There is no access token to log in with.
    #[error("{0}")]
    Token(TokenError),
    /// The relay's certificate is not valid.
    #[error("TLS could not be established: {0}")]
    Certificate(CertificateFault),
    /// The relay supports no TLS version that otpd supports.
    #[error("TLS could not be established: the relay speaks neither TLS 1.2 nor TLS 1.3")]
    TlsVersion,
    /// The response is not TLS.
    #[error("TLS could not be established: the relay does not answer in TLS")]
    NotTls,
    /// Another error of the handshake.
    #[error("TLS could not be established: {0}")]
    Tls(String),
    /// DNS has no address for the name.
    #[error("the name has no address")]
    NoSuchHost,
    /// The operating system reported this error.
    #[error("{0}")]
    Unreachable(io::ErrorKind),
    /// The connection was lost.
    #[error("the connection was lost or refused")]
    Lost,
    /// A reply that is not allowed at this stage.
    #[error("unexpected reply {0}")]
    Unexpected(Reply),
    /// The sender's or recipient's address could not be sent as part of a command.
    #[error("an address that cannot be said")]
    Address,
}

/// Mechanisms that a relay offers to a login with a password that cannot use them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// None.
    Nothing,
    /// XOAUTH2 or OAUTHBEARER.
    OAuth,
    /// Other mechanisms.
    Others,
}

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateFault {
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It is for another name.
    OtherName,
    /// No trust anchor of this machine leads to its issuer.
    UnknownIssuer,
    /// Another error, as the TLS library describes it.
    Other(String),
}

impl SendError {
    /// Creates the error of a timeout.
    #[must_use]
    pub fn timeout(stage: Stage) -> Self {
        Self { stage, cause: Cause::Timeout }
    }

    /// Creates the error of a missing access token.
    pub(super) fn token(error: TokenError) -> Self {
        Self { stage: Stage::Token, cause: Cause::Token(error) }
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

    /// Creates the error of a reply: a refusal (4yz or 5yz) or an unexpected reply.
    #[must_use]
    pub fn reply(stage: Stage, reply: Reply) -> Self {
        let refuses = reply.is_transient() || reply.is_permanent();
        Self { stage, cause: if refuses { Cause::Reply(reply) } else { Cause::Unexpected(reply) } }
    }

    /// Returns the stage that failed.
    #[must_use]
    pub fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns the cause.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// Returns whether the relay reported a temporary failure (4yz).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self.cause, Cause::Reply(reply) if reply.is_transient())
    }

    /// Returns whether otpd itself did not try the relay, nor its token endpoint.
    pub(super) fn is_our_own(&self) -> bool {
        match &self.cause {
            Cause::BreakerOpen | Cause::NoneFree => true,
            Cause::Token(error) => error.is_paused(),
            _ => false,
        }
    }

    /// Returns whether the relay has closed the connection or is about to (421).
    pub(super) fn is_hang_up(&self) -> bool {
        match &self.cause {
            Cause::Lost | Cause::Unreachable(_) => true,
            Cause::Reply(reply) => reply.code() == 421,
            _ => false,
        }
    }

    /// Returns whether the relay has replied, or its token endpoint refused to give a token.
    #[must_use]
    pub fn is_an_answer(&self) -> bool {
        match &self.cause {
            Cause::Token(error) => error.is_an_answer(),
            Cause::Reply(_)
            | Cause::Unexpected(_)
            | Cause::NoStartTls
            | Cause::NoMechanism(_)
            | Cause::NoOAuth
            | Cause::Certificate(_) => true,
            _ => false,
        }
    }

    /// Returns whether the relay refused the access token, or any login with it (535).
    pub(super) fn refuses_the_login(&self) -> bool {
        self.stage == Stage::Login && matches!(self.cause, Cause::Reply(reply) if reply.code() == 535)
    }

    /// Returns whether the relay currently accepts no further connections.
    pub(super) fn refuses_connections(&self) -> bool {
        matches!(self.stage, Stage::Greeting | Stage::Hello) && self.is_transient()
    }

    /// Returns whether an error on a reused connection may be caused by the connection: it has
    /// reached the relay's limit of messages, its login has expired, or a reply is left over. For a
    /// permanent refusal this holds only at MAIL and RCPT, and only if the reply is not about a
    /// mailbox. From DATA on, a permanent refusal is about the message.
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
            // A wrong signature means an issuer of the same name with another key.
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

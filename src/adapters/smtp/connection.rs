//! One conversation with a relay: connect, secure, log in, hand over.
//!
//! Must not speak of a login or a message before the connection is as secure as was asked for (SEC-51).

use std::time::Duration;
use std::{fmt, io};

use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout, timeout_at};

use super::bounded::Bounded;
use super::fault::{Cause, Fault, Step};

/// How long each of the relay's addresses may take to be reached, so that a dead one leaves time for the next.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the relay is and how it is spoken to.
#[derive(Debug)]
pub struct Relay {
    /// Its name, which its certificate must carry.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub tls: Tls,
    /// How otpd makes itself known.
    pub login: Login,
}

/// How a connection to the relay is secured.
pub enum Tls {
    /// TLS from the first octet (RFC 8314 section 3.3).
    Implicit(TlsParameters),
    /// STARTTLS, without which nothing is said (RFC 3207).
    StartTls(TlsParameters),
    /// Not at all: for a relay on this machine.
    Plaintext,
}

/// How otpd makes itself known to the relay.
pub enum Login {
    /// Not at all.
    None,
    /// By PLAIN or LOGIN.
    Password {
        /// Whose account.
        username: String,
        /// Its secret.
        password: SecretString,
    },
}

/// How handing over a message ended, where it was not accepted.
#[derive(Debug)]
pub enum Handover {
    /// The relay did not take it, for sure.
    Refused {
        /// Why.
        fault: Fault,
        /// Whether the connection was dead before anything was under way, as an old one may be.
        stale: bool,
    },
    /// The message was under way when the conversation broke off.
    Unknown(Fault),
}

/// One rendered mail and its ends.
pub struct Envelope<'a> {
    /// The sender's address.
    pub from: &'a str,
    /// The recipient's.
    pub to: &'a str,
    /// Head and body.
    pub message: &'a [u8],
}

/// An open, secured, logged-in conversation.
pub struct Session(AsyncSmtpConnection);

impl Tls {
    /// Implicit TLS to that host, checked against the system's certificate authorities.
    ///
    /// # Errors
    /// [`Fault`] where TLS cannot be set up.
    pub fn implicit(host: &str) -> Result<Self, Fault> {
        Ok(Self::Implicit(parameters(host)?))
    }

    /// Required STARTTLS to that host, checked against the system's certificate authorities.
    ///
    /// # Errors
    /// [`Fault`] where TLS cannot be set up.
    pub fn starttls(host: &str) -> Result<Self, Fault> {
        Ok(Self::StartTls(parameters(host)?))
    }
}

/// TLS 1.2 or 1.3, the certificate and its name checked.
fn parameters(host: &str) -> Result<TlsParameters, Fault> {
    TlsParameters::new_rustls(host.to_owned()).map_err(|error| Fault::from_smtp(Step::Connect, &error))
}

impl Relay {
    /// Opens a conversation; `hello` is the name given in EHLO.
    ///
    /// # Errors
    /// [`Fault`]: no connection, no TLS, or a refusal on the way to the login.
    pub async fn connect(&self, hello: &str) -> Result<Session, Fault> {
        let hello = ClientId::Domain(hello.to_owned());
        let connection = match &self.tls {
            Tls::Implicit(parameters) => {
                let (address, parameters) = ((self.host.as_str(), self.port), Some(parameters.clone()));
                AsyncSmtpConnection::connect_tokio1(address, Some(CONNECT_TIMEOUT), &hello, parameters, None)
                    .await
            }
            Tls::StartTls(_) | Tls::Plaintext => {
                let stream = Box::new(Bounded::new(self.reach().await?));
                AsyncSmtpConnection::connect_with_transport(stream, &hello).await
            }
        };
        let mut connection = connection.map_err(|error| Fault::from_smtp(Step::Connect, &error))?;
        if let Tls::StartTls(parameters) = &self.tls {
            if !connection.can_starttls() {
                return Err(Fault { step: Step::StartTls, cause: Cause::NoStartTls });
            }
            let secured = connection.starttls(parameters.clone(), &hello).await;
            secured.map_err(|error| Fault::from_smtp(Step::StartTls, &error))?;
        }
        if let Login::Password { username, password } = &self.login {
            let credentials = Credentials::new(username.clone(), password.expose_secret().to_owned());
            connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await.map_err(|error| {
                // The library's own fault, before a word was said: no mechanism in common.
                let fault = Fault::from_smtp(Step::Login, &error);
                if error.is_client() { Fault { step: Step::Login, cause: Cause::NoMechanism } } else { fault }
            })?;
        }
        Ok(Session(connection))
    }

    /// A connection to the first of the relay's addresses that can be reached.
    async fn reach(&self) -> Result<TcpStream, Fault> {
        let lost = |error: &io::Error| Fault { step: Step::Connect, cause: Cause::Unreachable(error.kind()) };
        let addresses = lookup_host((self.host.as_str(), self.port)).await;
        let addresses = addresses.map_err(|_| Fault { step: Step::Connect, cause: Cause::NoSuchHost })?;
        let mut fault = Fault { step: Step::Connect, cause: Cause::NoSuchHost };
        for address in addresses {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true).map_err(|error| lost(&error))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => fault = lost(&error),
                Err(_) => fault = Fault::timeout(Step::Connect),
            }
        }
        Err(fault)
    }
}

impl Session {
    /// Hands one message over. Unless this ends well, the session must be dropped.
    ///
    /// The first command must be answered within `first`, the whole by `deadline`.
    pub async fn hand_over(
        &mut self,
        mail: &Envelope<'_>,
        first: Duration,
        deadline: Instant,
    ) -> Result<(), Handover> {
        let Envelope { from, to, message } = *mail;
        let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else {
            let cause = Cause::Unexpected("address".to_owned());
            return Err(Handover::refused(Fault { step: Step::Sender, cause }));
        };
        let first = deadline.min(Instant::now() + first);
        self.command(Step::Sender, Mail::new(Some(from), Vec::new()), 250, first).await?;
        self.command(Step::Recipient, Rcpt::new(to, Vec::new()), 250, deadline).await?;
        self.command(Step::Data, Data, 354, deadline).await?;

        let step = Step::Message;
        match timeout_at(deadline, self.0.message(message)).await {
            Ok(Ok(reply)) if reply.has_code(250) => Ok(()),
            Ok(Ok(reply)) => Err(Handover::Unknown(Fault::unexpected(step, &reply))),
            // A reply that refuses is an outcome like any other; a broken connection is none.
            Ok(Err(error)) if error.status().is_some() => {
                Err(Handover::refused(Fault::from_smtp(step, &error)))
            }
            Ok(Err(error)) => Err(Handover::Unknown(Fault::from_smtp(step, &error))),
            Err(_) => Err(Handover::Unknown(Fault::timeout(step))),
        }
    }

    /// Says good-bye; whether the relay hears it does not matter.
    pub async fn quit(mut self, deadline: Instant) {
        let _ = timeout_at(deadline, self.0.quit()).await;
    }

    async fn command(
        &mut self,
        step: Step,
        command: impl fmt::Display,
        expected: u16,
        deadline: Instant,
    ) -> Result<(), Handover> {
        let fault = match timeout_at(deadline, self.0.command(command)).await {
            // 251 is 250 for a recipient that the relay will forward to (RFC 5321 section 3.4).
            Ok(Ok(reply)) if reply.has_code(expected) || (expected == 250 && reply.has_code(251)) => {
                return Ok(());
            }
            Ok(Ok(reply)) => Fault::unexpected(step, &reply),
            Ok(Err(error)) => Fault::from_smtp(step, &error),
            Err(_) => Fault::timeout(step),
        };
        let stale = fault.is_hang_up() || (step == Step::Sender && matches!(fault.cause, Cause::Timeout));
        Err(Handover::Refused { fault, stale })
    }
}

impl Handover {
    /// A refusal for sure.
    pub fn refused(fault: Fault) -> Self {
        Self::Refused { fault, stale: false }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Implicit(_) => "Implicit",
            Self::StartTls(_) => "StartTls",
            Self::Plaintext => "Plaintext",
        })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password(***)",
        })
    }
}

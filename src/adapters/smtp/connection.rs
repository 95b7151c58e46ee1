//! One conversation with a relay: connect, secure, log in, hand over.
//!
//! Must not speak of a login or a message before the connection is as secure as was asked for (SEC-51).

use std::time::Duration;
use std::{fmt, io};

use lettre::transport::smtp::Error as SmtpError;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, CertificateStore, TlsParameters};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret, SecretString};
use thiserror::Error;
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
    Refused(Fault),
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

/// By when a mail must have got how far.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// The first command must be answered by then.
    pub first: Instant,
    /// The message must be under way by then: behind it another relay may have its turn.
    pub begin: Instant,
    /// All must be over by then.
    pub end: Instant,
}

/// An open, secured, logged-in conversation.
pub struct Session(AsyncSmtpConnection);

/// Whose certificates are believed.
pub enum Authorities {
    /// Those that this machine believes.
    System,
    /// These, and no others.
    These(Vec<u8>),
}

/// TLS cannot be set up.
#[derive(Debug, Error)]
pub enum NoAuthorities {
    /// By the certificates.
    #[error("no certificates of authorities in PEM form")]
    NoCertificates,
    /// By the library.
    #[error("TLS cannot be set up")]
    Library(#[source] SmtpError),
}

impl Authorities {
    /// TLS 1.2 or 1.3 to that host, its certificate and its name checked.
    ///
    /// # Errors
    /// [`NoAuthorities`] where there is no certificate to check it against.
    pub fn parameters(&self, host: &str) -> Result<TlsParameters, NoAuthorities> {
        let builder = TlsParameters::builder(host.to_owned());
        let builder = match self {
            Self::System => builder,
            Self::These(pem) => {
                let has_one = CertificateDer::pem_slice_iter(pem).next().is_some_and(|first| first.is_ok());
                let certificates = Certificate::from_pem(pem)
                    .ok()
                    .filter(|_| has_one)
                    .ok_or(NoAuthorities::NoCertificates)?;
                builder.certificate_store(CertificateStore::None).add_root_certificate(certificates)
            }
        };
        builder.build_rustls().map_err(NoAuthorities::Library)
    }
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
    pub async fn hand_over(&mut self, mail: &Envelope<'_>, deadlines: Deadlines) -> Result<(), Handover> {
        let Envelope { from, to, message } = *mail;
        let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else {
            let cause = Cause::Unexpected("address".to_owned());
            return Err(Handover::Refused(Fault { step: Step::Sender, cause }));
        };
        self.command(Step::Sender, Mail::new(Some(from), Vec::new()), 250, deadlines.first).await?;
        self.command(Step::Recipient, Rcpt::new(to, Vec::new()), 250, deadlines.begin).await?;
        self.command(Step::Data, Data, 354, deadlines.begin).await?;

        let step = Step::Message;
        match timeout_at(deadlines.end, self.0.message(message)).await {
            Ok(Ok(reply)) if reply.has_code(250) => Ok(()),
            Ok(Ok(reply)) => Err(Handover::Unknown(Fault::unexpected(step, &reply))),
            // A reply that refuses is an outcome like any other; a broken connection is none.
            Ok(Err(error)) if error.status().is_some() => {
                Err(Handover::Refused(Fault::from_smtp(step, &error)))
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
        Err(Handover::Refused(fault))
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

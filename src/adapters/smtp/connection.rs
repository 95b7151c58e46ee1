//! One conversation with a relay: connect, secure, log in, hand over.
//!
//! Must not speak of a login or a message before the connection is as secure as was asked for (SEC-51).

use std::fmt;
use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::fault::{Cause, Fault, Step};
use super::replies::Replies;
use super::secure::{Security, ask_for_tls, reach};

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
    Implicit(Security),
    /// STARTTLS, without which nothing is said (RFC 3207).
    StartTls(Security),
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

impl Relay {
    /// Opens a conversation by `deadline`; `hello` is the name given in EHLO.
    ///
    /// # Errors
    /// [`Fault`]: no connection, no TLS, or a refusal on the way to the login.
    pub async fn connect(&self, hello: &str, deadline: Instant) -> Result<Session, Fault> {
        let (stream, peer) = within(deadline, Step::Connect, reach(&self.host, self.port)).await?;
        let stream: Box<dyn AsyncTokioStream> = match &self.tls {
            Tls::Plaintext => Box::new(Replies::new(stream, peer)),
            Tls::Implicit(security) => {
                let secured = security.wrap(stream, Step::Connect);
                Box::new(Replies::new(within(deadline, Step::Connect, secured).await?, peer))
            }
            Tls::StartTls(security) => {
                let stream = within(deadline, Step::StartTls, ask_for_tls(stream, peer, hello)).await?;
                let secured = security.wrap(stream, Step::StartTls);
                Box::new(Replies::greeted(within(deadline, Step::StartTls, secured).await?, peer))
            }
        };
        let hello = ClientId::Domain(hello.to_owned());
        let connecting = AsyncSmtpConnection::connect_with_transport(stream, &hello);
        let connection = within(deadline, Step::Connect, async {
            connecting.await.map_err(|error| Fault::from_smtp(Step::Connect, &error))
        });
        let mut session = Session(connection.await?);
        if let Login::Password { username, password } = &self.login {
            let login = session.log_in(username, password.expose_secret());
            within(deadline, Step::Login, login).await?;
        }
        Ok(session)
    }
}

/// What comes of it, unless it takes too long.
async fn within<T>(
    deadline: Instant,
    step: Step,
    work: impl Future<Output = Result<T, Fault>>,
) -> Result<T, Fault> {
    timeout_at(deadline, work).await.unwrap_or(Err(Fault::timeout(step)))
}

impl Session {
    /// By PLAIN (RFC 4616) where it is offered, else by LOGIN, whose prompts are not looked at: programs word them as they
    /// please.
    async fn log_in(&mut self, username: &str, password: &str) -> Result<(), Fault> {
        let info = self.0.server_info();
        let [plain, login] = [Mechanism::Plain, Mechanism::Login].map(|it| info.supports_auth_mechanism(it));
        if plain {
            let secret = Zeroizing::new(format!("\0{username}\0{password}"));
            let secret = Zeroizing::new(STANDARD.encode(&*secret));
            match self.say(&Zeroizing::new(format!("AUTH PLAIN {}", *secret))).await {
                Ok(235) => return Ok(()),
                Ok(334) => return self.end_login(&secret).await,
                // It is offered and not known: so it is with some that know LOGIN.
                Err(Fault { cause: Cause::Reply(code, _), .. }) if login && code == "504" => {}
                answer => return Err(unexpected(answer)),
            }
        }
        if !login {
            return Err(Fault { step: Step::Login, cause: Cause::NoMechanism });
        }
        for prompted in ["AUTH LOGIN", &STANDARD.encode(username)] {
            match self.say(prompted).await {
                Ok(334) => {}
                answer => return Err(unexpected(answer)),
            }
        }
        self.end_login(&Zeroizing::new(STANDARD.encode(password))).await
    }

    async fn end_login(&mut self, secret: &str) -> Result<(), Fault> {
        match self.say(secret).await {
            Ok(235) => Ok(()),
            answer => Err(unexpected(answer)),
        }
    }

    /// Says a line of the login; gives the code of a reply that is no refusal.
    async fn say(&mut self, line: &str) -> Result<u16, Fault> {
        let line = Zeroizing::new(format!("{line}\r\n"));
        let reply = self.0.command(&*line).await;
        reply.map(|reply| reply.code().into()).map_err(|error| Fault::from_smtp(Step::Login, &error))
    }

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

/// The fault of a login that did not end in 235.
fn unexpected(answer: Result<u16, Fault>) -> Fault {
    answer.map_or_else(
        |fault| fault,
        |code| Fault { step: Step::Login, cause: Cause::Unexpected(code.to_string()) },
    )
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

//! One SMTP session with a relay: connects, starts TLS, logs in and sends messages.
//!
//! Must not send a login or a message before the connection is as secure as configured.

use std::fmt;
use std::future::Future;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lettre::transport::smtp::authentication::Mechanism;
use lettre::transport::smtp::client::{AsyncSmtpConnection, AsyncTokioStream};
use lettre::transport::smtp::commands::{Data, Mail, Rcpt};
use lettre::transport::smtp::extension::ClientId;
use secrecy::{ExposeSecret, SecretString};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use super::error::{Cause, Offer, SendError};
use super::replies::Replies;
use super::reply::Reply;
use super::secure::{self, Security, reach};
use super::stage::Stage;
use crate::adapters::mailer::Deadlines;

/// Address and configuration of a relay.
#[derive(Debug)]
pub struct Relay {
    /// Host name, which its certificate must be valid for.
    pub host: String,
    /// Port.
    pub port: u16,
    /// How the connection is secured.
    pub tls: Tls,
    /// How otpd logs in.
    pub login: Login,
}

/// How the connection to a relay is secured.
pub enum Tls {
    /// TLS from the first byte (RFC 8314 section 3.3).
    Implicit(Security),
    /// STARTTLS (RFC 3207). Without it, no email is sent.
    StartTls(Security),
    /// No TLS, for a relay on this machine.
    Plaintext,
}

/// How otpd logs in to the relay.
pub enum Login {
    /// No login.
    None,
    /// AUTH PLAIN or AUTH LOGIN.
    Password {
        /// Username.
        username: String,
        /// Password.
        password: SecretString,
    },
}

/// Why sending a message failed.
#[derive(Debug)]
pub enum HandoverError {
    /// The relay certainly did not accept the message.
    Refused(SendError),
    /// The session ended while the message was transmitted; the relay may have accepted it.
    Unknown(SendError),
}

/// A rendered email with its sender and recipient.
pub struct Envelope<'a> {
    /// The sender's address.
    pub from: &'a str,
    /// The recipient's address.
    pub to: &'a str,
    /// Header and body.
    pub message: &'a [u8],
}

/// An open session, secured and logged in.
pub struct Session(AsyncSmtpConnection);

impl Relay {
    /// Opens a session by `deadline`; `hello` is the name for EHLO.
    ///
    /// # Errors
    /// [`SendError`] if the connection, TLS or the login fails.
    pub async fn connect(&self, hello: &str, deadline: Instant) -> Result<Session, SendError> {
        let (stream, peer) = within(deadline, Stage::Connect, reach(&self.host, self.port)).await?;
        let stream: Box<dyn AsyncTokioStream> = match &self.tls {
            Tls::Plaintext => Box::new(greeted(Replies::new(stream, peer), deadline).await?),
            Tls::Implicit(security) => {
                let secured = within(deadline, Stage::Tls, security.wrap(stream)).await?;
                Box::new(greeted(Replies::new(secured, peer), deadline).await?)
            }
            Tls::StartTls(security) => {
                let mut replies = Replies::new(stream, peer);
                within(deadline, Stage::Greeting, secure::greeting(&mut replies)).await?;
                let offers = within(deadline, Stage::Hello, secure::hello(&mut replies, hello)).await?;
                let stream = within(deadline, Stage::StartTls, secure::start_tls(replies, &offers)).await?;
                let secured = within(deadline, Stage::Tls, security.wrap(stream)).await?;
                // The relay does not greet again after STARTTLS.
                Box::new(Replies::new(secured, peer).greeted())
            }
        };
        let name = ClientId::Domain(hello.to_owned());
        let connecting = AsyncSmtpConnection::connect_with_transport(stream, &name);
        let connection = within(deadline, Stage::Hello, async {
            connecting.await.map_err(|error| SendError::from_smtp(Stage::Hello, &error))
        });
        let mut session = Session(connection.await?);
        if let Login::Password { username, password } = &self.login {
            let login = session.log_in(hello, username, password.expose_secret());
            within(deadline, Stage::Login, login).await?;
        }
        Ok(session)
    }
}

/// Reads the relay's greeting, and returns the replies that follow.
async fn greeted<S>(mut replies: Replies<S>, deadline: Instant) -> Result<Replies<S>, SendError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    within(deadline, Stage::Greeting, secure::greeting(&mut replies)).await?;
    Ok(replies.greeted())
}

/// Runs `work` until the deadline; afterwards fails with a timeout of `stage`.
async fn within<T>(
    deadline: Instant,
    stage: Stage,
    work: impl Future<Output = Result<T, SendError>>,
) -> Result<T, SendError> {
    timeout_at(deadline, work).await.unwrap_or(Err(SendError::timeout(stage)))
}

impl Session {
    /// Logs in by PLAIN (RFC 4616) if the relay offers it, otherwise by LOGIN. Ignores the prompts
    /// of LOGIN, because servers word them differently.
    async fn log_in(&mut self, hello: &str, username: &str, password: &str) -> Result<(), SendError> {
        let info = self.0.server_info();
        let [plain, login] = [Mechanism::Plain, Mechanism::Login].map(|it| info.supports_auth_mechanism(it));
        if plain {
            let secret = Zeroizing::new(format!("\0{username}\0{password}"));
            let secret = Zeroizing::new(STANDARD.encode(&*secret));
            match self.say(&Zeroizing::new(format!("AUTH PLAIN {}", *secret))).await {
                Ok(235) => return Ok(()),
                Ok(334) => return self.end_login(&secret).await,
                // Some relays offer PLAIN without supporting it, but do support LOGIN.
                Err(SendError { cause: Cause::Reply(reply), .. }) if login && reply.code() == 504 => {}
                answer => return Err(unexpected(answer)),
            }
        }
        if !login {
            let cause = Cause::NoMechanism(self.offer(hello).await);
            return Err(SendError { stage: Stage::Login, cause });
        }
        for prompted in ["AUTH LOGIN", &STANDARD.encode(username)] {
            match self.say(prompted).await {
                Ok(334) => {}
                answer => return Err(unexpected(answer)),
            }
        }
        self.end_login(&Zeroizing::new(STANDARD.encode(password))).await
    }

    /// Returns which other mechanisms the relay offers. Sends another EHLO, because lettre keeps
    /// only the mechanisms that it knows.
    async fn offer(&mut self, hello: &str) -> Offer {
        let reply = self.0.command(format!("EHLO {hello}\r\n")).await;
        let lines: Vec<String> =
            reply.map(|reply| reply.message().map(str::to_owned).collect()).unwrap_or_default();
        let mechanisms = lines.iter().filter_map(|line| line.strip_prefix("AUTH "));
        let mechanisms: Vec<&str> = mechanisms.flat_map(str::split_ascii_whitespace).collect();
        if mechanisms.is_empty() {
            Offer::Nothing
        } else if mechanisms.iter().any(|name| ["XOAUTH2", "OAUTHBEARER"].contains(name)) {
            Offer::OAuth
        } else {
            Offer::Others
        }
    }

    async fn end_login(&mut self, secret: &str) -> Result<(), SendError> {
        match self.say(secret).await {
            Ok(235) => Ok(()),
            answer => Err(unexpected(answer)),
        }
    }

    /// Sends a line of the login. Returns the code of the reply unless it is 4yz or 5yz.
    async fn say(&mut self, line: &str) -> Result<u16, SendError> {
        let line = Zeroizing::new(format!("{line}\r\n"));
        let reply = self.0.command(&*line).await;
        reply.map(|reply| reply.code().into()).map_err(|error| SendError::from_smtp(Stage::Login, &error))
    }

    /// Sends one message. If this fails, the session must be dropped.
    pub async fn hand_over(
        &mut self,
        mail: &Envelope<'_>,
        deadlines: Deadlines,
    ) -> Result<(), HandoverError> {
        let Envelope { from, to, message } = *mail;
        let (Ok(from), Ok(to)) = (from.parse(), to.parse()) else {
            return Err(HandoverError::Refused(SendError { stage: Stage::Sender, cause: Cause::Address }));
        };
        self.command(Stage::Sender, Mail::new(Some(from), Vec::new()), 250, deadlines.first).await?;
        self.command(Stage::Recipient, Rcpt::new(to, Vec::new()), 250, deadlines.begin).await?;
        self.command(Stage::Data, Data, 354, deadlines.begin).await?;

        let stage = Stage::Message;
        match timeout_at(deadlines.end, self.0.message(message)).await {
            Ok(Ok(reply)) if reply.has_code(250) => Ok(()),
            Ok(Ok(reply)) => Err(HandoverError::Unknown(SendError::unexpected(stage, &reply))),
            // A 4yz or 5yz reply is a definite outcome; a broken connection leaves it unknown.
            Ok(Err(error)) if error.status().is_some() => {
                Err(HandoverError::Refused(SendError::from_smtp(stage, &error)))
            }
            Ok(Err(error)) => Err(HandoverError::Unknown(SendError::from_smtp(stage, &error))),
            Err(_) => Err(HandoverError::Unknown(SendError::timeout(stage))),
        }
    }

    /// Sends QUIT and ignores the reply.
    pub async fn quit(mut self, deadline: Instant) {
        let _ = timeout_at(deadline, self.0.quit()).await;
    }

    async fn command(
        &mut self,
        stage: Stage,
        command: impl fmt::Display,
        expected: u16,
        deadline: Instant,
    ) -> Result<(), HandoverError> {
        let error = match timeout_at(deadline, self.0.command(command)).await {
            // 251 means that the relay will forward to the recipient (RFC 5321 section 3.4); it
            // counts as 250.
            Ok(Ok(reply)) if reply.has_code(expected) || (expected == 250 && reply.has_code(251)) => {
                return Ok(());
            }
            Ok(Ok(reply)) => SendError::unexpected(stage, &reply),
            Ok(Err(error)) => SendError::from_smtp(stage, &error),
            Err(_) => SendError::timeout(stage),
        };
        Err(HandoverError::Refused(error))
    }
}

/// Returns the error of a login that did not end in 235.
fn unexpected(answer: Result<u16, SendError>) -> SendError {
    answer.map_or_else(
        |error| error,
        |code| SendError { stage: Stage::Login, cause: Cause::Unexpected(Reply::new(code, "")) },
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

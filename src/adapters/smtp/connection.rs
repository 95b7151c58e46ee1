//! One SMTP session with a relay: connects, starts TLS, logs in and sends messages.
//!
//! Must not send a login or a message before the connection is as secure as configured.

use std::fmt;
use std::future::Future;

use tokio::time::{Instant, timeout_at};

use super::conversation::{Conversation, Transport, dot_stuffed};
use super::error::{Cause, SendError};
use super::login::Login;
use super::secure::{Security, reach};
use super::stage::Stage;
use crate::domain::email_address::EmailAddress;

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

/// Deadlines of the stages of one email.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// For the reply to the first command.
    pub first: Instant,
    /// For the start of the message's transmission; after it another relay may be tried.
    pub begin: Instant,
    /// For the end of the attempt.
    pub end: Instant,
}

/// An open session, secured and logged in.
pub struct Session {
    conversation: Conversation<Box<dyn Transport>>,
    /// Whether the relay offers PIPELINING (RFC 2920).
    pipelining: bool,
}

/// A command of a transaction, and the codes of the replies that continue it.
struct Command {
    stage: Stage,
    line: String,
    accepted: &'static [u16],
    deadline: Instant,
}

impl Relay {
    /// Opens a session by `deadline`; `hello` is the name for EHLO.
    ///
    /// # Errors
    /// [`SendError`] if the connection, TLS or the login fails.
    pub async fn connect(&self, hello: &str, deadline: Instant) -> Result<Session, SendError> {
        let stream = within(deadline, Stage::Connect, reach(&self.host, self.port)).await?;
        let (stream, is_greeted): (Box<dyn Transport>, bool) = match &self.tls {
            Tls::Plaintext => (Box::new(stream), false),
            Tls::Implicit(security) => {
                (Box::new(within(deadline, Stage::Tls, security.wrap(stream)).await?), false)
            }
            Tls::StartTls(security) => {
                let mut plaintext = Conversation::new(stream);
                within(deadline, Stage::Greeting, plaintext.greeting()).await?;
                let offered = within(deadline, Stage::Hello, plaintext.hello(hello)).await?;
                let stream = within(deadline, Stage::StartTls, plaintext.start_tls(&offered)).await?;
                // The relay does not greet again after STARTTLS.
                (Box::new(within(deadline, Stage::Tls, security.wrap(stream)).await?), true)
            }
        };
        let mut conversation = Conversation::new(stream);
        if !is_greeted {
            within(deadline, Stage::Greeting, conversation.greeting()).await?;
        }
        let offered = within(deadline, Stage::Hello, conversation.hello(hello)).await?;
        let login = self.login.log_in(&mut conversation, &offered, &self.host, self.port);
        within(deadline, Stage::Login, login).await?;
        Ok(Session { conversation, pipelining: offered.pipelining })
    }
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
    /// Sends one message. If this fails, the session must be dropped.
    pub async fn hand_over(
        &mut self,
        mail: &Envelope<'_>,
        deadlines: Deadlines,
    ) -> Result<(), HandoverError> {
        self.begin(mail, deadlines).await.map_err(HandoverError::Refused)?;
        let stage = Stage::Message;
        let transmitted = within(deadlines.end, stage, async {
            self.conversation.say(stage, &dot_stuffed(mail.message)).await?;
            self.conversation.reply(stage).await
        });
        let reply = transmitted.await.map_err(HandoverError::Unknown)?.reply();
        if reply.code() == 250 {
            return Ok(());
        }
        let error = SendError::reply(stage, reply);
        // A 4yz or 5yz reply is a definite outcome; any other leaves it unknown.
        Err(match error.cause() {
            Cause::Reply(_) => HandoverError::Refused(error),
            _ => HandoverError::Unknown(error),
        })
    }

    /// Sends MAIL, RCPT and DATA, in one write if the relay offers PIPELINING, and reads their
    /// replies. Nothing of the message is sent before the 354 reply to DATA.
    ///
    /// Fails with the first refusal. If DATA was sent with the refused command, the relay may reply
    /// 354 and wait for a message (RFC 2920 section 3.1). It does not get one, not even an empty
    /// one, because the session is dropped: the end of the connection delivers nothing, whatever
    /// the relay has accepted (RFC 5321 section 4.1.1.4).
    async fn begin(&mut self, mail: &Envelope<'_>, deadlines: Deadlines) -> Result<(), SendError> {
        let Envelope { from, to, .. } = *mail;
        if !is_plain_address(from) || !is_plain_address(to) {
            return Err(SendError { stage: Stage::Sender, cause: Cause::Address });
        }
        let command = |stage, line, accepted, deadline| Command { stage, line, accepted, deadline };
        let commands = [
            command(Stage::Sender, format!("MAIL FROM:<{from}>\r\n"), &[250][..], deadlines.first),
            // 251 means that the relay will forward to the recipient (RFC 5321 section 3.4).
            command(Stage::Recipient, format!("RCPT TO:<{to}>\r\n"), &[250, 251], deadlines.begin),
            command(Stage::Data, "DATA\r\n".to_owned(), &[354], deadlines.begin),
        ];
        let conversation = &mut self.conversation;
        if self.pipelining {
            let lines = commands.each_ref().map(|command| command.line.as_str()).concat();
            within(deadlines.first, Stage::Sender, conversation.say(Stage::Sender, lines.as_bytes())).await?;
        }
        for Command { stage, line, accepted, deadline } in commands {
            within(deadline, stage, async {
                if !self.pipelining {
                    conversation.say(stage, line.as_bytes()).await?;
                }
                conversation.expect(stage, accepted).await
            })
            .await?;
        }
        conversation.ensure_quiet(Stage::Data).await
    }

    /// Sends QUIT and ignores the reply.
    pub async fn quit(mut self, deadline: Instant) {
        let _ = timeout_at(deadline, self.conversation.ask(Stage::Message, "QUIT", &[221])).await;
    }
}

/// Returns whether a text is an address that cannot end its command or add to it.
fn is_plain_address(text: &str) -> bool {
    EmailAddress::parse(text).is_ok_and(|address| address.as_str() == text)
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

//! One SMTP session with a relay: connects, starts TLS, logs in and sends messages.
//!
//! Must not send a login or a message before the connection is as secure as configured.

use std::fmt;
use std::future::Future;

use secrecy::ExposeSecret as _;
use tokio::time::{Instant, timeout_at};

use super::conversation::{ByteStream, Conversation};
use super::error::{Cause, SendError};
use super::login::{Credentials, Login};
use super::secure::{Security, reach};
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
    /// Header and body as they are transmitted after DATA, with the line that ends them.
    pub data: &'a [u8],
}

/// An open session, secured and logged in.
pub struct Session {
    conversation: Conversation<Box<dyn ByteStream>>,
    /// Whether the relay offers PIPELINING (RFC 2920).
    pipelining: bool,
    /// Commands before they are sent.
    lines: String,
}

/// A command of a transaction, and the codes of the replies that continue it.
struct EnvelopeCommand<'a> {
    stage: Stage,
    /// The line, in pieces.
    line: [&'a str; 3],
    accepted: &'static [u16],
    deadline: Instant,
}

impl Relay {
    /// Opens a session by `deadline`; `hello` is the name for EHLO. If the relay refuses an access
    /// token, which may have been revoked, tries another one once.
    ///
    /// # Errors
    /// [`SendError`] if there is no access token, or if the connection, TLS or the login fails.
    pub async fn connect(&self, hello: &str, deadline: Instant) -> Result<Session, SendError> {
        let tokens = match &self.login {
            Login::None => return self.open(hello, Credentials::None, deadline).await,
            Login::Password { username, password } => {
                let password = password.expose_secret();
                return self.open(hello, Credentials::Password { username, password }, deadline).await;
            }
            Login::OAuth(tokens) => tokens,
        };
        let with = |token| Credentials::Bearer { username: tokens.username(), token };
        let token = tokens.token(deadline).await.map_err(SendError::token)?;
        let error = match self.open(hello, with(token.expose()), deadline).await {
            Err(error) if error.refuses_the_login() => error,
            outcome => return outcome,
        };
        match tokens.renew(&token, deadline).await.map_err(SendError::token)? {
            Some(token) => self.open(hello, with(token.expose()), deadline).await,
            None => Err(error),
        }
    }

    async fn open(
        &self,
        hello: &str,
        credentials: Credentials<'_>,
        deadline: Instant,
    ) -> Result<Session, SendError> {
        let stream = within(deadline, Stage::Connect, reach(&self.host, self.port)).await?;
        let (stream, is_greeted): (Box<dyn ByteStream>, bool) = match &self.tls {
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
        let login = credentials.log_in(&mut conversation, &offered, &self.host, self.port);
        within(deadline, Stage::Login, login).await?;
        Ok(Session { conversation, pipelining: offered.pipelining, lines: String::new() })
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
            self.conversation.say(stage, mail.data).await?;
            self.conversation.reply(stage).await
        });
        let reply = transmitted.await.map_err(HandoverError::Unknown)?;
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
        let command = |stage, line, accepted, deadline| EnvelopeCommand { stage, line, accepted, deadline };
        let commands = [
            command(Stage::Sender, ["MAIL FROM:<", from, ">\r\n"], &[250][..], deadlines.first),
            // 251 means that the relay will forward to the recipient (RFC 5321 section 3.4).
            command(Stage::Recipient, ["RCPT TO:<", to, ">\r\n"], &[250, 251], deadlines.begin),
            command(Stage::Data, ["DATA\r\n", "", ""], &[354], deadlines.begin),
        ];
        let Self { conversation, pipelining, lines } = self;
        if *pipelining {
            lines.clear();
            lines.extend(commands.iter().flat_map(|command| command.line));
            within(deadlines.first, Stage::Sender, conversation.say(Stage::Sender, lines.as_bytes())).await?;
        }
        for EnvelopeCommand { stage, line, accepted, deadline } in commands {
            within(deadline, stage, async {
                if !*pipelining {
                    lines.clear();
                    lines.extend(line);
                    conversation.say(stage, lines.as_bytes()).await?;
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
///
/// An address that was parsed has only these characters (RFC 5321 section 4.1.2, without quotes).
fn is_plain_address(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~.@".contains(&b);
    !text.is_empty() && text.bytes().all(is_plain)
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
    use tokio::task::JoinHandle;

    use super::*;

    const COMMANDS: [&str; 3] = ["MAIL FROM:<a@example.com>\r\n", "RCPT TO:<b@example.com>\r\n", "DATA\r\n"];
    const DATA: &str = "Subject: a\r\n\r\n..\r\n.\r\n";

    /// Returns a session whose relay answers each write with the next of these replies and then
    /// closes the connection, and what the relay hears, write by write.
    fn session(pipelining: bool, replies: Vec<String>) -> (Session, JoinHandle<Vec<String>>) {
        let (ours, mut theirs) = duplex(64 * 1024);
        let relay = tokio::spawn(async move {
            let mut heard = Vec::new();
            let mut chunk = vec![0; 64 * 1024];
            for reply in replies {
                let count = theirs.read(&mut chunk).await.unwrap();
                if count == 0 {
                    return heard;
                }
                heard.push(String::from_utf8(chunk[..count].to_vec()).unwrap());
                theirs.write_all(reply.as_bytes()).await.unwrap();
            }
            theirs.shutdown().await.unwrap();
            let count = theirs.read(&mut chunk).await.unwrap();
            assert_eq!(count, 0, "more than the test knows of");
            heard
        });
        let conversation = Conversation::new(Box::new(ours) as _);
        (Session { conversation, pipelining, lines: String::new() }, relay)
    }

    /// Returns the replies to MAIL, RCPT, DATA and the message as they answer each write.
    fn by_write(pipelining: bool, replies: [&str; 4]) -> Vec<String> {
        match replies.map(|reply| format!("{reply}\r\n")) {
            [mail, rcpt, data, message] if pipelining => vec![mail + &rcpt + &data, message],
            replies => replies.into(),
        }
    }

    async fn send(session: &mut Session, from: &str, to: &str) -> String {
        let end = Instant::now() + Duration::from_secs(10);
        let mail = Envelope { from, to, data: DATA.as_bytes() };
        match session.hand_over(&mail, Deadlines { first: end, begin: end, end }).await {
            Ok(()) => "accepted".to_owned(),
            Err(HandoverError::Refused(error)) => format!("refused: {error}"),
            Err(HandoverError::Unknown(error)) => format!("unknown: {error}"),
        }
    }

    #[tokio::test]
    async fn pipelining_takes_two_round_trips_for_an_email_instead_of_four() {
        for (pipelining, round_trips) in [(true, 2), (false, 4)] {
            let replies = by_write(pipelining, ["250 2.1.0 ok", "250", "354", "250 2.0.0 queued"]);
            let (mut session, relay) = session(pipelining, [replies.clone(), replies].concat());
            for _ in 0..2 {
                assert_eq!(send(&mut session, "a@example.com", "b@example.com").await, "accepted");
            }
            drop(session);
            let heard = relay.await.unwrap();
            assert_eq!(heard.len(), 2 * round_trips, "{heard:?}");
            assert_eq!(heard.concat(), (COMMANDS.concat() + DATA).repeat(2));
        }
    }

    #[tokio::test]
    async fn the_outcome_is_the_first_refusal_or_the_reply_to_the_message() {
        for (replies, outcome) in [
            (["250", "251 forwarded", "354", "250"], "accepted"),
            (["550 5.7.1", "503", "503", ""], "refused: MAIL FROM: refused with reply 550 5.7.1"),
            (["421", "", "", ""], "refused: MAIL FROM: refused with reply 421"),
            (["250", "550 5.1.1", "503 5.5.1", ""], "refused: RCPT TO: refused with reply 550 5.1.1"),
            (["250", "450 4.2.1", "354", ""], "refused: RCPT TO: refused with reply 450 4.2.1"),
            (["550", "250", "354", ""], "refused: MAIL FROM: refused with reply 550"),
            (["250", "252", "354", ""], "refused: RCPT TO: unexpected reply 252"),
            (["250", "250", "554", ""], "refused: DATA: refused with reply 554"),
            (["250", "250", "250", ""], "refused: DATA: unexpected reply 250"),
            (["250", "250", "354\r\n250", ""], "refused: DATA: the connection was lost or refused"),
            (["250", "250", "x", ""], "refused: DATA: the connection was lost or refused"),
            (["250", "250", "354", "451 4.3.0"], "refused: the message: refused with reply 451 4.3.0"),
            (["250", "250", "354", "571 5.7.1"], "refused: the message: refused with reply 571 5.7.1"),
            (["250", "250", "354", "251"], "unknown: the message: unexpected reply 251"),
            (["250", "250", "354", "354"], "unknown: the message: unexpected reply 354"),
            (
                ["250", "250", "354", "250-a\r\n550 b"],
                "unknown: the message: the connection was lost or refused",
            ),
            (["250", "250", "354", "250-a"], "unknown: the message: the connection was lost or refused"),
            (["250", "250", "354", "\u{fe}"], "unknown: the message: the connection was lost or refused"),
        ] {
            for pipelining in [true, false] {
                let (mut session, relay) = session(pipelining, by_write(pipelining, replies));
                assert_eq!(
                    send(&mut session, "a@example.com", "b@example.com").await,
                    outcome,
                    "{replies:?}"
                );
                drop(session);
                let is_transmitted = outcome == "accepted" || outcome.contains("the message");
                let heard = relay.await.unwrap().concat();
                let (commands, data) = heard.split_at(heard.find("Subject").unwrap_or(heard.len()));
                assert!(COMMANDS.concat().starts_with(commands), "{replies:?}: {heard}");
                assert_eq!(
                    data,
                    if is_transmitted { DATA } else { "" },
                    "{replies:?}: no message, not even a dot"
                );
            }
        }
    }

    #[tokio::test]
    async fn an_address_cannot_add_a_command() {
        let good = "a@example.com";
        for bad in [
            "a@example.com>\r\nRCPT TO:<b@example.com",
            "a@example.com\r\n",
            "a@example.com> SIZE=1",
            "a b@example.com",
            "\"a b\"@example.com",
            "<a@example.com>",
            " a@example.com",
            "a@example.com\u{0}",
            "m\u{fc}ller@example.com",
            "a@[127.0.0.1]",
            "",
        ] {
            for (from, to) in [(bad, good), (good, bad)] {
                let (mut session, relay) = session(true, Vec::new());
                let outcome = send(&mut session, from, to).await;
                assert_eq!(outcome, "refused: MAIL FROM: an address that cannot be said", "{bad:?}");
                drop(session);
                assert!(relay.await.unwrap().is_empty());
            }
        }
    }
}

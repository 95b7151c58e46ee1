//! Logs in to a relay by AUTH (RFC 4954): PLAIN, LOGIN, XOAUTH2, OAUTHBEARER.
//!
//! Must not keep or show a challenge, a password or a token.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::conversation::{ByteStream, Conversation};
use super::error::{Cause, Offer, SendError};
use super::full_reply::Capabilities;
use super::reply::Reply;
use super::stage::Stage;
use crate::adapters::oauth::TokenSource;

/// Maximum length of a command line with its CR LF, in bytes (RFC 5321 section 4.5.3.1.4).
const MAX_COMMAND: usize = 512;

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
    /// AUTH XOAUTH2, or AUTH OAUTHBEARER if the relay offers only that.
    OAuth(TokenSource),
}

/// What one login presents.
pub(super) enum Credentials<'a> {
    /// Nothing.
    None,
    /// A password.
    Password {
        /// Username.
        username: &'a str,
        /// Password.
        password: &'a str,
    },
    /// An OAuth access token.
    Bearer {
        /// Address of the mailbox that the token is for.
        username: &'a str,
        /// The token.
        token: &'a str,
    },
}

impl Credentials<'_> {
    /// Logs in to the relay with this host name and port.
    pub(super) async fn log_in<S: ByteStream>(
        &self,
        conversation: &mut Conversation<S>,
        offered: &Capabilities,
        host: &str,
        port: u16,
    ) -> Result<(), SendError> {
        match self {
            Self::None => Ok(()),
            Self::Password { username, password } => {
                by_password(conversation, offered, username, password).await
            }
            Self::Bearer { username, token } => {
                let (mechanism, response, acknowledgement) = if offered.has_mechanism("XOAUTH2") {
                    ("XOAUTH2", xoauth2(username, token), "")
                } else if offered.has_mechanism("OAUTHBEARER") {
                    ("OAUTHBEARER", oauthbearer(username, token, host, port), "AQ==")
                } else {
                    return Err(SendError { stage: Stage::Login, cause: Cause::NoOAuth });
                };
                by_token(conversation, mechanism, &response, acknowledgement).await
            }
        }
    }
}

/// Logs in by PLAIN (RFC 4616) if the relay offers it, otherwise by LOGIN. Ignores the prompts of
/// LOGIN, because servers word them differently.
async fn by_password<S: ByteStream>(
    conversation: &mut Conversation<S>,
    offered: &Capabilities,
    username: &str,
    password: &str,
) -> Result<(), SendError> {
    let login = offered.has_mechanism("LOGIN");
    if offered.has_mechanism("PLAIN") {
        let secret = encoded(&Zeroizing::new(format!("\0{username}\0{password}")));
        let mut reply = authenticate(conversation, "PLAIN", &secret).await?;
        if reply.code() == 334 {
            // The relay ignored the response in the command.
            reply = say(conversation, &secret).await?;
        }
        match reply.code() {
            235 => return Ok(()),
            // Some relays offer PLAIN without supporting it, but do support LOGIN.
            504 if login => {}
            _ => return Err(SendError::reply(Stage::Login, reply)),
        }
    }
    if !login {
        return Err(SendError { stage: Stage::Login, cause: Cause::NoMechanism(others(offered)) });
    }
    conversation.ask(Stage::Login, "AUTH LOGIN", &[334]).await?;
    conversation.ask(Stage::Login, &encoded(username), &[334]).await?;
    conversation.ask(Stage::Login, &encoded(password), &[235]).await.map(|_| ())
}

/// Logs in with a token. If the relay does not accept it, its 334 challenge says why, in JSON, and
/// the relay refuses the login after the client's acknowledgement: an empty line for XOAUTH2, as
/// Google and Microsoft document it, and the byte 0x01 for OAUTHBEARER (RFC 7628 section 3.2.3).
async fn by_token<S: ByteStream>(
    conversation: &mut Conversation<S>,
    mechanism: &str,
    response: &str,
    acknowledgement: &str,
) -> Result<(), SendError> {
    let reply = authenticate(conversation, mechanism, response).await?;
    match reply.code() {
        235 => Ok(()),
        334 => Err(SendError::reply(Stage::Login, say(conversation, acknowledgement).await?)),
        _ => Err(SendError::reply(Stage::Login, reply)),
    }
}

/// Sends AUTH with the response in the same line. If that line would be too long, sends the
/// response after the relay's empty challenge (RFC 4954 section 4).
async fn authenticate<S: ByteStream>(
    conversation: &mut Conversation<S>,
    mechanism: &str,
    response: &str,
) -> Result<Reply, SendError> {
    let command = Zeroizing::new(format!("AUTH {mechanism} {response}"));
    if command.len() + 2 <= MAX_COMMAND {
        return say(conversation, &command).await;
    }
    conversation.ask(Stage::Login, &format!("AUTH {mechanism}"), &[334]).await?;
    say(conversation, response).await
}

async fn say<S: ByteStream>(conversation: &mut Conversation<S>, line: &str) -> Result<Reply, SendError> {
    let line = Zeroizing::new(format!("{line}\r\n"));
    conversation.say(Stage::Login, line.as_bytes()).await?;
    conversation.reply(Stage::Login).await
}

/// Returns the response of XOAUTH2, which Google and Microsoft document.
fn xoauth2(username: &str, token: &str) -> Zeroizing<String> {
    encoded(&Zeroizing::new(format!("user={username}\x01auth=Bearer {token}\x01\x01")))
}

/// Returns the response of OAUTHBEARER (RFC 7628 section 3.1). A comma and an equals sign of the
/// username are escaped (RFC 5801 section 4).
fn oauthbearer(username: &str, token: &str, host: &str, port: u16) -> Zeroizing<String> {
    let name = username.replace('=', "=3D").replace(',', "=2C");
    encoded(&Zeroizing::new(format!(
        "n,a={name},\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01"
    )))
}

fn encoded(secret: &str) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(secret))
}

/// Returns what a relay offers that offers neither PLAIN nor LOGIN.
fn others(offered: &Capabilities) -> Offer {
    if offered.mechanisms.is_empty() {
        Offer::Nothing
    } else if offered.has_mechanism("XOAUTH2") || offered.has_mechanism("OAUTHBEARER") {
        Offer::OAuth
    } else {
        Offer::Others
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password(***)",
            Self::OAuth(_) => "OAuth(***)",
        })
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const CHALLENGE: &str = "334 eyJzdGF0dXMiOiI0MDAifQ==";

    fn bearer(token: &str) -> Credentials<'_> {
        Credentials::Bearer { username: "a=b,c@example.com", token }
    }

    fn password() -> Credentials<'static> {
        Credentials::Password { username: "u", password: "p" }
    }

    /// Logs in at a relay that offers these mechanisms and answers the lines with these replies.
    /// Returns what it heard, and the error.
    async fn played(
        login: &Credentials<'_>,
        offers: &str,
        replies: &[&str],
    ) -> (Vec<String>, Option<SendError>) {
        let (ours, mut theirs) = duplex(64 * 1024);
        let replies: Vec<String> = replies.iter().map(|reply| format!("{reply}\r\n")).collect();
        let relay = tokio::spawn(async move {
            let mut heard = Vec::new();
            for reply in replies {
                let mut line = vec![0; 64 * 1024];
                let count = theirs.read(&mut line).await.unwrap();
                heard.push(String::from_utf8(line[..count].to_vec()).unwrap());
                theirs.write_all(reply.as_bytes()).await.unwrap();
            }
            let mut rest = String::new();
            theirs.read_to_string(&mut rest).await.unwrap();
            assert_eq!(rest, "", "a line that the test does not know");
            heard
        });
        let mechanisms = offers.split_ascii_whitespace().map(str::to_owned).collect();
        let offered = Capabilities { mechanisms, ..Capabilities::default() };
        let mut conversation = Conversation::new(ours);
        let error = login.log_in(&mut conversation, &offered, "relay.example", 587).await.err();
        drop(conversation);
        let heard = relay.await.unwrap().into_iter();
        (heard.map(|line| line.strip_suffix("\r\n").unwrap().to_owned()).collect(), error)
    }

    fn decoded(line: &str) -> String {
        String::from_utf8(STANDARD.decode(line.rsplit(' ').next().unwrap()).unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_password_goes_by_plain_or_else_by_login() {
        for (offers, replies, heard) in [
            ("LOGIN PLAIN", &["235"][..], &["AUTH PLAIN AHUAcA=="][..]),
            ("PLAIN", &["334", "235"], &["AUTH PLAIN AHUAcA==", "AHUAcA=="]),
            ("LOGIN", &["334 VXNlcg==", "334", "235"], &["AUTH LOGIN", "dQ==", "cA=="]),
            (
                "PLAIN LOGIN",
                &["504", "334", "334", "235"],
                &["AUTH PLAIN AHUAcA==", "AUTH LOGIN", "dQ==", "cA=="],
            ),
        ] {
            let (said, error) = played(&password(), offers, replies).await;
            assert!(error.is_none(), "{error:?}");
            assert_eq!(said, heard);
        }
        for (offers, replies, error) in [
            ("PLAIN", &["504"][..], "AUTH: refused with reply 504"),
            ("PLAIN LOGIN", &["535 5.7.8 u"], "AUTH: refused with reply 535 5.7.8"),
            ("PLAIN", &["334", "334"], "AUTH: unexpected reply 334"),
            ("LOGIN", &["334", "334", "535"], "AUTH: refused with reply 535"),
            ("LOGIN", &["235"], "AUTH: unexpected reply 235"),
        ] {
            assert_eq!(played(&password(), offers, replies).await.1.unwrap().to_string(), error);
        }
    }

    #[tokio::test]
    async fn a_token_goes_by_xoauth2_or_where_that_is_not_offered_by_oauthbearer() {
        for offers in ["XOAUTH2", "PLAIN OAUTHBEARER XOAUTH2"] {
            let (heard, error) = played(&bearer("t0ken"), offers, &["235"]).await;
            assert!(error.is_none() && heard.len() == 1 && heard[0].starts_with("AUTH XOAUTH2 "));
            assert_eq!(decoded(&heard[0]), "user=a=b,c@example.com\x01auth=Bearer t0ken\x01\x01");
        }
        let (heard, error) = played(&bearer("t0ken"), "OAUTHBEARER PLAIN", &["235"]).await;
        assert!(error.is_none() && heard.len() == 1 && heard[0].starts_with("AUTH OAUTHBEARER "));
        assert_eq!(
            decoded(&heard[0]),
            "n,a=a=3Db=2Cc@example.com,\x01host=relay.example\x01port=587\x01auth=Bearer t0ken\x01\x01"
        );
    }

    #[tokio::test]
    async fn a_refused_token_is_acknowledged_and_the_last_reply_is_the_error() {
        for (offers, acknowledgement) in [("XOAUTH2", ""), ("OAUTHBEARER", "AQ==")] {
            let replies = [CHALLENGE, "535 5.7.8 no"];
            let (heard, error) = played(&bearer("t0ken"), offers, &replies).await;
            assert_eq!(heard[1..], [acknowledgement]);
            let error = error.unwrap();
            assert_eq!(error.to_string(), "AUTH: refused with reply 535 5.7.8");
            assert!(!format!("{error:?}").contains("eyJ"));
            for late in ["235 2.7.0 ok", CHALLENGE] {
                let (_, error) = played(&bearer("t0ken"), offers, &[CHALLENGE, late]).await;
                let error = error.unwrap().to_string();
                assert!(error.starts_with("AUTH: unexpected reply "), "{error}");
            }
            let (heard, error) = played(&bearer("t0ken"), offers, &["535 5.7.3 no"]).await;
            assert_eq!(
                (heard.len(), error.unwrap().to_string().as_str()),
                (1, "AUTH: refused with reply 535 5.7.3")
            );
        }
    }

    #[tokio::test]
    async fn a_response_that_is_too_long_for_a_command_waits_for_the_challenge() {
        let token = "t".repeat(3000);
        let (heard, error) = played(&bearer(&token), "XOAUTH2", &["334", "235"]).await;
        assert!(error.is_none() && heard[0] == "AUTH XOAUTH2");
        assert!(decoded(&heard[1]).ends_with(&format!("Bearer {token}\x01\x01")));
        let (heard, error) = played(&bearer(&token), "XOAUTH2", &["504 5.5.4"]).await;
        assert_eq!(
            (heard.len(), error.unwrap().to_string().as_str()),
            (1, "AUTH: refused with reply 504 5.5.4")
        );
        // The longest password whose response fits, and one byte more.
        for (length, lines) in [(369, 1), (370, 2)] {
            let password = "p".repeat(length);
            let login = Credentials::Password { username: "u", password: &password };
            let replies = ["334", "235"];
            let (heard, error) = played(&login, "PLAIN", &replies[2 - lines..]).await;
            assert!(error.is_none() && heard.iter().all(|line| line.len() + 2 <= 512), "{length}");
        }
    }

    #[tokio::test]
    async fn nothing_is_said_to_a_relay_without_a_mechanism_for_the_login() {
        for (login, offers, expected) in [
            (password(), "", "AUTH: the relay does not offer AUTH PLAIN or LOGIN, nor any other"),
            (password(), "CRAM-MD5", "AUTH: the relay does not offer AUTH PLAIN or LOGIN, but others"),
            (bearer("t"), "PLAIN LOGIN", "AUTH: the relay does not offer AUTH XOAUTH2 or OAUTHBEARER"),
        ] {
            let (heard, error) = played(&login, offers, &[]).await;
            assert!(heard.is_empty());
            assert_eq!(error.unwrap().to_string(), expected);
        }
        for offers in ["XOAUTH2", "OAUTHBEARER"] {
            let (_, error) = played(&password(), offers, &[]).await;
            assert!(matches!(error.unwrap().cause(), Cause::NoMechanism(Offer::OAuth)));
        }
        assert!(played(&Credentials::None, "PLAIN", &[]).await.1.is_none());
    }

    #[test]
    fn debug_shows_no_secret() {
        let login = Login::Password { username: "u".to_owned(), password: "p".into() };
        assert_eq!(format!("{login:?}"), "Password(***)");
    }
}

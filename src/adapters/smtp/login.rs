//! Logs in to a relay by AUTH (RFC 4954): PLAIN, LOGIN, XOAUTH2, OAUTHBEARER.
//!
//! Must not keep or show a challenge, a password or a token.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::conversation::{Conversation, Transport};
use super::error::{Cause, Offer, SendError};
use super::full_reply::Capabilities;
use super::reply::Reply;
use super::stage::Stage;

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
    Bearer {
        /// Address of the mailbox that the token is for.
        username: String,
        /// OAuth access token.
        token: SecretString,
    },
}

impl Login {
    /// Logs in to the relay with this host name and port.
    pub(super) async fn log_in<S: Transport>(
        &self,
        conversation: &mut Conversation<S>,
        offered: &Capabilities,
        host: &str,
        port: u16,
    ) -> Result<(), SendError> {
        match self {
            Self::None => Ok(()),
            Self::Password { username, password } => {
                by_password(conversation, offered, username, password.expose_secret()).await
            }
            Self::Bearer { username, token } => {
                let token = token.expose_secret();
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
async fn by_password<S: Transport>(
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
async fn by_token<S: Transport>(
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
async fn authenticate<S: Transport>(
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

async fn say<S: Transport>(conversation: &mut Conversation<S>, line: &str) -> Result<Reply, SendError> {
    let line = Zeroizing::new(format!("{line}\r\n"));
    conversation.say(Stage::Login, line.as_bytes()).await?;
    Ok(conversation.reply(Stage::Login).await?.reply())
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
            Self::Bearer { .. } => "Bearer(***)",
        })
    }
}

//! Stages of a session with a relay.

use std::fmt;

/// Stage of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Getting an access token from the token endpoint, before the relay is asked.
    Token,
    /// DNS lookup of the relay's name.
    Resolve,
    /// TCP connection.
    Connect,
    /// TLS handshake, either from the first byte or after STARTTLS.
    Tls,
    /// The relay's greeting.
    Greeting,
    /// EHLO.
    Hello,
    /// STARTTLS, up to the reply that allows TLS.
    StartTls,
    /// AUTH.
    Login,
    /// MAIL FROM.
    Sender,
    /// RCPT TO.
    Recipient,
    /// DATA, up to the 354 reply.
    Data,
    /// Transmission of the message, up to its final reply.
    Message,
}

impl Stage {
    /// Returns the name of the stage, for metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Greeting => "greeting",
            Self::Hello => "ehlo",
            Self::StartTls => "starttls",
            Self::Login => "auth",
            Self::Sender => "mail",
            Self::Recipient => "rcpt",
            Self::Data => "data",
            Self::Message => "message",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "getting an access token",
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

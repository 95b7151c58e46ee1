//! The relay that takes our mails, and how to log in there.
//!
//! TLS is required unless the relay is this machine. Must not connect.

use std::fmt;

use secrecy::SecretString;

use super::dangerous::Dangerous;
use super::host::Host;
use super::reader::Reader;
use crate::domain::email_address::EmailAddress;

/// The port on which TLS begins with the first octet (RFC 8314 section 3.3).
const IMPLICIT_TLS_PORT: u16 = 465;

/// The way mails go.
#[derive(Debug, Clone)]
pub struct Smtp {
    /// Host name or IP address of the relay (IPv6 without brackets).
    pub server: String,
    /// Its port.
    pub port: u16,
    /// What protects the way to it.
    pub tls: Tls,
    /// How to log in.
    pub auth: Auth,
    /// The address that mails come from.
    pub sender: EmailAddress,
    /// The most connections at once.
    pub connections: usize,
}

/// What protects the way to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tls {
    /// TLS from the first octet.
    Implicit,
    /// STARTTLS, and nothing before it.
    StartTls,
    /// Nothing.
    Plaintext,
}

/// How to log in at the relay.
#[derive(Clone)]
pub enum Auth {
    /// Not at all.
    None,
    /// With a name and a password.
    Password {
        /// The name; often an address.
        username: String,
        /// The password.
        password: SecretString,
    },
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password(***)",
        })
    }
}

/// Which settings say how to log in.
#[derive(Clone, Copy)]
enum Method {
    None,
    Password,
}

/// Which settings say what protects the way.
#[derive(Clone, Copy)]
enum Protection {
    ByPort,
    Always(Tls),
}

/// Reads the section `smtp`.
pub(super) fn read(reader: &mut Reader<'_>, dangerous: Dangerous) -> Option<Smtp> {
    let server = server(reader);
    let port = reader.number("smtp.port", 1..=u16::MAX);
    let sender = sender(reader);
    let auth = auth(reader, sender.as_ref());
    let connections = reader.number("smtp.connections", 1..=1000);
    let protection = protection(reader);
    let (server, port) = (server?, port?);
    let tls = match protection? {
        Protection::ByPort if port == IMPLICIT_TLS_PORT => Tls::Implicit,
        Protection::ByPort => Tls::StartTls,
        Protection::Always(Tls::Plaintext) if !server.is_loopback() && !dangerous.plaintext_smtp => {
            let what = "must not be none for a relay on another machine, which codes would reach in plaintext: use \
                        TLS, a relay on this machine, or set OTP_DANGEROUS__PLAINTEXT_SMTP=true";
            return reader.refuse("smtp.tls", what);
        }
        Protection::Always(tls) => tls,
    };
    let server = match server {
        Host::Name(name) => name,
        Host::Address(address) => address.to_string(),
    };
    Some(Smtp { server, port, tls, auth: auth?, sender: sender?, connections: connections? })
}

fn server(reader: &mut Reader<'_>) -> Option<Host> {
    reader.required("smtp.server", "the relay that takes our mails")?;
    reader.parse("smtp.server", "a host name or an IP address, without a scheme or a port", Host::parse)
}

fn sender(reader: &mut Reader<'_>) -> Option<EmailAddress> {
    let text = reader.required("smtp.sender", "the address that mails come from")?;
    match EmailAddress::parse(text.trim()) {
        Ok(address) => Some(address),
        Err(why) => {
            reader.refuse("smtp.sender", &format!("must be the bare address that mails come from: {why}"))
        }
    }
}

fn protection(reader: &mut Reader<'_>) -> Option<Protection> {
    reader.choice(
        "smtp.tls",
        &[
            ("auto", Protection::ByPort),
            ("implicit", Protection::Always(Tls::Implicit)),
            ("starttls", Protection::Always(Tls::StartTls)),
            ("none", Protection::Always(Tls::Plaintext)),
        ],
    )
}

fn auth(reader: &mut Reader<'_>, sender: Option<&EmailAddress>) -> Option<Auth> {
    let method = reader.choice("smtp.auth", &[("password", Method::Password), ("none", Method::None)]);
    let username = reader.parse("smtp.username", "a name without control characters", |text| {
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    });
    if let Some(Method::None) = method {
        return reader.verbatim("smtp.password").map(|_| Auth::None);
    }
    let what = "the password at the relay, an app password for Gmail; or set OTP_SMTP__AUTH=none";
    let password = reader.required("smtp.password", what);
    let username = username.filter(|name| !name.is_empty()).or_else(|| Some(sender?.as_str().to_owned()));
    method.and(Some(Auth::Password { username: username?, password: password?.into() }))
}

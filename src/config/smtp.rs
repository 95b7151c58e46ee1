//! Settings of the mail relay, of a fallback relay, and of their logins.
//!
//! TLS is required unless the relay is on this machine. Must not connect.

mod oauth;

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

use super::dangerous::Dangerous;
use super::names;
use super::reader::{Reader, named};
use crate::domain::email_address::EmailAddress;
use crate::domain::host::Host;
use crate::domain::oauth::OAuthClient;

/// Port of implicit TLS (RFC 8314 section 3.3).
const IMPLICIT_TLS_PORT: u16 = 465;

/// What Microsoft has announced for logins by password.
const PASSWORDS_END: &str = "is password, which Microsoft turns off by default at the end of December 2026 \
                             (550 5.7.30) and does not offer to new tenants: docs/oauth.md describes oauth";

/// The mail relays.
#[derive(Debug, Clone)]
pub struct Smtp {
    /// The first relay, and a second one if it is set; none if no email is sent by SMTP.
    pub relays: Vec<RelaySettings>,
    /// Sender address of emails.
    pub sender: EmailAddress,
    /// Maximum number of connections to each relay.
    pub connections: usize,
}

/// A relay.
#[derive(Debug, Clone)]
pub struct RelaySettings {
    /// Host name or IP address (IPv6 without brackets).
    pub server: String,
    /// Port.
    pub port: u16,
    /// TLS mode.
    pub tls: TlsMode,
    /// Trust anchors of its certificate.
    pub trust_anchors: TrustAnchorSource,
    /// How to log in.
    pub auth: Auth,
}

/// Which trust anchors a relay's certificate is verified against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrustAnchorSource {
    /// The trust anchors of this machine.
    System,
    /// The certificates of this PEM file, and no others.
    File(PathBuf),
}

/// How the connection to the relay is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// TLS from the first byte.
    Implicit,
    /// STARTTLS, which is required.
    StartTls,
    /// No TLS.
    Plaintext,
}

/// How to log in at the relay.
#[derive(Clone)]
pub enum Auth {
    /// No login.
    None,
    /// Username and password.
    Password {
        /// Username; often an address.
        username: String,
        /// Password.
        password: SecretString,
    },
    /// An access token.
    OAuth(OAuthClient),
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Password { .. } => "Password(***)",
            Self::OAuth(_) => "OAuth(***)",
        })
    }
}

/// Names of the settings of a login.
#[derive(Clone, Copy)]
enum Method {
    None,
    Password,
    OAuth,
}

/// Names of the settings of TLS.
#[derive(Clone, Copy)]
enum Protection {
    ByPort,
    Always(TlsMode),
}

/// Reads the sections `smtp` and `smtp_fallback`. If no email is sent by SMTP, reads only the
/// sender address.
pub(super) fn read(reader: &mut Reader<'_>, dangerous: Dangerous, is_used: bool) -> Option<Smtp> {
    let sender = sender(reader);
    let relays = if is_used { relays(reader, sender.as_ref(), dangerous) } else { Some(Vec::new()) };
    let connections = reader.number("smtp.connections", 1..=1000);
    Some(Smtp { relays: relays?, sender: sender?, connections: connections? })
}

fn relays(
    reader: &mut Reader<'_>,
    sender: Option<&EmailAddress>,
    dangerous: Dangerous,
) -> Option<Vec<RelaySettings>> {
    let first = relay(reader, "smtp", sender, dangerous);
    let fallback = match reader.text("smtp_fallback.server") {
        Some("") => no_fallback(reader),
        _ => relay(reader, "smtp_fallback", sender, dangerous).map(|relay| vec![relay]),
    };
    Some([vec![first?], fallback?].concat())
}

/// Returns no fallback relay. Refuses its other settings if they are set, because somebody meant
/// them to have an effect.
fn no_fallback(reader: &mut Reader<'_>) -> Option<Vec<RelaySettings>> {
    let own = ["password", "username", "ca_file"].into_iter().chain(oauth::OWN);
    let mut said = own.map(|name| format!("smtp_fallback.{name}"));
    match said.find(|key| reader.text(key).is_some_and(|text| !text.is_empty())) {
        Some(key) => {
            let what = "is set, but OTP_SMTP_FALLBACK__SERVER is not";
            let line = reader.line("smtp_fallback.server", "smtp.example.net");
            reader.refuse_for(&key, what, &line)
        }
        None => Some(Vec::new()),
    }
}

fn relay(
    reader: &mut Reader<'_>,
    section: &str,
    sender: Option<&EmailAddress>,
    dangerous: Dangerous,
) -> Option<RelaySettings> {
    let own = |name: &str| format!("{section}.{name}");
    let form = "a host name or an IP address, without a scheme or a port";
    let is_named =
        reader.required(&own("server"), "the mail relay, unless OTP_SENDER names another way").is_some();
    let server = if is_named { reader.parse(&own("server"), form, Host::parse_absolute) } else { None };
    let port = reader.number(&own("port"), 1..=u16::MAX);
    let trust_anchors = reader
        .path(&own("ca_file"))
        .map(|path| named(path).map_or(TrustAnchorSource::System, TrustAnchorSource::File));
    let auth = auth(reader, section, server.as_ref(), sender);
    let protection = protection(reader, &own("tls"));
    let server = server?;
    let port = port?;
    let tls = match protection? {
        Protection::ByPort if port == IMPLICIT_TLS_PORT => TlsMode::Implicit,
        Protection::ByPort => TlsMode::StartTls,
        Protection::Always(TlsMode::Plaintext) if !server.is_loopback() && !dangerous.plaintext_smtp => {
            let what = "must not be none for a relay on another machine, which codes would reach in plaintext: use \
                        TLS, a relay on this machine, or set OTP_DANGEROUS__PLAINTEXT_SMTP=true";
            return reader.refuse(&own("tls"), what);
        }
        Protection::Always(tls) => tls,
    };
    let trust_anchors = trust_anchors?;
    if let (TlsMode::Plaintext, TrustAnchorSource::File(_)) = (tls, &trust_anchors) {
        let what = "is set, but without TLS no certificate is asked for: leave it out, or use TLS";
        let line = reader.line(&own("tls"), "auto");
        return reader.refuse_for(&own("ca_file"), what, &line);
    }
    let server = match server {
        Host::Name(name) => name,
        Host::Address(address) => address.to_string(),
    };
    Some(RelaySettings { server, port, tls, trust_anchors, auth: auth? })
}

fn sender(reader: &mut Reader<'_>) -> Option<EmailAddress> {
    let text = reader.required("smtp.sender", "the sender address of emails")?;
    parse_sender(reader, "smtp.sender", "mail.brand", text.trim())
}

/// Parses a sender address. A display name before it belongs into `mail.brand`.
pub(super) fn parse_sender(
    reader: &mut Reader<'_>,
    key: &str,
    brand: &str,
    text: &str,
) -> Option<EmailAddress> {
    let bracketed = text.strip_prefix('<').and_then(|text| text.strip_suffix('>'));
    match EmailAddress::parse(bracketed.unwrap_or(text)) {
        Ok(address) => Some(address),
        Err(_) if text.ends_with('>') && text.contains('<') => {
            let address = reader.line(key, "you@example.com");
            let name = reader.line(brand, "Example");
            let what = "has a name before the address; the name is a separate setting";
            reader.refuse_for(key, what, &format!("{address}\n    {name}"))
        }
        Err(why) => reader.refuse(key, &format!("must be the bare sender address of emails: {why}")),
    }
}

fn protection(reader: &mut Reader<'_>, key: &str) -> Option<Protection> {
    reader.choice(
        key,
        &[
            ("auto", Protection::ByPort),
            ("implicit", Protection::Always(TlsMode::Implicit)),
            ("starttls", Protection::Always(TlsMode::StartTls)),
            ("none", Protection::Always(TlsMode::Plaintext)),
        ],
    )
}

fn auth(
    reader: &mut Reader<'_>,
    section: &str,
    server: Option<&Host>,
    sender: Option<&EmailAddress>,
) -> Option<Auth> {
    let own = |name: &str| format!("{section}.{name}");
    let methods = [("password", Method::Password), ("oauth", Method::OAuth), ("none", Method::None)];
    let method = reader.choice(&own("auth"), &methods);
    let username = reader.parse(&own("username"), "a name without control characters", |text| {
        (!text.chars().any(char::is_control)).then(|| text.to_owned())
    });
    let username = username
        .and_then(|name| if name.is_empty() { Some(sender?.as_str().to_owned()) } else { Some(name) });
    let host = match server {
        Some(Host::Name(name)) => Some(name.as_str()),
        _ => None,
    };
    match method {
        None | Some(Method::None) => {
            oauth::warn_of_unused(reader, section);
            reader.verbatim(&own("password")).and(method).map(|_| Auth::None)
        }
        Some(Method::OAuth) => {
            let password = reader.verbatim(&own("password"));
            let client = oauth::read(reader, section, host, username);
            password.and(client).map(Auth::OAuth)
        }
        Some(Method::Password) => {
            oauth::warn_of_unused(reader, section);
            if host.is_some_and(is_of_microsoft) {
                reader.warn(&own("auth"), PASSWORDS_END);
            }
            let [none, oauth] =
                ["none", "oauth"].map(|word| format!("{}={word}", names::usual_name(&own("auth"))));
            let what = format!(
                "the password at the relay, an app password for Gmail; or set {none}, or {oauth} for a token"
            );
            let password = reader.required(&own("password"), &what)?;
            Some(Auth::Password { username: username?, password: password.into() })
        }
    }
}

/// Returns whether a relay is one of Microsoft's.
fn is_of_microsoft(host: &str) -> bool {
    let host = host.to_ascii_lowercase();
    host == "smtp.office365.com" || host == "smtp-legacy.office365.com" || host.ends_with(".outlook.com")
}

//! Settings of the listener: where it listens and who may call it from a browser.
//!
//! Must not know how requests are served.

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use super::host::Host;
use super::reader::Reader;

/// The listener.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// Whose pages may call the API; nobody's where it is empty.
    pub allowed_origins: Vec<Origin>,
    /// Who is believed when it says for whom it calls.
    pub trusted_proxies: Vec<IpNet>,
    /// Where it says so.
    pub forwarded_header: ForwardedHeader,
    /// Connections held open at once.
    pub max_connections: usize,
    /// Whom to tell of a hole.
    pub security_contact: SecurityContact,
}

/// Where holes are reported (RFC 9116 section 2.5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityContact {
    /// It is not said.
    None,
    /// A URI.
    At(String),
}

/// The header that proxies write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
    /// A header of one address, by its name in lower case.
    Single(&'static str),
}

/// A web origin (RFC 6454), written as browsers send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

/// Who may call the two simple endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SimpleAccess {
    /// Everybody.
    Open,
    /// Whoever shows an API key.
    Keyed,
    /// Nobody: they are not there.
    Off,
}

impl ForwardedHeader {
    /// The header's name, as the setting has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::XForwardedFor => "x-forwarded-for",
            Self::Forwarded => "forwarded",
            Self::Single(name) => name,
        }
    }
}

impl SecurityContact {
    fn parse(text: &str) -> Option<Self> {
        let is_uri =
            ["https://", "mailto:"].iter().any(|start| text.len() > start.len() && text.starts_with(start));
        match text {
            "" => Some(Self::None),
            text => (is_uri && text.len() <= 200 && text.bytes().all(|b| b.is_ascii_graphic()))
                .then(|| Self::At(text.to_owned())),
        }
    }
}

impl Origin {
    /// The value of an `Origin` header that is this one.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Takes scheme, host and port; a browser leaves the scheme's usual port out, and so does this.
    fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (scheme, rest) = text.split_once("://")?;
        let usual_port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        // Browsers send a name of Unicode as its A-label.
        let rest = if rest.is_ascii() { rest.to_owned() } else { idna::domain_to_ascii(rest).ok()? };
        let (host, port) = Host::parse_with_port(&rest)?;
        Some(Self(match port.filter(|port| *port != usual_port) {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        }))
    }
}

/// What [`network`] takes.
pub(super) const NETWORK: &str =
    "an IP address or a network such as 10.0.0.0/8, no larger than /8 (IPv6: /7), and IPv4 as IPv4";

/// Reads the section `http`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Http> {
    let listen = reader.parse("http.listen", "an IP address and a port", |text| text.parse().ok());
    let origin = "an exact origin without a path, and not *";
    let allowed_origins = reader.list("http.allowed_origins", origin, Origin::parse);
    let trusted_proxies = reader.list("http.trusted_proxies", NETWORK, network);
    let single = |name| (name, ForwardedHeader::Single(name));
    let forwarded_header = reader.choice(
        "http.forwarded_header",
        &[
            ("x-forwarded-for", ForwardedHeader::XForwardedFor),
            ("forwarded", ForwardedHeader::Forwarded),
            single("x-real-ip"),
            single("x-client-ip"),
            single("cf-connecting-ip"),
            single("true-client-ip"),
            single("fly-client-ip"),
        ],
    );
    let max_connections = reader.number("http.max_connections", 1..=1_000_000);
    let contact = "empty, or a URI that begins with https:// or mailto:, of at most 200 characters";
    let security_contact = reader.parse("http.security_contact", contact, SecurityContact::parse);
    Some(Http {
        listen: listen?,
        allowed_origins: allowed_origins?,
        trusted_proxies: trusted_proxies?,
        forwarded_header: forwarded_header?,
        max_connections: max_connections?,
        security_contact: security_contact?,
    })
}

/// An address alone is a network of one. Whoever trusts half the world lets it choose its address, and whoever exempts it
/// counts nobody, so that there is a least length of a prefix: that of the largest private networks (RFC 1918, RFC 4193).
pub(super) fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))?;
    let least = match network {
        IpNet::V4(_) => 8,
        // IPv4 in IPv6 form is met as IPv4.
        IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => return None,
        IpNet::V6(_) => 7,
    };
    (network.prefix_len() >= least).then_some(network)
}

/// Reads the section `simple`.
pub(super) fn read_simple(reader: &mut Reader<'_>) -> Option<SimpleAccess> {
    let choices = [("open", SimpleAccess::Open), ("keyed", SimpleAccess::Keyed), ("off", SimpleAccess::Off)];
    reader.choice("simple.access", &choices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        for (typed, sent) in [
            ("https://app.example", "https://app.example"),
            ("HTTPS://App.Example:443", "https://app.example"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[::1]:80", "http://[::1]"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(Origin::parse(typed).unwrap().as_str(), sent);
        }
    }

    #[test]
    fn what_is_no_exact_origin_is_refused() {
        for text in [
            "*",
            "null",
            "app.example",
            "https://",
            "https://app.example/",
            "https://*.app.example",
            "https://app.example/path",
            "https://user@app.example",
            "ftp://app.example",
            "https://app.example:0",
            "https://app.example?x",
            "https://app example",
            "https://app.example\r\n",
        ] {
            assert!(Origin::parse(text).is_none(), "{text:?}");
        }
    }
}

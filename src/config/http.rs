//! Settings of the listener, and which origins may call it from a browser.
//!
//! Must not know how requests are served.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::reader::Reader;
use super::web_url;
use crate::domain::forwarded_header::ForwardedHeader;
use crate::domain::origin::Origin;
use crate::domain::simple_access::SimpleAccess;

/// Range of the keep-alive timeout. If a client keeps connections longer than the server does, some
/// of its requests fail.
const KEEP_ALIVE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);

/// Range of the delay before the listener closes.
const SHUTDOWN_DELAY: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);

/// The listener.
#[derive(Debug, Clone)]
pub struct Http {
    /// Address and port.
    pub listen: SocketAddr,
    /// Origins whose pages may call the API; empty: none.
    pub allowed_origins: Vec<Origin>,
    /// Proxies whose forwarded header is trusted.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which these proxies name the client.
    pub forwarded_header: ForwardedHeader,
    /// Maximum number of open connections.
    pub max_connections: usize,
    /// How long a connection may be idle between two requests.
    pub keep_alive: Duration,
    /// How long it serves after SIGTERM, while `/readyz` answers 503.
    pub shutdown_delay: Duration,
    /// Public URL, without a final slash; empty if not set.
    pub public_url: String,
    /// Whether the documentation is served.
    pub docs: Docs,
    /// Where to report vulnerabilities.
    pub security_contact: SecurityContact,
}

/// Where to report vulnerabilities (RFC 9116 section 2.5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityContact {
    /// Not set.
    None,
    /// At this URI.
    At(String),
}

/// Whether `/docs`, `/openapi.json` and `/openapi.yaml` are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Docs {
    /// They are served to everybody.
    On,
    /// They are answered with 404.
    Off,
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

/// Reads the section `http`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Http> {
    let listen = read_listen(reader);
    let allowed_origins = reader.list_of("http.allowed_origins", Origin::parse);
    let trusted_proxies = reader.list_of("http.trusted_proxies", network);
    let headers = ForwardedHeader::ALL.map(|header| (header.name(), header));
    let forwarded_header = reader.choice("http.forwarded_header", &headers);
    let max_connections = reader.number("http.max_connections", 1..=1_000_000);
    let keep_alive = reader.duration("http.keep_alive", KEEP_ALIVE);
    let shutdown_delay = reader.duration("http.shutdown_delay", SHUTDOWN_DELAY);
    let public_url = match reader.text("http.public_url").map(public_url) {
        Some(Ok(url)) => Some(url),
        Some(Err(reason)) => reader.refuse("http.public_url", &reason),
        None => None,
    };
    let docs = reader.flag("http.docs").map(|is_on| if is_on { Docs::On } else { Docs::Off });
    let contact = "empty, or a URI that begins with https:// or mailto:, of at most 200 characters";
    let security_contact = reader.parse("http.security_contact", contact, SecurityContact::parse);
    Some(Http {
        listen: listen?,
        allowed_origins: allowed_origins?,
        trusted_proxies: trusted_proxies?,
        forwarded_header: forwarded_header?,
        max_connections: max_connections?,
        keep_alive: keep_alive?,
        shutdown_delay: shutdown_delay?,
        public_url: public_url?,
        docs: docs?,
        security_contact: security_contact?,
    })
}

/// Reads the address of the listener.
pub(super) fn read_listen(reader: &mut Reader<'_>) -> Option<SocketAddr> {
    reader.parse("http.listen", "an IP address and a port, such as 127.0.0.1:5000", listen)
}

/// Parses the public URL, which may be empty.
///
/// # Errors
/// Describes what is wrong with the URL.
fn public_url(text: &str) -> Result<String, String> {
    if text.is_empty() { Ok(String::new()) } else { web_url::parse(text, "https://example.org/otp") }
}

/// Parses an IP address and a port. `localhost` means 127.0.0.1; without an address it means all
/// IPv4 addresses of this machine.
pub(super) fn listen(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.rsplit_once(':')?;
    let address = match host {
        "" => Ipv4Addr::UNSPECIFIED,
        name if name.trim_end_matches('.').eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST,
        _ => return text.parse().ok(),
    };
    let is_number = port.bytes().all(|b| b.is_ascii_digit());
    Some((address, port.parse().ok().filter(|_| is_number)?).into())
}

/// Parses a network; a single address is a network of one. The prefix has a minimum length, that of
/// the largest private networks (RFC 1918, RFC 4193): a trusted proxy can claim any client address,
/// and an exempt network is not counted per IP.
pub(super) fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    let network = network.ok_or("is no IP address and no network such as 10.0.0.0/8")?;
    let least = match network {
        IpNet::V4(_) => 8,
        // The server sees IPv4-mapped IPv6 addresses as IPv4.
        IpNet::V6(network) if network.addr().to_ipv4_mapped().is_some() => {
            return Err("is IPv4 in IPv6 form: write it as IPv4".to_owned());
        }
        IpNet::V6(_) => 7,
    };
    if network.prefix_len() < least {
        return Err(format!("is larger than /{least}, the most that can be trusted or exempted"));
    }
    Ok(network)
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
    fn an_address_to_listen_on_is_taken_as_people_write_it() {
        for (written, meant) in [
            ("127.0.0.1:5000", "127.0.0.1:5000"),
            (":5000", "0.0.0.0:5000"),
            ("LocalHost:5000", "127.0.0.1:5000"),
            ("[::1]:5000", "[::1]:5000"),
        ] {
            assert_eq!(listen(written), Some(meant.parse().unwrap()), "{written}");
        }
        for text in
            ["", ":", "5000", "127.0.0.1", "example.com:5000", ":+1", ":65536", "::1:5000", "localhost"]
        {
            assert_eq!(listen(text), None, "{text}");
        }
    }

    #[test]
    fn a_public_url_is_a_host_and_perhaps_a_path_without_a_final_slash() {
        for (typed, url) in [
            ("", ""),
            ("https://example.org/otp", "https://example.org/otp"),
            ("HTTPS://Example.org:443/Otp/v//", "https://example.org/Otp/v"),
            ("http://localhost:5000/", "http://localhost:5000"),
        ] {
            assert_eq!(public_url(typed).as_deref(), Ok(url), "{typed}");
        }
        for (text, reason) in [
            ("example.org", "must begin with https://"),
            ("/otp", "must begin with https://"),
            ("ftp://example.org", "must begin with https://"),
            ("https://", "must begin with https://"),
            ("https://user@example.org", "a user or a password"),
            ("https://example.org./otp", "a final dot"),
            ("https://example.org:0/otp", "a wrong port"),
            ("https://example.org/otp?x", "a query or a fragment"),
            ("https://example.org#x", "a query or a fragment"),
            ("https://example.org//otp", "has a path with"),
            ("https://example.org/../otp", "has a path with"),
            ("https://example.org/a b", "has a path with"),
            ("https://example.org/%zz", "has a path with"),
            ("https://example.org/\"", "has a path with"),
        ] {
            let said = public_url(text).unwrap_err();
            assert!(said.contains(reason), "{text}: {said}");
        }
    }
}

//! The host part of an address: a name or an IP address, with or without a port.
//!
//! Recognises hosts that are this machine. Must not resolve names.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

/// A name of letters, digits, `-` and `_`, or an IP address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name.
    Name(String),
    /// An IP address.
    Address(IpAddr),
}

impl Host {
    /// Parses what [`Self::parse`] accepts, and also a name with a final dot, which is an absolute
    /// name in DNS.
    ///
    /// Must not be used for a host whose text is used as it is, such as in a URL, or compared, such
    /// as in an origin: there the dot matters.
    #[must_use]
    pub fn parse_absolute(text: &str) -> Option<Self> {
        let name = text.strip_suffix('.').filter(|name| is_name(name) && name.parse::<IpAddr>().is_err());
        Self::parse(name.unwrap_or(text))
    }

    /// Parses a name, an IPv4 address, or an IPv6 address with or without brackets.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inside) = text.strip_prefix('[') {
            let address: Ipv6Addr = inside.strip_suffix(']')?.parse().ok()?;
            return Some(Self::Address(address.into()));
        }
        text.parse().ok().map(Self::Address).or_else(|| is_name(text).then(|| Self::Name(text.to_owned())))
    }

    /// Parses `host`, `host:port` and `[v6]:port`.
    #[must_use]
    pub fn parse_with_port(text: &str) -> Option<(Self, Option<u16>)> {
        match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let is_number = port.bytes().all(|b| b.is_ascii_digit());
                let port = port.parse().ok().filter(|port| is_number && *port > 0)?;
                // An IPv6 address before a port must be in brackets.
                let host = Some(host).filter(|host| host.starts_with('[') || !host.contains(':'))?;
                Some((Self::parse(host)?, Some(port)))
            }
            _ => Some((Self::parse(text)?, None)),
        }
    }

    /// Returns whether traffic to this host stays on this machine.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match self {
            Self::Name(name) => name.eq_ignore_ascii_case("localhost"),
            Self::Address(address) => address.to_canonical().is_loopback(),
        }
    }
}

impl fmt::Display for Host {
    /// Writes the host as in a URL: IPv6 in brackets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => address.fmt(f),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

fn is_name(text: &str) -> bool {
    let is_plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() <= 253 && text.split('.').all(|label| !label.is_empty() && label.bytes().all(is_plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_addresses() {
        for text in ["redis", "redis_1.internal", "smtp.example.com", "10.0.0.1", "::1", "[::1]"] {
            assert!(Host::parse(text).is_some(), "{text}");
        }
        for text in [
            "",
            ".",
            "a b",
            "a..b",
            "a..",
            "a/b",
            "a@b",
            "a:1",
            "redis://a",
            "[10.0.0.1]",
            "[::1",
            "é",
            "a\n",
        ] {
            assert!(Host::parse(text).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_final_dot_of_a_name_means_nothing() {
        assert_eq!(Host::parse_absolute("smtp.example.com."), Host::parse("smtp.example.com"));
        assert!(Host::parse_absolute("localhost.").unwrap().is_loopback());
        for text in ["", ".", "a..", "127.0.0.1.", "[::1]."] {
            assert!(Host::parse_absolute(text).is_none(), "{text}");
        }
        assert!(Host::parse("a.").is_none() && Host::parse_with_port("a.:1").is_none());
    }

    #[test]
    fn ports_follow_the_last_colon() {
        let parse = |text| Host::parse_with_port(text).map(|(host, port)| (host.to_string(), port));
        assert_eq!(parse("a:1"), Some(("a".into(), Some(1))));
        assert_eq!(parse("a"), Some(("a".into(), None)));
        assert_eq!(parse("[::1]:1"), Some(("[::1]".into(), Some(1))));
        assert_eq!(parse("[::1]"), Some(("[::1]".into(), None)));
        for text in ["a:", "a:0", "a:+1", "a:65536", ":1", "::1", "::1:6379"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for text in ["localhost", "LOCALHOST", "127.0.0.1", "127.255.0.1", "::1", "[::1]", "::ffff:127.0.0.1"]
        {
            assert!(Host::parse(text).unwrap().is_loopback(), "{text}");
        }
        for text in ["redis", "10.0.0.1", "0.0.0.0", "::", "128.0.0.1", "localhost.example", "127.1"] {
            assert!(!Host::parse(text).unwrap().is_loopback(), "{text}");
        }
    }
}

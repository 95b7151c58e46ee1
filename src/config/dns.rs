//! Name servers.
//!
//! Must not resolve a name.

use std::net::{IpAddr, SocketAddr};

use super::reader::Reader;
use crate::domain::host::Host;

const DNS_PORT: u16 = 53;

/// Reads the name servers. Empty: those of the system.
pub(super) fn read_servers(reader: &mut Reader<'_>) -> Option<Vec<SocketAddr>> {
    let rule = "must be an IP address, with or without a port, such as 192.0.2.53 or [2001:db8::53]:5353";
    reader.list_of("dns.servers", |entry| server(entry).ok_or_else(|| rule.to_owned()))
}

fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, DNS_PORT));
    }
    match Host::parse_with_port(text)? {
        (Host::Address(address), port) => Some(SocketAddr::new(address, port.unwrap_or(DNS_PORT))),
        (Host::Name(_), _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_an_address_with_or_without_a_port() {
        for (text, expected) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ] {
            assert_eq!(server(text), Some(expected.parse().unwrap()), "{text}");
        }
        for text in ["", "dns.example.com", "192.0.2.53:0", "192.0.2.53:x", "192.0.2"] {
            assert_eq!(server(text), None, "{text}");
        }
    }
}

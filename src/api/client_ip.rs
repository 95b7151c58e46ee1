//! The client's IP address, which the limits per IP count by.
//!
//! It is the socket's peer, unless that is a trusted proxy. Then it is the nearest address in the
//! configured header that is not a trusted proxy. Must not believe a header that a trusted proxy
//! did not write.

use std::net::{IpAddr, SocketAddr};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use poem::http::HeaderMap;
use poem::web::RemoteAddr;
use poem::{Addr, Request};

use super::routes::PROBES;
use crate::domain::forwarded_header::ForwardedHeader;

/// Why a trusted proxy's request did not name its client.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Unnamed {
    configured: Configured,
    /// The other headers of [`ForwardedHeader::ALL`] in the request: written by the proxy or by the
    /// client.
    others: Vec<&'static str>,
}

/// What is wrong with the configured header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Configured {
    Missing,
    /// Its last value is not an address.
    Unreadable,
    /// All its addresses are trusted proxies.
    OnlyTrusted,
}

/// The proxies in front of this service.
#[derive(Debug, Clone)]
pub struct Proxies {
    /// The networks of the proxies. If there are none, no header is believed.
    pub trusted: Vec<IpNet>,
    /// The header that the proxies write.
    pub source: ForwardedHeader,
}

/// The client of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// The address that limits count by.
    pub address: IpAddr,
    /// Whether this is an untrusted peer on a private network, which could be a proxy.
    may_be_a_proxy: bool,
}

impl Proxies {
    /// Returns the client of a request.
    pub fn client(&self, request: &Request) -> Client {
        let peer = peer(request.remote_addr());
        if !self.trusts(peer) {
            let client = Client { address: peer, may_be_a_proxy: is_nearby(peer) };
            if ForwardedHeader::ALL.iter().any(|header| request.headers().contains_key(header.name())) {
                client.warn_once();
            }
            return client;
        }
        let (address, unnamed) = self.behind(peer, request.headers());
        // A health probe from a proxy has no other client.
        if let Some(unnamed) = unnamed.filter(|_| !PROBES.contains(&request.uri().path())) {
            unnamed.warn_once(self.source);
        }
        Client { address, may_be_a_proxy: false }
    }

    /// Returns the nearest address that is not a trusted proxy, starting at the peer. An unreadable
    /// entry ends the search at the proxy before it. If there is no such address, returns the
    /// farthest trusted proxy and the reason.
    fn behind(&self, peer: IpAddr, headers: &HeaderMap) -> (IpAddr, Option<Unnamed>) {
        let hops = hops(self.source, headers);
        let mut configured = if hops.is_empty() { Configured::Missing } else { Configured::OnlyTrusted };
        let mut nearest = peer;
        for hop in hops.into_iter().rev() {
            match hop {
                Some(address) if self.trusts(address) => nearest = address,
                Some(address) => return (address, None),
                None => {
                    configured = Configured::Unreadable;
                    break;
                }
            }
        }
        let is_other = |name: &&str| *name != self.source.name() && headers.contains_key(*name);
        let others = ForwardedHeader::ALL.map(ForwardedHeader::name).into_iter().filter(is_other).collect();
        (nearest, Some(Unnamed { configured, others }))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}

impl Client {
    /// Warns once if the caller may be a proxy that is not configured: all clients behind it share
    /// its limits.
    pub fn warn_once(self) {
        static SAID: Once = Once::new();
        if self.may_be_a_proxy {
            SAID.call_once(|| {
                tracing::warn!(
                    "a caller on a private network forwards for others or calls very often: if it is a proxy or a \
                     backend, name its network in OTP_HTTP__TRUSTED_PROXIES, else all behind it share one limit"
                );
            });
        }
    }
}

impl Unnamed {
    /// Warns the operator, once for each reason and each other header: all clients behind such a
    /// peer share its limits.
    fn warn_once(&self, source: ForwardedHeader) {
        static SAID: AtomicU32 = AtomicU32::new(0);
        let reason = 1 << (ForwardedHeader::ALL.len() + self.configured as usize);
        let names = ForwardedHeader::ALL.map(ForwardedHeader::name).into_iter().enumerate();
        let others = names.filter(|(_, name)| self.others.contains(name));
        let all = others.fold(reason, |bits, (number, _)| bits | 1 << number);
        if SAID.fetch_or(all, Ordering::Relaxed) & all == all {
            return;
        }
        tracing::warn!(
            "a peer in OTP_HTTP__TRUSTED_PROXIES {}; until then it counts as the client, and everybody behind it \
             shares its limits per IP, where a request does not name the client itself (end_user_ip)",
            self.advice(source)
        );
    }

    /// Says which headers the request had, and what to do.
    fn advice(&self, source: ForwardedHeader) -> String {
        let name = source.name();
        let came = match self.configured {
            Configured::Missing => format!("sends no {name}"),
            Configured::Unreadable => {
                format!("sends a {name} that is no IP address, does not end in one, or comes twice")
            }
            Configured::OnlyTrusted => {
                return format!(
                    "sends a {name} in which all addresses are trusted proxies too: leave the networks of clients out \
                     of OTP_HTTP__TRUSTED_PROXIES{}",
                    self.or_another()
                );
            }
        };
        if self.others.is_empty() {
            let known = ForwardedHeader::ALL.map(ForwardedHeader::name).join(", ");
            return format!(
                "{came} and no other header that can be believed: let the proxy or backend write the address into \
                 {name}, or into another that OTP_HTTP__FORWARDED_HEADER can be ({known})"
            );
        }
        format!("{came}, but {}: let the proxy write {name}{}", self.listed(), self.or_another())
    }

    fn listed(&self) -> String {
        self.others.join(", ")
    }

    /// Suggests the settings that would accept the other headers.
    fn or_another(&self) -> String {
        let settings: Vec<_> =
            self.others.iter().map(|name| format!("OTP_HTTP__FORWARDED_HEADER={name}")).collect();
        match settings.len() {
            0 => String::new(),
            1 => format!(", or set {} if the proxy always overwrites that header", settings.concat()),
            _ => format!(
                ", or set the one of {} whose header the proxy always overwrites: clients may have written the others",
                settings.join(", ")
            ),
        }
    }
}

/// Returns the addresses in the header, the farthest first; `None` for an entry that is not an
/// address.
fn hops(source: ForwardedHeader, headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    for line in headers.get_all(source.name()) {
        match (line.to_str(), source) {
            (Err(_), _) => hops.push(None),
            (Ok(line), ForwardedHeader::XForwardedFor) => {
                hops.extend(line.split(',').map(|hop| address(hop.trim())));
            }
            (Ok(line), ForwardedHeader::Forwarded) => hops.extend(forwarded(line)),
            (Ok(line), ForwardedHeader::Single(_)) => hops.push(address(line.trim())),
        }
    }
    // A proxy overwrites such a header; if there are two, the client wrote one of them.
    if matches!(source, ForwardedHeader::Single(_)) && hops.len() > 1 { vec![None] } else { hops }
}

/// Returns the `for` parameter of each element of one line (RFC 7239 section 4), the farthest
/// first.
fn forwarded(line: &str) -> Vec<Option<IpAddr>> {
    let mut hops: Vec<_> = split_from_the_end(line, ',').into_iter().map(client_of).collect();
    hops.reverse();
    hops
}

fn client_of(element: &str) -> Option<IpAddr> {
    if !element.matches('"').count().is_multiple_of(2) {
        return None;
    }
    let mut clients = split_from_the_end(element, ';').into_iter().filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("for").then(|| value.trim())
    });
    let client = clients.next().filter(|_| clients.next().is_none())?;
    match client.strip_prefix('"') {
        Some(quoted) => address(quoted.strip_suffix('"')?),
        None => address(client),
    }
}

/// Splits at a separator outside of quotes, the last part first. Scans from the end, because
/// proxies append there: a quote that a client left open must not hide what a proxy appended.
fn split_from_the_end(text: &str, separator: char) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut end = text.len();
    let mut quoted = false;
    for (at, character) in text.char_indices().rev() {
        if character == '"' {
            quoted = !quoted;
        } else if character == separator && !quoted {
            parts.extend(text.get(at + separator.len_utf8()..end));
            end = at;
        }
    }
    parts.extend(text.get(..end));
    parts
}

/// Parses an address with or without a port. IPv6 with a port is in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    let address = text.parse().ok();
    let address = address.or_else(|| text.parse().ok().map(|with_port: SocketAddr| with_port.ip()));
    address.or_else(|| bare?.parse().ok().map(IpAddr::V6)).map(|address| address.to_canonical())
}

/// Returns the socket's peer. All listeners are TCP.
fn peer(remote: &RemoteAddr) -> IpAddr {
    match &remote.0 {
        Addr::SocketAddr(address) => address.ip().to_canonical(),
        Addr::Unix(_) | Addr::Custom(..) => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
    }
}

/// Returns whether an address is loopback, private (RFC 1918, RFC 4193) or link-local.
fn is_nearby(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use poem::RequestParts;
    use poem::http::HeaderName;
    use poem::http::uri::Scheme;
    use poem::web::LocalAddr;
    use proptest::prelude::*;

    use super::*;

    fn client(source: ForwardedHeader, peer: &str, lines: &[&str]) -> String {
        let trusted = ["10.0.0.0/8", "2001:db8:ffff::/48"].map(|network| network.parse().unwrap()).to_vec();
        let mut request = Request::default();
        for line in lines {
            request.headers_mut().append(source.name(), line.parse().unwrap());
        }
        request.headers_mut().append("x-other-ip", "192.0.2.66".parse().unwrap());
        let (mut parts, ()) = hyper::Request::new(()).into_parts();
        parts.headers = request.headers().clone();
        let peer = SocketAddr::new(peer.parse().unwrap(), 4711);
        let local = LocalAddr(Addr::SocketAddr(peer));
        let remote = RemoteAddr(Addr::SocketAddr(peer));
        let parts = RequestParts::from((parts, local, remote, Scheme::HTTP));
        let request = Request::from_parts(parts, poem::Body::empty());
        Proxies { trusted, source }.client(&request).address.to_string()
    }

    fn forwarded_for(peer: &str, lines: &[&str]) -> String {
        client(ForwardedHeader::XForwardedFor, peer, lines)
    }

    fn forwarded(line: &str) -> String {
        client(ForwardedHeader::Forwarded, "10.0.0.1", &[line])
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client_whatever_it_says() {
        assert_eq!(forwarded_for("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        assert_eq!(forwarded_for("::ffff:192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
    }

    #[test]
    fn behind_trusted_proxies_the_nearest_other_address_is_the_client() {
        assert_eq!(forwarded_for("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(forwarded_for("10.0.0.1", &["203.0.113.9, 198.51.100.7"]), "198.51.100.7");
        assert_eq!(forwarded_for("10.0.0.1", &["198.51.100.7, 10.9.9.9"]), "198.51.100.7");
        assert_eq!(
            forwarded_for("10.0.0.1", &["203.0.113.9", "198.51.100.7,10.1.1.1", "10.2.2.2"]),
            "198.51.100.7"
        );
        assert_eq!(forwarded_for("::ffff:10.0.0.1", &["::ffff:198.51.100.7"]), "198.51.100.7");
        assert_eq!(forwarded_for("2001:db8:ffff::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(forwarded_for("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
    }

    #[test]
    fn what_is_no_address_ends_the_way_at_the_last_trusted_hop() {
        assert_eq!(forwarded_for("10.0.0.1", &[]), "10.0.0.1");
        for broken in ["", "unknown", "198.51.100.7,", "198.51.100.256", "fe80::1%eth0", "a b"] {
            assert_eq!(forwarded_for("10.0.0.1", &[broken]), "10.0.0.1", "{broken}");
        }
        assert_eq!(forwarded_for("10.0.0.1", &["198.51.100.7, x, 10.2.2.2"]), "10.2.2.2");
    }

    #[test]
    fn forwarded_is_read_with_quotes_brackets_ports_and_other_parameters() {
        assert_eq!(forwarded("for=198.51.100.7"), "198.51.100.7");
        assert_eq!(forwarded("For=\"198.51.100.7:80\";proto=http;by=203.0.113.43"), "198.51.100.7");
        assert_eq!(forwarded("for=\"[2001:db8:cafe::17]:4711\""), "2001:db8:cafe::17");
        assert_eq!(forwarded("for=203.0.113.9;by=\"a,b;for=1.1.1.1\", for=198.51.100.7"), "198.51.100.7");
        for broken in [
            "for=unknown",
            "for=198.51.100.7;by=\"a",
            "for=_x",
            "proto=http",
            "for=\"198.51.100.7",
            "for=198.51.100.7;for=198.51.100.8",
            "for=\"198.51.100.7\\\"\"",
            "198.51.100.7",
        ] {
            assert_eq!(forwarded(broken), "10.0.0.1", "{broken}");
        }
    }

    #[test]
    fn a_header_of_one_address_is_believed_if_there_is_one_and_it_is_an_address() {
        let real_ip = |peer, lines: &[&str]| client(ForwardedHeader::Single("x-real-ip"), peer, lines);
        assert_eq!(real_ip("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(real_ip("10.0.0.1", &[" [2001:db8::7]:4711 "]), "2001:db8::7");
        assert_eq!(real_ip("192.0.2.1", &["198.51.100.7"]), "192.0.2.1");
        for broken in [&["198.51.100.7", "198.51.100.8"][..], &["198.51.100.7, 198.51.100.8"], &["x"], &[]] {
            assert_eq!(real_ip("10.0.0.1", broken), "10.0.0.1", "{broken:?}");
        }
    }

    #[test]
    fn why_a_trusted_peer_named_no_client_is_told_with_the_setting_that_takes_it() {
        let proxies =
            Proxies { trusted: vec!["10.0.0.0/8".parse().unwrap()], source: ForwardedHeader::XForwardedFor };
        let why = |headers: &[(&str, &str)]| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            proxies.behind("10.0.0.1".parse().unwrap(), &map).1
        };
        assert_eq!(why(&[("x-forwarded-for", "198.51.100.7"), ("x-real-ip", "x")]), None);
        let configured = |headers| why(headers).unwrap().configured;
        assert_eq!(configured(&[("x-forwarded-for", "unknown")]), Configured::Unreadable);
        assert_eq!(configured(&[("x-forwarded-for", "10.2.2.2")]), Configured::OnlyTrusted);
        assert_eq!(configured(&[("x-unheard-of", "198.51.100.7")]), Configured::Missing);
        let said = why(&[("x-unheard-of", "198.51.100.7")]).unwrap().advice(ForwardedHeader::XForwardedFor);
        assert!(ForwardedHeader::ALL.iter().all(|header| said.contains(header.name())), "{said}");
        // The client may have written some of them, so all are named.
        let both = [("forwarded", "for=1.1.1.1"), ("x-real-ip", "198.51.100.9")];
        let said = why(&both).unwrap().advice(ForwardedHeader::XForwardedFor);
        assert!(
            said.contains(
                "one of OTP_HTTP__FORWARDED_HEADER=forwarded, OTP_HTTP__FORWARDED_HEADER=x-real-ip"
            ),
            "{said}"
        );
        for name in ForwardedHeader::ALL.map(ForwardedHeader::name).into_iter().skip(1) {
            let said = why(&[(name, "198.51.100.7")]).unwrap().advice(ForwardedHeader::XForwardedFor);
            assert!(said.contains(&format!("OTP_HTTP__FORWARDED_HEADER={name}")), "{said}");
            assert!(!said.contains("198.51.100.7"), "{said}");
        }
    }

    proptest! {
        #[test]
        fn any_header_leads_to_the_peer_or_to_an_address_in_it(line in "[ -~]{0,60}") {
            let found = forwarded_for("10.0.0.1", &[&line]);
            prop_assert!(found == "10.0.0.1" || found.parse::<IpAddr>().is_ok());
            let _ = forwarded(&line);
        }

        #[test]
        fn what_a_client_adds_in_front_changes_nothing(line in "[ -~]{0,60}") {
            prop_assert_eq!(forwarded_for("10.0.0.1", &[&line, "198.51.100.7"]), "198.51.100.7");
            let source = ForwardedHeader::Forwarded;
            prop_assert_eq!(client(source, "10.0.0.1", &[&line, "for=198.51.100.7"]), "198.51.100.7");
            // The proxy may also append to the same line.
            for own in ["for=198.51.100.7", "for=\"198.51.100.7:80\";by=\"a,b\""] {
                let line = format!("{line}, {own}");
                prop_assert_eq!(client(source, "10.0.0.1", &[&line]), "198.51.100.7");
            }
            let line = format!("{line}, 198.51.100.7");
            prop_assert_eq!(forwarded_for("10.0.0.1", &[&line]), "198.51.100.7");
        }
    }
}

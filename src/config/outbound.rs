//! Settings of the HTTP requests that otpd makes.
//!
//! Must not connect.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reader::{Reader, named};
use super::smtp::TrustAnchorSource;

/// Where HTTP requests may go, and which certificates they trust.
#[derive(Debug, Clone)]
pub struct Outbound {
    /// Networks that otpd may connect to though they are not public.
    pub allowed_networks: Vec<IpNet>,
    /// Trust anchors of the certificates.
    pub trust_anchors: TrustAnchorSource,
    /// Maximum number of simultaneous requests to each provider, and to the hook.
    pub connections: usize,
}

/// Reads the section `outbound`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Outbound> {
    let form = "must be an IP address or a network in CIDR form, such as 10.1.2.0/24";
    let network = |entry: &str| {
        let address = entry.parse::<IpAddr>().map(IpNet::from);
        address.or_else(|_| entry.parse()).map_err(|_| form.to_owned())
    };
    let allowed_networks = reader.list_of("outbound.allowed_networks", network);
    let trust_anchors = reader
        .path("outbound.ca_file")
        .map(|path| named(path).map_or(TrustAnchorSource::System, TrustAnchorSource::File));
    let connections = reader.number("outbound.connections", 1..=1000);
    Some(Outbound {
        allowed_networks: allowed_networks?,
        trust_anchors: trust_anchors?,
        connections: connections?,
    })
}

//! Prefixes of IP addresses: which addresses are one client.

use std::net::IpAddr;

/// The part of an IP address that identifies a client, who can choose the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IpPrefix {
    /// A whole IPv4 address.
    V4([u8; 4]),
    /// An IPv6 /64 (RFC 4291 section 2.5.4: one subnet).
    V6([u8; 8]),
}

impl From<IpAddr> for IpPrefix {
    /// Treats an IPv4-mapped IPv6 address (RFC 4291 section 2.5.5.2) as the IPv4 address.
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.octets()),
            IpAddr::V6(address) => {
                let [prefix64 @ .., _, _, _, _, _, _, _, _] = address.octets();
                Self::V6(prefix64)
            }
        }
    }
}

//! Networks that are exempt from the per-IP limits, such as a monitoring probe, an office or a
//! backend.
//!
//! The limits per email and per verification still apply to them.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// The exempt networks. None by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExemptNetworks(Vec<IpNet>);

impl ExemptNetworks {
    /// Wraps the networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    /// Returns whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns whether one of the networks contains the address. Treats an IPv4-mapped IPv6 address
    /// (RFC 4291 section 2.5.5.2) as the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Returns the networks that overlap one of `others`.
    pub fn shared_with<'a>(&'a self, others: &'a [IpNet]) -> impl Iterator<Item = &'a IpNet> {
        self.0.iter().filter(|network| {
            others.iter().any(|other| other.contains(&network.addr()) || network.contains(&other.addr()))
        })
    }
}

impl fmt::Display for ExemptNetworks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|network| network.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_is_exempt_in_either_form() {
        let exempt = ExemptNetworks::new(networks(&["192.0.2.0/24", "2001:db8::/32"]));
        for (address, is_exempt) in [
            ("192.0.2.255", true),
            ("::ffff:192.0.2.1", true),
            ("192.0.3.0", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            ("::192.0.2.1", false),
        ] {
            assert_eq!(exempt.contains(address.parse().unwrap()), is_exempt, "{address}");
        }
        assert!(!ExemptNetworks::default().contains("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn networks_that_hold_each_other_have_addresses_in_common() {
        let exempt = ExemptNetworks::new(networks(&["10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32"]));
        let shared = |others: &[&str]| exempt.shared_with(&networks(others)).count();
        assert_eq!(shared(&["10.1.0.0/16"]), 1);
        assert_eq!(shared(&["192.0.2.0/24", "2001:db8::1/128"]), 2);
        assert_eq!(shared(&["198.51.100.0/24", "::/7"]), 0);
    }
}

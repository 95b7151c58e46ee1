//! Settings of the admin listener, which serves metrics.
//!
//! Must not let the internet reach it by mistake.

use std::net::{IpAddr, SocketAddr};

use super::dangerous::Dangerous;
use super::http::listen;
use super::reader::Reader;

const KEY: &str = "admin.listen";

/// Where metrics are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminListener {
    /// Nowhere.
    Off,
    /// At this address.
    On(SocketAddr),
}

/// Reads the section `admin`.
pub(super) fn read(reader: &mut Reader<'_>, dangerous: Dangerous) -> Option<AdminListener> {
    let rule = "off, or an IP address and a port, such as 127.0.0.1:5001";
    let listener = reader.parse(KEY, rule, |text| {
        if text.eq_ignore_ascii_case("off") {
            return Some(AdminListener::Off);
        }
        listen(text).map(AdminListener::On)
    })?;
    match listener {
        AdminListener::On(address) if !dangerous.public_admin && !is_private(address.ip()) => {
            let what = "must be a loopback, private or link-local address, because everybody who can reach it sees the \
                        metrics; or set OTP_DANGEROUS__PUBLIC_ADMIN=true";
            reader.refuse(KEY, what)
        }
        listener => Some(listener),
    }
}

/// Returns whether the internet cannot reach this address: loopback, private (RFC 1918, RFC 4193)
/// or link-local. The unspecified address stands for all addresses of the machine.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address.is_loopback() || address.is_private() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_internet_may_reach_is_not_private() {
        for private in ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.1.1", "::1", "fd00::1"]
        {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for public in ["0.0.0.0", "::", "192.0.2.1", "172.32.0.1", "2001:db8::1", "::ffff:0.0.0.0"] {
            assert!(!is_private(public.parse().unwrap()), "{public}");
        }
    }
}

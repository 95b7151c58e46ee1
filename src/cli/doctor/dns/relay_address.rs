//! The names of a relay's addresses: receivers require that the address that delivers a mail has a
//! name that leads back to it.
//!
//! Only hints: the address that takes mail from otpd may be another than the one that delivers it.

use std::net::IpAddr;

use super::{DnsFinding, Lookup};
use crate::adapters::dns::{DnsRecord, RecordKind};
use crate::domain::public_address::is_public;

/// Checks the public addresses of a relay.
pub(super) async fn check(dns: &impl Lookup, host: &str) -> Vec<DnsFinding> {
    let mut findings = Vec::new();
    for address in addresses(dns, host).await.into_iter().filter(|address| is_public(*address)) {
        findings.push(check_name(dns, host, address).await);
    }
    findings
}

async fn check_name(dns: &impl Lookup, host: &str, address: IpAddr) -> DnsFinding {
    let rule = "If the relay delivers mail from there, Gmail, Yahoo and Microsoft refuse it: set the name at the host \
                of the address, such as\n      ";
    let reverse = reverse(address);
    let wanted = format!("{rule}{reverse}. IN PTR {host}.");
    match dns.lookup(RecordKind::Ptr, &reverse).await {
        Ok(names) => {
            for name in &names {
                if let DnsRecord::Name(name) = name
                    && addresses(dns, name).await.contains(&address)
                {
                    return DnsFinding::Pass(format!(
                        "PTR of the relay's address {address}: {name}, and back"
                    ));
                }
            }
            DnsFinding::Hint(format!(
                "PTR of the relay's address {address}: its name does not lead back. {wanted}"
            ))
        }
        Err(error) if error.is_absent() => {
            DnsFinding::Hint(format!("PTR of the relay's address {address}: there is none. {wanted}"))
        }
        Err(error) => DnsFinding::Hint(format!("PTR of the relay's address {address}: {error}")),
    }
}

async fn addresses(dns: &impl Lookup, host: &str) -> Vec<IpAddr> {
    if let Ok(address) = host.parse() {
        return vec![address];
    }
    let mut addresses = Vec::new();
    for kind in [RecordKind::A, RecordKind::Aaaa] {
        addresses.extend(dns.lookup(kind, host).await.unwrap_or_default());
    }
    let address = |record| match record {
        DnsRecord::Address(address) => Some(address),
        _ => None,
    };
    addresses.into_iter().filter_map(address).collect()
}

/// Returns the name under which an address has its PTR record.
fn reverse(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(address) => {
            let nibbles = address.octets().into_iter().rev().flat_map(|byte| [byte & 15, byte >> 4]);
            let labels: Vec<_> = nibbles.map(|nibble| format!("{nibble:x}")).collect();
            format!("{}.ip6.arpa", labels.join("."))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::dns::tests::Zone;

    #[test]
    fn the_name_of_a_ptr_record_is_the_address_backwards() {
        assert_eq!(reverse("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa");
        let reversed = reverse("2001:db8::1".parse().unwrap());
        assert_eq!(reversed, format!("1.{}8.b.d.0.1.0.0.2.ip6.arpa", "0.".repeat(23)));
    }

    #[tokio::test]
    async fn a_public_address_needs_a_name_that_leads_back() {
        let named = |name: &str| DnsRecord::Name(name.to_owned());
        let at = |text: &str| DnsRecord::Address(text.parse().unwrap());
        let zone = Zone::default()
            .with(RecordKind::A, "relay.test", at("192.0.1.1"))
            .with(RecordKind::A, "relay.test", at("192.0.1.2"))
            .with(RecordKind::A, "relay.test", at("192.0.1.3"))
            .with(RecordKind::A, "relay.test", at("10.0.0.1"))
            .with(RecordKind::Ptr, "1.1.0.192.in-addr.arpa", named("relay.test"))
            .with(RecordKind::Ptr, "2.1.0.192.in-addr.arpa", named("other.test"));
        let findings = check(&zone, "relay.test").await;
        let said: Vec<_> = findings.iter().map(DnsFinding::line).collect();
        assert_eq!(said.len(), 3, "{said:?}");
        assert!(said[0].starts_with("ok    PTR of the relay's address 192.0.1.1"), "{said:?}");
        assert!(said[1].contains("does not lead back"), "{said:?}");
        assert!(
            said[2].contains("there is none")
                && said[2].contains("3.1.0.192.in-addr.arpa. IN PTR relay.test.")
        );
        for private in
            ["127.0.0.1", "10.1.2.3", "100.64.0.1", "192.0.2.1", "169.254.0.1", "::1", "fe80::1", "fd00::1"]
        {
            assert!(check(&zone, private).await.is_empty(), "{private}");
        }
    }
}

//! Where verifications and ledgers live in a store: keyed hashes instead of what they stand for.
//!
//! Derives the names that stores and logs see in place of addresses, of mail and of IP. Must not hold one itself.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::code_hash::Binding;
use super::email_address::EmailAddress;
use super::idempotency::IdempotencyKey;
use super::ledger::{MARK_OCTETS, Mark};
use super::tenant::Tenant;
use super::verification_id::VerificationId;

/// Octets of the index key.
pub const INDEX_KEY_OCTETS: usize = 32;
/// Octets kept of a keyed hash: 128 bits, so that two addresses never meet in one slot.
const TAG_OCTETS: usize = 16;
/// Octets of a mark that stand for the tenant; the others stand for the site.
pub const TENANT_OCTETS: usize = MARK_OCTETS / 2;
/// How long a closed verification is remembered for the holder of its id.
const REMEMBRANCE: Duration = Duration::from_hours(1);

/// The key of the hashes that stand for addresses. It is not rotated with the peppers: changing it empties
/// every ledger and closes every verification.
#[derive(Clone)]
pub struct IndexKey(Zeroizing<[u8; INDEX_KEY_OCTETS]>);

/// Where one verification lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The one verification that a tenant keeps for an address (the two simple endpoints).
    Address {
        /// Whose it is.
        subject: Subject,
        /// Stands for the address with its local part in ASCII lower case.
        address: Tag,
    },
    /// A verification under an id of its own, independent of all others. Stands for tenant and id, so that another
    /// tenant finds nothing there.
    Id(Tag),
}

/// A person, as one tenant knows them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Subject {
    /// Stands for the limit key of the address, whatever the tenant.
    pub person: Tag,
    /// Whose verifications and ledgers.
    pub tenant: Tenant,
}

/// Where a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// Stands for the IPv4 address, or the IPv6 /48 (RFC 6177: what one site is given).
    pub site: Tag,
    /// Stands for the IPv6 /64 (RFC 4291 section 2.5.4: one link).
    pub link: Option<Tag>,
}

/// 128 bits of a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; TAG_OCTETS]);

impl IndexKey {
    /// Wraps a secret of 256 bits.
    #[must_use]
    pub fn new(secret: [u8; INDEX_KEY_OCTETS]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The person behind an address, as `tenant` knows them: spellings that reach one mailbox are one subject.
    #[must_use]
    pub fn subject(&self, tenant: Tenant, address: &EmailAddress) -> Subject {
        Subject { person: self.tag(b"limit-key", address.limit_key().expose()), tenant }
    }

    /// The slot of the verification that the subject's tenant keeps for this address, in whatever case its local part is
    /// written: a phone's keyboard writes a capital where the application's database has none.
    #[must_use]
    pub fn address_slot(&self, subject: Subject, address: &EmailAddress) -> Slot {
        Slot::Address { subject, address: self.tag(b"address", address.folded().as_str()) }
    }

    /// The slot of the tenant's verification with that id.
    #[must_use]
    pub fn id_slot(&self, tenant: &Tenant, id: &VerificationId) -> Slot {
        // No name has a NUL, so that no two pairs meet in one text.
        Slot::Id(self.tag(b"verification", format!("{}\0{id}", tenant.name())))
    }

    /// Stands for an idempotency key of that tenant at that route.
    #[must_use]
    pub fn idempotency_key(&self, tenant: &Tenant, route: &str, key: &IdempotencyKey) -> Tag {
        self.tag(b"idempotency", format!("{}\0{route}\0{}", tenant.name(), key.expose()))
    }

    /// Stands for the members of a body, in an order that is always the same.
    #[must_use]
    pub fn fingerprint(&self, members: &[Option<&str>]) -> Tag {
        // Each with its length in front, so that no two lists meet in one text.
        let framed = members.iter().map(|member| match member {
            Some(text) => format!("{}:{text}", text.len()),
            None => "-".to_owned(),
        });
        self.tag(b"fingerprint", framed.collect::<String>())
    }

    /// The network of an IP address. An IPv4 address in IPv6 form (RFC 4291 section 2.5.5.2) is that IPv4 address.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> Network {
        match address.to_canonical() {
            IpAddr::V4(address) => Network { site: self.tag(b"ipv4", address.octets()), link: None },
            IpAddr::V6(address) => {
                let [site @ .., link_high, link_low, _, _, _, _, _, _, _, _] = address.octets();
                let link = self.tag(b"ipv6/64", [site.as_slice(), &[link_high, link_low]].concat());
                Network { site: self.tag(b"ipv6/48", site), link: Some(link) }
            }
        }
    }

    /// HMAC-SHA-256 over a purpose and what is to be hidden, cut to 128 bits; a NUL ends the purpose.
    #[expect(clippy::unreachable, reason = "HMAC takes a key of any length")]
    fn tag(&self, purpose: &[u8], text: impl AsRef<[u8]>) -> Tag {
        let Ok(mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.as_slice()) else {
            unreachable!();
        };
        let full = mac.chain_update(purpose).chain_update([0]).chain_update(text).finalize().into_bytes();
        let mut tag = [0; TAG_OCTETS];
        tag.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        Tag(tag)
    }
}

impl Network {
    /// The site, whatever the link.
    #[must_use]
    pub fn site_alone(self) -> Self {
        Self { link: None, ..self }
    }
}

impl Subject {
    /// Who sent to this person: the tenant, and where it is known the site, by the start of their hashes.
    #[must_use]
    pub fn mark(&self, site: Option<&Tag>) -> Mark {
        let tenant = Sha256::digest(self.tenant.name());
        let site = site.map_or([0; TAG_OCTETS], |site| site.0);
        let mut mark = [0; MARK_OCTETS];
        let (of_tenant, of_site) = mark.split_at_mut(TENANT_OCTETS);
        of_tenant.iter_mut().zip(tenant).for_each(|(to, from)| *to = from);
        of_site.iter_mut().zip(site).for_each(|(to, from)| *to = from);
        Mark(mark)
    }
}

impl Slot {
    /// The place that digests of codes kept here are bound to.
    #[must_use]
    pub fn binding(&self) -> Binding {
        let mut hash = Sha256::new();
        match self {
            Self::Address { subject, address } => {
                hash.update(b"address\0");
                hash.update(subject.person.0);
                hash.update(address.0);
                hash.update(subject.tenant.name());
            }
            Self::Id(id) => {
                hash.update(b"id\0");
                hash.update(id.0);
            }
        }
        Binding::new(hash.finalize().into())
    }

    /// How long a closed verification can still be asked about: only those with an id can be asked about at all.
    #[must_use]
    pub fn remembrance(&self) -> Duration {
        match self {
            Self::Address { .. } => Duration::ZERO,
            Self::Id(_) => REMEMBRANCE,
        }
    }
}

impl Tag {
    /// Its octets.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; TAG_OCTETS] {
        &self.0
    }
}

impl fmt::Display for Tag {
    /// 22 characters of URL-safe base64, no padding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IndexKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(key: u8, address: &str) -> Slot {
        let address = EmailAddress::parse(address).unwrap();
        let key = IndexKey::new([key; INDEX_KEY_OCTETS]);
        key.address_slot(key.subject(Tenant::Simple, &address), &address)
    }

    fn person(slot: &Slot) -> Tag {
        match slot {
            Slot::Address { subject, .. } => subject.person,
            Slot::Id(_) => panic!("a slot of an address"),
        }
    }

    fn network(address: &str) -> Network {
        IndexKey::new([1; INDEX_KEY_OCTETS]).network(address.parse().unwrap())
    }

    #[test]
    fn an_ipv6_site_is_a_48_and_its_links_are_64s() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        let (a, b) = (network("2001:db8:1:2::1"), network("2001:db8:1:3::1"));
        assert_eq!(a.site, b.site);
        assert_ne!(a.link, b.link);
        assert_ne!(a.site, network("2001:db8:2:2::1").site);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_that_address() {
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("192.0.2.1").link, None);
    }

    #[test]
    fn marks_tell_tenants_and_sites_apart() {
        let tenant = |name| Tenant::parse(name).unwrap();
        let subject = |name| Subject { person: network("192.0.2.1").site, tenant: tenant(name) };
        let (one, other) = (network("192.0.2.1").site, network("192.0.2.2").site);
        let mark = subject("a").mark(Some(&one)).0;
        assert_eq!(mark[..TENANT_OCTETS], subject("a").mark(Some(&other)).0[..TENANT_OCTETS]);
        assert_ne!(mark, subject("a").mark(Some(&other)).0);
        assert_ne!(mark[..TENANT_OCTETS], subject("b").mark(Some(&one)).0[..TENANT_OCTETS]);
        assert_eq!(mark[TENANT_OCTETS..], subject("b").mark(Some(&one)).0[TENANT_OCTETS..]);
    }

    #[test]
    fn addresses_of_one_person_have_slots_of_their_own_on_one_tag() {
        let (a, b) = (slot(1, "a+x@example.com"), slot(1, "a+y@example.com"));
        assert_ne!(a, b);
        assert_ne!(a.binding(), b.binding());
        assert_eq!(person(&a), person(&b));
        assert_eq!(a, slot(1, "a+x@EXAMPLE.com"));
        assert_eq!(a, slot(1, "A+X@example.com"));
        assert_eq!(a.binding(), slot(1, "A+X@example.com").binding());
    }

    #[test]
    fn nothing_can_be_told_without_the_key() {
        assert_ne!(person(&slot(1, "a@example.com")), person(&slot(2, "a@example.com")));
        let shown = format!("{:?}", slot(1, "somebody@private.example"));
        assert!(!shown.contains("somebody") && !shown.contains("private"), "{shown}");
    }

    #[test]
    fn what_is_one_tenants_is_nowhere_for_another() {
        let key = IndexKey::new([1; INDEX_KEY_OCTETS]);
        let (a, b) = (Tenant::parse("a").unwrap(), Tenant::parse("b").unwrap());
        let id = VerificationId::new([7; 16]);
        assert_eq!(key.id_slot(&a, &id), key.id_slot(&a, &id));
        assert_ne!(key.id_slot(&a, &id), key.id_slot(&b, &id));
        let of = |text| IdempotencyKey::parse(text).unwrap();
        assert_ne!(key.idempotency_key(&a, "r", &of("k")), key.idempotency_key(&b, "r", &of("k")));
        assert_ne!(key.idempotency_key(&a, "r", &of("k")), key.idempotency_key(&a, "s", &of("k")));
    }

    #[test]
    fn bodies_that_differ_have_other_fingerprints() {
        let key = IndexKey::new([1; INDEX_KEY_OCTETS]);
        let print = |members: &[Option<&str>]| key.fingerprint(members);
        assert_eq!(print(&[Some("a"), None]), print(&[Some("a"), None]));
        for other in [[Some("a"), Some("")], [None, Some("a")], [Some("a-"), None], [Some(""), Some("a")]] {
            assert_ne!(print(&[Some("a"), None]), print(&other), "{other:?}");
        }
    }

    #[test]
    fn an_address_tag_is_no_limit_key_tag() {
        // Where canonical address and limit key are the same text, their tags still differ.
        let Slot::Address { subject, address } = slot(1, "a@example.com") else {
            panic!("a slot of an address")
        };
        assert_ne!(subject.person, address);
    }
}

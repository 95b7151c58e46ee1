//! Keys of verifications in a store, and of what ledgers count: keyed hashes instead of the values
//! they stand for.
//!
//! Derives the names that stores and logs see in place of email and IP addresses. Must not contain
//! an address.

use std::net::IpAddr;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::code_hash::AssociatedData;
use super::email_address::EmailAddress;
use super::ip_prefix::IpPrefix;
use super::keyed_hash::{IndexKey, KeyedHash};
use super::tenant::Tenant;
use super::verification_id::VerificationId;

/// How long a closed verification with an id is stored.
const RETENTION: Duration = Duration::from_hours(1);

/// The key of one verification in the store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum StoreKey {
    /// The only verification that a tenant has for an address (the two simple endpoints).
    Address {
        /// The recipient and the tenant.
        recipient: Recipient,
        /// Stands for the address with its local part in ASCII lower case.
        address: KeyedHash,
    },
    /// A verification with its own id, independent of all others. The hash stands for tenant and
    /// id, so that another tenant does not find it.
    Id(KeyedHash),
}

/// An email address as the limits know it, at one tenant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Recipient {
    /// Stands for the limit key of the address. The same at every tenant.
    pub email: KeyedHash,
    /// The tenant that verifications and ledgers belong to.
    pub tenant: Tenant,
}

/// The network that a request comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientNetwork {
    /// Stands for the IPv4 address or the IPv6 /48 (RFC 6177: the assignment of one end site).
    pub prefix48: KeyedHash,
    /// Stands for the IPv6 /64.
    pub prefix64: Option<KeyedHash>,
}

impl IndexKey {
    /// Returns the recipient of an address at `tenant`. Spellings that reach one mailbox are one
    /// recipient.
    #[must_use]
    pub fn recipient(&self, tenant: Tenant, address: &EmailAddress) -> Recipient {
        Recipient { email: self.keyed_hash(b"limit-key", address.limit_key().expose()), tenant }
    }

    /// Returns the store key of the verification that the recipient's tenant has for this address.
    /// It is the same in any case of the local part, because a phone's keyboard may write a capital
    /// that the application's database does not have.
    #[must_use]
    pub fn email_key(&self, recipient: Recipient, address: &EmailAddress) -> StoreKey {
        StoreKey::Address { recipient, address: self.keyed_hash(b"address", address.folded().as_str()) }
    }

    /// Returns the store key of the tenant's verification with that id.
    #[must_use]
    pub fn id_key(&self, tenant: &Tenant, id: &VerificationId) -> StoreKey {
        // Names contain no NUL, so that no two pairs give the same text.
        StoreKey::Id(self.keyed_hash(b"verification", format!("{}\0{id}", tenant.namespace())))
    }

    /// Returns the network of an IP address.
    #[must_use]
    pub fn network(&self, address: IpAddr) -> ClientNetwork {
        match IpPrefix::from(address) {
            IpPrefix::V4(address) => {
                ClientNetwork { prefix48: self.keyed_hash(b"ipv4", address), prefix64: None }
            }
            IpPrefix::V6(prefix64) => {
                let [prefix48 @ .., _, _] = prefix64;
                ClientNetwork {
                    prefix48: self.keyed_hash(b"ipv6/48", prefix48),
                    prefix64: Some(self.keyed_hash(b"ipv6/64", prefix64)),
                }
            }
        }
    }
}

impl StoreKey {
    /// Returns the associated data that binds digests and encrypted details to this key.
    #[must_use]
    pub fn associated_data(&self) -> AssociatedData {
        let mut hash = Sha256::new();
        match self {
            Self::Address { recipient, address } => {
                hash.update(b"address\0");
                hash.update(recipient.email.as_bytes());
                hash.update(address.as_bytes());
                hash.update(recipient.tenant.namespace().as_bytes());
            }
            Self::Id(id) => {
                hash.update(b"id\0");
                hash.update(id.as_bytes());
            }
        }
        AssociatedData::new(hash.finalize().into())
    }

    /// Returns the hash that stands for tenant and id, if the verification has an id.
    #[must_use]
    pub fn id(&self) -> Option<KeyedHash> {
        match self {
            Self::Address { .. } => None,
            Self::Id(id) => Some(*id),
        }
    }

    /// Returns how long a closed verification is stored. Only one with an id is stored, because no
    /// other can be queried.
    #[must_use]
    pub fn retention(&self) -> Duration {
        match self {
            Self::Address { .. } => Duration::ZERO,
            Self::Id(_) => RETENTION,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::idempotency::IdempotencyKey;
    use crate::domain::keyed_hash::INDEX_KEY_BYTES;

    fn store_key(key: u8, address: &str) -> StoreKey {
        let address = EmailAddress::parse(address).unwrap();
        let key = IndexKey::new([key; INDEX_KEY_BYTES]);
        key.email_key(key.recipient(Tenant::Simple, &address), &address)
    }

    fn email_hash(store_key: &StoreKey) -> KeyedHash {
        match store_key {
            StoreKey::Address { recipient, .. } => recipient.email,
            StoreKey::Id(_) => panic!("a key of an address"),
        }
    }

    fn network(address: &str) -> ClientNetwork {
        IndexKey::new([1; INDEX_KEY_BYTES]).network(address.parse().unwrap())
    }

    #[test]
    fn an_ipv6_site_is_a_48_and_its_links_are_64s() {
        assert_eq!(network("2001:db8:1:2::1"), network("2001:db8:1:2:ffff::9"));
        let a = network("2001:db8:1:2::1");
        let b = network("2001:db8:1:3::1");
        assert_eq!(a.prefix48, b.prefix48);
        assert_ne!(a.prefix64, b.prefix64);
        assert_ne!(a.prefix48, network("2001:db8:2:2::1").prefix48);
    }

    #[test]
    fn an_ipv4_address_in_ipv6_form_is_that_address() {
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
        assert_eq!(network("192.0.2.1").prefix64, None);
    }

    #[test]
    fn spellings_of_one_mailbox_are_one_recipient_with_a_store_key_for_each_spelling() {
        let (a, b) = (store_key(1, "a+x@example.com"), store_key(1, "a+y@example.com"));
        assert_ne!(a, b);
        assert_ne!(a.associated_data(), b.associated_data());
        assert_eq!(email_hash(&a), email_hash(&b));
        assert_eq!(a, store_key(1, "a+x@EXAMPLE.com"));
        assert_eq!(a, store_key(1, "A+X@example.com"));
        assert_eq!(a.associated_data(), store_key(1, "A+X@example.com").associated_data());
    }

    #[test]
    fn nothing_can_be_told_without_the_key() {
        assert_ne!(email_hash(&store_key(1, "a@example.com")), email_hash(&store_key(2, "a@example.com")));
        let shown = format!("{:?}", store_key(1, "somebody@private.example"));
        assert!(!shown.contains("somebody") && !shown.contains("private"), "{shown}");
    }

    #[test]
    fn what_is_one_tenants_is_nowhere_for_another() {
        let key = IndexKey::new([1; INDEX_KEY_BYTES]);
        let a = Tenant::parse("a").unwrap();
        let b = Tenant::parse("b").unwrap();
        let id = VerificationId::new([7; 16]);
        assert_eq!(key.id_key(&a, &id), key.id_key(&a, &id));
        assert_ne!(key.id_key(&a, &id), key.id_key(&b, &id));
        let of = |text| IdempotencyKey::parse(text).unwrap();
        assert_ne!(key.idempotency_key(&a, "r", &of("k")), key.idempotency_key(&b, "r", &of("k")));
        assert_ne!(key.idempotency_key(&a, "r", &of("k")), key.idempotency_key(&a, "s", &of("k")));
        let sandbox = a.sandbox();
        assert_ne!(key.id_key(&a, &id), key.id_key(&sandbox, &id));
        assert_ne!(key.idempotency_key(&a, "r", &of("k")), key.idempotency_key(&sandbox, "r", &of("k")));
    }

    #[test]
    fn bodies_that_differ_have_other_fingerprints() {
        let key = IndexKey::new([1; INDEX_KEY_BYTES]);
        let print = |members: &[Option<&str>]| key.fingerprint(members);
        assert_eq!(print(&[Some("a"), None]), print(&[Some("a"), None]));
        for other in [[Some("a"), Some("")], [None, Some("a")], [Some("a-"), None], [Some(""), Some("a")]] {
            assert_ne!(print(&[Some("a"), None]), print(&other), "{other:?}");
        }
    }

    #[test]
    fn an_address_tag_is_no_limit_key_tag() {
        // Even if the canonical address and the limit key are the same text, their hashes differ.
        let StoreKey::Address { recipient, address } = store_key(1, "a@example.com") else {
            panic!("a key of an address")
        };
        assert_ne!(recipient.email, address);
    }
}

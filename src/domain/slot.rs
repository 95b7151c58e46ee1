//! Where a verification lives in a store: keyed hashes instead of what they stand for.
//!
//! Derives the names that stores and logs see in place of addresses. Must not hold an address itself.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::code_hash::Binding;
use super::email_address::EmailAddress;
use super::verification_id::VerificationId;

/// Octets of the index key.
pub const INDEX_KEY_OCTETS: usize = 32;
/// Octets kept of a keyed hash: 128 bits, so that two addresses never meet in one slot.
const TAG_OCTETS: usize = 16;
/// How long a closed verification is remembered for the holder of its id.
const REMEMBRANCE: Duration = Duration::from_hours(1);

/// The key of the hashes that stand for addresses. It is not rotated with the peppers: changing it empties
/// every ledger and closes every verification.
#[derive(Clone)]
pub struct IndexKey(Zeroizing<[u8; INDEX_KEY_OCTETS]>);

/// An application with verifications and ledgers of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenant(&'static str);

/// Where one verification lives.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Slot {
    /// The one verification that a tenant keeps for an exact address (the two simple endpoints).
    Address {
        /// Stands for the limit key, whatever the tenant.
        person: Tag,
        /// Whose verification it is.
        tenant: Tenant,
        /// Stands for the canonical address.
        address: Tag,
    },
    /// A verification under an id of its own, independent of all others.
    Id(VerificationId),
}

/// 128 bits of a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Tag([u8; TAG_OCTETS]);

impl Tenant {
    /// The tenant of the two simple endpoints.
    pub const SIMPLE: Self = Self("simple");

    /// The tenant's name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0
    }
}

impl IndexKey {
    /// Wraps a secret of 256 bits.
    #[must_use]
    pub fn new(secret: [u8; INDEX_KEY_OCTETS]) -> Self {
        Self(Zeroizing::new(secret))
    }

    /// The slot of the verification that `tenant` keeps for exactly this address.
    #[must_use]
    pub fn address_slot(&self, tenant: Tenant, address: &EmailAddress) -> Slot {
        Slot::Address {
            person: self.tag(b"limit-key", address.limit_key().expose()),
            address: self.tag(b"address", address.as_str()),
            tenant,
        }
    }

    /// HMAC-SHA-256 over a purpose and a text, cut to 128 bits; the purpose ends in a NUL, which no text holds.
    #[expect(clippy::unreachable, reason = "HMAC takes a key of any length")]
    fn tag(&self, purpose: &[u8], text: &str) -> Tag {
        let Ok(mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(self.0.as_slice()) else {
            unreachable!();
        };
        let full = mac.chain_update(purpose).chain_update([0]).chain_update(text).finalize().into_bytes();
        let mut tag = [0; TAG_OCTETS];
        tag.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        Tag(tag)
    }
}

impl Slot {
    /// The place that digests of codes kept here are bound to.
    #[must_use]
    pub fn binding(&self) -> Binding {
        let mut hash = Sha256::new();
        match self {
            Self::Address { person, tenant, address } => {
                hash.update(b"address\0");
                hash.update(person.0);
                hash.update(address.0);
                hash.update(tenant.name());
            }
            Self::Id(id) => {
                hash.update(b"id\0");
                hash.update(id.to_string());
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
        IndexKey::new([key; INDEX_KEY_OCTETS]).address_slot(Tenant::SIMPLE, &address)
    }

    fn person(slot: &Slot) -> Tag {
        match slot {
            Slot::Address { person, .. } => *person,
            Slot::Id(_) => panic!("a slot of an address"),
        }
    }

    #[test]
    fn addresses_of_one_person_have_slots_of_their_own_on_one_tag() {
        let (a, b) = (slot(1, "a+x@example.com"), slot(1, "a+y@example.com"));
        assert_ne!(a, b);
        assert_ne!(a.binding(), b.binding());
        assert_eq!(person(&a), person(&b));
        assert_eq!(a, slot(1, "a+x@EXAMPLE.com"));
    }

    #[test]
    fn nothing_can_be_told_without_the_key() {
        assert_ne!(person(&slot(1, "a@example.com")), person(&slot(2, "a@example.com")));
        let shown = format!("{:?}", slot(1, "somebody@private.example"));
        assert!(!shown.contains("somebody") && !shown.contains("private"), "{shown}");
    }

    #[test]
    fn an_address_tag_is_no_limit_key_tag() {
        // Where canonical address and limit key are the same text, their tags still differ.
        let Slot::Address { person, address, .. } = slot(1, "a@example.com") else {
            panic!("a slot of an address")
        };
        assert_ne!(person, address);
    }
}

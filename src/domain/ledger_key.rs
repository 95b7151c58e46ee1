//! Names of ledgers in a store. Must not contain an address.

use super::keyed_hash::KeyedHash;
use super::ledger::PARTITION_BYTES;
use super::store_key::Recipient;
use super::tenant::Tenant;

/// The name of a ledger: a hash tag, and a suffix that is unique under it.
///
/// What one call changes has one hash tag, so that a store can keep it in one place. A verification
/// of an address has the hash tag of the ledgers of that address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LedgerKey {
    hash_tag: String,
    suffix: String,
    is_partitioned: bool,
}

impl LedgerKey {
    /// Names the ledger of what an IPv4 address does at a tenant.
    pub(super) fn ipv4(tenant: &Tenant, address: &KeyedHash, action: &str) -> Self {
        Self::new(format!("n:{address}"), format!("{}:{action}", tenant.name()), false)
    }

    /// Names the ledger of what an IPv6 /48 does at a tenant, with a partition for each /64.
    pub(super) fn ipv6(tenant: &Tenant, prefix48: &KeyedHash, action: &str) -> Self {
        Self { is_partitioned: true, ..Self::ipv4(tenant, prefix48, action) }
    }

    /// Names the ledger of sends to an email address, with a partition for each tenant and client
    /// prefix.
    pub(super) fn sends(email: &KeyedHash) -> Self {
        Self::new(email_hash_tag(email), "sends".to_owned(), true)
    }

    /// Names the ledger of a client prefix's attempts at a recipient.
    pub(super) fn ip_email_attempts(recipient: &Recipient, client: &KeyedHash) -> Self {
        let suffix = format!("{}:attempts:{client}", recipient.tenant.name());
        Self::new(email_hash_tag(&recipient.email), suffix, false)
    }

    /// Names the ledger of the emails that are handed to the relay.
    pub(super) fn relay_emails() -> Self {
        Self::new("relay".to_owned(), "emails".to_owned(), false)
    }

    fn new(hash_tag: String, suffix: String, is_partitioned: bool) -> Self {
        Self { hash_tag, suffix, is_partitioned }
    }

    /// Returns the hash tag.
    #[must_use]
    pub fn hash_tag(&self) -> &str {
        &self.hash_tag
    }

    /// Returns the suffix.
    #[must_use]
    pub fn suffix(&self) -> &str {
        &self.suffix
    }

    /// Returns how many bytes of the partition are stored with an entry: all or none.
    #[must_use]
    pub fn partition_bytes(&self) -> usize {
        if self.is_partitioned { PARTITION_BYTES } else { 0 }
    }
}

/// Returns the hash tag of the verifications and ledgers of an email address.
#[must_use]
pub fn email_hash_tag(email: &KeyedHash) -> String {
    format!("s:{email}")
}

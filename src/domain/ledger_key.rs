//! Names of ledgers in a store. Must not contain an address.

use std::fmt::{self, Display, Write as _};

use super::keyed_hash::KeyedHash;
use super::ledger::PARTITION_BYTES;

/// The suffix of the ledger of sends to an email address.
pub(super) const SENDS: &str = "sends";
/// The suffix of the ledger of sends to an email address in sandboxes.
pub(super) const SANDBOX_SENDS: &str = "sandbox:sends";
/// What stands between tenant and client prefix in the suffix of a ledger of attempts.
pub(super) const ATTEMPTS: &str = ":attempts:";

/// The name of a ledger: a hash tag, and a suffix that is unique under it.
///
/// What one call changes has one hash tag, so that a store can keep it in one place. A verification
/// of an address has the hash tag of the ledgers of that address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LedgerKey {
    /// The hash tag in braces, a colon and the suffix.
    text: String,
    is_partitioned: bool,
}

impl LedgerKey {
    /// Names a ledger whose entries have no partition.
    pub(super) fn new(hash_tag: impl Display, suffix: impl Display) -> Self {
        Self { text: text(hash_tag, suffix), is_partitioned: false }
    }

    /// Names a ledger whose entries have a partition.
    pub(super) fn partitioned(hash_tag: impl Display, suffix: impl Display) -> Self {
        Self { text: text(hash_tag, suffix), is_partitioned: true }
    }

    /// Names the ledger of an email address that has this suffix, or returns `None` if it is that
    /// of something else.
    #[must_use]
    pub fn of_email(email: &KeyedHash, suffix: &str) -> Option<Self> {
        let hash_tag = email_hash_tag(email);
        if [SENDS, SANDBOX_SENDS].contains(&suffix) {
            return Some(Self::partitioned(hash_tag, suffix));
        }
        suffix.contains(ATTEMPTS).then(|| Self::new(hash_tag, suffix))
    }

    /// Returns whether it counts the attempts of a client prefix at an email address.
    #[must_use]
    pub fn counts_attempts(&self) -> bool {
        self.text.contains(ATTEMPTS)
    }

    /// Returns how many bytes of the partition are stored with an entry: all or none.
    #[must_use]
    pub fn partition_bytes(&self) -> usize {
        if self.is_partitioned { PARTITION_BYTES } else { 0 }
    }
}

impl Display for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the hash tag of the verifications and ledgers of an email address.
#[must_use]
pub fn email_hash_tag(email: &KeyedHash) -> impl Display {
    fmt::from_fn(move |f| write!(f, "s:{email}"))
}

/// Returns the name of a ledger, in one allocation as a rule.
fn text(hash_tag: impl Display, suffix: impl Display) -> String {
    let mut text = String::with_capacity(96);
    // Writing to a string does not fail.
    let _ = write!(text, "{{{hash_tag}}}:{suffix}");
    text
}

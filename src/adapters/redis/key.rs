//! Builds all Redis keys.
//!
//! The hash tag (the part in braces) is chosen so that all keys of one script share a Redis hash
//! slot. Must not put anything into a key that reveals whom it concerns.

use std::fmt::{self, Write as _};

use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger_key::{LedgerKey, email_hash_tag};
use crate::domain::store_key::StoreKey;

/// Returns the key of a verification. Its hash tag is the hash of the email address, or of tenant
/// and id.
pub(super) fn verification(store_key: &StoreKey) -> String {
    match store_key {
        StoreKey::Address { recipient, address } => text(format_args!(
            "otp:{{{}}}:{}:{address}",
            email_hash_tag(&recipient.email),
            recipient.tenant.namespace()
        )),
        StoreKey::Id(id) => text(format_args!("otp:{{v:{id}}}")),
    }
}

/// Returns what the keys of all ledgers of an email address begin with.
pub(super) fn email_prefix(email: &KeyedHash) -> String {
    format!("otp:{{{}}}:", email_hash_tag(email))
}

/// Returns the key of a ledger.
pub(super) fn ledger(ledger: &LedgerKey) -> String {
    text(format_args!("otp:{ledger}"))
}

/// Returns the keys of a ledger, and of that of a partition of it.
pub(super) fn ledgers(ledger: &LedgerKey, of_partition: Option<&LedgerKey>) -> Vec<String> {
    std::iter::once(ledger).chain(of_partition).map(self::ledger).collect()
}

/// Returns the text of a key, in one allocation as a rule.
fn text(key: fmt::Arguments<'_>) -> String {
    let mut text = String::with_capacity(96);
    // Writing to a string does not fail.
    let _ = text.write_fmt(key);
    text
}

/// Returns the key of an idempotency key.
pub(super) fn idempotency(key: &KeyedHash) -> String {
    format!("otp:{{i:{key}}}")
}

/// Returns the key of the captured emails of a sandbox key.
pub(super) fn test_mails(mailbox: &KeyedHash) -> String {
    format!("otp:{{m:{mailbox}}}")
}

/// Returns the key that a check of this number writes.
pub(super) fn ready(number: u32) -> String {
    format!("otp:{{ready:{number}}}")
}

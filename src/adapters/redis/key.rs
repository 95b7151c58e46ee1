//! Builds all Redis keys.
//!
//! The hash tag (the part in braces) is chosen so that all keys of one script share a Redis hash
//! slot. Must not put anything into a key that reveals whom it concerns.

use crate::domain::keyed_hash::KeyedHash;
use crate::domain::store_key::{ClientNetwork, Recipient, StoreKey};
use crate::ports::{Action, IpLedger};

/// Returns the key of a verification. Its hash tag is the hash of the email address, or of tenant
/// and id.
pub(super) fn verification(store_key: &StoreKey) -> String {
    match store_key {
        StoreKey::Address { recipient, address } => {
            format!("otp:{{s:{}}}:{}:{address}", recipient.email, recipient.tenant.name())
        }
        StoreKey::Id(id) => format!("otp:{{v:{id}}}"),
    }
}

/// Returns the key of the log of sends to an email address, for all tenants.
pub(super) fn sends(email: &KeyedHash) -> String {
    format!("otp:{{s:{email}}}:sends")
}

/// Returns the key of the log of a client prefix's attempts at a recipient.
pub(super) fn ip_email_attempts(recipient: &Recipient, client: &KeyedHash) -> String {
    format!("otp:{{s:{}}}:{}:attempts:{client}", recipient.email, recipient.tenant.name())
}

/// Returns the keys of the logs of an IP: that of the IPv4 address, or those of the IPv6 /64 and
/// /48.
pub(super) fn network(profile: &IpLedger) -> Vec<String> {
    let ClientNetwork { prefix48, prefix64 } = profile.network;
    let action = match profile.action {
        Action::Send => "sends",
        Action::Attempt => "attempts",
    };
    let of_site = format!("otp:{{n:{prefix48}}}:{}:{action}", profile.tenant.name());
    match prefix64 {
        Some(prefix64) => vec![format!("{of_site}:{prefix64}"), of_site],
        None => vec![of_site],
    }
}

/// Returns the key of an idempotency key.
pub(super) fn idempotency(key: &KeyedHash) -> String {
    format!("otp:{{i:{key}}}")
}

/// The key that `ready` writes.
pub(super) const READY: &str = "otp:{ready}";
/// The key of the count of emails handed to the relay.
pub(super) const RELAY_DAY: &str = "otp:{relay}:day";

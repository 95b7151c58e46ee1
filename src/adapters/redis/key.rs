//! The one place where keys are built.
//!
//! The tag in braces is such that all that one script touches shares a hash store key. Must not put anything into a key
//! that says whom it is about.

use crate::domain::store_key::{ClientNetwork, KeyedHash, Recipient, StoreKey};
use crate::ports::{Action, IpLedger};

/// A person's tag, or that of tenant and id.
pub(super) fn verification(store_key: &StoreKey) -> String {
    match store_key {
        StoreKey::Address { recipient, address } => {
            format!("otp:{{s:{}}}:{}:{address}", recipient.email, recipient.tenant.name())
        }
        StoreKey::Id(id) => format!("otp:{{v:{id}}}"),
    }
}

/// The log of the sends to a person, for all tenants.
pub(super) fn sends(email: &KeyedHash) -> String {
    format!("otp:{{s:{email}}}:sends")
}

/// The log of a site's attempts at a recipient.
pub(super) fn ip_email_attempts(recipient: &Recipient, client: &KeyedHash) -> String {
    format!("otp:{{s:{}}}:{}:attempts:{client}", recipient.email, recipient.tenant.name())
}

/// The logs of a network: that of the IPv4 address, or those of the IPv6 /64 and /48.
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

/// An idempotency key.
pub(super) fn idempotency(key: &KeyedHash) -> String {
    format!("otp:{{i:{key}}}")
}

/// What `ready` writes.
pub(super) const READY: &str = "otp:{ready}";
/// The count of the mails handed to the relay.
pub(super) const RELAY_DAY: &str = "otp:{relay}:day";

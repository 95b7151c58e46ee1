//! Names all Redis keys.
//!
//! The hash tag (the part in braces) is chosen so that all keys of one script share a Redis hash
//! slot. Must not put anything into a key that reveals whom it concerns.

use std::fmt;

use redis::{RedisWrite, ToRedisArgs};
use smallvec::SmallVec;

use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger_key::{LedgerKey, email_hash_tag};
use crate::domain::store_key::StoreKey;

/// A key. It is written as text into the command that has it.
#[derive(Clone, Copy)]
pub(super) enum RedisKey<'a> {
    /// A verification. Its hash tag is the hash of the email address, or of tenant and id.
    Verification(&'a StoreKey),
    Ledger(&'a LedgerKey),
    /// An idempotency key.
    Idempotency(&'a KeyedHash),
    /// The captured emails of a sandbox key.
    TestMails(&'a KeyedHash),
    /// The key that a check of this number writes.
    Ready(u32),
}

/// The keys of one call.
pub(super) type RedisKeys<'a> = SmallVec<[RedisKey<'a>; 4]>;

impl fmt::Display for RedisKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verification(StoreKey::Address { recipient, address }) => {
                let (tag, namespace) = (email_hash_tag(&recipient.email), recipient.tenant.namespace());
                write!(f, "otp:{{{tag}}}:{namespace}:{address}")
            }
            Self::Verification(StoreKey::Id(id)) => write!(f, "otp:{{v:{id}}}"),
            Self::Ledger(ledger) => write!(f, "otp:{ledger}"),
            Self::Idempotency(key) => write!(f, "otp:{{i:{key}}}"),
            Self::TestMails(mailbox) => write!(f, "otp:{{m:{mailbox}}}"),
            Self::Ready(number) => write!(f, "otp:{{ready:{number}}}"),
        }
    }
}

impl ToRedisArgs for RedisKey<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

/// Returns the keys of a ledger, and of that of a partition of it.
pub(super) fn ledgers<'a>(ledger: &'a LedgerKey, of_partition: Option<&'a LedgerKey>) -> RedisKeys<'a> {
    [ledger].into_iter().chain(of_partition).map(RedisKey::Ledger).collect()
}

/// Returns what the keys of all ledgers of an email address begin with.
pub(super) fn email_prefix(email: &KeyedHash) -> String {
    format!("otp:{{{}}}:", email_hash_tag(email))
}

//! Idempotency keys: a caller that repeats a request with the same key starts one verification and
//! sends one email.
//!
//! Follows draft-ietf-httpapi-idempotency-key-header with restrictions: a key belongs to one tenant
//! and one route for a day, and only success is stored, as the id of the verification. Must not
//! store a body: a keyed hash stands for it.

use std::time::Duration;

use super::keyed_hash::{IndexKey, KeyedHash};
use super::tenant::Tenant;
use super::verification_id::VerificationId;

/// How long a request in progress may hold its key. It then expires, in case the request never
/// ends.
pub const IN_PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the result of a request is stored.
pub const RETENTION: Duration = Duration::from_hours(24);
/// The longest key, in characters.
pub const IDEMPOTENCY_KEY_MAX: usize = 64;
/// Bytes of the token that tells requests with the same key apart.
pub const REQUEST_TOKEN_BYTES: usize = 16;

/// An idempotency key: 1 to 64 visible ASCII characters. The quotes of a structured field (RFC 9651
/// section 3.3.3) are not part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// One request with an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// Stands for the tenant, the route and the key.
    pub key: KeyedHash,
    /// Stands for the body.
    pub fingerprint: KeyedHash,
    /// Generated for this request.
    pub token: [u8; REQUEST_TOKEN_BYTES],
}

/// The outcome of beginning a request with an idempotency key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginOutcome {
    /// The key was free. The token now holds it until the request is completed or abandoned, for
    /// [`IN_PROGRESS_TIMEOUT`] at most.
    Begun,
    /// Another request with the same body is in progress.
    InProgress,
    /// An earlier request with the same body created this verification.
    Done(VerificationId),
    /// The key belongs to another body.
    Mismatch,
}

impl IndexKey {
    /// Returns the hash that stands for an idempotency key of that tenant and route.
    #[must_use]
    pub fn idempotency_key(&self, tenant: &Tenant, route: &str, key: &IdempotencyKey) -> KeyedHash {
        self.keyed_hash(b"idempotency", format!("{}\0{route}\0{}", tenant.namespace(), key.expose()))
    }

    /// Returns the hash that stands for the members of a body, which are always in the same order.
    #[must_use]
    pub fn fingerprint(&self, members: &[Option<&str>]) -> KeyedHash {
        // Each has its length in front, so that no two lists give the same text.
        let framed = members.iter().map(|member| match member {
            Some(text) => format!("{}:{text}", text.len()),
            None => "-".to_owned(),
        });
        self.keyed_hash(b"fingerprint", framed.collect::<String>())
    }
}

impl IdempotencyKey {
    /// Parses the value of the header.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let text = inner.unwrap_or(text);
        let fits = (1..=IDEMPOTENCY_KEY_MAX).contains(&text.len());
        (fits && text.bytes().all(|b| b.is_ascii_graphic())).then(|| Self(text.to_owned()))
    }

    /// Returns the text of the key. For a keyed hash only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdempotencyKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_and_visible() {
        let key = |text| IdempotencyKey::parse(text).map(|key| key.0);
        assert_eq!(key("\"8e03978e\""), key("8e03978e"));
        assert_eq!(key("a").as_deref(), Some("a"));
        for bad in ["", "\"\"", "a b", "é", "a\t", &"a".repeat(65)] {
            assert_eq!(key(bad), None, "{bad:?}");
        }
    }
}

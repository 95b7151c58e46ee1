//! Idempotency keys: a caller that repeats a request under one key starts one verification, and mails once.
//!
//! After draft-ietf-httpapi-idempotency-key-header, narrowed: a key belongs to one tenant and one route for a day, only
//! success is remembered, and only as the id of what came of it. Must not hold a body: a keyed hash stands for it.

use std::time::Duration;

use super::store_key::KeyedHash;
use super::verification_id::VerificationId;

/// How long a request under way keeps others with its key out, should it never end.
pub const IN_PROGRESS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long what came of a key is remembered.
pub const RETENTION: Duration = Duration::from_hours(24);
/// The longest key, in characters.
pub const IDEMPOTENCY_KEY_MAX: usize = 64;
/// Octets that tell one request under a key from the next.
pub const REQUEST_TOKEN_BYTES: usize = 16;

/// A caller's name for one request: 1 to 64 visible ASCII characters. The quotes of a structured field (RFC 9651 section
/// 3.3.3) are no part of it.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// One request under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdempotentRequest {
    /// Stands for tenant, route and key.
    pub key: KeyedHash,
    /// Stands for the body.
    pub fingerprint: KeyedHash,
    /// Drawn for this request.
    pub token: [u8; REQUEST_TOKEN_BYTES],
}

/// How a key stands for one who comes with a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginOutcome {
    /// It was free: it is the token's until it settles or releases it, [`IN_PROGRESS_TIMEOUT`] at most.
    Begun,
    /// Another request with that body is under way.
    InProgress,
    /// That body has led to this verification.
    Done(VerificationId),
    /// It belongs to another body.
    Mismatch,
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

    /// The key itself: for its tag only.
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

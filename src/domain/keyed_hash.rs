//! Keyed hashes: what stores and logs see in place of email and IP addresses.

use std::fmt;

use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

/// Bytes of the index key.
pub const INDEX_KEY_BYTES: usize = 32;
/// Bytes of a truncated keyed hash: 128 bits, so that collisions are not a concern.
pub(super) const KEYED_HASH_BYTES: usize = 16;

/// The key of the hashes that stand for addresses. It is not rotated with the peppers, because
/// another key empties every ledger and closes every verification. Has taken in the key already,
/// which is half of the work of a short HMAC; wiped when dropped.
#[derive(Clone)]
pub struct IndexKey(Hmac<Sha256>);

/// 128 bits of a keyed hash.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyedHash([u8; KEYED_HASH_BYTES]);

impl IndexKey {
    /// Wraps a secret of 256 bits.
    #[must_use]
    #[expect(clippy::unreachable, reason = "HMAC takes a key of any length")]
    pub fn new(secret: [u8; INDEX_KEY_BYTES]) -> Self {
        let secret = Zeroizing::new(secret);
        let Ok(mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_slice()) else {
            unreachable!();
        };
        Self(mac)
    }

    /// Returns HMAC-SHA-256 over a purpose, a NUL and the value to hide, truncated to 128 bits.
    pub(super) fn keyed_hash(&self, purpose: &[u8], text: impl AsRef<[u8]>) -> KeyedHash {
        let full =
            self.0.clone().chain_update(purpose).chain_update([0]).chain_update(text).finalize().into_bytes();
        let mut hash = [0; KEYED_HASH_BYTES];
        hash.iter_mut().zip(full).for_each(|(to, from)| *to = from);
        KeyedHash(hash)
    }
}

impl KeyedHash {
    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; KEYED_HASH_BYTES] {
        &self.0
    }
}

impl fmt::Display for KeyedHash {
    /// Writes 22 characters of URL-safe base64 without padding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Base64Display::new(&self.0, &URL_SAFE_NO_PAD), f)
    }
}

impl fmt::Debug for KeyedHash {
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
    use sha2::block_api::Sha256VarCore;
    use zeroize::ZeroizeOnDrop;

    /// Compiles only with the features that wipe them.
    #[test]
    fn the_states_of_an_hmac_are_wiped_when_dropped() {
        fn is_wiped<T: ZeroizeOnDrop>() {}
        is_wiped::<Sha256VarCore>();
    }
}

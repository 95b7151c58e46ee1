//! API keys: 256 random bits that a program presents, and the hash of them that the settings hold.
//!
//! A key has too many bits to be guessed, so a fast hash is enough to hide it. Hashes are compared
//! in constant time. Must not store a key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Random bytes in a key.
pub const API_KEY_BYTES: usize = 32;
/// The prefix of every key, by which secret scanners recognise a leaked one.
const PREFIX: &str = "otpd_";
/// Characters of a key: the prefix, and 32 bytes as URL-safe base64 without padding.
const KEY_LENGTH: usize = PREFIX.len() + 43;

/// The hash of a key as the settings hold it: the SHA-256 of its text.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

/// Returns the text of a key made of these random bytes. It is shown once.
#[must_use]
pub fn text(bytes: &[u8; API_KEY_BYTES]) -> Zeroizing<String> {
    Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes)))
}

impl KeyHash {
    /// Returns the hash of a presented key, or `None` if the text does not have the form of a key.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        let is_one = key.len() == KEY_LENGTH && key.starts_with(PREFIX);
        is_one.then(|| Self(Sha256::digest(key).into()))
    }

    /// Parses the form in the settings: 43 characters of URL-safe base64.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok().map(Self)
    }

    /// Returns whether both are hashes of the same key. Runs in constant time.
    #[must_use]
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for KeyHash {
    /// Writes the form in the settings.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_by_its_hash_alone() {
        let key = text(&[1; 32]);
        let other = text(&[2; 32]);
        assert_eq!(key.len(), KEY_LENGTH);
        let hash = KeyHash::of(&key).unwrap();
        assert!(hash.matches(&KeyHash::parse(&hash.to_string()).unwrap()));
        assert!(!hash.matches(&KeyHash::of(&other).unwrap()));
        assert_eq!(format!("{hash:?}"), "KeyHash(***)");
    }

    #[test]
    fn the_hash_is_that_of_common_tools() {
        // printf %s otpd_AQEB…AQE | openssl dgst -sha256 -binary | basenc --base64url
        assert_eq!(
            KeyHash::of("otpd_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE").unwrap().to_string(),
            "gaOoh7UBkcGU96hr25nbujhaK4HfrgVaSrDEtcNio6k"
        );
    }

    #[test]
    fn what_is_no_key_has_no_hash() {
        let key = text(&[1; 32]);
        for bad in ["", "otpd_", &key[1..], &format!("{}x", *key), &key.replace("otpd_", "otpe_")] {
            assert!(KeyHash::of(bad).is_none(), "{bad}");
        }
        for bad in ["", "x", &"A".repeat(42), &"A".repeat(44)] {
            assert!(KeyHash::parse(bad).is_none(), "{bad}");
        }
    }
}

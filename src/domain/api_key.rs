//! API keys: 256 random bits that a program presents, and the hash of them that the settings hold.
//!
//! A key has too many bits to be guessed, so a fast hash is enough to hide it. Hashes are compared
//! in constant time. The prefix says whether a key is live or for tests. Must not store a key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// Random bytes in a key.
pub const API_KEY_BYTES: usize = 32;
/// Characters of a key after its prefix: 32 bytes as URL-safe base64 without padding.
const RANDOM_LENGTH: usize = 43;

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// Verifications of people.
    Live,
    /// Tests, for which no email is sent.
    Sandbox,
}

/// The hash of a key as the settings hold it: the SHA-256 of its text.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

/// Returns the text of a live key made of these random bytes. It is shown once.
#[must_use]
pub fn text(bytes: &[u8; API_KEY_BYTES]) -> Zeroizing<String> {
    text_of(KeyKind::Live, bytes)
}

/// Returns the text of a key made of these random bytes. It is shown once.
#[must_use]
pub fn text_of(kind: KeyKind, bytes: &[u8; API_KEY_BYTES]) -> Zeroizing<String> {
    Zeroizing::new(format!("{}{}", kind.prefix(), URL_SAFE_NO_PAD.encode(bytes)))
}

impl KeyKind {
    /// Returns the kind of a presented key, or `None` if the text does not have the form of a key.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        let is_of =
            |kind: &Self| key.strip_prefix(kind.prefix()).is_some_and(|random| random.len() == RANDOM_LENGTH);
        [Self::Live, Self::Sandbox].into_iter().find(is_of)
    }

    /// Returns the prefix of its keys, by which secret scanners recognise a leaked one.
    fn prefix(self) -> &'static str {
        match self {
            Self::Live => "otpd_",
            Self::Sandbox => "otpd_test_",
        }
    }
}

impl KeyHash {
    /// Returns the hash of a presented key, or `None` if the text does not have the form of a key.
    #[must_use]
    pub fn of(key: &str) -> Option<Self> {
        KeyKind::of(key).map(|_| Self(Sha256::digest(key).into()))
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
    fn the_kind_of_a_key_is_in_its_prefix() {
        let sandbox = text_of(KeyKind::Sandbox, &[1; 32]);
        assert_eq!(&sandbox[..], format!("otpd_test_{}", &text(&[1; 32])["otpd_".len()..]));
        assert_eq!(KeyKind::of(&sandbox), Some(KeyKind::Sandbox));
        assert_eq!(KeyKind::of(&text(&[1; 32])), Some(KeyKind::Live));
        // A live key whose random part begins like the prefix of a sandbox key.
        assert_eq!(KeyKind::of(&format!("otpd_test_{}", "A".repeat(38))), Some(KeyKind::Live));
        assert!(!KeyHash::of(&sandbox).unwrap().matches(&KeyHash::of(&text(&[1; 32])).unwrap()));
    }

    #[test]
    fn a_key_is_known_by_its_hash_alone() {
        let key = text(&[1; 32]);
        let other = text(&[2; 32]);
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
        let sandbox = text_of(KeyKind::Sandbox, &[1; 32]);
        for bad in [
            "",
            "otpd_",
            "otpd_test_",
            &sandbox[1..],
            &sandbox[..52],
            &key[1..],
            &format!("{}x", *key),
            &key.replace("otpd_", "otpe_"),
        ] {
            assert!(KeyHash::of(bad).is_none(), "{bad}");
        }
        for bad in ["", "x", &"A".repeat(42), &"A".repeat(44)] {
            assert!(KeyHash::parse(bad).is_none(), "{bad}");
        }
    }
}

//! The names of a deployment's keys, which allow two keys of a kind to be active during a rotation.
//!
//! Must not hold a key.

use std::sync::Arc;

/// The longest name, in characters.
const NAME_MAX: usize = 16;

/// The name of a pepper, a proof key or an API key: 1 to 16 characters of `a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(Arc<str>);

impl KeyName {
    /// Parses a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_plain);
        fits.then(|| Self(text.into()))
    }

    /// Returns the name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether a byte may be part of a name. Names appear in settings, in Redis keys and in
/// logs.
pub(super) fn is_plain(b: u8) -> bool {
    b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_plain() {
        for bad in ["", "K1", "k:1", "k 1", "seventeen-letters"] {
            assert!(KeyName::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(KeyName::parse("k-1_2").unwrap().as_str(), "k-1_2");
    }
}

//! What the keys of a deployment are called, so that two of a kind can be active while one takes over.
//!
//! Must not hold a key.

/// The longest name, in characters.
const NAME_MAX: usize = 16;

/// The name of a pepper, a proof key or an API key: 1 to 16 characters of `a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyName(String);

impl KeyName {
    /// Parses a name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(is_plain);
        fits.then(|| Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What names of ours are made of: they stand in settings, in Redis keys and in logs.
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

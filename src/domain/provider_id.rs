//! The id that an email provider gives to an email, by which its support finds it.

use std::fmt;

/// Maximum length in bytes. Providers use up to about 100.
const MAX_BYTES: usize = 200;

/// The provider's id of an email. Names no person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderId(String);

impl ProviderId {
    /// Parses 1 to 200 characters of printable ASCII without a space.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=MAX_BYTES).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        fits.then(|| Self(text.to_owned()))
    }

    /// Returns the id.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ProviderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_printable() {
        for text in ["49a3999c-0ce1-4ea6-ab68-afcd6dc2e794", "<20261130.1@example.com>", &"a".repeat(200)] {
            assert_eq!(ProviderId::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "a b", "a\n", "é", &"a".repeat(201)] {
            assert!(ProviderId::parse(text).is_none(), "{text:?}");
        }
    }
}

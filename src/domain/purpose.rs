//! Purposes: what an address is confirmed for, so that a code for one purpose confirms nothing
//! else.
//!
//! The purpose is chosen when a verification is created, encrypted with its details, and stated in
//! its proof. Must not be free text, because it appears in proofs and in logs.

/// The longest purpose, in characters.
pub const PURPOSE_MAX: usize = 64;
/// The purpose if neither the request nor the tenant's settings name one.
const USUAL: &str = "verification";

/// A purpose: 1 to 64 characters of `a-z 0-9 _ . -`, the first a letter or a digit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purpose(String);

/// The purposes that a tenant may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purposes {
    /// Any purpose.
    Any,
    /// These. The first is used if a request names none.
    Only(Vec<Purpose>),
}

impl Purpose {
    /// Parses a purpose.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_first = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        let is_plain = |b: u8| is_first(b) || [b'_', b'.', b'-'].contains(&b);
        let fits = text.len() <= PURPOSE_MAX && text.bytes().all(is_plain);
        (fits && text.bytes().next().is_some_and(is_first)).then(|| Self(text.to_owned()))
    }

    /// Returns the purpose.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Purposes {
    /// Returns the requested purpose if it is allowed. Without a request, returns the default one.
    #[must_use]
    pub fn choose(&self, asked: Option<Purpose>) -> Option<Purpose> {
        match (self, asked) {
            (Self::Any, asked) => Some(asked.unwrap_or_else(|| Purpose(USUAL.to_owned()))),
            (Self::Only(purposes), None) => purposes.first().cloned(),
            (Self::Only(purposes), asked) => asked.filter(|asked| purposes.contains(asked)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose(text: &str) -> Purpose {
        Purpose::parse(text).unwrap()
    }

    #[test]
    fn a_purpose_is_short_and_plain() {
        assert_eq!(purpose("password_reset.v2-eu").as_str(), "password_reset.v2-eu");
        for bad in ["", "Login", "a b", "_a", ".a", "é", "a\n", &"a".repeat(65)] {
            assert!(Purpose::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn only_what_is_listed_is_allowed_and_the_first_is_meant() {
        let only = Purposes::Only(vec![purpose("login"), purpose("signup")]);
        assert_eq!(only.choose(None), Some(purpose("login")));
        assert_eq!(only.choose(Some(purpose("signup"))), Some(purpose("signup")));
        assert_eq!(only.choose(Some(purpose("reset"))), None);
        assert_eq!(Purposes::Any.choose(Some(purpose("reset"))), Some(purpose("reset")));
        assert_eq!(Purposes::Any.choose(None), Some(purpose("verification")));
    }
}

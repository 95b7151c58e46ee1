//! The id of a verification: 128 random bits that reveal nothing.

use std::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of an id: the 128 bits that OWASP ASVS 5.0 section 11.5.1 requires.
pub const ID_BYTES: usize = 16;

/// An unguessable id. It allows its holder to attempt this verification and no other.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerificationId([u8; ID_BYTES]);

impl VerificationId {
    /// Wraps 16 random bytes.
    #[must_use]
    pub fn new(bytes: [u8; ID_BYTES]) -> Self {
        Self(bytes)
    }

    /// Parses the text form. An id has exactly one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for VerificationId {
    /// Writes 22 characters of URL-safe base64 (RFC 4648 section 5) without padding.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Base64Display::new(&self.0, &URL_SAFE_NO_PAD), f)
    }
}

impl fmt::Debug for VerificationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VerificationId(***)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ids_read_back(bytes in any::<[u8; ID_BYTES]>()) {
            let id = VerificationId::new(bytes);
            prop_assert_eq!(VerificationId::parse(&id.to_string()), Some(id));
        }

        #[test]
        fn one_id_has_one_form(text in "[A-Za-z0-9_-]{22}") {
            if let Some(id) = VerificationId::parse(&text) {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}

//! The secret that requests to the hook are signed with, as Standard Webhooks writes it.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

const PREFIX: &str = "whsec_";
/// Length in bytes, as Standard Webhooks recommends.
const BYTES: RangeInclusive<usize> = 24..=64;

/// The secret of the hook.
#[derive(Clone)]
pub struct HookSecret(Zeroizing<Vec<u8>>);

impl HookSecret {
    /// Parses `whsec_` and 24 to 64 bytes in Base64 with padding.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(STANDARD.decode(text.strip_prefix(PREFIX)?).ok()?);
        BYTES.contains(&bytes.len()).then_some(Self(bytes))
    }

    /// Returns the text of a secret made of these random bytes.
    #[must_use]
    pub fn text(bytes: &[u8; 32]) -> Zeroizing<String> {
        Zeroizing::new(format!("{PREFIX}{}", *Zeroizing::new(STANDARD.encode(bytes))))
    }

    /// Returns the key of the HMAC.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for HookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HookSecret(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_read_as_it_is_printed() {
        assert_eq!(HookSecret::parse(&HookSecret::text(&[7; 32])).unwrap().expose(), [7; 32]);
        let of = |length: usize| format!("{PREFIX}{}", STANDARD.encode(vec![1; length]));
        assert!([24, 32, 64].iter().all(|length| HookSecret::parse(&of(*length)).is_some()));
        let unpadded = of(32).trim_end_matches('=').to_owned();
        let url_safe = format!("{PREFIX}{}", "-_-_".repeat(8));
        for text in [of(23), of(65), unpadded, url_safe, of(32).replace(PREFIX, "WHSEC_"), String::new()] {
            assert!(HookSecret::parse(&text).is_none(), "{text}");
        }
        assert_eq!(format!("{:?}", HookSecret::parse(&of(32))), "Some(HookSecret(***))");
    }
}

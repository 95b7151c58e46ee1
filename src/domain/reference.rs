//! The reference: three letters on the screen and in the email, which show a person which email
//! belongs to which screen.
//!
//! It is not secret and identifies nothing.

use rand::TryCryptoRng;

/// Consonants that are hard to confuse and form no words (RFC 8628 section 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// The number of letters of a reference.
pub const REFERENCE_LETTERS: usize = 3;

/// A reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reference([u8; REFERENCE_LETTERS]);

impl Reference {
    /// Generates a reference. Each is equally likely.
    ///
    /// # Errors
    /// Returns the generator's error if it cannot provide randomness.
    pub fn generate<R: TryCryptoRng>(rng: &mut R) -> Result<Self, R::Error> {
        // 2^32 is not a multiple of 20^3. The bias is one part in 500,000, and no security depends
        // on it.
        let mut number = rng.try_next_u32()? as usize;
        let mut letters = [0; REFERENCE_LETTERS];
        for letter in &mut letters {
            *letter = LETTERS.get(number % LETTERS.len()).copied().unwrap_or_default();
            number /= LETTERS.len();
        }
        Ok(Self(letters))
    }

    /// Parses the three letters.
    #[must_use]
    pub fn parse(letters: &[u8]) -> Option<Self> {
        let letters: [u8; REFERENCE_LETTERS] = letters.try_into().ok()?;
        letters.iter().all(|letter| LETTERS.contains(letter)).then_some(Self(letters))
    }

    /// Returns the three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand::rngs::SysRng;

    use super::*;

    #[test]
    fn references_are_three_letters_and_read_back() {
        let drawn: HashSet<_> = (0..1000)
            .map(|_| {
                let reference = Reference::generate(&mut SysRng).unwrap();
                assert_eq!(Reference::parse(reference.as_str().as_bytes()), Some(reference));
                reference.as_str().to_owned()
            })
            .collect();
        // Of 8,000: about 940 different ones.
        assert!(drawn.len() > 850, "{}", drawn.len());
        for bad in ["", "BC", "BCDF", "BCA", "bcd", "BC0"] {
            assert!(Reference::parse(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}

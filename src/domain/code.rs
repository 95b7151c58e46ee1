//! The one-time code: generated and parsed, but never compared as text.
//!
//! Generates codes with a uniform distribution and parses what a person typed. Must not compare
//! codes: only their hashes are compared (see `code_hash`), in constant time.

use std::fmt;

use rand::TryCryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::typed;

/// The most digits of a code.
const MAX_DIGITS: usize = 10;
/// The most bytes of a typed code: ten digits of any script, and all that a clipboard puts around
/// them.
const TYPED_MAX: usize = 1024;

/// The number of decimal digits of a new code: 6 to 10.
///
/// NIST SP 800-63B requires at least 20 bits, and its section 3.1.3.2 accepts no fewer than 6
/// digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodeLength(u8);

/// A one-time code of 6 to 10 decimal digits. Wiped when dropped.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Code {
    digits: [u8; MAX_DIGITS],
    length: usize,
}

impl CodeLength {
    /// Returns `None` unless `digits` is 6 to 10.
    #[must_use]
    pub fn new(digits: u8) -> Option<Self> {
        (6..=10).contains(&digits).then_some(Self(digits))
    }

    /// Returns the number of digits.
    #[must_use]
    pub fn digits(self) -> u8 {
        self.0
    }
}

impl Code {
    /// Generates a code. Every string of that many digits is equally likely.
    ///
    /// Discards random bytes of 250 and above, because 256 is not a multiple of ten and the low
    /// digits would be more likely.
    ///
    /// # Errors
    /// Returns the generator's error if it cannot provide randomness.
    pub fn generate<R: TryCryptoRng>(length: CodeLength, rng: &mut R) -> Result<Self, R::Error> {
        let mut code = Self { digits: [0; MAX_DIGITS], length: usize::from(length.0) };
        let mut generated = 0;
        while generated < code.length {
            let mut bytes = [0; 2 * MAX_DIGITS];
            rng.try_fill_bytes(&mut bytes)?;
            let fair = bytes.iter().filter(|byte| **byte < 250);
            for (place, byte) in code.digits.iter_mut().take(code.length).skip(generated).zip(fair) {
                *place = b'0' + byte % 10;
                generated += 1;
            }
            bytes.zeroize();
        }
        Ok(code)
    }

    /// Parses a typed code: 6 to 10 decimal digits of any script. Ignores white space, dashes and
    /// invisible characters.
    #[must_use]
    pub fn parse(typed: &str) -> Option<Self> {
        if typed.len() > TYPED_MAX {
            return None;
        }
        let mut code = Self { digits: [0; MAX_DIGITS], length: 0 };
        for c in typed.chars().filter(|c| !typed::is_blank(*c) && !typed::is_dash(*c)) {
            *code.digits.get_mut(code.length)? = b'0' + typed::decimal_digit(c)?;
            code.length += 1;
        }
        (code.length >= 6).then_some(code)
    }

    /// Returns the digits. For the email and the hash only.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.digits.get(..self.length).and_then(|d| str::from_utf8(d).ok()).unwrap_or_default()
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Code(***)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::rngs::SysRng;

    use super::*;

    fn six() -> CodeLength {
        CodeLength::new(6).unwrap()
    }

    #[test]
    fn digits_are_uniform_in_every_place() {
        // Chi-squared over 10^5 codes, one test for each of the six positions. The total error is
        // to be 1e-3, so each test uses the 1 - 1e-3/6 quantile for 9 degrees of freedom, 32.2.
        let mut counts = [[0_u32; 10]; 6];
        for _ in 0..100_000 {
            let code = Code::generate(six(), &mut SysRng).unwrap();
            for (place, digit) in code.expose().bytes().enumerate() {
                counts[place][usize::from(digit - b'0')] += 1;
            }
        }
        for (place, counts) in counts.iter().enumerate() {
            let chi: f64 = counts.iter().map(|n| (f64::from(*n) - 10_000.0).powi(2) / 10_000.0).sum();
            assert!(chi < 32.2, "place {place}: chi-squared {chi}");
        }
    }

    /// A generator that returns all byte values in turn, to show which of them become digits.
    struct Counting(u8);

    impl rand::rand_core::TryRng for Counting {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            panic!("codes are generated from bytes")
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            panic!("codes are generated from bytes")
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            for byte in bytes {
                *byte = self.0;
                self.0 = self.0.wrapping_add(1);
            }
            Ok(())
        }
    }

    impl TryCryptoRng for Counting {}

    #[test]
    fn bytes_that_would_favour_low_digits_are_thrown_away() {
        // From 246 on: 6, 7, 8, 9, then 250 to 255 discarded, then 0, 1.
        assert_eq!(Code::generate(six(), &mut Counting(246)).unwrap().expose(), "678901");
    }

    #[test]
    fn codes_of_every_length_can_be_generated() {
        for digits in 6..=10 {
            let code = Code::generate(CodeLength::new(digits).unwrap(), &mut SysRng).unwrap();
            assert_eq!(code.expose().len(), usize::from(digits));
        }
        assert!(CodeLength::new(5).is_none() && CodeLength::new(11).is_none());
    }

    #[test]
    fn typed_codes_lose_white_space_dashes_and_what_nobody_sees_only() {
        for typed in [
            " 012-345 ",
            "012\u{a0}345",
            "\u{200b}012345",
            "\u{200e}012\u{2060}345\u{200f}",
            "\u{feff}012\u{ad}345\r\n",
            "\u{2067}012345\u{2069}",
            "012\u{2013}345",
            "0-1\u{2011}2\u{2014}3\u{2212}4\u{ff0d}5",
            "012\u{30fc}345",
            "0\u{fe0f}12345",
        ] {
            assert_eq!(Code::parse(typed).unwrap().expose(), "012345", "{typed:?}");
        }
        for typed in [
            "",
            "-",
            "\u{200b}",
            "12345",
            "12345678901",
            "12345a",
            "+12345",
            "12345.6",
            "0x1234",
            "12345_6",
            "12345²",
            "①②③④⑤⑥",
            "一二三四五六",
            "1\u{20e3}23456",
            "12345\0",
        ] {
            assert!(Code::parse(typed).is_none(), "{typed:?}");
        }
    }

    #[test]
    fn a_digit_of_any_script_is_that_digit() {
        for typed in
            ["٤٨٣٩٢٠", "۴۸۳۹۲۰", "४८३९२०", "４８３９２０", "๔๘๓๙๒๐", "𝟒𝟖𝟑𝟗𝟐𝟎", "4٨۳９2०", "\u{200f}٤٨٣ ٩٢٠"]
        {
            assert_eq!(Code::parse(typed).unwrap().expose(), "483920", "{typed:?}");
        }
        assert!(Code::parse("٤٨٣٩٢").is_none() && Code::parse("٤٨٣٩٢٠٤٨٣٩٢").is_none());
    }

    #[test]
    fn a_typed_text_beyond_its_bound_is_not_looked_at() {
        let spaced = |bytes: usize| Code::parse(&format!("{}012345", " ".repeat(bytes - 6)));
        assert_eq!(spaced(TYPED_MAX).unwrap().expose(), "012345");
        assert!(spaced(TYPED_MAX + 1).is_none());
    }

    proptest! {
        #[test]
        fn generated_codes_parse_back(digits in 6_u8..=10) {
            let code = Code::generate(CodeLength::new(digits).unwrap(), &mut SysRng).unwrap();
            let read = Code::parse(code.expose()).unwrap();
            prop_assert_eq!(read.expose(), code.expose());
            prop_assert_eq!(format!("{code:?}"), "Code(***)");
        }

        #[test]
        fn any_text_is_read_or_refused(typed in ".{0,40}") {
            if let Some(code) = Code::parse(&typed) {
                prop_assert!((6..=10).contains(&code.expose().len()));
                prop_assert!(code.expose().bytes().all(|b| b.is_ascii_digit()));
            }
        }

        #[test]
        fn what_is_ignored_changes_no_code_wherever_it_stands(
            parts in proptest::collection::vec("[\\p{White_Space}\\p{Dash}\\p{DI}]{0,3}\\p{Nd}", 6..=10)
        ) {
            let typed = parts.concat();
            let digits: String = parts.iter().filter_map(|part| part.chars().last()).collect();
            let typed = Code::parse(&typed).unwrap();
            let digits = Code::parse(&digits).unwrap();
            prop_assert_eq!(typed.expose(), digits.expose());
            prop_assert_eq!(typed.expose().len(), parts.len());
        }
    }
}

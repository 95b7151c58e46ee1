//! Characters that keyboards and clipboards put into a text that a person typed or pasted: digits
//! of any script, and invisible characters.
//!
//! Classifies single characters by their Unicode properties. Must not depend on the meaning of the
//! text.

use icu_properties::props::{Dash, DefaultIgnorableCodePoint, GeneralCategory};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Returns whether a character is invisible: white space, or a character without a glyph, such as a
/// zero-width space, a direction mark or a byte order mark (`Default_Ignorable_Code_Point`).
#[must_use]
pub fn is_blank(c: char) -> bool {
    // In ASCII nothing else is invisible.
    c.is_whitespace() || (!c.is_ascii() && CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c))
}

/// Returns whether a character is a dash of any script, or one of the two long-vowel marks that a
/// Japanese keyboard writes for a hyphen (U+30FC, U+FF70).
#[must_use]
pub fn is_dash(c: char) -> bool {
    if c.is_ascii() {
        return c == '-';
    }
    CodePointSetData::new::<Dash>().contains(c) || matches!(c, '\u{30fc}' | '\u{ff70}')
}

/// Returns the value of a decimal digit of any script (`General_Category=Nd`).
#[must_use]
pub fn decimal_digit(c: char) -> Option<u8> {
    if c.is_ascii() {
        return c.to_digit(10).and_then(|value| value.try_into().ok());
    }
    let is_digit =
        |c: &char| CodePointMapData::<GeneralCategory>::new().get(*c) == GeneralCategory::DecimalNumber;
    if !is_digit(&c) {
        return None;
    }
    // The ten digits of a script are contiguous and in order from zero (Unicode, section 4.6). Such
    // ranges may be adjacent.
    let before = ('\0'..c).rev().take_while(is_digit).count();
    u8::try_from(before % 10).ok()
}

/// Returns the text without invisible characters at both ends.
#[must_use]
pub fn trim(text: &str) -> &str {
    text.trim_matches(is_blank)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The zero of every script, from Python's `unicodedata` (Unicode 14.0.0).
    const ZEROS: &str = "0\u{660}\u{6f0}\u{7c0}\u{966}\u{9e6}\u{a66}\u{ae6}\u{b66}\u{be6}\u{c66}\u{ce6}\u{d66}\u{de6}\
        \u{e50}\u{ed0}\u{f20}\u{1040}\u{1090}\u{17e0}\u{1810}\u{1946}\u{19d0}\u{1a80}\u{1a90}\u{1b50}\
        \u{1bb0}\u{1c40}\u{1c50}\u{a620}\u{a8d0}\u{a900}\u{a9d0}\u{a9f0}\u{aa50}\u{abf0}\u{ff10}\
        \u{104a0}\u{10d30}\u{11066}\u{110f0}\u{11136}\u{111d0}\u{112f0}\u{11450}\u{114d0}\u{11650}\
        \u{116c0}\u{11730}\u{118e0}\u{11950}\u{11c50}\u{11d50}\u{11da0}\u{16a60}\u{16ac0}\u{16b50}\
        \u{1d7ce}\u{1d7d8}\u{1d7e2}\u{1d7ec}\u{1d7f6}\u{1e140}\u{1e2f0}\u{1e950}\u{1fbf0}";

    #[test]
    fn what_is_not_looked_up_in_ascii_is_what_unicode_says() {
        for c in '\0'..='\x7f' {
            let is_ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c);
            assert_eq!(is_blank(c), c.is_whitespace() || is_ignorable, "{c:?}");
            assert_eq!(is_dash(c), CodePointSetData::new::<Dash>().contains(c), "{c:?}");
            let is_digit =
                CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::DecimalNumber;
            assert_eq!(decimal_digit(c).is_some(), is_digit, "{c:?}");
        }
    }

    #[test]
    fn the_digits_of_every_script_have_their_values() {
        for zero in ZEROS.chars() {
            for value in 0..10_u8 {
                let digit = char::from_u32(u32::from(zero) + u32::from(value)).unwrap();
                assert_eq!(decimal_digit(digit), Some(value), "{digit:?}");
            }
        }
        for other in ['a', ' ', '²', '½', '①', '四', 'Ⅳ', '๏', '\u{20e3}', '\u{10ffff}'] {
            assert_eq!(decimal_digit(other), None, "{other:?}");
        }
    }

    #[test]
    fn what_nobody_sees_is_blank() {
        for blank in "\t\n\r \u{a0}\u{2003}\u{202f}\u{3000}\u{ad}\u{34f}\u{61c}\u{115f}\u{180e}\u{200b}\u{200c}\u{200d}\
                      \u{200e}\u{200f}\u{202a}\u{202e}\u{2060}\u{2066}\u{2069}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{e0020}\
                      \u{e0100}"
            .chars()
        {
            assert!(is_blank(blank), "{blank:?}");
        }
        for seen in ['0', 'a', '-', '.', '_', '\0', '\u{7f}', '\u{301}', '\u{fffd}', '٤'] {
            assert!(!is_blank(seen), "{seen:?}");
        }
        assert_eq!(trim("\u{feff}\u{200e} a\u{200b}b \u{202c}\n"), "a\u{200b}b");
        assert_eq!(trim("\u{200b}\u{3000}"), "");
    }

    #[test]
    fn dashes_of_all_keyboards_are_dashes() {
        for dash in "-\u{58a}\u{2010}\u{2011}\u{2012}\u{2013}\u{2014}\u{2015}\u{2212}\u{301c}\u{30fc}\u{fe58}\u{fe63}\u{ff0d}\u{ff70}".chars()
        {
            assert!(is_dash(dash), "{dash:?}");
        }
        for other in ['0', '_', '~', '.', '/', '+', '一'] {
            assert!(!is_dash(other), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn a_character_is_a_digit_a_dash_or_blank_but_never_two_of_them(c in any::<char>()) {
            let [digit, dash, blank] = [decimal_digit(c).is_some(), is_dash(c), is_blank(c)].map(u8::from);
            prop_assert!(digit + dash + blank <= 1, "{:?}", c);
        }

        #[test]
        fn every_digit_that_the_regex_library_knows_has_a_value(text in "\\p{Nd}") {
            prop_assert!(text.chars().all(|c| decimal_digit(c).is_some_and(|value| value < 10)), "{:?}", text);
        }
    }
}

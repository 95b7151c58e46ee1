//! Brand and language of emails, and the issuer of proofs.
//!
//! A brand goes into a mail header and is shown to people. It must therefore contain no control
//! characters and nothing that changes the direction of text. Must not know how an email is
//! written.

use super::reader::Reader;
use crate::domain::email_address::EmailAddress;
use crate::domain::locale::Locale;

/// Maximum length of a brand, in characters.
const BRAND_MAX: usize = 64;
/// Maximum length of an issuer, in bytes.
const ISSUER_MAX: usize = 200;

/// The name of the service in emails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brand {
    /// This name.
    Name(String),
    /// The domain of the sender's address.
    SenderDomain,
}

impl Brand {
    /// Returns the name for emails from this address.
    #[must_use]
    pub fn name<'a>(&'a self, sender: &'a EmailAddress) -> &'a str {
        match self {
            Self::Name(name) => name,
            Self::SenderDomain => sender.domain(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::SenderDomain),
            text => (text.chars().count() <= BRAND_MAX && text.chars().all(is_harmless))
                .then(|| Self::Name(text.to_owned())),
        }
    }
}

/// Reads a brand, such as `mail.brand`.
pub(super) fn read_brand(reader: &mut Reader<'_>, key: &str) -> Option<Brand> {
    let rule = "at most 64 characters, none of which controls the line or the direction of the text";
    reader.parse(key, rule, Brand::parse)
}

/// Reads a language, such as `mail.locale`.
pub(super) fn read_locale(reader: &mut Reader<'_>, key: &str) -> Option<Locale> {
    reader.parse(key, "a language tag (BCP 47) such as en or pt-BR", Locale::parse)
}

/// Reads `proof.issuer`.
pub(super) fn read_issuer(reader: &mut Reader<'_>) -> Option<String> {
    reader.parse("proof.issuer", "1 to 200 characters of printable ASCII", |text| {
        let fits = (1..=ISSUER_MAX).contains(&text.len()) && text.bytes().all(|b| (b' '..=b'~').contains(&b));
        fits.then(|| text.to_owned())
    })
}

/// Returns whether a character is neither a control character nor one that changes the direction of
/// text.
fn is_harmless(c: char) -> bool {
    let turns = matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let ends_a_line = matches!(c, '\u{2028}' | '\u{2029}');
    !(c.is_control() || turns || ends_a_line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_brand_is_a_name_or_the_senders_domain() {
        let sender = EmailAddress::parse("otp@shop.example").unwrap();
        assert_eq!(Brand::parse("").unwrap().name(&sender), "shop.example");
        for name in ["Shop & Söhne", "店", "متجر", &"é".repeat(64)] {
            assert_eq!(Brand::parse(name).unwrap().name(&sender), name);
        }
    }

    #[test]
    fn a_brand_that_breaks_or_deceives_is_refused() {
        for name in [
            "a\r\nBcc: x@y.zz",
            "a\nb",
            "a\rb",
            "a\0b",
            "a\tb",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{2066}b",
            "a\u{200f}b",
            "a\u{61c}b",
            "a\u{2028}b",
            &"é".repeat(65),
        ] {
            assert!(Brand::parse(name).is_none(), "{name:?}");
        }
    }
}

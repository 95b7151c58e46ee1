//! The address of a mailbox, parsed once.
//!
//! Accepts a dot-atom local part and a fully qualified domain: RFC 5321 section 4.1.2, without
//! quoted local parts and address literals. Must not rewrite the local part that email is sent to,
//! because it must reach exactly the mailbox that was named.

use std::fmt;

use thiserror::Error;

use super::typed;

/// The most octets of a local part (RFC 5321 section 4.5.3.1.1).
const LOCAL_MAX: usize = 64;
/// The most octets of an address: the 256 of a path less its angle brackets (RFC 5321 section
/// 4.5.3.1.3).
const ADDRESS_MAX: usize = 254;

/// A mailbox: the local part as given, the domain in lower case with A-labels.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EmailAddress {
    text: String,
    at: usize,
}

/// Why a text is not an address that otpd accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidEmailAddress {
    /// There is no `@`, or nothing on one side of it.
    #[error("an address has the form local-part@domain")]
    Form,
    /// Over 64 bytes before the `@`, or over 254 in total.
    #[error("an address has at most 64 bytes before the @ and 254 in total")]
    TooLong,
    /// The local part is not an ASCII dot-atom.
    #[error("the local part may hold ASCII letters, digits, single dots and !#$%&'*+/=?^_`{{|}}~-")]
    LocalPart,
    /// The domain is not a fully qualified host name.
    #[error("the domain must be a fully qualified name, such as example.com")]
    Domain,
}

/// The key under which the ledgers count an address. All spellings that reach the same person have
/// the same key.
///
/// The domain is in lower case with A-labels. The local part is in ASCII lower case and without its
/// `+tag`. At Gmail it is also without its dots, and googlemail.com becomes gmail.com. Must not be
/// used as an address to send to.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct LimitKey(String);

impl EmailAddress {
    /// Parses an address. Removes white space and invisible characters at both ends and rejects
    /// them inside.
    ///
    /// # Errors
    /// Returns [`InvalidEmailAddress`], which names the wrong part without repeating it.
    pub fn parse(text: &str) -> Result<Self, InvalidEmailAddress> {
        let text = typed::trim(text);
        // Mapping can shorten a Unicode domain, but an input of this size cannot become a valid
        // address.
        if text.len() > 4 * ADDRESS_MAX {
            return Err(InvalidEmailAddress::TooLong);
        }
        let (local, domain) = text.rsplit_once('@').ok_or(InvalidEmailAddress::Form)?;
        if local.is_empty() || domain.is_empty() {
            return Err(InvalidEmailAddress::Form);
        }
        if local.len() > LOCAL_MAX {
            return Err(InvalidEmailAddress::TooLong);
        }
        if !is_dot_atom(local) {
            return Err(InvalidEmailAddress::LocalPart);
        }
        if has_hidden(domain) {
            return Err(InvalidEmailAddress::Domain);
        }
        let domain = canonical_domain(domain).ok_or(InvalidEmailAddress::Domain)?;
        let at = local.len();
        if at + 1 + domain.len() > ADDRESS_MAX {
            return Err(InvalidEmailAddress::TooLong);
        }
        Ok(Self { text: [local, "@", &domain].concat(), at })
    }

    /// Returns the whole address, as email is sent to it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the part before the `@`, as given.
    #[must_use]
    pub fn local_part(&self) -> &str {
        self.text.split_at(self.at).0
    }

    /// Returns the part after the `@`, in lower case with A-labels.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text.split_at(self.at + 1).1
    }

    /// Returns the address with its local part in ASCII lower case, so that spellings that differ
    /// only in case are equal. The simple endpoints match by it. Email is not sent to it.
    #[must_use]
    pub fn folded(&self) -> Self {
        Self { text: self.text.to_ascii_lowercase(), at: self.at }
    }

    /// Returns the first character of the local part and the domain, which is enough for the owner
    /// to recognise it.
    #[must_use]
    pub fn masked(&self) -> String {
        let first: String = self.local_part().chars().take(1).collect();
        format!("{first}***@{}", self.domain())
    }

    /// Returns the key under which the ledgers count this address.
    #[must_use]
    pub fn limit_key(&self) -> LimitKey {
        let local = self.local_part();
        let without_tag = local.split_once('+').map_or(local, |(without_tag, _)| without_tag);
        let mut key = String::with_capacity(self.text.len());
        key.push_str(without_tag);
        key.make_ascii_lowercase();
        let domain = match self.domain() {
            "googlemail.com" => "gmail.com",
            other => other,
        };
        if domain == "gmail.com" {
            key.retain(|c| c != '.');
        }
        key.push('@');
        key.push_str(domain);
        LimitKey(key)
    }
}

impl fmt::Debug for EmailAddress {
    /// Shows neither the local part nor the domain, because either can name a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EmailAddress(***)")
    }
}

impl LimitKey {
    /// Returns the text of the key. For a keyed hash only.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for LimitKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LimitKey(***)")
    }
}

/// Returns whether it is a `dot-atom-text` (RFC 5322 section 3.2.3), ASCII only.
fn is_dot_atom(local: &str) -> bool {
    local.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

fn is_atext(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte)
}

/// Returns whether a domain has an invisible character. UTS 46 would silently remove most of them.
/// The two joiners are left to UTS 46, because between letters that they shape they are part of a
/// name (RFC 5892, appendix A).
fn has_hidden(domain: &str) -> bool {
    domain.chars().any(|c| typed::is_blank(c) && !matches!(c, '\u{200c}' | '\u{200d}'))
}

/// Returns the domain in lower case with A-labels (UTS 46, non-transitional, STD 3 rules, lengths
/// checked). Returns `None` unless it has at least two labels and cannot be an IPv4 address.
pub(super) fn canonical_domain(domain: &str) -> Option<String> {
    let ascii = idna::domain_to_ascii_strict(domain).ok()?;
    let (_, top) = ascii.rsplit_once('.')?;
    let is_name = top.len() >= 2 && top.bytes().any(|b| b.is_ascii_alphabetic());
    is_name.then_some(ascii)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> EmailAddress {
        EmailAddress::parse(text).unwrap_or_else(|e| panic!("{text:?}: {e}"))
    }

    #[test]
    fn keeps_the_local_part_and_folds_the_domain() {
        assert_eq!(parse("Jo.Doe+x@EXAMPLE.com").as_str(), "Jo.Doe+x@example.com");
        assert_eq!(parse("a@bücher.example").domain(), "xn--bcher-kva.example");
        // UTS 46 maps circled letters: both spellings are one domain and share their limits.
        assert_eq!(parse("a@ⓔxample.com"), parse("a@example.com"));
        assert_eq!(parse("a@example。com"), parse("a@example.com"));
    }

    #[test]
    fn refuses_what_is_no_plain_mailbox() {
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b.co",
            "a@localhost",
            "a@[127.0.0.1]",
            "a@127.0.0.1",
            "\"a b\"@b.co",
            "a b@b.co",
            "a@b.co.",
            "a@b..co",
            ".a@b.co",
            "a.@b.co",
            "a..b@b.co",
            "a(c)@b.co",
            "a@b.co,c@d.co",
            "a@b.co\r\nBcc: x@y.zz",
            "a\0@b.co",
            "mıke@example.com",
            "a@b_c.co",
            "a@-b.co",
            "a@b-.co",
            "a@b.c",
            "a@b.123",
            "<a@b.co>",
            "a@@b.co",
            "a@b@c.co",
            "a@b\u{202e}.co",
            "a@xn--a.co",
        ] {
            assert!(EmailAddress::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_nobody_sees_is_dropped_around_an_address_and_refused_inside() {
        for blank in
            "\t\n \u{a0}\u{ad}\u{61c}\u{200b}\u{200e}\u{202a}\u{202e}\u{2060}\u{2068}\u{3000}\u{fe0f}\u{feff}"
                .chars()
        {
            assert_eq!(parse(&format!("{blank}{blank}a@b.co{blank}")).as_str(), "a@b.co", "{blank:?}");
            for inside in
                ["a_b@c.co", "a_@c.co", "a@_c.co", "a@c_d.co", "a@c._co", "a@c_.co", "a@b\u{fc}_cher.example"]
            {
                let inside = inside.replace('_', &blank.to_string());
                assert!(EmailAddress::parse(&inside).is_err(), "{inside:?}");
            }
        }
        // A joiner that shapes the letters around it belongs to the name. Any other is rejected.
        assert_eq!(parse("\u{200c}a@نامه\u{200c}ای.com\u{200d}").domain(), "xn--mgba3gch31f060k.com");
        for joiner in ['\u{200c}', '\u{200d}'] {
            assert!(EmailAddress::parse(&format!("a@exam{joiner}ple.com")).is_err(), "{joiner:?}");
        }
    }

    #[test]
    fn an_address_is_folded_in_ascii_case_and_in_nothing_else() {
        assert_eq!(parse("Jo.Doe+X@EXAMPLE.com").folded().as_str(), "jo.doe+x@example.com");
        assert_eq!(parse("J@b\u{fc}cher.example").folded(), parse("j@b\u{fc}cher.example"));
        assert_ne!(parse("j.d@gmail.com").folded(), parse("jd@gmail.com").folded());
    }

    #[test]
    fn lengths_are_counted_in_octets() {
        let local = "l".repeat(64);
        parse(&format!("{local}@example.com"));
        assert_eq!(EmailAddress::parse(&format!("{local}l@example.com")), Err(InvalidEmailAddress::TooLong));
        let label = "d".repeat(60);
        // 64 + 1 + 3 * 61 + 6 = 254 bytes.
        let longest = format!("{local}@{label}.{label}.{label}.dddddd");
        assert_eq!(parse(&longest).as_str().len(), 254);
        assert!(EmailAddress::parse(&format!("{local}@{label}.{label}.{label}.ddddddd")).is_err());
        assert_eq!(EmailAddress::parse(&"a".repeat(5_000_000)), Err(InvalidEmailAddress::TooLong));
    }

    #[test]
    fn spellings_of_one_person_share_a_limit_key() {
        let key = |text| parse(text).limit_key();
        assert_eq!(key("Jo@example.com"), key("jo+tag@EXAMPLE.COM"));
        assert_eq!(key("j.o.e@gmail.com"), key("JOE+a@googlemail.com"));
        assert_ne!(key("j.o@example.com"), key("jo@example.com"));
        assert_eq!(key("+a@example.com"), key("+b@example.com"));
    }

    #[test]
    fn debug_shows_nothing_of_the_person() {
        let address = parse("somebody@private.example");
        let shown = format!("{address:?} {:?}", address.limit_key());
        assert!(!shown.contains("somebody") && !shown.contains("private"), "{shown}");
        assert_eq!(address.masked(), "s***@private.example");
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused_and_parsing_is_stable(text in ".{0,300}") {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert_eq!(&EmailAddress::parse(address.as_str()).unwrap(), &address);
                prop_assert!(address.as_str().is_ascii());
                prop_assert_eq!(address.folded().limit_key(), address.limit_key());
            }
        }

        #[test]
        fn what_nobody_sees_around_an_address_changes_nothing(
            before in "[\\p{White_Space}\\p{DI}]{0,5}", after in "[\\p{White_Space}\\p{DI}]{0,5}"
        ) {
            prop_assert_eq!(parse(&format!("{before}Jo@example.com{after}")), parse("Jo@example.com"));
        }

        #[test]
        fn what_is_accepted_is_one_mailbox_to_the_mail_library(
            text in "[a-zA-Z0-9.+_'-]{1,70}@[a-z0-9.-]{1,40}\\.[a-z]{2,5}"
        ) {
            if let Ok(address) = EmailAddress::parse(&text) {
                prop_assert!(address.as_str().parse::<lettre::Address>().is_ok());
            }
        }

        #[test]
        fn a_limit_key_ignores_case_and_tag(local in "[a-z][a-z0-9.]{0,20}[a-z]", tag in "[a-z]{0,5}") {
            prop_assume!(!local.contains(".."));
            let plain = parse(&format!("{local}@example.org")).limit_key();
            let other = parse(&format!("{}+{tag}@Example.ORG", local.to_uppercase())).limit_key();
            prop_assert_eq!(plain, other);
        }
    }
}

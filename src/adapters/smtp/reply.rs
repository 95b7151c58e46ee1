//! Code and enhanced status code of a reply. The text is dropped, because relays repeat addresses
//! in it.

use std::fmt;

/// The code of a reply (RFC 5321 section 4.2), and its enhanced status code (RFC 3463) if it has
/// one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reply {
    code: u16,
    enhanced: Option<Enhanced>,
}

/// `class.subject.detail`, as in `5.7.139`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Enhanced {
    class: u16,
    subject: u16,
    detail: u16,
}

impl Reply {
    /// Creates a reply from its code and text. An enhanced status code must be at the start of the
    /// text and of the same class as the code; the rest of the text is dropped.
    #[must_use]
    pub fn new(code: u16, text: &str) -> Self {
        let first = text.split(' ').next().unwrap_or_default();
        Self { code, enhanced: Enhanced::parse(first).filter(|enhanced| enhanced.class == code / 100) }
    }

    /// Returns the three digits.
    #[must_use]
    pub fn code(self) -> u16 {
        self.code
    }

    /// Returns whether the enhanced status code is this one, such as `5.7.8`.
    #[must_use]
    pub fn is_enhanced(self, text: &str) -> bool {
        self.enhanced.is_some() && self.enhanced == Enhanced::parse(text)
    }

    /// Returns whether the failure is temporary (4yz).
    #[must_use]
    pub fn is_transient(self) -> bool {
        self.code / 100 == 4
    }

    /// Returns whether the failure is permanent (5yz).
    #[must_use]
    pub fn is_permanent(self) -> bool {
        self.code / 100 == 5
    }

    /// Returns whether the reply is about an address or a mailbox. The subject of the enhanced
    /// status code says so (RFC 3463 sections 3.2 and 3.3), or the code has no other meaning (RFC
    /// 5321 section 4.2.3).
    #[must_use]
    pub fn is_about_a_mailbox(self) -> bool {
        self.has_address_status() || [550, 551, 553].contains(&self.code)
    }

    /// Returns whether the enhanced status code is about an address or a mailbox (RFC 3463 sections
    /// 3.2 and 3.3).
    #[must_use]
    pub fn has_address_status(self) -> bool {
        matches!(self.enhanced, Some(Enhanced { subject: 1 | 2, .. }))
    }

    /// Returns whether the enhanced status code is about security or policy (RFC 3463 section 3.8).
    #[must_use]
    pub fn has_policy_status(self) -> bool {
        matches!(self.enhanced, Some(Enhanced { subject: 7, .. }))
    }
}

impl Enhanced {
    /// Parses one digit and two numbers of one to three digits, separated by dots.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number = |digits: usize| {
            let part = parts.next()?;
            let is_number = (1..=digits).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            if is_number { part.parse().ok() } else { None }
        };
        let enhanced = Self { class: number(1)?, subject: number(3)?, detail: number(3)? };
        parts.next().is_none().then_some(enhanced)
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        match self.enhanced {
            Some(Enhanced { class, subject, detail }) => write!(f, " {class}.{subject}.{detail}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reply_keeps_its_codes_and_no_word_of_its_text() {
        for (code, text, kept) in [
            (535, "5.7.139 Authentication unsuccessful for someone@example.com", "535 5.7.139"),
            (535, "5.7.8", "535 5.7.8"),
            (421, "4.7.0 Try again later", "421 4.7.0"),
            (550, "No such mailbox: 5.1.1", "550"),
            (550, "4.1.1 of another class", "550"),
            (550, "5.1.1.2 x", "550"),
            (550, "5.1000.1 x", "550"),
            (550, "5..1 x", "550"),
            (550, "5.+1.1 x", "550"),
            (550, "", "550"),
        ] {
            assert_eq!(Reply::new(code, text).to_string(), kept, "{text}");
        }
    }

    #[test]
    fn a_mailbox_is_spoken_of_by_code_or_by_enhanced_code() {
        for (code, text) in
            [(550, ""), (551, ""), (553, ""), (554, "5.1.1 x"), (552, "5.2.2 x"), (550, "5.7.1 x")]
        {
            assert!(Reply::new(code, text).is_about_a_mailbox(), "{code} {text}");
        }
        for (code, text) in [(554, ""), (554, "5.7.1 x"), (552, ""), (530, "5.7.0 x"), (503, "5.5.1 x")] {
            assert!(!Reply::new(code, text).is_about_a_mailbox(), "{code} {text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_leaves_digits_and_dots_at_most(code in 100_u16..600, text in ".{0,40}") {
            let kept = Reply::new(code, &text).to_string();
            prop_assert!(kept.bytes().all(|b| b.is_ascii_digit() || b == b'.' || b == b' ') && kept.len() <= 13);
        }
    }
}

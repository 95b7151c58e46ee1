//! Emails of the built-in templates that were rendered, and encoded, before: only what differs from
//! email to email is put in.
//!
//! Must not be used for the operator's templates, whose text may depend on the code in other ways.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use super::Content;
use super::encoded::{EncodedMessage, Values};
use super::mime::MimeMessage;

/// Stand for the code and the reference while an email is rendered. They are characters of private
/// use, which the templates do not change.
pub(super) const CODE_MARK: &str = "\u{e000}";
pub(super) const REFERENCE_MARK: &str = "\u{e001}";
/// The most emails that are kept: for each sender, language and lifetime. One takes about 12 KB.
const MAX_PREPARED: usize = 512;

/// What an email depends on, but for its recipient, its code and its reference.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct PreparedKey {
    pub language: String,
    pub brand: String,
    /// The address of the sender.
    pub address: String,
    /// How long the code is valid, in seconds, as the email says it.
    pub seconds: u64,
    pub code_length: usize,
    pub has_reference: bool,
}

/// A rendered email with places for the code and the reference.
#[derive(Debug)]
pub struct PreparedEmail {
    subject: PreparedText,
    text: PreparedText,
    html: PreparedText,
    language: String,
    /// The message, once one is needed; `None` if each must be encoded by itself.
    message: OnceLock<Option<EncodedMessage>>,
}

/// A rendered text with places for the code and the reference.
#[derive(Debug)]
struct PreparedText(Vec<Piece>);

#[derive(Debug)]
enum Piece {
    Text(String),
    Code,
    Reference,
}

/// The emails that were rendered.
#[derive(Debug, Default)]
pub(super) struct PreparedEmails(Mutex<HashMap<PreparedKey, Arc<PreparedEmail>>>);

impl PreparedEmails {
    /// Returns an email that was rendered before.
    pub(super) fn find(&self, key: &PreparedKey) -> Option<Arc<PreparedEmail>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Keeps a rendered email, and returns it.
    pub(super) fn keep(&self, key: PreparedKey, email: PreparedEmail) -> Arc<PreparedEmail> {
        let email = Arc::new(email);
        let mut emails = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if emails.len() >= MAX_PREPARED {
            emails.clear();
        }
        emails.insert(key, Arc::clone(&email));
        email
    }
}

impl PreparedEmail {
    /// Splits an email that was rendered with the marks.
    pub(super) fn new(rendered: &Content) -> Self {
        Self {
            subject: PreparedText::new(&rendered.subject),
            text: PreparedText::new(&rendered.text),
            html: PreparedText::new(&rendered.html),
            language: rendered.language.clone(),
            message: OnceLock::new(),
        }
    }

    /// Returns the message with these values. Returns `None` if it must be encoded by itself.
    pub(super) fn message(&self, values: &Values<'_>) -> Option<MimeMessage> {
        let encoded = self.message.get_or_init(|| {
            let lengths = [values.code.len(), values.reference.len()];
            EncodedMessage::new(values.head.sender, lengths, |code, reference| self.content(code, reference))
        });
        encoded.as_ref()?.with(values)
    }

    /// Returns what the reader sees, with this code and reference.
    pub(super) fn content(&self, code: &str, reference: &str) -> Content {
        Content {
            subject: self.subject.with(code, reference),
            text: self.text.with(code, reference),
            html: self.html.with(code, reference),
            language: self.language.clone(),
        }
    }
}

impl PreparedText {
    fn new(rendered: &str) -> Self {
        let mut pieces = Vec::new();
        let mut text = String::new();
        for character in rendered.chars() {
            let mut buffer = [0; 4];
            let piece = match &*character.encode_utf8(&mut buffer) {
                CODE_MARK => Piece::Code,
                REFERENCE_MARK => Piece::Reference,
                other => {
                    text.push_str(other);
                    continue;
                }
            };
            pieces.extend([Piece::Text(std::mem::take(&mut text)), piece]);
        }
        pieces.push(Piece::Text(text));
        Self(pieces)
    }

    fn with(&self, code: &str, reference: &str) -> String {
        let pieces = self.0.iter().map(|piece| match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Code => code,
            Piece::Reference => reference,
        });
        pieces.collect::<Vec<_>>().concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_and_reference_are_put_where_their_marks_were() {
        let text = PreparedText::new("a \u{e000}\u{e001}é\u{e001}");
        assert_eq!(text.with("012345", "XKT"), "a 012345XKTéXKT");
        assert_eq!(PreparedText::new("").with("012345", "XKT"), "");
    }

    #[test]
    fn a_bounded_number_of_emails_is_kept() {
        let emails = PreparedEmails::default();
        let key = |seconds| PreparedKey {
            language: "en".to_owned(),
            brand: "Example".to_owned(),
            address: "codes@sender.example".to_owned(),
            seconds,
            code_length: 6,
            has_reference: false,
        };
        let text = || "a".to_owned();
        let content = Content { subject: text(), text: text(), html: text(), language: text() };
        for seconds in 0..=512 {
            emails.keep(key(seconds), PreparedEmail::new(&content));
        }
        assert!(emails.find(&key(0)).is_none() && emails.find(&key(512)).is_some());
        assert!(emails.0.lock().unwrap().len() <= MAX_PREPARED);
    }
}

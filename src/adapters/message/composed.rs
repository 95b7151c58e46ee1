//! An email before it is handed over: each transport takes the form of it that it needs.

use std::sync::Arc;

use super::encoded::Values;
use super::mime::{Head, MimeMessage, formatted, now};
use super::prepared::PreparedEmail;
use super::{MessageError, code_and_reference};
use crate::ports::{CodeMail, Content};

/// A composed email, without the values that the email it is of has already.
pub enum Composed {
    /// Of a built-in template that was rendered before.
    Prepared(Arc<PreparedEmail>),
    /// Rendered for this email.
    Rendered(Content),
}

impl Composed {
    /// Returns what the reader sees. `mail` is what it was composed of.
    #[must_use]
    pub fn content(&self, mail: &CodeMail) -> Content {
        match self {
            Self::Prepared(email) => {
                let (code, reference) = code_and_reference(mail);
                email.content(code, reference)
            }
            Self::Rendered(content) => content.clone(),
        }
    }

    /// Returns the whole message, dated now. `mail` is what it was composed of, and `id` identifies
    /// it ([`super::new_id`]).
    ///
    /// # Errors
    /// [`MessageError`] says which part failed. Does not fail for anything that was tested at the
    /// start.
    pub fn message(&self, mail: &CodeMail, id: &str) -> Result<MimeMessage, MessageError> {
        let head = Head { sender: &mail.sender, to: &mail.to, id, sent_at: now() };
        if let Self::Prepared(email) = self {
            let (code, reference) = code_and_reference(mail);
            if let Some(message) = email.message(&Values { head, code, reference }) {
                return Ok(message);
            }
        }
        Ok(MimeMessage::new(formatted(&head, &self.content(mail), None)?))
    }
}

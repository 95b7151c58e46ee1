//! Headers that lettre does not support, or does not write as they should be.
//!
//! Must not write any text of a caller except the recipient's address.

use lettre::Address;
use lettre::message::header::{self, Header, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Mailboxes};

use super::MessageError;
use crate::domain::email_address::EmailAddress;
use crate::domain::sender::Sender;

/// The `From` header. Quotes every ASCII name, which is always correct; lettre leaves a dot
/// unquoted, which RFC 5322 (section 4.1) forbids to generate. lettre encodes all other names.
#[derive(Clone)]
pub(super) struct From(HeaderValue);

impl From {
    /// Creates the header for emails of this sender.
    ///
    /// # Errors
    /// [`MessageError`], but never for an address that was parsed.
    pub(super) fn new(sender: &Sender) -> Result<Self, MessageError> {
        let mailbox = Mailbox::new(Some(sender.brand.clone()), mailbox(&sender.address)?);
        if !sender.brand.is_ascii() {
            return Ok(Self(header::From::from(Mailboxes::from(mailbox)).display()));
        }
        let text = format!("{} <{}>", quoted(&sender.brand), sender.address.as_str());
        Ok(Self(HeaderValue::dangerous_new_pre_encoded(Self::name(), text.clone(), text)))
    }
}

impl Header for From {
    fn name() -> HeaderName {
        header::From::name()
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(HeaderValue::new(Self::name(), text.to_owned())))
    }

    fn display(&self) -> HeaderValue {
        self.0.clone()
    }
}

/// Returns a text as a quoted string (RFC 5322 section 3.2.4).
#[must_use]
pub fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Converts an address for lettre.
///
/// # Errors
/// [`MessageError`], but never for an address that was parsed.
pub(super) fn mailbox(address: &EmailAddress) -> Result<Address, MessageError> {
    address
        .as_str()
        .parse()
        .map_err(|error: lettre::address::AddressError| MessageError::Header(error.into()))
}

/// `Auto-Submitted: auto-generated` (RFC 3834 section 5), which prevents out-of-office replies.
#[derive(Clone)]
pub(super) struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

/// `X-Entity-Ref-ID`, with a different value for each email. Without it, Gmail groups emails of one
/// sender and subject into a thread, which hides the newest one.
#[derive(Clone)]
pub(super) struct EntityRefId(pub String);

impl Header for EntityRefId {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("X-Entity-Ref-ID")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

/// Language of the email (RFC 3282).
#[derive(Clone)]
pub(super) struct ContentLanguage(pub String);

impl Header for ContentLanguage {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Content-Language")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self(text.to_owned()))
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), self.0.clone())
    }
}

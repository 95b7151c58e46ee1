//! The sender of emails, and their language.

use super::email_address::EmailAddress;
use super::locale::Locale;

/// The sender of emails, as recipients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The address in `From` and in the envelope.
    pub address: EmailAddress,
    /// The name in `From` and in the text. It contains no control characters and no bidirectional
    /// formatting characters.
    pub brand: String,
    /// The language of emails if none of the requested languages is available.
    pub locale: Locale,
}

//! Who mails come from, and in which language they are.

use super::email_address::EmailAddress;
use super::locale::Locale;

/// Who mails come from, as their readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The address in `From`, and the envelope's.
    pub address: EmailAddress,
    /// The name in `From` and in the text. Nothing in it controls a line or turns the direction of a text.
    pub brand: String,
    /// The language of its mails where nobody asks for one that there is.
    pub locale: Locale,
}

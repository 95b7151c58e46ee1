//! Who mails come from.

use super::email_address::EmailAddress;

/// Who mails come from, as their readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sender {
    /// The address in `From`, and the envelope's.
    pub address: EmailAddress,
    /// The name in `From` and in the text. Nothing in it controls a line or turns the direction of a text.
    pub brand: String,
}

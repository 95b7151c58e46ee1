//! Why a provider did not accept an email. Contains no text of a response but a short word.

use std::fmt;

use thiserror::Error;

use super::provider::Word;

/// Why a provider did not accept an email.
#[derive(Debug, Error)]
pub(super) enum ProviderError {
    /// The circuit breaker is open.
    #[error("it could not be reached several times in a row and is left alone for a while")]
    BreakerOpen,
    /// The limit of simultaneous requests is reached.
    #[error("no connection was free in time")]
    NoneFree,
    /// The response is not one of acceptance.
    #[error("refused with status {status}{}", Shown(word.as_ref()))]
    Refused {
        /// HTTP status.
        status: u16,
        /// The provider's own word for the error.
        word: Option<Word>,
    },
}

struct Shown<'a>(Option<&'a Word>);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |word| write!(f, " ({})", word.as_str()))
    }
}

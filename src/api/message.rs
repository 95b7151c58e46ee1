//! The response body of the simple endpoints, and of every other path that is not v1.

use poem_openapi::Object;
use serde::Serialize;

/// The message of the simple endpoints if a limit is exceeded.
pub(super) const TOO_MANY_REQUESTS: &str = "Too many requests";

/// The response body of the simple endpoints.
#[derive(Debug, Serialize, Object)]
pub struct Message {
    /// The outcome. The text does not change.
    message: String,
}

impl Message {
    /// Creates a message; the text must not come from a library.
    pub fn new(message: &str) -> Self {
        Self { message: message.to_owned() }
    }
}

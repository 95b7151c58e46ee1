//! The URL under which callers reach the service, used for links in answers and documents.

use serde_json::json;

/// The URL that the paths of the API are appended to, without a trailing slash. If it is empty,
/// none is configured, and links are paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Wraps a URL that the settings have validated.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self(url)
    }

    /// Returns a link to a path of this service.
    pub(super) fn link(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Returns whether a URL is configured.
    pub(super) fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// Returns the server URL of the OpenAPI document.
    pub(super) fn server(&self) -> &str {
        if self.is_set() { &self.0 } else { "/" }
    }

    /// Returns the body of `GET /`, with links to the documentation if it is served.
    pub(super) fn index(&self, has_docs: bool) -> String {
        let index = if has_docs {
            json!({ "service": "otpd", "docs": self.link("/docs"), "openapi": self.link("/openapi.json") })
        } else {
            json!({ "service": "otpd" })
        };
        index.to_string()
    }
}

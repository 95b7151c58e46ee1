//! Where callers reach the service: what links in answers and documents begin with.

use poem::Request;
use serde_json::json;

/// The URL that the paths of the API are appended to, without a final slash. Empty: nobody has said it, and links
/// are paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Wraps a URL that the settings have checked.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self(url)
    }

    /// That of the service which serves a request.
    pub(super) fn of(request: &Request) -> Self {
        request.data().cloned().unwrap_or_default()
    }

    /// A link to a path of ours.
    pub(super) fn link(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether anybody has said it.
    pub(super) fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// The server as the document names it.
    pub(super) fn server(&self) -> &str {
        if self.is_set() { &self.0 } else { "/" }
    }

    /// What `GET /` answers: where the documentation is, where there is one.
    pub(super) fn index(&self, has_docs: bool) -> String {
        let index = if has_docs {
            json!({ "service": "otpd", "docs": self.link("/docs"), "openapi": self.link("/openapi.json") })
        } else {
            json!({ "service": "otpd" })
        };
        index.to_string()
    }
}

//! Where callers reach the service: what links in answers and documents begin with.

use serde_json::json;

/// The URL that the paths of the API are appended to, without a final slash. Empty: nobody has said it, and links
/// are paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl(String);

impl PublicUrl {
    /// Wraps a URL that the settings have checked.
    #[must_use]
    pub fn new(url: String) -> Self {
        Self(url)
    }

    /// A link to a path of ours.
    pub fn link(&self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    /// Whether anybody has said it.
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// The server as the document names it.
    pub fn server(&self) -> &str {
        if self.is_set() { &self.0 } else { "/" }
    }

    /// What `GET /` answers: where the documentation is, where there is one.
    pub fn index(&self, has_docs: bool) -> String {
        let mut index = json!({ "service": "otpd" });
        if has_docs {
            index["docs"] = self.link("/docs").into();
            index["openapi"] = self.link("/openapi.json").into();
        }
        index.to_string()
    }
}

//! Tag lists: `name=value; name=value`, the syntax of DKIM and DMARC records (RFC 6376 section
//! 3.2).

/// The tags of a record, in their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tags(Vec<(String, String)>);

impl Tags {
    /// Parses a list. Returns `None` if a part is no tag, or a tag is there twice.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_suffix(';').unwrap_or(text);
        let mut tags: Vec<(String, String)> = Vec::new();
        for part in text.split(';') {
            let (name, value) = part.split_once('=')?;
            let name = name.trim();
            let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
            let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(is_plain);
            if !is_name || tags.iter().any(|(other, _)| other == name) {
                return None;
            }
            tags.push((name.to_owned(), value.trim().to_owned()));
        }
        Some(Self(tags))
    }

    /// Returns the value of a tag.
    pub(super) fn value(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_each_tag_once() {
        let tags = Tags::parse(" v=DMARC1 ; p = none; rua=mailto:a@b.example?x=1;").unwrap();
        assert_eq!(tags.value("v"), Some("DMARC1"));
        assert_eq!(tags.value("p"), Some("none"));
        assert_eq!(tags.value("rua"), Some("mailto:a@b.example?x=1"));
        assert_eq!(tags.value("sp"), None);
        assert_eq!(Tags::parse("p=").unwrap().value("p"), Some(""));
        for text in ["", "v", "v=1; p", "v=1;; p=none", "v=1; v=1", "=1", "v=1; 1p=x"] {
            assert_eq!(Tags::parse(text), None, "{text}");
        }
    }
}

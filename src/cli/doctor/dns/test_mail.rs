//! What a received email says of the domains that signed and sent it.
//!
//! Must not trust it: nothing but domains and selectors is read, from its headers alone.

use std::path::Path;

use anyhow::{Context as _, ensure};

use super::tags::Tags;

/// The largest file, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// The domains of an email.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TestMail {
    /// That of `From`.
    pub from: String,
    /// That of `Return-Path`, if it has one: the envelope sender, whose SPF record counts.
    pub envelope: Option<String>,
    /// Those of its DKIM signatures.
    pub signatures: Vec<DkimSignature>,
}

/// A DKIM signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DkimSignature {
    /// The domain that signed (`d=`).
    pub domain: String,
    /// The selector of its key (`s=`).
    pub selector: String,
}

/// Reads the file of a received email, as the mail program saves its source.
pub(super) fn read(path: &Path) -> anyhow::Result<TestMail> {
    let shown = || path.display().to_string();
    let metadata = std::fs::metadata(path).with_context(shown)?;
    ensure!(
        metadata.is_file() && metadata.len() <= MAX_BYTES,
        "{}: not a file, or larger than 16 MiB",
        shown()
    );
    let text = std::fs::read(path).with_context(shown)?;
    TestMail::parse(&String::from_utf8_lossy(&text))
        .with_context(|| format!("{}: not an email with its headers: From is missing", shown()))
}

impl TestMail {
    /// Parses an email. Returns `None` if it names no sender.
    fn parse(text: &str) -> Option<Self> {
        let mut mail = Self::default();
        for (name, value) in headers(text) {
            match name.to_ascii_lowercase().as_str() {
                "from" => mail.from = domain(&value)?,
                "return-path" => mail.envelope = mail.envelope.or_else(|| domain(&value)),
                "dkim-signature" => mail.signatures.extend(DkimSignature::parse(&value)),
                _ => {}
            }
        }
        (!mail.from.is_empty()).then_some(mail)
    }
}

impl DkimSignature {
    fn parse(value: &str) -> Option<Self> {
        let tags = Tags::parse(value)?;
        let is_plain = |name: &&str| {
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let tag = |name| tags.value(name).filter(is_plain).map(str::to_ascii_lowercase);
        Some(Self { domain: tag("d")?, selector: tag("s")? })
    }
}

/// Returns the names and values of the headers, unfolded.
fn headers(text: &str) -> Vec<(String, String)> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in text.lines().take_while(|line| !line.is_empty()) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = headers.last_mut() {
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_owned(), value.to_owned()));
        }
    }
    headers
}

/// Returns the domain of the last address in a header.
fn domain(value: &str) -> Option<String> {
    let (_, domain) = value.rsplit_once('@')?;
    let end = domain.find(|c: char| !(c.is_alphanumeric() || c == '-' || c == '.')).unwrap_or(domain.len());
    let domain = domain.split_at(end).0.trim_end_matches('.').to_ascii_lowercase();
    (!domain.is_empty()).then_some(domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domains_are_read_from_the_headers_and_nowhere_else() {
        let text = "Return-Path: <bounce+1@send.Example.com>\r\nDKIM-Signature: v=1; a=rsa-sha256;\r\n\
                    \td=Example.com; s=S1;\r\n bh=x; b=y=\r\nDKIM-Signature: no tags\r\n\
                    From: \"A @ B\" <codes@example.com>\r\n\r\nFrom: x@other.example\r\n";
        let mail = TestMail::parse(text).unwrap();
        assert_eq!((mail.from.as_str(), mail.envelope.as_deref()), ("example.com", Some("send.example.com")));
        let signature = DkimSignature { domain: "example.com".into(), selector: "s1".into() };
        assert_eq!(mail.signatures, [signature]);
        assert_eq!(DkimSignature::parse("d=example.com; s=a\u{1b}[2J"), None);
        assert_eq!(TestMail::parse("Subject: x\n\nFrom: a@b.example"), None);
        assert_eq!(TestMail::parse("From: nobody\n"), None);
        assert_eq!(TestMail::parse("From: a@b.example\nReturn-Path: <>\n").unwrap().envelope, None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_an_email_or_not(text in "(From|DKIM-Signature|Return-Path): \\PC{0,40}\n\\PC{0,40}") {
            let _ = TestMail::parse(&text);
        }
    }
}

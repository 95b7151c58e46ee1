//! Parses replies of a relay (RFC 5321 section 4.2), and what it offers in its reply to EHLO.
//!
//! Accepts deviations that can mean one thing only: lines that end in LF alone, a code without a
//! text, other character sets. Must not take a reply for an outcome if it is incomplete, if its
//! lines contradict each other, or if it is too long.

use std::fmt;

use thiserror::Error;

use super::reply::Reply;

/// Maximum length of a reply, in bytes. Typical replies have a few hundred bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// Maximum number of lines of a reply.
const MAX_LINES: usize = 128;

/// A reply with the texts of its lines. Only the keywords of the reply to EHLO are read from them.
pub struct FullReply {
    reply: Reply,
    texts: Vec<String>,
}

/// Why received data is not a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// Over 16 KiB or 128 lines.
    #[error("a reply of over 16 KiB or 128 lines")]
    TooLong,
    /// A line does not start with a reply code, or with another one than the lines before it.
    #[error("a reply without a code, or with two")]
    Malformed,
}

/// What a relay offers in its reply to EHLO.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// AUTH mechanisms (RFC 4954), in upper case.
    pub mechanisms: Vec<String>,
}

impl FullReply {
    /// Parses the reply at the start of the received data. Returns it with its length in bytes, or
    /// `None` if it is incomplete.
    ///
    /// The first digit of a code is 2, 3, 4 or 5. Any second digit is accepted, because the first
    /// one decides (section 4.3.2).
    ///
    /// # Errors
    /// [`ReplyError`] if the data cannot become a reply.
    pub fn parse(received: &[u8]) -> Result<Option<(Self, usize)>, ReplyError> {
        let mut length = 0;
        let mut first_code = None;
        let mut texts = Vec::new();
        for line in received.split_inclusive(|byte| *byte == b'\n') {
            length += line.len();
            if length > MAX_BYTES || texts.len() == MAX_LINES {
                return Err(ReplyError::TooLong);
            }
            let Some(line) = line.strip_suffix(b"\n") else { return Ok(None) };
            let line = ReplyLine::parse(line.strip_suffix(b"\r").unwrap_or(line))?;
            if *first_code.get_or_insert(line.code) != line.code {
                return Err(ReplyError::Malformed);
            }
            texts.push(String::from_utf8_lossy(line.text).into_owned());
            if line.is_last {
                let reply = Reply::new(line.code, texts.first().map_or("", String::as_str));
                return Ok(Some((Self { reply, texts }, length)));
            }
        }
        Ok(None)
    }

    /// Returns the codes of the reply.
    #[must_use]
    pub fn reply(&self) -> Reply {
        self.reply
    }
}

/// One line of a reply.
struct ReplyLine<'a> {
    code: u16,
    is_last: bool,
    text: &'a [u8],
}

impl<'a> ReplyLine<'a> {
    /// Parses a line without its end.
    fn parse(line: &'a [u8]) -> Result<Self, ReplyError> {
        let (code, rest) = line.split_at_checked(3).ok_or(ReplyError::Malformed)?;
        if !matches!(code, [b'2'..=b'5', b'0'..=b'9', b'0'..=b'9']) {
            return Err(ReplyError::Malformed);
        }
        let code = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        match rest {
            [] => Ok(Self { code, is_last: true, text: b"" }),
            [b' ', text @ ..] => Ok(Self { code, is_last: true, text }),
            [b'-', text @ ..] => Ok(Self { code, is_last: false, text }),
            _ => Err(ReplyError::Malformed),
        }
    }
}

impl Capabilities {
    /// Reads the keywords of a reply to EHLO. Their case does not matter (RFC 5321 section 2.4).
    /// `AUTH=`, from an old draft, means the same as `AUTH`.
    #[must_use]
    pub fn of(hello: &FullReply) -> Self {
        let mut offered = Self::default();
        for text in &hello.texts {
            let text = text.to_ascii_uppercase();
            let text = text.strip_prefix("AUTH=").map_or(text.clone(), |names| format!("AUTH {names}"));
            let mut words = text.split_ascii_whitespace();
            match words.next() {
                Some("STARTTLS") => offered.starttls = true,
                Some("PIPELINING") => offered.pipelining = true,
                Some("AUTH") => offered.mechanisms.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        offered
    }

    /// Returns whether the relay offers an AUTH mechanism.
    #[must_use]
    pub fn has_mechanism(&self, name: &str) -> bool {
        self.mechanisms.iter().any(|mechanism| mechanism == name)
    }
}

impl fmt::Debug for FullReply {
    /// Shows the codes only, because relays repeat addresses in the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FullReply({})", self.reply)
    }
}

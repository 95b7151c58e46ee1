//! Parses replies of a relay (RFC 5321 section 4.2), and what it offers in its reply to EHLO.
//!
//! Accepts deviations that can mean one thing only: lines that end in LF alone, a code without a
//! text, other character sets. Must not take a reply for an outcome if it is incomplete, if its
//! lines contradict each other, or if it is too long.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

use super::reply::Reply;

/// Maximum length of a reply, in bytes. Typical replies have a few hundred bytes.
pub(super) const MAX_BYTES: usize = 16 * 1024;
/// Maximum number of lines of a reply.
const MAX_LINES: usize = 128;

/// A reply with its lines. Only the keywords of the reply to EHLO are read from their texts.
pub struct FullReply<'a> {
    reply: Reply,
    lines: &'a [u8],
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

impl<'a> FullReply<'a> {
    /// Parses the reply at the start of the received data. Returns it with its length in bytes, or
    /// `None` if it is incomplete.
    ///
    /// The first digit of a code is 2, 3, 4 or 5. Any second digit is accepted, because the first
    /// one decides (section 4.3.2).
    ///
    /// # Errors
    /// [`ReplyError`] if the data cannot become a reply.
    pub fn parse(received: &'a [u8]) -> Result<Option<(Self, usize)>, ReplyError> {
        let mut length = 0;
        let mut first = None;
        for (count, line) in received.split_inclusive(|byte| *byte == b'\n').enumerate() {
            length += line.len();
            if length > MAX_BYTES || count == MAX_LINES {
                return Err(ReplyError::TooLong);
            }
            if !line.ends_with(b"\n") {
                return Ok(None);
            }
            let line = ReplyLine::parse(line)?;
            let first = first.get_or_insert(line);
            if first.code != line.code {
                return Err(ReplyError::Malformed);
            }
            if line.is_last {
                let reply = Reply::new(line.code, &String::from_utf8_lossy(first.text));
                let lines = received.get(..length).unwrap_or_default();
                return Ok(Some((Self { reply, lines }, length)));
            }
        }
        Ok(None)
    }

    /// Returns the codes of the reply.
    #[must_use]
    pub fn reply(&self) -> Reply {
        self.reply
    }

    /// Iterates over the texts of its lines.
    fn texts(&self) -> impl Iterator<Item = Cow<'a, str>> {
        let lines =
            self.lines.split_inclusive(|byte| *byte == b'\n').map_while(|line| ReplyLine::parse(line).ok());
        lines.map(|line| String::from_utf8_lossy(line.text))
    }
}

/// One line of a reply.
#[derive(Clone, Copy)]
struct ReplyLine<'a> {
    code: u16,
    is_last: bool,
    text: &'a [u8],
}

impl<'a> ReplyLine<'a> {
    /// Parses a line with its end.
    fn parse(line: &'a [u8]) -> Result<Self, ReplyError> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
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
    pub fn of(hello: &FullReply<'_>) -> Self {
        let mut offered = Self::default();
        for text in hello.texts() {
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

impl fmt::Debug for FullReply<'_> {
    /// Shows the codes only, because relays repeat addresses in the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FullReply({})", self.reply)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The codes and the texts of a reply, and its length.
    type Parsed = (String, Vec<String>, usize);

    fn parsed(received: &[u8]) -> Result<Option<Parsed>, ReplyError> {
        let reply = FullReply::parse(received)?;
        Ok(reply.map(|(reply, length)| {
            let texts = reply.texts().map(Cow::into_owned).collect();
            (reply.reply.to_string(), texts, length)
        }))
    }

    fn offered(received: &str) -> Capabilities {
        Capabilities::of(&FullReply::parse(received.as_bytes()).unwrap().unwrap().0)
    }

    #[test]
    fn a_reply_is_read_as_the_standard_and_as_careless_relays_write_it() {
        for (received, codes, texts) in [
            (&b"250 2.1.0 Ok\r\n"[..], "250 2.1.0", &["2.1.0 Ok"][..]),
            (b"250\r\n", "250", &[""]),
            (b"250 \r\n", "250", &[""]),
            (b"354\n", "354", &[""]),
            (b"250-a\n250-\n250 b\n", "250", &["a", "", "b"]),
            (b"550 No m\xfcller\r\n", "550", &["No m\u{fffd}ller"]),
            (b"571 5.7.1 No\r\n", "571 5.7.1", &["5.7.1 No"]),
            (b"534-5.7.9 App\r\n534 5.7.9 password\r\n", "534 5.7.9", &["5.7.9 App", "5.7.9 password"]),
            (b"599 \x00\r\n", "599", &["\0"]),
        ] {
            let texts = texts.iter().map(|text| (*text).to_owned()).collect();
            assert_eq!(parsed(received), Ok(Some((codes.to_owned(), texts, received.len()))));
        }
        let (codes, _, length) = parsed(b"250 a\r\n354 b\r\n").unwrap().unwrap();
        assert_eq!((codes.as_str(), length), ("250", 7), "one reply at a time");
    }

    #[test]
    fn what_is_no_reply_is_none() {
        for received in [
            &b"\r\n"[..],
            b"2\r\n",
            b"25\n",
            b"25x\r\n",
            b"199 a\r\n",
            b"600 a\r\n",
            b"2500\r\n",
            b"250\ta\r\n",
            b" 250 a\r\n",
            b"\xff\xfe\x00 what?\r\n",
            b"250-a\r\n550 b\r\n",
            b"550-a\r\n250 b\r\n",
            b"250-a\r\n\r\n",
        ] {
            assert_eq!(parsed(received), Err(ReplyError::Malformed), "{received:?}");
        }
        for received in [&b""[..], b"2", b"250", b"250 a\r", b"250-a\r\n", b"250-a\r\n250 b"] {
            assert_eq!(parsed(received), Ok(None), "{received:?}");
        }
    }

    #[test]
    fn a_reply_that_is_too_long_is_not_read_to_its_end() {
        let lines = |count: usize| [b"250-\n".repeat(count - 1), b"250\n".to_vec()].concat();
        assert!(parsed(&lines(MAX_LINES)).unwrap().is_some());
        assert_eq!(parsed(&lines(MAX_LINES + 1)), Err(ReplyError::TooLong));
        let bytes = |count: usize| [b"250 ".to_vec(), vec![b'x'; count - 5], b"\n".to_vec()].concat();
        assert!(parsed(&bytes(MAX_BYTES)).unwrap().is_some());
        assert_eq!(parsed(&bytes(MAX_BYTES + 1)), Err(ReplyError::TooLong));
        assert_eq!(parsed(&b"2".repeat(MAX_BYTES)), Ok(None));
        assert_eq!(parsed(&b"2".repeat(MAX_BYTES + 1)), Err(ReplyError::TooLong));
    }

    #[test]
    fn what_a_relay_offers_is_read_in_any_case_and_in_the_form_of_an_old_draft() {
        let none = Capabilities::default();
        assert_eq!(offered("250 relay.example\r\n"), none);
        assert_eq!(offered("250-relay.example\r\n250-STARTTLSX\r\n250 X-PIPELINING\r\n"), none);
        let all = offered("250-relay.example\r\n250-starttls \r\n250-Pipelining\r\n250 auth=login  Plain\n");
        let mechanisms = vec!["LOGIN".to_owned(), "PLAIN".to_owned()];
        assert_eq!(all, Capabilities { starttls: true, pipelining: true, mechanisms });
        assert!(all.has_mechanism("PLAIN") && !all.has_mechanism("XOAUTH2"));
    }

    #[test]
    fn debug_shows_no_text() {
        let (reply, _) = FullReply::parse(b"550 5.1.1 a@example.com\r\n").unwrap().unwrap();
        assert_eq!(format!("{reply:?}"), "FullReply(550 5.1.1)");
    }

    /// Bytes, many of which are nearly replies.
    fn received() -> impl Strategy<Value = Vec<u8>> {
        let line = prop_oneof![
            "[2-5][0-9]{2}[ -][ -~]{0,20}\r?\n".prop_map(String::into_bytes),
            "250-?\r?\n".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..12),
        ];
        proptest::collection::vec(line, 0..160).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn any_data_is_one_bounded_reply_or_none(received in received(), cut in any::<prop::sample::Index>()) {
            let Ok(Some((reply, length))) = FullReply::parse(&received) else { return Ok(()) };
            prop_assert!(length <= MAX_BYTES && length <= received.len());
            prop_assert!(reply.texts().count() <= MAX_LINES && received[length - 1] == b'\n');
            prop_assert!((200..600).contains(&reply.reply.code()));
            prop_assert!(matches!(FullReply::parse(&received[..cut.index(length)]), Ok(None)), "it is whole");
        }
    }
}

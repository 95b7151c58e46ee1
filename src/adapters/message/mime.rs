//! The whole message in MIME form: header, text part and HTML part, encoded by lettre.
//!
//! Must not let a bare CR or LF into a message, nor a line that a relay would take for its end.

use std::borrow::Cow;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use lettre::Message;
use lettre::message::header::{ContentType, Date};
use lettre::message::{Mailbox, MultiPart, SinglePart};

use super::headers::{AutoSubmitted, ContentLanguage, EntityRefId, From, mailbox};
use super::{MessageError, message_id};
use crate::domain::email_address::EmailAddress;
use crate::domain::sender::Sender;
use crate::ports::Content;

/// The line that ends a message after DATA.
const END: &[u8] = b".\r\n";
/// The last second of the year 9999; a later one has no such form.
const LAST_SECOND: u64 = 253_402_300_799;

/// What the header of one email says, apart from the subject.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    pub sender: &'a Sender,
    pub to: &'a EmailAddress,
    /// The id of the email (see [`super::new_id`]).
    pub id: &'a str,
    pub sent_at: SystemTime,
}

/// A message in MIME form, ready for a relay or a provider.
pub struct MimeMessage {
    /// The message, and the line that ends it.
    bytes: Vec<u8>,
    /// Whether `bytes` is what is transmitted after DATA: no line begins with a dot.
    is_data: bool,
}

impl MimeMessage {
    /// Takes a message whose lines all end in CR LF.
    #[must_use]
    pub fn new(message: Vec<u8>) -> Self {
        let is_data = message.ends_with(b"\r\n") && !has_leading_dot(&message);
        let mut bytes = message;
        bytes.extend_from_slice(END);
        Self { bytes, is_data }
    }

    /// Takes a message with the line that ends it, none of whose lines begins with a dot.
    pub(super) fn from_data(bytes: Vec<u8>) -> Self {
        Self { bytes, is_data: true }
    }

    /// Returns header and body.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.strip_suffix(END).unwrap_or(&self.bytes)
    }

    /// Returns the message as it is transmitted after DATA, with the line that ends it.
    #[must_use]
    pub fn data(&self) -> Cow<'_, [u8]> {
        if self.is_data { Cow::Borrowed(&self.bytes) } else { Cow::Owned(dot_stuffed(self.as_bytes())) }
    }
}

/// Builds a message. `boundary` separates its parts; without it, lettre makes one.
pub(super) fn build(
    head: &Head<'_>,
    content: &Content,
    boundary: Option<&str>,
) -> Result<Message, MessageError> {
    let parts = MultiPart::alternative();
    let parts = if let Some(boundary) = boundary { parts.boundary(boundary) } else { parts };
    Message::builder()
        .header(From::new(head.sender)?)
        .to(Mailbox::new(None, mailbox(head.to)?))
        .subject(content.subject.clone())
        .message_id(Some(message_id(head.sender, head.id)))
        .header(EntityRefId(head.id.to_owned()))
        .header(Date::new(head.sent_at))
        .header(AutoSubmitted)
        .header(ContentLanguage(content.language.clone()))
        .multipart(
            parts
                .singlepart(part(ContentType::TEXT_PLAIN, content.text.clone()))
                .singlepart(part(ContentType::TEXT_HTML, content.html.clone())),
        )
        .map_err(|error| MessageError::Header(error.into()))
}

/// Builds a message and returns its bytes.
pub(super) fn formatted(
    head: &Head<'_>,
    content: &Content,
    boundary: Option<&str>,
) -> Result<Vec<u8>, MessageError> {
    let bytes = build(head, content, boundary)?.formatted();
    if has_bare_line_end(&bytes) { Err(MessageError::LineEnd) } else { Ok(bytes) }
}

/// Returns the time for a `Date` header, from lettre's clock.
pub(super) fn now() -> SystemTime {
    Date::now().into()
}

/// Returns a boundary that lettre made.
pub(super) fn boundary() -> String {
    MultiPart::alternative().build().boundary()
}

/// Returns the value of a `Date` header (RFC 5322 section 3.3), as lettre writes it.
pub(super) fn date(at: SystemTime) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs().min(LAST_SECOND);
    // `2026-11-30T23:59:59Z`
    let text = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
    let field = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    // The epoch was a Thursday.
    let day = usize::try_from(seconds / 86_400 % 7).ok().and_then(|day| DAYS.get(day));
    let month = field(5, 7).parse::<usize>().ok().and_then(|month| MONTHS.get(month.checked_sub(1)?));
    let (day, month) = (day.copied().unwrap_or_default(), month.copied().unwrap_or_default());
    [day, ", ", field(8, 10), " ", month, " ", field(0, 4), " ", field(11, 19), " +0000"].concat()
}

/// Returns a message as it is transmitted after DATA (RFC 5321 section 4.5.2): a dot at the start
/// of a line is doubled, and a line with a dot ends it. Also doubles a dot after LF alone, so that
/// a relay that takes it for a line end sees no end of the message there.
fn dot_stuffed(message: &[u8]) -> Vec<u8> {
    let mut data = Vec::with_capacity(message.len() + 16);
    for line in message.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b".") {
            data.push(b'.');
        }
        data.extend_from_slice(line);
    }
    if !data.ends_with(b"\r\n") {
        data.extend_from_slice(b"\r\n");
    }
    data.extend_from_slice(END);
    data
}

/// Returns whether a line begins with a dot, which is doubled after DATA.
pub(super) fn has_leading_dot(message: &[u8]) -> bool {
    message.starts_with(b".") || message.windows(2).any(|pair| pair == b"\n.")
}

/// Returns whether the message contains a bare CR or LF.
fn has_bare_line_end(bytes: &[u8]) -> bool {
    let mut before = 0;
    let bare = bytes.iter().any(|&byte| {
        let is_bare = (byte == b'\n') != (before == b'\r');
        before = byte;
        is_bare
    });
    bare || before == b'\r'
}

fn part(content_type: ContentType, body: String) -> SinglePart {
    SinglePart::builder().header(content_type).body(body)
}

#[cfg(test)]
mod tests {
    use lettre::message::header::Header as _;
    use proptest::prelude::*;

    use super::*;

    fn data(message: &[u8]) -> Vec<u8> {
        MimeMessage::new(message.to_vec()).data().into_owned()
    }

    #[test]
    fn a_line_that_ends_otherwise_than_in_crlf_is_seen() {
        for bytes in [&b"a\nb\r\n"[..], b"a\rb\r\n", b"a\r\n\n", b"\n", b"a\r"] {
            assert!(has_bare_line_end(bytes), "{bytes:?}");
        }
        assert!(!has_bare_line_end(b"a\r\n\r\nb\r\n"));
    }

    #[test]
    fn a_message_ends_with_its_own_dot_alone() {
        for (message, expected) in [
            ("", "\r\n.\r\n"),
            ("a", "a\r\n.\r\n"),
            ("a\r\n", "a\r\n.\r\n"),
            (".\r\n", "..\r\n.\r\n"),
            ("a\r\n.\r\nMAIL\r\n", "a\r\n..\r\nMAIL\r\n.\r\n"),
            ("a\r\n..b\r\n", "a\r\n...b\r\n.\r\n"),
            ("a\n.\nMAIL\n", "a\n..\nMAIL\n\r\n.\r\n"),
            ("a.b\r\n", "a.b\r\n.\r\n"),
        ] {
            assert_eq!(String::from_utf8(data(message.as_bytes())).unwrap(), expected);
            assert_eq!(MimeMessage::new(message.into()).as_bytes(), message.as_bytes());
        }
    }

    /// Undoes the transmission as a relay does.
    fn received(data: &[u8]) -> Vec<u8> {
        let lines = data.strip_suffix(b".\r\n").unwrap().split_inclusive(|byte| *byte == b'\n');
        let lines = lines.map(|line| {
            assert_ne!(line.trim_ascii_end(), b".", "it ended before");
            line.strip_prefix(b".").unwrap_or(line)
        });
        lines.collect::<Vec<_>>().concat()
    }

    proptest! {
        #[test]
        fn a_relay_receives_the_message_that_was_sent(message in "[a.\r\n]{0,40}") {
            let mut expected = message.clone().into_bytes();
            if !expected.ends_with(b"\r\n") {
                expected.extend_from_slice(b"\r\n");
            }
            prop_assert_eq!(received(&data(message.as_bytes())), expected);
        }

        #[test]
        fn a_date_is_written_as_lettre_writes_it(seconds in 0..=LAST_SECOND) {
            let at = UNIX_EPOCH + Duration::from_secs(seconds);
            let mut headers = lettre::message::header::Headers::new();
            headers.set(Date::new(at));
            prop_assert_eq!(headers.to_string(), format!("{}: {}\r\n", Date::name(), date(at)));
        }
    }
}

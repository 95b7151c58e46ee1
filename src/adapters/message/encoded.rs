//! A message that lettre encoded once, with the places of what differs from email to email: the
//! recipient, the id, the date, the code and the reference.
//!
//! Must not hold a code or a recipient, and must not be used unless it gives the same bytes as
//! lettre.

use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::mime::{Head, MimeMessage, boundary, date, formatted, has_leading_dot};
use crate::domain::email_address::EmailAddress;
use crate::domain::sender::Sender;
use crate::ports::Content;

/// Values of one email, all of the length of those that the message was encoded with.
pub(super) struct Values<'a> {
    pub head: Head<'a>,
    pub code: &'a str,
    /// Empty if the email shows none.
    pub reference: &'a str,
}

/// An encoded message without the values of any email.
#[derive(Debug)]
pub(super) struct EncodedMessage {
    /// All before the recipient's address.
    before: Vec<u8>,
    /// All after the recipient's address.
    after: Vec<u8>,
    places: Vec<Place>,
    /// Whether no line begins with a dot.
    is_data: bool,
}

/// What differs from email to email, apart from the recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Value {
    Id,
    Date,
    Code,
    Reference,
}

/// A place in `after`.
#[derive(Debug)]
enum Place {
    /// The bytes of `part` of the value are written as they are.
    Literal { at: usize, value: Value, part: Range<usize> },
    /// Up to three bytes, some of which are bytes of values, are written as four characters of
    /// base64.
    Base64 { at: usize, bytes: Vec<PlacedByte> },
}

/// A byte before it is encoded: one of a value, or one that all emails have.
#[derive(Debug, Clone, Copy)]
enum PlacedByte {
    OfValue(Value, usize),
    OfAll(u8),
}

/// A sample of each value. Two samples differ in every byte of code and reference, and neither is
/// a value that an email can have.
struct Sample {
    code: u8,
    reference: u8,
}

const SAMPLES: [Sample; 2] = [Sample { code: b'0', reference: b'A' }, Sample { code: b'1', reference: b'B' }];
/// The length of an id.
const ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

impl EncodedMessage {
    /// Encodes emails of this sender whose code and reference have these lengths. `content` returns
    /// what the reader sees, with this code and reference. Returns `None` if such emails must be
    /// encoded one by one.
    pub(super) fn new(
        sender: &Sender,
        [code_length, reference_length]: [usize; 2],
        content: impl Fn(&str, &str) -> Content,
    ) -> Option<Self> {
        let boundary = boundary();
        let to = EmailAddress::parse("a@example.com").ok()?;
        let head = Head { sender, to: &to, id: ID, sent_at: UNIX_EPOCH };
        let [one, other] = SAMPLES.map(|Sample { code, reference }| {
            let content = content(&repeat(code, code_length), &repeat(reference, reference_length));
            formatted(&head, &content, Some(&boundary)).ok()
        });
        let one = one?;
        let (before, after) = split_at_recipient(&one, to.as_str())?;
        let (_, other) =
            split_at_recipient(other.as_deref()?, to.as_str()).filter(|(start, _)| *start == before)?;
        let places = Places::find(after, other, [code_length, reference_length])?;
        let is_data = !has_leading_dot(&one);
        let encoded = Self { before: before.to_vec(), after: [after, b".\r\n"].concat(), places, is_data };
        // Whatever the marks were taken for: other values must give what lettre makes of them.
        let to = EmailAddress::parse("some.other-person@sub.example.org").ok()?;
        let head = Head {
            to: &to,
            id: "0123456789-_abcdefXYZw",
            sent_at: UNIX_EPOCH + Duration::from_hours(500_000),
            ..head
        };
        let code = "9081726354".get(..code_length)?;
        let reference = "XKT".get(..reference_length)?;
        let expected = formatted(&head, &content(code, reference), Some(&boundary)).ok()?;
        let found = encoded.with(&Values { head, code, reference })?;
        (found.as_bytes() == expected).then_some(encoded)
    }

    /// Returns the message with these values, or `None` if one is not of the right length.
    pub(super) fn with(&self, values: &Values<'_>) -> Option<MimeMessage> {
        let date = date(values.head.sent_at);
        if values.head.id.len() != ID.len() {
            return None;
        }
        let to = values.head.to.as_str().as_bytes();
        let mut message = Vec::with_capacity(self.before.len() + to.len() + self.after.len());
        message.extend_from_slice(&self.before);
        message.extend_from_slice(to);
        let start = message.len();
        message.extend_from_slice(&self.after);
        let after = message.get_mut(start..)?;
        let value = |value| match value {
            Value::Id => values.head.id.as_bytes(),
            Value::Date => date.as_bytes(),
            Value::Code => values.code.as_bytes(),
            Value::Reference => values.reference.as_bytes(),
        };
        for place in &self.places {
            match place {
                Place::Literal { at, value: name, part } => {
                    let bytes = value(*name).get(part.clone())?;
                    after.get_mut(*at..at + bytes.len())?.copy_from_slice(bytes);
                }
                Place::Base64 { at, bytes } => {
                    let mut group = [0; 3];
                    for (byte, placed) in group.iter_mut().zip(bytes) {
                        *byte = match placed {
                            PlacedByte::OfValue(name, index) => *value(*name).get(*index)?,
                            PlacedByte::OfAll(byte) => *byte,
                        };
                    }
                    let group = group.get(..bytes.len())?;
                    STANDARD.encode_slice(group, after.get_mut(*at..at + 4)?).ok()?;
                }
            }
        }
        if self.is_data {
            return Some(MimeMessage::from_data(message));
        }
        message.truncate(message.len() - b".\r\n".len());
        Some(MimeMessage::new(message))
    }
}

/// Places found so far.
struct Places {
    found: Vec<Place>,
    /// Lengths of code and reference.
    lengths: [usize; 2],
    /// How many bytes of codes and references were found.
    counts: [usize; 2],
}

impl Places {
    /// Finds the places in a message that was encoded with both samples. Returns `None` if the two
    /// differ in anything else.
    fn find(one: &[u8], other: &[u8], lengths: [usize; 2]) -> Option<Vec<Place>> {
        let mut places = Self { found: Vec::new(), lengths, counts: [0, 0] };
        for (name, value, length) in [
            ("Message-ID: <", Value::Id, ID.len()),
            ("X-Entity-Ref-ID: ", Value::Id, ID.len()),
            ("Date: ", Value::Date, 31),
        ] {
            let at = find(one, format!("\r\n{name}").as_bytes())? + 2 + name.len();
            places.found.push(Place::Literal { at, value, part: 0..length });
        }
        let mut at = 0;
        while let Some(next) = one.iter().zip(other).skip(at).position(|(a, b)| a != b) {
            at += next;
            at = match places.next_byte(*one.get(at)?, *other.get(at)?) {
                Some(byte) => places.add_literal(at, byte),
                None => places.add_base64(one, other, at)?,
            };
        }
        let are_whole =
            places.counts.iter().zip(lengths).all(|(count, length)| length == 0 || count % length == 0);
        (one.len() == other.len() && are_whole).then_some(places.found)
    }

    /// Returns which byte of which value is next, if the samples differ in it.
    fn next_byte(&mut self, one: u8, other: u8) -> Option<(Value, usize)> {
        let [code_length, reference_length] = self.lengths;
        let [codes, references] = &mut self.counts;
        let is_sample = |byte: fn(&Sample) -> u8| SAMPLES.each_ref().map(byte) == [one, other];
        let (value, count, length) = if is_sample(|sample| sample.code) {
            (Value::Code, codes, code_length)
        } else if is_sample(|sample| sample.reference) {
            (Value::Reference, references, reference_length)
        } else {
            return None;
        };
        let index = count.checked_rem(length)?;
        *count += 1;
        Some((value, index))
    }

    /// Adds a byte that is written as it is. Returns where to go on.
    fn add_literal(&mut self, at: usize, (value, index): (Value, usize)) -> usize {
        match self.found.last_mut() {
            Some(Place::Literal { at: start, value: last, part })
                if *last == value && part.end == index && *start + part.len() == at =>
            {
                part.end += 1;
            }
            _ => self.found.push(Place::Literal { at, value, part: index..index + 1 }),
        }
        at + 1
    }

    /// Adds the four characters of base64 around a character. Returns where to go on.
    fn add_base64(&mut self, one: &[u8], other: &[u8], at: usize) -> Option<usize> {
        let line = one.get(..at)?.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        // Base64 begins with the line, or in an encoded word (RFC 2047) of a header.
        let word = find_last(one.get(line..at)?, b"=?utf-8?b?").unwrap_or_default();
        let start = at - (at - line - word) % 4;
        let decoded = |text: &[u8]| STANDARD.decode(text.get(start..start + 4)?).ok();
        let mut bytes = Vec::with_capacity(3);
        for (byte, other) in decoded(one)?.into_iter().zip(decoded(other)?) {
            bytes.push(if byte == other {
                PlacedByte::OfAll(byte)
            } else {
                let (value, index) = self.next_byte(byte, other)?;
                PlacedByte::OfValue(value, index)
            });
        }
        self.found.push(Place::Base64 { at: start, bytes });
        Some(start + 4)
    }
}

fn repeat(byte: u8, count: usize) -> String {
    char::from(byte).to_string().repeat(count)
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// Returns the end of the last occurrence.
fn find_last(text: &[u8], part: &[u8]) -> Option<usize> {
    Some(text.windows(part.len()).rposition(|window| window == part)? + part.len())
}

/// Returns what is before and after the address in the `To` header.
fn split_at_recipient<'a>(message: &'a [u8], address: &str) -> Option<(&'a [u8], &'a [u8])> {
    const NAME: &[u8] = b"\r\nTo: ";
    let (before, rest) = message.split_at_checked(find(message, NAME)? + NAME.len())?;
    Some((before, rest.strip_prefix(address.as_bytes())?))
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::adapters::message::{Composed, Composer, SampleValues, new_id};
    use crate::domain::code::Code;
    use crate::domain::locale::Locale;
    use crate::domain::reference::Reference;
    use crate::domain::tenant::Tenant;
    use crate::ports::CodeMail;

    const LANGUAGES: [&str; 7] = ["ar", "de", "en", "es", "fr", "ja", "pt"];

    static COMPOSER: LazyLock<Composer> =
        LazyLock::new(|| Composer::load(None, &SampleValues::default()).unwrap());

    fn mail(language: &str, brand: &str, code: &str, reference: Option<&str>) -> CodeMail {
        let address = EmailAddress::parse("codes@sender.example").unwrap();
        CodeMail {
            sender: Sender { address, brand: brand.to_owned(), locale: Locale::english() },
            reference: reference.map(|letters| Reference::parse(letters.as_bytes()).unwrap()),
            to: EmailAddress::parse("a@example.com").unwrap(),
            code: Code::parse(code).unwrap(),
            valid_for: Duration::from_mins(5),
            tenant: Tenant::Simple,
            purpose: None,
            expires_at: 0,
            languages: vec![Locale::parse(language).unwrap()],
        }
    }

    /// Encodes the emails that are as this one.
    fn encoded(mail: &CodeMail) -> Option<EncodedMessage> {
        let Composed::Prepared(email) = COMPOSER.compose(mail).unwrap() else { panic!("not prepared") };
        let lengths = [mail.code.expose().len(), mail.reference.as_ref().map_or(0, |_| 3)];
        EncodedMessage::new(&mail.sender, lengths, |code, reference| email.content(code, reference))
    }

    /// Asserts that an email is as lettre encodes it.
    fn assert_as_by_lettre(encoded: &EncodedMessage, mail: &CodeMail, id: &str, at: u64) {
        let sent_at = UNIX_EPOCH + Duration::from_secs(at);
        let head = Head { sender: &mail.sender, to: &mail.to, id, sent_at };
        let reference = mail.reference.as_ref().map_or("", Reference::as_str);
        let message = encoded.with(&Values { head, code: mail.code.expose(), reference }).unwrap();
        let text = String::from_utf8(message.as_bytes().to_vec()).unwrap();
        let boundary = text.split("boundary=\"").nth(1).unwrap().split('"').next().unwrap();
        let expected = formatted(&head, &COMPOSER.content(mail).unwrap(), Some(boundary)).unwrap();
        assert_eq!(text, String::from_utf8(expected.clone()).unwrap());
        assert_eq!(message.data(), MimeMessage::new(expected).data());
    }

    #[test]
    fn every_language_and_length_of_a_code_can_be_encoded_beforehand() {
        let long = "Long \u{e9} ".repeat(9);
        for brand in ["Söhne & Co. <b>", "قهوة 店", "000000 111111 AAA BBB", &long] {
            for language in LANGUAGES {
                for code in ["012345", "7654321", "01234567", "987654321", "9081726354"] {
                    for reference in [None, Some("XKT")] {
                        let mail = mail(language, brand, code, reference);
                        let encoded = encoded(&mail).expect("places for all values");
                        assert!(find(&encoded.after, code.as_bytes()).is_none(), "it holds a code");
                        assert_as_by_lettre(&encoded, &mail, &new_id([9; 16]), 1_800_000_000);
                    }
                }
            }
        }
    }

    #[test]
    fn codes_are_put_into_plain_text_and_into_base64() {
        for (language, is_base64) in [("en", false), ("ar", true), ("ja", true)] {
            let encoded = encoded(&mail(language, "Example", "012345", None)).unwrap();
            let is_of_base64 = |place: &Place| matches!(place, Place::Base64 { .. });
            assert_eq!(encoded.places.iter().any(is_of_base64), is_base64, "{language}");
        }
    }

    #[test]
    fn values_of_another_length_are_not_put_in() {
        let mail = mail("en", "Example", "012345", None);
        let encoded = encoded(&mail).unwrap();
        for (id, code) in [("short", "012345"), (ID, "01234")] {
            let head = Head { sender: &mail.sender, to: &mail.to, id, sent_at: UNIX_EPOCH };
            assert!(encoded.with(&Values { head, code, reference: "" }).is_none());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn an_email_is_as_lettre_encodes_it(
            brand in "[^\\p{C}]{0,64}",
            language in proptest::sample::select(&LANGUAGES[..]),
            code in "[0-9]{6,10}",
            reference in proptest::option::of("[BCDFGHJKLMNPQRSTVWXZ]{3}"),
            to in "[a-z0-9+_-]{1,60}@[a-z]{1,30}\\.(example|test)",
            id in any::<[u8; 16]>(),
            at in 0..253_402_300_799_u64,
        ) {
                let to = EmailAddress::parse(&to).unwrap();
            let mail = CodeMail { to, ..mail(language, &brand, &code, reference.as_deref()) };
            if let Composed::Prepared(_) = COMPOSER.compose(&mail).unwrap()
                && let Some(encoded) = encoded(&mail)
            {
                assert_as_by_lettre(&encoded, &mail, &new_id(id), at);
            }
        }
    }
}

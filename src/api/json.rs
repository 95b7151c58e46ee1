//! Strict JSON bodies: one media type, a maximum size, no duplicate members, and a timeout.
//!
//! Replaces the framework's own `Json`, which accepts numbers for strings, duplicate members, and
//! bodies of any length. Must not repeat anything of a rejected body.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Body as HttpBody;
use poem::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use poem::{Request, RequestBody, Result};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::rejection::{MalformedReason, Rejection};

/// The maximum length of a body, in bytes.
const BODY_MAX: usize = 8 * 1024;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The rejection of what is not one JSON object.
const MALFORMED: Rejection = Rejection::Malformed(MalformedReason::NoObject);

/// A request body, and the schema that describes it in the OpenAPI document.
pub(super) trait Body: Sized + Send {
    /// The schema in the OpenAPI document.
    type Schema: Type;

    /// Whether a body is required. If not, a missing body is read as an empty object.
    const IS_REQUIRED: bool = true;

    /// Parses the bytes of a body.
    fn read(bytes: &[u8]) -> Result<Self, Rejection>;
}

/// A JSON object that was parsed strictly.
#[derive(Debug)]
pub(super) struct StrictJson<T>(pub T);

impl<'a, T: Body> ApiExtractor<'a> for StrictJson<T> {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];

    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::Schema::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = MetaMediaType { content_type: "application/json", schema: T::Schema::schema_ref() };
        Some(MetaRequest { description: None, content: vec![content], required: T::IS_REQUIRED })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> Result<Self> {
        check_length(request)?;
        let media_type = check_media_type(request);
        if T::IS_REQUIRED {
            media_type?;
        }
        let body = Limited::new(BoxBody::from(body.take()?), BODY_MAX);
        let read = timeout(BODY_TIMEOUT, read(body)).await.map_err(|_| Rejection::RequestTimeout)?;
        let bytes = read.map_err(|error| match error.downcast_ref::<LengthLimitError>() {
            Some(_) => Rejection::PayloadTooLarge,
            None => Rejection::Malformed(MalformedReason::Unreadable),
        })?;
        if bytes.is_empty() && !T::IS_REQUIRED {
            return Ok(Self(T::read(b"{}")?));
        }
        media_type?;
        Ok(Self(T::read(&bytes)?))
    }
}

/// Reads a body. Most come in one piece, which is not copied.
async fn read<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes, B::Error> {
    let (mut first, mut joined) = (Bytes::new(), Vec::new());
    while let Some(frame) = body.frame().await {
        let Ok(piece) = frame?.into_data() else { continue };
        if first.is_empty() {
            first = piece;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&piece);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.into() })
}

/// Rejects a body that declares too great a length, before any of it is read.
fn check_length(request: &Request) -> Result<(), Rejection> {
    let length = request.header(CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if length.is_some_and(|length| length > BODY_MAX as u64) {
        return Err(Rejection::PayloadTooLarge);
    }
    Ok(())
}

/// Requires exactly one media type and no content coding.
fn check_media_type(request: &Request) -> Result<(), Rejection> {
    let mut types = request.headers().get_all(CONTENT_TYPE).iter();
    let one = types.next().filter(|_| types.next().is_none());
    let is_json = one.and_then(|value| value.to_str().ok()).is_some_and(is_json);
    let mut codings = request.headers().get_all(CONTENT_ENCODING).iter();
    let is_plain = codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity"));
    match (is_plain, is_json) {
        (false, _) => Err(Rejection::UnsupportedContentCoding),
        (true, false) => Err(Rejection::UnsupportedMediaType),
        (true, true) => Ok(()),
    }
}

/// Returns whether this is `application/json`. Parameters have no effect: RFC 8259 section 11
/// defines none.
fn is_json(content_type: &str) -> bool {
    let media_type = content_type.split_once(';').map_or(content_type, |(media_type, _)| media_type);
    media_type.trim().eq_ignore_ascii_case("application/json")
}

/// The members of a JSON object, none of which is there twice. Each is taken out.
///
/// Values are not parsed before they are taken: an unknown member costs no memory.
pub(super) struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// The name of a member, which is copied only if it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'a> Members<'a> {
    /// Parses one object without repeating the parser's errors. Ignores a byte order mark in front
    /// of it (RFC 8259 section 8.1).
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, Rejection> {
        // Validate UTF-8 first: the parser does not check the bytes of values that it skips.
        let text = str::from_utf8(bytes).map_err(|_| MALFORMED)?;
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut members: Self = serde_json::from_str(text).map_err(|_| MALFORMED)?;
        members.0.sort_unstable_by(|(name, _), (other, _)| name.cmp(other));
        let is_twice = members.0.array_windows().any(|[(name, _), (other, _)]| name == other);
        if is_twice { Err(MALFORMED) } else { Ok(members) }
    }

    /// Takes an optional value as it is written. `null` counts as absent, because generated clients
    /// send it for unset members.
    pub(super) fn raw(&mut self, name: &str) -> Option<&'a str> {
        let at = self.0.iter().position(|(other, _)| other == name)?;
        let (_, value) = self.0.swap_remove(at);
        Some(value.get()).filter(|value| *value != "null")
    }

    /// Takes an optional string.
    pub(super) fn text(&mut self, name: &'static str) -> Result<Option<String>, Rejection> {
        let parse = |value| serde_json::from_str(value);
        self.raw(name).map(parse).transpose().map_err(|_| Self::rejected(name, "a string"))
    }

    /// Takes a required string.
    pub(super) fn required_text(&mut self, name: &'static str) -> Result<String, Rejection> {
        self.text(name)?.ok_or(Rejection::Malformed(MalformedReason::Missing(name)))
    }

    /// Takes an optional string that `parse` must accept.
    pub(super) fn parsed<T>(
        &mut self,
        name: &'static str,
        form: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Rejection> {
        let read = |text: String| parse(&text).ok_or(Self::rejected(name, form));
        self.text(name)?.map(read).transpose()
    }

    /// Rejects members that were not taken.
    pub(super) fn finish(self, known: &'static [&'static str]) -> Result<(), Rejection> {
        if self.0.is_empty() { Ok(()) } else { Err(Rejection::Malformed(MalformedReason::Unknown(known))) }
    }

    fn rejected(name: &'static str, form: &'static str) -> Rejection {
        Rejection::Malformed(MalformedReason::Format(name, form))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor(PhantomData))
    }
}

struct MembersVisitor<'a>(PhantomData<Members<'a>>);

impl<'de: 'a, 'a> Visitor<'de> for MembersVisitor<'a> {
    type Value = Members<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Members<'a>, A::Error> {
        let mut all = Vec::new();
        while let Some((Name(name), value)) = members.next_entry()? {
            all.push((name, value));
        }
        Ok(Members(all))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<Option<String>, ()> {
        Members::read(text.as_bytes()).and_then(|mut members| members.text("email")).map_err(|_| ())
    }

    #[test]
    fn unknown_members_are_ignored_and_double_ones_are_not() {
        assert_eq!(read(r#"{"email":"a","x":{"y":[1,{}]}}"#), Ok(Some("a".to_owned())));
        assert_eq!(read("{}"), Ok(None));
        for text in [r#"{"email":"a","email":"b"}"#, r#"{"x":1,"x":2}"#, r#"{"email":"a","\u0065mail":"b"}"#]
        {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn only_an_object_of_the_right_types_is_read() {
        for text in
            ["", "null", "[]", "1", "\"a\"", "{", r#"{"email":1}"#, r#"{"email":["a"]}"#, "{} {}", "{'a':1}"]
        {
            assert!(read(text).is_err(), "{text}");
        }
        assert!(read(&format!("{{\"x\":{}", "[".repeat(100_000))).is_err());
    }

    #[test]
    fn every_octet_is_part_of_utf8() {
        for bytes in
            [&b"{\"email\":\"\xff\"}"[..], b"{\"x\":[{\"\xff\":\"\xff\"}]}", b"{\"x\":\"\xed\xa0\x80\"}"]
        {
            assert!(Members::read(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_in_front_of_the_object_is_ignored() {
        assert_eq!(read("\u{feff}{\"email\":\"a\"}"), Ok(Some("a".to_owned())));
        for text in ["\u{feff}", "\u{feff}\u{feff}{}", "{}\u{feff}", "{\u{feff}}"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn one_media_type_is_json_whatever_its_parameters() {
        for json in [
            "application/json",
            "Application/JSON; charset=UTF-8",
            "application/json ; charset=utf-8",
            "application/json;charset=latin1",
            "application/json; v=1; q=\"a;b\"",
            "application/json;",
        ] {
            assert!(is_json(json), "{json}");
        }
        for other in ["", ";", "text/plain", "application/x+json", "application/jsonp", "text/json", "a"] {
            assert!(!is_json(other), "{other}");
        }
    }

    #[test]
    fn members_are_taken_one_by_one_and_none_is_left() {
        let read = |text: &str| -> Result<(String, Option<u8>), Rejection> {
            let mut members = Members::read(text.as_bytes())?;
            let name = members.required_text("name")?;
            let age = members.parsed("age", "a number", |text| text.parse().ok())?;
            members.finish(&["name", "age"])?;
            Ok((name, age))
        };
        let reason = |text| match read(text) {
            Err(Rejection::Malformed(reason)) => reason.to_string(),
            other => panic!("{other:?}"),
        };
        assert_eq!(read(r#"{"age":"7","name":"a"}"#), Ok(("a".to_owned(), Some(7))));
        assert_eq!(reason(r#"{"age":"7"}"#), "`name` is missing.");
        assert_eq!(read(r#"{"age":null,"name":"a"}"#), Ok(("a".to_owned(), None)));
        assert_eq!(reason(r#"{"name":null}"#), "`name` is missing.");
        assert_eq!(
            reason(r#"{"name":"a","secret":null}"#),
            "The body has a member that is none of: name, age."
        );
        assert_eq!(reason(r#"{"name":"a","age":"x"}"#), "`age` must be a number.");
        assert_eq!(reason(r#"{"name":"a","secret":1}"#), "The body has a member that is none of: name, age.");
        assert_eq!(reason("[1]"), "The body must be a JSON object in UTF-8 with no member twice.");
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Members::read(&bytes);
        }
    }
}

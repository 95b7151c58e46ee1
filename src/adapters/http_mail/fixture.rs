//! What the tests of the providers share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::HeaderMap;
use hyper::http::{Request, StatusCode};

use super::provider::{MailApi, Verdict};
use crate::adapters::http::HttpAnswer;
use crate::adapters::mailer::{Email, FailureKind};
use crate::adapters::message::{Composer, SampleValues, new_id};
use crate::domain::code::Code;
use crate::domain::email_address::EmailAddress;
use crate::domain::hook_secret::HookSecret;
use crate::domain::locale::Locale;
use crate::domain::sender::Sender;
use crate::domain::target_url::TargetUrl;
use crate::domain::tenant::Tenant;
use crate::ports::CodeMail;

/// The id of [`email`].
pub(super) const ID: &str = "BwcHBwcHBwcHBwcHBwcHBw";

/// Returns the URL of an API.
pub(super) fn url() -> TargetUrl {
    TargetUrl::parse("https://api.example/base/", "").unwrap()
}

pub(super) fn hook_secret() -> HookSecret {
    HookSecret::parse(&HookSecret::text(&[1; 32])).unwrap()
}

/// Returns 2027-01-15 08:00:00 UTC.
pub(super) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_hours(500_000)
}

pub(super) fn mail(brand: &str) -> CodeMail {
    let address = EmailAddress::parse("codes@sender.example").unwrap();
    CodeMail {
        sender: Sender { address, brand: brand.to_owned(), locale: Locale::english() },
        reference: None,
        to: EmailAddress::parse("a@example.com").unwrap(),
        code: Code::parse("012345").unwrap(),
        valid_for: Duration::from_mins(5),
        tenant: Tenant::Simple,
        purpose: None,
        expires_at: 0,
        languages: vec![Locale::parse("de").unwrap()],
    }
}

pub(super) fn email(mail: &CodeMail) -> Email<'_> {
    let id = new_id([7; 16]);
    let composed = Composer::load(None, &SampleValues::default()).unwrap().compose(mail).unwrap();
    Email::new(mail, id, composed)
}

pub(super) fn answer(status: u16, body: &[u8]) -> HttpAnswer {
    let status = StatusCode::from_u16(status).unwrap();
    HttpAnswer { status, headers: HeaderMap::new(), body: Bytes::copy_from_slice(body) }
}

/// Returns the body of a request.
pub(super) fn body(request: Request<Full<Bytes>>) -> Bytes {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(request.into_body().collect()).unwrap().to_bytes()
}

/// Returns a header of a request.
pub(super) fn header<'a>(request: &'a Request<Full<Bytes>>, name: &str) -> &'a str {
    request.headers()[name].to_str().unwrap()
}

/// Asserts what an answer means: the kind and the word.
pub(super) fn assert_meaning(
    provider: &dyn MailApi,
    answer: &HttpAnswer,
    kind: FailureKind,
    word: Option<&str>,
) {
    let Verdict::Failed(found, of_provider) = provider.judge(answer) else {
        panic!("accepted: {answer:?} {word:?}")
    };
    let of_provider = of_provider.as_ref().map(super::provider::Word::as_str);
    assert_eq!((found, of_provider), (kind, word), "{answer:?}");
}

/// Returns the id that an accepting answer gives.
pub(super) fn accepted(provider: &dyn MailApi, answer: &HttpAnswer) -> Option<String> {
    let Verdict::Accepted(id) = provider.judge(answer) else { panic!("not accepted: {answer:?}") };
    id.map(|id| id.as_str().to_owned())
}

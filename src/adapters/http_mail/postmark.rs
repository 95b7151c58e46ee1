//! Postmark: `POST /email` (postmarkapp.com/developer/api/email-api).
//!
//! The number of an error (`ErrorCode`) looks like an HTTP status and is none: 406 is an inactive
//! recipient. Postmark drops no duplicates.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE};
use hyper::http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::provider::{
    MailApi, RequestError, Verdict, Word, acceptance, from, member, own_headers, secret_value, usual_meaning,
};
use crate::adapters::http::HttpAnswer;
use crate::adapters::mailer::{Email, FailureKind};
use crate::adapters::message::message_id;
use crate::domain::target_url::TargetUrl;

/// Postmark's API.
pub struct PostmarkApi {
    /// URL of the call.
    url: String,
    token: SecretString,
    message_stream: String,
}

impl PostmarkApi {
    /// Creates the provider; `url` is that of the API.
    #[must_use]
    pub fn new(url: &TargetUrl, token: SecretString, message_stream: String) -> Self {
        Self { url: url.join("/email"), token, message_stream }
    }
}

impl MailApi for PostmarkApi {
    fn name(&self) -> &'static str {
        "postmark"
    }

    fn request(&self, email: &Email<'_>, _: SystemTime) -> Result<Request<Full<Bytes>>, RequestError> {
        let message_id = message_id(&email.mail.sender, &email.id);
        // Without the second header, Postmark replaces the first.
        let kept_id = [("Message-ID", message_id.as_str()), ("X-PM-KeepID", "true")];
        let headers = own_headers(email).into_iter().chain(kept_id);
        let headers: Vec<_> = headers.map(|(name, value)| json!({ "Name": name, "Value": value })).collect();
        let body = json!({
            "From": from(&email.mail.sender),
            "To": email.mail.to.as_str(),
            "Subject": email.content().subject,
            "TextBody": email.content().text,
            "HtmlBody": email.content().html,
            "Headers": headers,
            "MessageStream": self.message_stream,
            "TrackOpens": false,
            "TrackLinks": "None",
        });
        let body = serde_json::to_vec(&body).map_err(RequestError::new)?;
        let token = Zeroizing::new(self.token.expose_secret().to_owned());
        Request::post(&self.url)
            .header("x-postmark-server-token", secret_value(&token)?)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))
            .map_err(RequestError::new)
    }

    fn judge(&self, answer: &HttpAnswer) -> Verdict {
        let code = member(answer, "ErrorCode").as_ref().and_then(Value::as_u64);
        if answer.status.is_success() && code == Some(0) {
            return acceptance(answer, "MessageID");
        }
        let word = code.and_then(|code| Word::parse(&code.to_string()));
        Verdict::Failed(meaning(answer, code), word)
    }
}

/// Returns what an error means (postmarkapp.com/developer/api/overview).
fn meaning(answer: &HttpAnswer, code: Option<u64>) -> FailureKind {
    match (answer.status, code) {
        // Maintenance, too many requests, and a 503 of the API itself, which has a number.
        (_, Some(100 | 429)) | (StatusCode::SERVICE_UNAVAILABLE, Some(_)) => FailureKind::Deferred,
        (status, Some(_)) if status.is_success() => FailureKind::Refused,
        _ => usual_meaning(answer),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::http_mail::fixture::{self, ID, accepted, answer, assert_meaning, header};

    fn postmark() -> PostmarkApi {
        PostmarkApi::new(&fixture::url(), "token".into(), "codes".to_owned())
    }

    #[test]
    fn a_request_is_as_postmark_documents_it() {
        let mail = fixture::mail("Bücher, \"& mehr\" <x@y.example>");
        let email = fixture::email(&mail);
        let request = postmark().request(&email, fixture::now()).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "https://api.example/base/email")
        );
        assert_eq!(header(&request, "x-postmark-server-token"), "token");
        assert_eq!(header(&request, "content-type"), "application/json");
        assert_eq!(header(&request, "accept"), "application/json");
        let body: Value = serde_json::from_slice(&fixture::body(request)).unwrap();
        let expected = json!({
            "From": r#""Bücher, \"& mehr\" <x@y.example>" <codes@sender.example>"#,
            "To": "a@example.com",
            "Subject": email.content().subject,
            "TextBody": email.content().text,
            "HtmlBody": email.content().html,
            "Headers": [
                { "Name": "Auto-Submitted", "Value": "auto-generated" },
                { "Name": "Content-Language", "Value": "de" },
                { "Name": "X-Entity-Ref-ID", "Value": ID },
                { "Name": "Message-ID", "Value": format!("<{ID}@sender.example>") },
                { "Name": "X-PM-KeepID", "Value": "true" },
            ],
            "MessageStream": "codes",
            "TrackOpens": false,
            "TrackLinks": "None",
        });
        assert_eq!(body, expected);
    }

    #[test]
    fn each_documented_error_has_its_meaning() {
        use FailureKind::{Deferred, Refused, Unknown};
        for (status, code, kind) in [
            (401, 10, Refused),
            (422, 11, Refused),
            (503, 100, Deferred),
            (422, 100, Deferred),
            (422, 300, Refused),
            (422, 400, Refused),
            (422, 401, Refused),
            (422, 402, Refused),
            (422, 403, Refused),
            (422, 405, Refused),
            (422, 406, Refused),
            (422, 409, Refused),
            (422, 410, Refused),
            (422, 411, Refused),
            (422, 412, Refused),
            (422, 413, Refused),
            (422, 429, Deferred),
            (429, 429, Deferred),
            (429, 1, Deferred),
            (422, 1221, Refused),
            (422, 1226, Refused),
            (422, 1235, Refused),
            (422, 1236, Refused),
            (422, 9999, Refused),
            (500, 0, Unknown),
            (500, 1, Unknown),
            (503, 1, Deferred),
            (200, 406, Refused),
            (200, 100, Deferred),
        ] {
            let body = json!({ "ErrorCode": code, "Message": "a@example.com is inactive" });
            let word = code.to_string();
            assert_meaning(&postmark(), &answer(status, body.to_string().as_bytes()), kind, Some(&word));
        }
        for (status, kind) in [
            (302, Refused),
            (404, Refused),
            (413, Refused),
            (415, Refused),
            (429, Deferred),
            (500, Unknown),
            (502, Unknown),
            (503, Unknown),
        ] {
            assert_meaning(&postmark(), &answer(status, b"<html>"), kind, None);
        }
    }

    #[test]
    fn an_email_is_accepted_with_an_id_and_without_one_nothing_is_known() {
        let id = "b7bc2f4a-e38e-4336-af7d-e6c392c2f817";
        let body = json!({ "MessageID": id, "ErrorCode": 0, "Message": "OK" }).to_string();
        assert_eq!(accepted(&postmark(), &answer(200, body.as_bytes())).as_deref(), Some(id));
        for body in ["", "OK", r#"{"ErrorCode":0}"#, r#"{"MessageID":7}"#] {
            assert_meaning(&postmark(), &answer(200, body.as_bytes()), FailureKind::Unknown, None);
        }
    }
}

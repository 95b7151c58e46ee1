//! Resend: `POST /emails` (resend.com/docs/api-reference/emails/send-email).
//!
//! Resend keeps the id of an email for 24 hours and sends one email for it, however often it is
//! asked, if the requests are the same byte by byte. It replaces our `Message-ID`, and tracks opens
//! and clicks only if the domain is set to in its dashboard.

use std::time::SystemTime;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::provider::{
    MailApi, RequestError, Verdict, Word, acceptance, from, member, own_headers, secret_value, usual_meaning,
};
use crate::adapters::http::HttpAnswer;
use crate::adapters::mailer::{Email, FailureKind};
use crate::domain::target_url::TargetUrl;

/// Resend's API.
pub struct ResendApi {
    /// URL of the call.
    url: String,
    api_key: SecretString,
}

impl ResendApi {
    /// Creates the provider; `url` is that of the API.
    #[must_use]
    pub fn new(url: &TargetUrl, api_key: SecretString) -> Self {
        Self { url: url.join("/emails"), api_key }
    }
}

impl MailApi for ResendApi {
    fn name(&self) -> &'static str {
        "resend"
    }

    fn deduplicates(&self) -> bool {
        true
    }

    fn request(&self, email: &Email<'_>, _: SystemTime) -> Result<Request<Full<Bytes>>, RequestError> {
        let headers = own_headers(email).map(|(name, value)| (name.to_owned(), Value::from(value)));
        let body = json!({
            "from": from(&email.mail.sender),
            "to": [email.mail.to.as_str()],
            "subject": email.content().subject,
            "text": email.content().text,
            "html": email.content().html,
            "headers": Map::from_iter(headers),
        });
        let body = serde_json::to_vec(&body).map_err(RequestError::new)?;
        let key = Zeroizing::new(format!("Bearer {}", self.api_key.expose_secret()));
        Request::post(&self.url)
            .header(AUTHORIZATION, secret_value(&key)?)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", &email.id)
            .body(Full::from(body))
            .map_err(RequestError::new)
    }

    /// The errors are those of resend.com/docs/api-reference/errors. A name can come with several
    /// statuses, so that the status decides, but for these names.
    fn judge(&self, answer: &HttpAnswer) -> Verdict {
        if answer.status.is_success() {
            return acceptance(answer, "id");
        }
        let name = member(answer, "name");
        let name = name.as_ref().and_then(Value::as_str);
        let kind = match name {
            // An earlier request for this email is still in progress, or was received in another
            // form: it may have been accepted. Resend is asked again, and no one else.
            Some("concurrent_idempotent_requests" | "invalid_idempotent_request") => FailureKind::Unknown,
            Some("resource_locked" | "service_unavailable") => FailureKind::Deferred,
            // Lasts longer than a code.
            Some("daily_quota_exceeded" | "monthly_quota_exceeded") => FailureKind::Refused,
            _ => usual_meaning(answer),
        };
        Verdict::Failed(kind, name.and_then(Word::parse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::http_mail::fixture::{self, ID, accepted, answer, assert_meaning, header};

    fn resend() -> ResendApi {
        ResendApi::new(&fixture::url(), "re_key".into())
    }

    #[test]
    fn a_request_is_as_resend_documents_it() {
        let mail = fixture::mail("Bücher, \"& mehr\" <x@y.example>");
        let email = fixture::email(&mail);
        let request = resend().request(&email, fixture::now()).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "https://api.example/base/emails")
        );
        assert_eq!(header(&request, "authorization"), "Bearer re_key");
        assert_eq!(header(&request, "content-type"), "application/json");
        assert_eq!(header(&request, "idempotency-key"), ID);
        let body: Value = serde_json::from_slice(&fixture::body(request)).unwrap();
        let expected = json!({
            "from": r#""Bücher, \"& mehr\" <x@y.example>" <codes@sender.example>"#,
            "to": ["a@example.com"],
            "subject": email.content().subject,
            "text": email.content().text,
            "html": email.content().html,
            "headers": {
                "Auto-Submitted": "auto-generated",
                "Content-Language": "de",
                "X-Entity-Ref-ID": ID,
            },
        });
        assert_eq!(body, expected);
        assert!(email.content().text.contains("012345") && email.content().html.contains("012345"));
    }

    #[test]
    fn each_documented_error_has_its_meaning() {
        use FailureKind::{Deferred, Refused, Unknown};
        for (status, name, kind) in [
            (400, "invalid_idempotency_key", Refused),
            (400, "validation_error", Refused),
            (401, "missing_api_key", Refused),
            (401, "restricted_api_key", Refused),
            (401, "validation_error", Refused),
            (403, "invalid_api_key", Refused),
            (403, "restricted_api_key", Refused),
            (403, "validation_error", Refused),
            (403, "suspended_api_key", Refused),
            (403, "invalid_permission", Refused),
            (404, "not_found", Refused),
            (405, "method_not_allowed", Refused),
            (409, "invalid_idempotent_request", Unknown),
            (409, "concurrent_idempotent_requests", Unknown),
            (409, "resource_locked", Deferred),
            (422, "validation_error", Refused),
            (422, "invalid_from_address", Refused),
            (422, "invalid_attachment", Refused),
            (422, "invalid_parameter", Refused),
            (422, "missing_required_field", Refused),
            (422, "missing_required_parameter", Refused),
            (422, "invalid_access", Refused),
            (422, "invalid_region", Refused),
            (429, "rate_limit_exceeded", Deferred),
            (429, "daily_quota_exceeded", Refused),
            (429, "monthly_quota_exceeded", Refused),
            (451, "security_error", Refused),
            (500, "application_error", Unknown),
            (500, "internal_server_error", Unknown),
            (503, "service_unavailable", Deferred),
            (400, "new_word", Refused),
            (429, "new_word", Deferred),
            (502, "new_word", Unknown),
        ] {
            let body = json!({ "statusCode": status, "name": name, "message": "a@example.com is not" });
            assert_meaning(&resend(), &answer(status, body.to_string().as_bytes()), kind, Some(name));
        }
        for (status, body, kind) in [
            (403, "error code: 1010", Refused),
            (302, "", Refused),
            (500, "", Unknown),
            (504, "<html>", Unknown),
            (400, r#"{"name":7}"#, Refused),
        ] {
            assert_meaning(&resend(), &answer(status, body.as_bytes()), kind, None);
        }
    }

    #[test]
    fn an_email_is_accepted_with_an_id_and_without_one_nothing_is_known() {
        let id = "49a3999c-0ce1-4ea6-ab68-afcd6dc2e794";
        let body = json!({ "id": id }).to_string();
        assert_eq!(accepted(&resend(), &answer(200, body.as_bytes())).as_deref(), Some(id));
        for body in ["", "OK", "[]", r#"{"id":7}"#, r#"{"id":"a b"}"#] {
            assert_meaning(&resend(), &answer(200, body.as_bytes()), FailureKind::Unknown, None);
        }
    }
}

//! Mailgun: `POST /v3/{domain}/messages`
//! (documentation.mailgun.com/docs/mailgun/api-reference/send/mailgun/messages).
//!
//! Its errors have no word but a text, so that only the status is known and logged. Mailgun drops
//! no duplicates.

use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use form_urlencoded::Serializer;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::provider::{
    MailApi, RequestError, Verdict, acceptance, from, own_headers, secret_value, usual_meaning,
};
use crate::adapters::http::HttpAnswer;
use crate::adapters::mailer::{Email, FailureKind};
use crate::adapters::message::message_id;
use crate::domain::target_url::TargetUrl;

/// Mailgun's API.
pub struct MailgunApi {
    /// URL of the call.
    url: String,
    api_key: SecretString,
}

impl MailgunApi {
    /// Creates the provider; `url` is that of the API, and `domain` sends.
    #[must_use]
    pub fn new(url: &TargetUrl, domain: &str, api_key: SecretString) -> Self {
        Self { url: url.join(&format!("/v3/{domain}/messages")), api_key }
    }
}

impl MailApi for MailgunApi {
    fn name(&self) -> &'static str {
        "mailgun"
    }

    fn request(&self, email: &Email<'_>, _: SystemTime) -> Result<Request<Full<Bytes>>, RequestError> {
        let mut form = Serializer::new(String::new());
        form.append_pair("from", &from(&email.mail.sender))
            .append_pair("to", email.mail.to.as_str())
            .append_pair("subject", &email.content().subject)
            .append_pair("text", &email.content().text)
            .append_pair("html", &email.content().html)
            .append_pair("h:Message-Id", &message_id(&email.mail.sender, &email.id))
            .extend_pairs(own_headers(email).map(|(name, value)| (format!("h:{name}"), value)));
        for option in ["o:tracking", "o:tracking-clicks", "o:tracking-opens"] {
            form.append_pair(option, "no");
        }
        let login = Zeroizing::new(format!("api:{}", self.api_key.expose_secret()));
        let login = Zeroizing::new(STANDARD.encode(login.as_bytes()));
        Request::post(&self.url)
            .header(AUTHORIZATION, secret_value(&Zeroizing::new(format!("Basic {}", *login)))?)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(Full::from(form.finish()))
            .map_err(RequestError::new)
    }

    /// After a 5xx the email may have been sent, even after 503 (reported to Mailgun by customers).
    fn judge(&self, answer: &HttpAnswer) -> Verdict {
        if answer.status.is_success() {
            return acceptance(answer, "id");
        }
        let kind = if answer.status.is_server_error() { FailureKind::Unknown } else { usual_meaning(answer) };
        Verdict::Failed(kind, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::http_mail::fixture::{self, ID, accepted, answer, assert_meaning, header};

    fn mailgun() -> MailgunApi {
        MailgunApi::new(&fixture::url(), "mg.example", "key".into())
    }

    #[test]
    fn a_request_is_as_mailgun_documents_it() {
        let mail = fixture::mail("Bücher, \"& mehr\" <x@y.example>&to=b@example.com");
        let email = fixture::email(&mail);
        let request = mailgun().request(&email, fixture::now()).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "https://api.example/base/v3/mg.example/messages")
        );
        assert_eq!(header(&request, "authorization"), "Basic YXBpOmtleQ==");
        assert_eq!(header(&request, "content-type"), "application/x-www-form-urlencoded");
        let body = fixture::body(request);
        let fields: Vec<(String, String)> = form_urlencoded::parse(&body).into_owned().collect();
        let message_id = format!("<{ID}@sender.example>");
        let from = r#""Bücher, \"& mehr\" <x@y.example>&to=b@example.com" <codes@sender.example>"#;
        let expected = [
            ("from", from),
            ("to", "a@example.com"),
            ("subject", &email.content().subject),
            ("text", &email.content().text),
            ("html", &email.content().html),
            ("h:Message-Id", &message_id),
            ("h:Auto-Submitted", "auto-generated"),
            ("h:Content-Language", "de"),
            ("h:X-Entity-Ref-ID", ID),
            ("o:tracking", "no"),
            ("o:tracking-clicks", "no"),
            ("o:tracking-opens", "no"),
        ];
        assert_eq!(fields, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn each_documented_error_has_its_meaning() {
        use FailureKind::{Deferred, Refused, Unknown};
        for (status, text, kind) in [
            (302, "", Refused),
            (400, "from parameter is not a valid address. please check documentation", Refused),
            (400, "to parameter is not a valid address. please check documentation", Refused),
            (400, "Need at least one of 'text' or 'html' parameters specified", Refused),
            (400, "Domain mg.example is not allowed to send: Sandbox subdomains are", Refused),
            (401, "Forbidden", Refused),
            (402, "Request Failed", Refused),
            (403, "Domain mg.example is not allowed to send large batches yet", Refused),
            (404, "Domain not found: mg.example", Refused),
            (413, "", Refused),
            (429, "Domain mg.example is not allowed to send: request limit exceeded", Deferred),
            (429, "account-requests-per-sec limit exceeded, try again after 120 seconds", Deferred),
            (500, "Internal Server Error", Unknown),
            (502, "", Unknown),
            (503, "", Unknown),
            (504, "", Unknown),
        ] {
            let body = serde_json::json!({ "message": text }).to_string();
            assert_meaning(&mailgun(), &answer(status, body.as_bytes()), kind, None);
            assert_meaning(&mailgun(), &answer(status, text.as_bytes()), kind, None);
        }
    }

    #[test]
    fn an_email_is_accepted_with_an_id_and_without_one_nothing_is_known() {
        let body = br#"{"id":"<20261130.1@mg.example>","message":"Queued. Thank you."}"#;
        assert_eq!(accepted(&mailgun(), &answer(200, body)).as_deref(), Some("<20261130.1@mg.example>"));
        for body in ["", "Queued. Thank you.", r#"{"message":"Queued. Thank you."}"#] {
            assert_meaning(&mailgun(), &answer(200, body.as_bytes()), FailureKind::Unknown, None);
        }
    }
}

//! The hook: one signed request for each code to a URL of the operator's, which sends it.
//!
//! Signed as Standard Webhooks (specification 1.0) describes. The request contains the code, so it
//! is sent over TLS, or to this machine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;
use standardwebhooks::Webhook;

use super::provider::{MailApi, RequestError, Verdict, usual_meaning};
use crate::adapters::http::HttpAnswer;
use crate::adapters::mailer::Email;
use crate::domain::code::Code;
use crate::domain::hook_secret::HookSecret;
use crate::domain::purpose::Purpose;
use crate::domain::reference::Reference;
use crate::domain::target_url::TargetUrl;
use crate::domain::time::Millis;
use crate::traces;

/// The hook of the operator.
pub struct HookApi {
    url: TargetUrl,
    secret: HookSecret,
}

/// The body of a request.
#[derive(Serialize)]
struct HookRequest<'a> {
    /// Id of the email, as in the header `webhook-id`.
    id: &'a str,
    to: &'a str,
    subject: &'a str,
    text: &'a str,
    html: &'a str,
    code: &'a str,
    /// Language of the texts.
    locale: &'a str,
    brand: &'a str,
    tenant: &'a str,
    purpose: Option<&'a str>,
    reference: Option<&'a str>,
    /// RFC 3339, in UTC.
    expires_at: String,
}

impl HookApi {
    /// Creates the hook.
    #[must_use]
    pub fn new(url: TargetUrl, secret: HookSecret) -> Self {
        Self { url, secret }
    }

    fn body(email: &Email<'_>) -> Result<Vec<u8>, RequestError> {
        let mail = email.mail;
        let body = HookRequest {
            id: &email.id,
            to: mail.to.as_str(),
            subject: &email.content().subject,
            text: &email.content().text,
            html: &email.content().html,
            code: Code::expose(&mail.code),
            locale: &email.content().language,
            brand: &mail.sender.brand,
            tenant: mail.tenant.name(),
            purpose: mail.purpose.as_ref().map(Purpose::as_str),
            reference: mail.reference.as_ref().map(Reference::as_str),
            expires_at: rfc3339(mail.expires_at),
        };
        serde_json::to_vec(&body).map_err(RequestError::new)
    }
}

fn rfc3339(moment: Millis) -> String {
    // The last millisecond of the year 9999; a later one has no such form.
    let moment = moment.min(253_402_300_799_999);
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(moment)).to_string()
}

impl MailApi for HookApi {
    fn name(&self) -> &'static str {
        "hook"
    }

    fn request(&self, email: &Email<'_>, now: SystemTime) -> Result<Request<Full<Bytes>>, RequestError> {
        let body = Self::body(email)?;
        let seconds = now.duration_since(UNIX_EPOCH).map_err(RequestError::new)?.as_secs();
        let timestamp = i64::try_from(seconds).map_err(RequestError::new)?;
        let webhook = Webhook::from_bytes(self.secret.expose().to_vec()).map_err(RequestError::new)?;
        let signature = webhook.sign(&email.id, timestamp, &body).map_err(RequestError::new)?;
        let mut request = Request::post(self.url.as_str())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &email.id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature);
        if let Some(parent) = traces::traceparent() {
            request = request.header("traceparent", parent);
        }
        request.body(Full::from(body)).map_err(RequestError::new)
    }

    fn judge(&self, answer: &HttpAnswer) -> Verdict {
        if answer.status.is_success() {
            return Verdict::Accepted(None);
        }
        Verdict::Failed(usual_meaning(answer), None)
    }
}

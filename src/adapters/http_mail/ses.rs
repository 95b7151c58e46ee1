//! Amazon SES: `SendEmail` of its API v2
//! (docs.aws.amazon.com/ses/latest/APIReference-V2/API_SendEmail.html).
//!
//! SES gets the same message as a relay. It replaces `Message-ID` and `Date`, and drops no
//! duplicates.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};

use super::provider::{MailApi, RequestError, Verdict, Word, acceptance, member, usual_meaning};
use crate::adapters::http::HttpAnswer;
use crate::adapters::mailer::{Email, FailureKind};
use crate::domain::target_url::TargetUrl;

/// The name of the service in signatures.
const SERVICE: &str = "ses";

/// The API of Amazon SES.
pub struct SesApi {
    /// URL of the call.
    url: String,
    region: String,
    access_key_id: String,
    secret_access_key: SecretString,
}

impl SesApi {
    /// Creates the provider; `url` is that of the API in this region.
    #[must_use]
    pub fn new(
        url: &TargetUrl,
        region: String,
        access_key_id: String,
        secret_access_key: SecretString,
    ) -> Self {
        let url = url.join("/v2/email/outbound-emails");
        Self { url, region, access_key_id, secret_access_key }
    }

    /// Adds the signature (Signature Version 4).
    fn sign(
        &self,
        request: &mut Request<Full<Bytes>>,
        body: &[u8],
        now: SystemTime,
    ) -> Result<(), RequestError> {
        let secret = self.secret_access_key.expose_secret();
        let identity = Credentials::new(&self.access_key_id, secret, None, None, "otpd").into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(SERVICE)
            .time(now)
            .settings(SigningSettings::default())
            .build()
            .map_err(RequestError::new)?;
        let headers = [(CONTENT_TYPE.as_str(), "application/json")].into_iter();
        let signable = SignableRequest::new("POST", &self.url, headers, SignableBody::Bytes(body));
        let signed = sign(signable.map_err(RequestError::new)?, &params.into()).map_err(RequestError::new)?;
        signed.into_parts().0.apply_to_request_http1x(request);
        if let Some(value) = request.headers_mut().get_mut(AUTHORIZATION) {
            value.set_sensitive(true);
        }
        Ok(())
    }
}

impl MailApi for SesApi {
    fn name(&self) -> &'static str {
        "ses"
    }

    /// Leaves the sender to the message's `From`: `FromEmailAddress` would replace it, and the
    /// brand with it (github.com/laravel/framework/pull/37881).
    fn request(&self, email: &Email<'_>, now: SystemTime) -> Result<Request<Full<Bytes>>, RequestError> {
        let body = json!({
            "Destination": { "ToAddresses": [email.mail.to.as_str()] },
            "Content": { "Raw": { "Data": STANDARD.encode(email.message().map_err(RequestError::new)?) } },
        });
        let body = Bytes::from(serde_json::to_vec(&body).map_err(RequestError::new)?);
        let request = Request::post(&self.url).header(CONTENT_TYPE, "application/json");
        let mut request = request.body(Full::new(body.clone())).map_err(RequestError::new)?;
        self.sign(&mut request, &body, now)?;
        Ok(request)
    }

    /// Almost all errors have the status 400, so that the type decides.
    fn judge(&self, answer: &HttpAnswer) -> Verdict {
        if answer.status.is_success() {
            return acceptance(answer, "MessageId");
        }
        let word = error_type(answer);
        let kind = match word.as_ref().map(Word::as_str) {
            Some(
                "TooManyRequestsException"
                | "ThrottlingException"
                | "Throttling"
                | "LimitExceededException"
                | "ServiceUnavailable",
            ) => FailureKind::Deferred,
            // AWS gives up on a request, and does not say how far it got.
            Some("RequestAbortedException" | "RequestTimeoutException") => FailureKind::Unknown,
            _ => usual_meaning(answer),
        };
        Verdict::Failed(kind, word)
    }
}

/// Returns the type of an error without the namespace and the URL that it may have: from the
/// header, as the protocol `rest-json` has it, or from the body.
fn error_type(answer: &HttpAnswer) -> Option<Word> {
    let header = answer.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
    let body = member(answer, "__type");
    let text = header.or_else(|| body.as_ref().and_then(Value::as_str))?;
    let name = text.split_once(':').map_or(text, |(name, _)| name);
    Word::parse(name.rsplit_once('#').map_or(name, |(_, name)| name).trim())
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use ring::{digest, hmac};

    use super::*;
    use crate::adapters::http_mail::fixture::{self, accepted, answer, assert_meaning, header};

    fn ses() -> SesApi {
        let (key, secret) = ("AKIDEXAMPLE".to_owned(), "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
        SesApi::new(&fixture::url(), "eu-central-1".to_owned(), key, secret.into())
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        })
    }

    fn sha256(bytes: &[u8]) -> String {
        hex(digest::digest(&digest::SHA256, bytes).as_ref())
    }

    fn hmac_sha256(key: &[u8], text: &str) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
    }

    #[test]
    fn a_request_is_as_amazon_documents_it() {
        let mail = fixture::mail("Bücher, \"& mehr\" <x@y.example>");
        let email = fixture::email(&mail);
        let request = ses().request(&email, fixture::now()).unwrap();
        assert_eq!(
            (request.method().as_str(), request.uri().to_string().as_str()),
            ("POST", "https://api.example/base/v2/email/outbound-emails")
        );
        assert_eq!(header(&request, "content-type"), "application/json");
        let body: Value = serde_json::from_slice(&fixture::body(request)).unwrap();
        let message = body["Content"]["Raw"]["Data"].as_str().unwrap();
        assert_eq!(STANDARD.decode(message).unwrap(), email.message().unwrap());
        let expected = json!({
            "Destination": { "ToAddresses": ["a@example.com"] },
            "Content": { "Raw": { "Data": message } },
        });
        assert_eq!(body, expected);
    }

    /// Computes the signature step by step as
    /// docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html has it.
    #[test]
    fn a_request_is_signed_with_the_key_of_its_day_region_and_service() {
        let mail = fixture::mail("Example");
        let request = ses().request(&fixture::email(&mail), fixture::now()).unwrap();
        assert_eq!(header(&request, "x-amz-date"), "20270115T080000Z");
        let authorization = header(&request, "authorization").to_owned();
        let canonical = format!(
            "POST\n/base/v2/email/outbound-emails\n\ncontent-type:application/json\nhost:api.example\n\
             x-amz-date:20270115T080000Z\n\ncontent-type;host;x-amz-date\n{}",
            sha256(&fixture::body(request))
        );
        let scope = "20270115/eu-central-1/ses/aws4_request";
        let to_sign =
            format!("AWS4-HMAC-SHA256\n20270115T080000Z\n{scope}\n{}", sha256(canonical.as_bytes()));
        let mut key = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
        for part in scope.split('/') {
            key = hmac_sha256(&key, part);
        }
        let signature = hex(&hmac_sha256(&key, &to_sign));
        assert_eq!(
            authorization,
            format!(
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/{scope}, \
                 SignedHeaders=content-type;host;x-amz-date, Signature={signature}"
            )
        );
    }

    #[test]
    fn each_documented_error_has_its_meaning() {
        use FailureKind::{Deferred, Refused, Unknown};
        for (status, name, kind) in [
            (429, "TooManyRequestsException", Deferred),
            (400, "ThrottlingException", Deferred),
            (429, "ThrottlingException", Deferred),
            (400, "Throttling", Deferred),
            (400, "LimitExceededException", Deferred),
            (400, "AccountSuspendedException", Refused),
            (400, "SendingPausedException", Refused),
            (400, "MessageRejected", Refused),
            (400, "MailFromDomainNotVerifiedException", Refused),
            (404, "NotFoundException", Refused),
            (400, "BadRequestException", Refused),
            (400, "ValidationError", Refused),
            (400, "ValidationException", Refused),
            (400, "MalformedHttpRequestException", Refused),
            (403, "AccessDeniedException", Refused),
            (401, "NotAuthorized", Refused),
            (403, "OptInRequired", Refused),
            (403, "UnrecognizedClientException", Refused),
            (403, "InvalidClientTokenId", Refused),
            (403, "MissingAuthenticationToken", Refused),
            (403, "IncompleteSignature", Refused),
            (403, "InvalidSignatureException", Refused),
            (403, "SignatureDoesNotMatch", Refused),
            (400, "RequestExpired", Refused),
            (403, "ExpiredTokenException", Refused),
            (413, "RequestEntityTooLargeException", Refused),
            (400, "RequestAbortedException", Unknown),
            (408, "RequestTimeoutException", Unknown),
            (404, "UnknownOperationException", Refused),
            (500, "InternalFailure", Unknown),
            (500, "InternalServiceErrorException", Unknown),
            (503, "ServiceUnavailable", Deferred),
            (400, "NewException", Refused),
            (502, "NewException", Unknown),
        ] {
            let text = r#"{"message":"a@example.com is not verified"}"#;
            for of_header in [name.to_owned(), format!("{name}:http://internal.amazon.com/coral/")] {
                let mut by_header = answer(status, text.as_bytes());
                by_header.headers.insert("x-amzn-errortype", of_header.parse().unwrap());
                assert_meaning(&ses(), &by_header, kind, Some(name));
            }
            for of_body in [name.to_owned(), format!("com.amazonaws.sesv2#{name}")] {
                let body = json!({ "__type": of_body, "message": "a@example.com is not" }).to_string();
                assert_meaning(&ses(), &answer(status, body.as_bytes()), kind, Some(name));
            }
        }
        for (status, kind) in
            [(302, Refused), (403, Refused), (429, Deferred), (500, Unknown), (503, Unknown)]
        {
            assert_meaning(&ses(), &answer(status, b"<html>"), kind, None);
        }
    }

    #[test]
    fn an_email_is_accepted_with_an_id_and_without_one_nothing_is_known() {
        let id = "010701936f0e2a1c-8f1b0c5e-0000-4d1e-9a56-000000000000-000000";
        let body = json!({ "MessageId": id }).to_string();
        assert_eq!(accepted(&ses(), &answer(200, body.as_bytes())).as_deref(), Some(id));
        for body in ["", "{}", r#"{"MessageId":null}"#] {
            assert_meaning(&ses(), &answer(200, body.as_bytes()), FailureKind::Unknown, None);
        }
    }
}

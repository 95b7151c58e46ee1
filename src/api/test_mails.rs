//! `GET /v1/test/mails`: the captured emails of a sandbox key, for the tests of its holder.
//!
//! They contain codes, so a key sees only what it caused itself, and a live key nothing.

use poem_openapi::param::Query;
use poem_openapi::{ApiResponse, Object, OpenApi};
use serde::Serialize;

use super::context::Context;
use super::credentials::{Authenticated, CheckToken};
use super::payload::Json;
use super::problem::{Problem, ProblemCode};
use super::rejection::MalformedReason;
use super::spec::ApiTag;
use super::timestamp::rfc3339;
use crate::domain::email_address::EmailAddress;
use crate::domain::typed;
use crate::service::CapturedTestMail;

/// The API of captured emails.
#[derive(Clone, Copy)]
pub(super) struct TestMailsApi;

/// An email that was captured instead of sent.
#[derive(Serialize, Object)]
#[oai(rename = "TestMail")]
struct TestMailBody {
    /// The id of the verification.
    id: String,
    /// The email address of the recipient.
    to: String,
    /// The subject.
    subject: String,
    /// The plain-text part.
    text: String,
    /// The HTML part.
    html: String,
    /// The code in the email.
    code: String,
    /// The reference in the email.
    reference: String,
    /// The language of the email, as a BCP 47 tag.
    locale: String,
    /// When the code expires or expired, unless it was replaced or used before.
    expires_at: String,
    /// When the email was captured.
    received_at: String,
}

#[derive(ApiResponse)]
enum ListResponse {
    /// The captured emails, newest first.
    #[oai(status = 200)]
    Listed(Json<Vec<TestMailBody>>),
}

#[OpenApi(prefix_path = "/v1/test", tag = "ApiTag::Sandbox")]
impl TestMailsApi {
    /// List captured emails
    ///
    /// Returns the emails of the verifications that this sandbox key created or resent: the newest
    /// 50 of the last five minutes, newest first. With a sandbox key nothing is mailed. For a
    /// live key the array is empty: its emails are never captured.
    #[oai(path = "/mails", method = "get", operation_id = "listTestMails")]
    async fn list(
        &self,
        auth: Authenticated,
        _token: CheckToken,
        context: Context<'_>,
        /// Only emails to this email address.
        to: Query<Option<String>>,
    ) -> Result<ListResponse, Problem> {
        let to = to.0.as_deref().map(recipient).transpose()?;
        let mails = context.service().test_mails(&auth.0.profile, to.as_ref()).await?;
        Ok(ListResponse::Listed(Json(mails.into_iter().map(TestMailBody::from).collect())))
    }
}

/// Parses an address in a query, in which an unescaped plus sign was decoded as a space.
fn recipient(text: &str) -> Result<EmailAddress, Problem> {
    let form = MalformedReason::Format("to", "an email address");
    EmailAddress::parse(&typed::trim(text).replace(' ', "+"))
        .map_err(|_| Problem::with_detail(ProblemCode::MalformedRequest, form.to_string()))
}

impl From<CapturedTestMail> for TestMailBody {
    fn from(captured: CapturedTestMail) -> Self {
        let mail = captured.mail;
        Self {
            id: mail.id,
            to: mail.to,
            subject: mail.subject,
            text: mail.text,
            html: mail.html,
            code: mail.code,
            reference: mail.reference,
            locale: mail.locale,
            expires_at: rfc3339(mail.expires_at / 1000),
            received_at: rfc3339(captured.received_at / 1000),
        }
    }
}

//! The v1 API: verifications with ids, for programs that have an API key.
//!
//! A tenant can see the status of its own verifications; those of other tenants do not exist for
//! it. The answer to a wrong code is never a 2xx. Must show an address only to the tenant that sent
//! it, and only masked.

mod bodies;
mod delivery;
mod id_in_path;
mod outcome;

use std::sync::Arc;

use poem::http::HeaderMap;
use poem_openapi::{ApiResponse, OpenApi};

use self::bodies::{Approval, Asked, CheckBody, CreateBody, ResendBody, VerificationBody};
use self::id_in_path::IdInPath;
use super::context::Context;
use super::credentials::{Authenticated, CheckToken, SendToken};
use super::json::StrictJson;
use super::payload::Json;
use super::problem::{Problem, ProblemCode};
use super::rate_limit::report_limits;
use super::rejection::MalformedReason;
use super::spec::ApiTag;
use super::verification_status::VerificationStatus;
use crate::domain::idempotency::IdempotencyKey;
use crate::domain::verification_id::VerificationId;
use crate::service::{Creation, Idempotency};

/// The v1 API.
#[derive(Clone, Copy)]
pub(super) struct VerificationsApi;

#[derive(ApiResponse)]
enum CreateResponse {
    /// A code was sent, by this request or by an earlier one with the same `Idempotency-Key`.
    #[oai(status = 201)]
    Created(
        Json<VerificationBody>,
        /// The URL of the verification.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum CheckResponse {
    /// The email address is verified.
    #[oai(status = 200)]
    Approved(Json<Approval>),
}

#[derive(ApiResponse)]
enum ResendResponse {
    /// A new code was sent. The previous code stays good for a short time; earlier attempts still
    /// count.
    #[oai(status = 200)]
    Sent(Json<VerificationBody>),
}

#[derive(ApiResponse)]
enum ShowResponse {
    /// The verification.
    #[oai(status = 200)]
    Shown(Json<VerificationBody>),
}

#[derive(ApiResponse)]
enum CancelResponse {
    /// The verification is canceled, by this request or an earlier one.
    #[oai(status = 204)]
    Canceled,
}

#[OpenApi(prefix_path = "/v1", tag = "ApiTag::Verifications")]
impl VerificationsApi {
    /// Create a verification
    ///
    /// Sends a one-time code to the email address. The verification is independent of all others,
    /// including those for the same address. If you receive no response, retry with the same
    /// `Idempotency-Key`: no second email is sent.
    #[oai(path = "/verifications", method = "post", operation_id = "createVerification")]
    async fn create(
        &self,
        auth: Authenticated,
        _token: SendToken,
        context: Context<'_>,
        body: StrictJson<CreateBody>,
    ) -> Result<CreateResponse, Problem> {
        let caller = auth.0;
        let key = idempotency_key(context.headers)?;
        let (members, address, asked) = body.0.parse()?;
        let Asked { purpose, locale, end_user_ip: client } = asked;
        let purpose =
            caller.profile.purposes.choose(purpose).ok_or(Problem::new(ProblemCode::PurposeNotAllowed))?;
        let idempotency = key.map(|key| Idempotency { key, members });
        let creation = Creation { address, purpose, locale, client, idempotency };
        let snapshot = report_limits(
            context.service().create(Arc::clone(&caller.profile), creation).await,
            &context.report,
        )?;
        let location = context.shared.public_url.link(&format!("/v1/verifications/{}", snapshot.id));
        Ok(CreateResponse::Created(Json(snapshot.into()), location))
    }

    /// Check a code
    ///
    /// Approves the verification if the code is the one in its most recent email. Each attempt is
    /// counted before the code is compared. A wrong code is answered with 422, never with 200.
    #[oai(path = "/verifications/:id/check", method = "post", operation_id = "checkVerification")]
    async fn check(
        &self,
        auth: Authenticated,
        _token: CheckToken,
        context: Context<'_>,
        /// The id of the verification.
        id: IdInPath,
        body: StrictJson<CheckBody>,
    ) -> Result<CheckResponse, Problem> {
        let caller = auth.0;
        let id = parse_id(&id.0)?;
        let CheckBody { code, end_user_ip } = body.0;
        let checked = context.service().check(Arc::clone(&caller.profile), id, code, end_user_ip).await;
        let approved = report_limits(checked, &context.report)?;
        let status = VerificationStatus::Approved;
        let test = approved.is_test.then_some(true);
        Ok(CheckResponse::Approved(Json(Approval {
            id: id.to_string(),
            status,
            proof: approved.proof,
            test,
        })))
    }

    /// Resend a code
    ///
    /// Sends a new code. The previous code stays good for a short time, by default two minutes,
    /// because its email may be late. The verification's lifetime restarts, but never extends
    /// beyond 30 minutes after its creation. Earlier attempts still count.
    #[oai(path = "/verifications/:id/resend", method = "post", operation_id = "resendVerification")]
    async fn resend(
        &self,
        auth: Authenticated,
        _token: SendToken,
        context: Context<'_>,
        /// The id of the verification.
        id: IdInPath,
        body: StrictJson<ResendBody>,
    ) -> Result<ResendResponse, Problem> {
        let caller = auth.0;
        let id = parse_id(&id.0)?;
        let resent = context.service().resend(Arc::clone(&caller.profile), id, body.0.end_user_ip).await;
        Ok(ResendResponse::Sent(Json(report_limits(resent, &context.report)?.into())))
    }

    /// Retrieve a verification
    ///
    /// Returns the verification. It can be retrieved for one hour after it ends. The response
    /// includes the proof for 300 seconds after approval.
    #[oai(path = "/verifications/:id", method = "get", operation_id = "showVerification")]
    async fn show(
        &self,
        auth: Authenticated,
        _token: CheckToken,
        context: Context<'_>,
        /// The id of the verification.
        id: IdInPath,
    ) -> Result<ShowResponse, Problem> {
        let caller = auth.0;
        let snapshot = context.service().show(&caller.profile, &parse_id(&id.0)?).await?;
        Ok(ShowResponse::Shown(Json(snapshot.into())))
    }

    /// Cancel a verification
    ///
    /// Invalidates the code. Emails already sent still count towards the limits.
    #[oai(path = "/verifications/:id", method = "delete", operation_id = "cancelVerification")]
    async fn cancel(
        &self,
        auth: Authenticated,
        _token: CheckToken,
        context: Context<'_>,
        /// The id of the verification.
        id: IdInPath,
    ) -> Result<CancelResponse, Problem> {
        let caller = auth.0;
        context.service().cancel(Arc::clone(&caller.profile), parse_id(&id.0)?).await?;
        Ok(CancelResponse::Canceled)
    }
}

/// Parses an id. Nobody has a verification whose id cannot be parsed, so that is answered with 404.
fn parse_id(text: &str) -> Result<VerificationId, Problem> {
    VerificationId::parse(text).ok_or(Problem::new(ProblemCode::VerificationNotFound))
}

/// Returns the idempotency key of a request. The framework would not report a value that is not
/// text, or a second header.
fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let form = MalformedReason::Format("Idempotency-Key", "1 to 64 visible ASCII characters, and there once");
    let mut values = headers.get_all("idempotency-key").iter();
    let key = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok().and_then(IdempotencyKey::parse),
        (Some(_), Some(_)) => None,
    };
    key.map(Some).ok_or_else(|| Problem::with_detail(ProblemCode::MalformedRequest, form.to_string()))
}

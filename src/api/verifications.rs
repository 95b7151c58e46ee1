//! The v1 API: verifications under ids of their own, for programs that hold a key.
//!
//! Whoever holds an id is told how its verification stands; another tenant's id is as unknown as any. A wrong code is
//! never a 2xx. Must not show an address but to the tenant that gave it, and then masked.

mod bodies;
mod outcome;

use std::sync::Arc;

use poem::Request;
use poem::http::HeaderMap;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, OpenApi};

pub use self::bodies::VerificationStatus;
use self::bodies::{Approval, Asked, CheckBody, CreateBody, ResendBody, VerificationBody};
use self::outcome::report_limits;
use super::auth::{Authenticated, CheckToken, SendToken};
use super::json::StrictJson;
use super::problem::{Problem, ProblemCode};
use super::public_url::PublicUrl;
use super::rate_limit::LimitReport;
use super::rejection::MalformedReason;
use super::spec::ApiTag;
use crate::domain::idempotency::IdempotencyKey;
use crate::domain::verification_id::VerificationId;
use crate::service::{Creation, Idempotency, Service};

/// Verifications under ids of their own.
pub struct VerificationsApi;

#[derive(ApiResponse)]
enum CreateResponse {
    /// A code was mailed, or had been mailed by the same request under this `Idempotency-Key`.
    #[oai(status = 201)]
    Created(
        Json<VerificationBody>,
        /// Where the verification can be seen.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum CheckResponse {
    /// The address is confirmed.
    #[oai(status = 200)]
    Approved(Json<Approval>),
}

#[derive(ApiResponse)]
enum ResendResponse {
    /// A new code was mailed; the one before is dead, and what was guessed still counts.
    #[oai(status = 200)]
    Sent(Json<VerificationBody>),
}

#[derive(ApiResponse)]
enum ShowResponse {
    /// How it stands.
    #[oai(status = 200)]
    Shown(Json<VerificationBody>),
}

#[derive(ApiResponse)]
enum CancelResponse {
    /// It is canceled, now or before.
    #[oai(status = 204)]
    Canceled,
}

#[OpenApi(prefix_path = "/v1", tag = "ApiTag::Verifications")]
impl VerificationsApi {
    /// Start a verification
    ///
    /// Mails a one-time code to the address. The verification is independent of all others, also of those for the same
    /// address. Repeat the request with the same `Idempotency-Key` if no answer came: no second mail is sent.
    #[oai(path = "/verifications", method = "post", operation_id = "createVerification")]
    async fn create(
        &self,
        auth: Authenticated,
        _token: SendToken,
        service: Data<&Service>,
        report: Data<&LimitReport>,
        request: &Request,
        body: StrictJson<CreateBody>,
    ) -> Result<CreateResponse, Problem> {
        let caller = auth.0;
        let key = idempotency_key(request.headers())?;
        let (members, address, asked) = body.0.parse()?;
        let Asked { purpose, locale, end_user_ip: client } = asked;
        let purpose =
            caller.profile.purposes.choose(purpose).ok_or(Problem::new(ProblemCode::PurposeNotAllowed))?;
        let idempotency = key.map(|key| Idempotency { key, members });
        let creation = Creation { address, purpose, locale, client, idempotency };
        let snapshot = report_limits(service.create(Arc::clone(&caller.profile), creation).await, &report)?;
        let location = PublicUrl::of(request).link(&format!("/v1/verifications/{}", snapshot.id));
        Ok(CreateResponse::Created(Json(snapshot.into()), location))
    }

    /// Check a code
    ///
    /// Approves the verification if the code is that of its newest mail. A guess is spent before it is compared; a wrong
    /// code is answered with 422, never with 200.
    #[oai(path = "/verifications/:id/check", method = "post", operation_id = "checkVerification")]
    async fn check(
        &self,
        auth: Authenticated,
        _token: CheckToken,
        service: Data<&Service>,
        report: Data<&LimitReport>,
        /// The id of the verification.
        id: Path<String>,
        body: StrictJson<CheckBody>,
    ) -> Result<CheckResponse, Problem> {
        let caller = auth.0;
        let id = parse_id(&id)?;
        let CheckBody { code, end_user_ip } = body.0;
        let checked = service.check_by_id(Arc::clone(&caller.profile), id, code, end_user_ip).await;
        let approved = report_limits(checked, &report)?;
        let status = VerificationStatus::Approved;
        Ok(CheckResponse::Approved(Json(Approval { id: id.to_string(), status, proof: approved.proof })))
    }

    /// Send a new code
    ///
    /// The code before dies, its life begins anew (though never beyond 30 minutes after the start), and what was guessed
    /// still counts.
    #[oai(path = "/verifications/:id/resend", method = "post", operation_id = "resendVerification")]
    async fn resend(
        &self,
        auth: Authenticated,
        _token: SendToken,
        service: Data<&Service>,
        report: Data<&LimitReport>,
        /// The id of the verification.
        id: Path<String>,
        body: StrictJson<ResendBody>,
    ) -> Result<ResendResponse, Problem> {
        let caller = auth.0;
        let id = parse_id(&id)?;
        let resent = service.resend(Arc::clone(&caller.profile), id, body.0.end_user_ip).await;
        Ok(ResendResponse::Sent(Json(report_limits(resent, &report)?.into())))
    }

    /// Show a verification
    ///
    /// For an hour after its end it can still be seen how it ended; the proof of an approved one for 300 seconds.
    #[oai(path = "/verifications/:id", method = "get", operation_id = "showVerification")]
    async fn show(
        &self,
        auth: Authenticated,
        _token: CheckToken,
        service: Data<&Service>,
        /// The id of the verification.
        id: Path<String>,
    ) -> Result<ShowResponse, Problem> {
        let caller = auth.0;
        let snapshot = service.show(&caller.profile, &parse_id(&id)?).await?;
        Ok(ShowResponse::Shown(Json(snapshot.into())))
    }

    /// Cancel a verification
    ///
    /// Its code dies. What was charged for it stays charged.
    #[oai(path = "/verifications/:id", method = "delete", operation_id = "cancelVerification")]
    async fn cancel(
        &self,
        auth: Authenticated,
        _token: CheckToken,
        service: Data<&Service>,
        /// The id of the verification.
        id: Path<String>,
    ) -> Result<CancelResponse, Problem> {
        let caller = auth.0;
        service.cancel(Arc::clone(&caller.profile), parse_id(&id)?).await?;
        Ok(CancelResponse::Canceled)
    }
}

/// A text that is no id of ours is one that nobody has.
fn parse_id(text: &str) -> Result<VerificationId, Problem> {
    VerificationId::parse(text).ok_or(Problem::new(ProblemCode::VerificationNotFound))
}

/// The one idempotency key of a request. The framework would not see one that is no text, nor a second one.
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

//! Problems of the v1 API (RFC 9457): a closed set, each with a code for programs and a text for
//! people.
//!
//! Decides what callers learn of an error. Must not pass on error texts of libraries.

mod catalog;

use std::borrow::Cow;

use poem::http::HeaderValue;
use poem::http::header::RETRY_AFTER;
use poem::{Error, IntoResponse, Response};
use poem_openapi::registry::{MetaResponses, Registry};
use poem_openapi::types::{ToJSON, Type as _};
use poem_openapi::{ApiResponse, Object};
use serde::Serialize;

pub(super) use self::catalog::ProblemCode;
use super::verification_status::VerificationStatus;
use super::{payload, rate_limit};
use crate::domain::ledger::LimitState;

/// The `Retry-After` of a service that is unavailable or overloaded, in seconds.
pub(super) const RETRY_SECONDS: u64 = 2;

/// The media type of a problem.
pub(super) const PROBLEM_JSON: &str = "application/problem+json";

/// An error response of the v1 API.
#[derive(Debug)]
pub struct Problem {
    code: ProblemCode,
    detail: Cow<'static, str>,
    more: Extensions,
}

/// The extension members of a problem (RFC 9457 section 3.2).
#[derive(Debug)]
pub enum Extensions {
    /// No extension members.
    Nothing,
    /// The final status of the verification.
    Closed(VerificationStatus),
    /// The number of attempts that remain.
    Attempts(u8),
    /// The policy of the exceeded limit, and how many seconds to wait.
    Limit(&'static str, u64),
    /// The id of the verification whose email may still arrive.
    Id(String),
}

/// An error (RFC 9457). The members after `code` are present only for the codes that they name.
#[derive(Debug, Serialize, Object)]
#[oai(rename = "Problem")]
struct ProblemBody {
    /// A URI that identifies the kind of problem. It cannot be dereferenced.
    r#type: String,
    /// A short summary of the kind of problem. It does not change between occurrences.
    title: String,
    /// The HTTP status code.
    status: u16,
    /// An explanation of this occurrence, for people. The text may change.
    detail: String,
    /// The kind of problem, for programs.
    code: ProblemCode,
    /// For `verification_closed`: the final status of the verification.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    verification_status: Option<VerificationStatus>,
    /// For `invalid_code`: the number of attempts that remain.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts_remaining: Option<u8>,
    /// For `rate_limited`: the name of the exceeded limit.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<String>,
    /// For `rate_limited`: the number of seconds to wait before retrying.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// For `rate_limited`: the same as `policy`, in the form of the IETF draft on the `RateLimit`
    /// header fields.
    #[oai(rename = "violated-policies", skip_serializing_if_is_none)]
    #[serde(rename = "violated-policies", skip_serializing_if = "Option::is_none")]
    violated_policies: Option<Vec<String>>,
    /// For `delivery_failed`, if the email may still arrive: the id of the verification.
    #[oai(skip_serializing_if_is_none)]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
}

impl Problem {
    /// Creates a problem without extension members, with the standard detail of its code.
    pub fn new(code: ProblemCode) -> Self {
        Self { code, detail: Cow::Borrowed(code.detail()), more: Extensions::Nothing }
    }

    /// Creates a problem with a more specific detail, which must not contain error texts of
    /// libraries.
    pub fn with_detail(code: ProblemCode, detail: String) -> Self {
        Self { detail: Cow::Owned(detail), ..Self::new(code) }
    }

    /// Creates a problem with extension members.
    pub fn with(code: ProblemCode, more: Extensions) -> Self {
        Self::new(code).and(more)
    }

    /// Sets the extension members.
    pub fn and(self, more: Extensions) -> Self {
        Self { more, ..self }
    }

    /// Creates the problem for a ledger's exceeded limit.
    pub fn limited(limit_state: &LimitState) -> Self {
        Self::rate_limited(limit_state.policy.name(), rate_limit::seconds(limit_state.wait))
    }

    /// Creates the problem for an exceeded limit.
    pub fn rate_limited(policy: &'static str, seconds: u64) -> Self {
        Self::with(ProblemCode::RateLimited, Extensions::Limit(policy, seconds))
    }

    /// Returns an example body of this problem for the OpenAPI document.
    pub fn example(code: ProblemCode) -> serde_json::Value {
        let more = match code {
            ProblemCode::VerificationClosed => Extensions::Closed(VerificationStatus::Expired),
            ProblemCode::InvalidCode => Extensions::Attempts(4),
            ProblemCode::RateLimited => Extensions::Limit("email_sends", 42),
            ProblemCode::DeliveryFailed => Extensions::Id("Qk9Ua0c1c1B0eUx2d1htQQ".to_owned()),
            _ => Extensions::Nothing,
        };
        Self::with(code, more).into_body().to_json().unwrap_or_default()
    }

    fn into_body(self) -> ProblemBody {
        let mut body = ProblemBody {
            r#type: self.code.type_uri(),
            title: self.code.title().to_owned(),
            status: self.code.status().as_u16(),
            detail: self.detail.into_owned(),
            code: self.code,
            verification_status: None,
            attempts_remaining: None,
            policy: None,
            retry_after: None,
            violated_policies: None,
            id: None,
        };
        match self.more {
            Extensions::Nothing => {}
            Extensions::Closed(status) => body.verification_status = Some(status),
            Extensions::Attempts(left) => body.attempts_remaining = Some(left),
            Extensions::Id(id) => body.id = Some(id),
            Extensions::Limit(policy, seconds) => {
                body.policy = Some(policy.to_owned());
                body.retry_after = Some(seconds);
                body.violated_policies = Some(vec![policy.to_owned()]);
            }
        }
        body
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let retry_after = match (&self.more, self.code) {
            (Extensions::Limit(_, seconds), _) => Some(*seconds),
            (_, ProblemCode::Unavailable | ProblemCode::Overloaded) => Some(RETRY_SECONDS),
            _ => None,
        };
        let status = self.code.status();
        let mut response = payload::response(PROBLEM_JSON, &self.into_body());
        response.set_status(status);
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::from_response(problem.into_response())
    }
}

/// Declares no responses: the OpenAPI document lists problems by operation (see `spec`), not by
/// handler.
impl ApiResponse for Problem {
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(registry: &mut Registry) {
        ProblemBody::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_problem_says_what_its_code_has_and_no_more() {
        assert_eq!(
            Problem::example(ProblemCode::InvalidCode),
            json!({
                "type": "urn:otpd:problem:invalid_code",
                "title": "Invalid code",
                "status": 422,
                "detail": "The code does not match the most recent email of this verification.",
                "code": "invalid_code",
                "attempts_remaining": 4,
            })
        );
        let limited = Problem::example(ProblemCode::RateLimited);
        assert_eq!(limited["violated-policies"], json!(["email_sends"]));
        assert_eq!((&limited["policy"], &limited["retry_after"]), (&json!("email_sends"), &json!(42)));
    }

    #[test]
    fn what_can_be_tried_again_says_when() {
        let after = |problem: Problem| {
            problem.into_response().headers().get(RETRY_AFTER).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(after(Problem::rate_limited("key", 7)).as_deref(), Some("7"));
        assert_eq!(after(Problem::new(ProblemCode::Overloaded)).as_deref(), Some("2"));
        assert_eq!(after(Problem::new(ProblemCode::InternalError)), None);
    }
}

//! The errors of the simple endpoints: the message for each outcome of a use case.

use poem_openapi::ApiResponse;

use crate::api::message::{Message, TOO_MANY_REQUESTS};
use crate::api::payload::Json;
use crate::api::problem::RETRY_SECONDS;
use crate::api::rate_limit;
use crate::api::rejection::{MalformedReason, Rejection};
use crate::domain::ledger::LimitState;
use crate::service::{CheckError, ServiceError, StartError};

/// The message for an address that otpd does not send to, whatever the reason.
pub(super) const NO_ADDRESS: &str = "Invalid email address";

/// The error responses of the simple endpoints. Some are produced before an operation is reached;
/// they are listed here for the OpenAPI document.
#[derive(ApiResponse)]
pub enum SimpleError {
    /// The request is invalid; `message` says why.
    #[oai(status = 400)]
    BadRequest(Json<Message>),
    /// The operator requires an API key, and the request has no valid one: `Unauthorized`.
    #[oai(status = 401)]
    Unauthorized(Json<Message>),
    /// The request body took longer than 10 seconds to arrive: `Request timeout`.
    #[oai(status = 408)]
    RequestTimeout(Json<Message>),
    /// The request body is larger than 8 KiB: `Payload too large`.
    #[oai(status = 413)]
    PayloadTooLarge(Json<Message>),
    /// The request body is not `application/json`: `Unsupported media type`.
    #[oai(status = 415)]
    UnsupportedMediaType(Json<Message>),
    /// A rate limit is exceeded, for the caller or for this email address: `Too many requests`.
    #[oai(status = 429)]
    TooManyRequests(
        Json<Message>,
        /// Seconds after which the exceeded limit admits this request, if nothing else is sent
        /// meanwhile.
        #[oai(header = "Retry-After")]
        u64,
    ),
    /// The mail relay did not accept the message (`Failed to send OTP`), or the service failed
    /// unexpectedly (`Internal error`).
    #[oai(status = 500)]
    ServerError(Json<Message>),
    /// The service is at capacity, or a component that it depends on is not responding: `Service
    /// unavailable`.
    #[oai(status = 503)]
    Unavailable(
        Json<Message>,
        /// Seconds to wait before retrying.
        #[oai(header = "Retry-After")]
        u64,
    ),
}

impl SimpleError {
    pub fn bad_request(message: &str) -> Self {
        Self::BadRequest(Json(Message::new(message)))
    }

    pub fn malformed() -> Self {
        Self::bad_request(Rejection::Malformed(MalformedReason::Unreadable).message())
    }

    fn server_error(message: &str) -> Self {
        Self::ServerError(Json(Message::new(message)))
    }

    fn too_many(limit_state: &LimitState) -> Self {
        let message = Message::new(TOO_MANY_REQUESTS);
        Self::TooManyRequests(Json(message), rate_limit::seconds(limit_state.wait))
    }

    fn unavailable() -> Self {
        Self::Unavailable(Json(Message::new(Rejection::Unavailable.message())), RETRY_SECONDS)
    }
}

impl From<ServiceError> for SimpleError {
    fn from(error: ServiceError) -> Self {
        match error {
            ServiceError::Overloaded | ServiceError::Unavailable => Self::unavailable(),
            ServiceError::Fault => Self::server_error(Rejection::Internal.message()),
        }
    }
}

impl From<StartError> for SimpleError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotAllowed => Self::bad_request(NO_ADDRESS),
            StartError::Refused | StartError::OutcomeUnknown => Self::server_error("Failed to send OTP"),
            StartError::Limited(limit_state) => Self::too_many(&limit_state),
            StartError::Service(error) => error.into(),
        }
    }
}

impl From<CheckError> for SimpleError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Invalid { .. }
            | CheckError::Exhausted
            | CheckError::Unknown
            | CheckError::Closed(_) => Self::bad_request("Invalid or expired OTP"),
            CheckError::Limited(limit_state) => Self::too_many(&limit_state),
            CheckError::Service(error) => error.into(),
        }
    }
}

//! What the simple endpoints refuse: each outcome of a use case in the contract's words.

use poem_openapi::ApiResponse;
use poem_openapi::payload::Json;

use super::Message;
use crate::api::rate_limit;
use crate::api::rejection::{MalformedReason, RETRY_SECONDS, Rejection, TOO_MANY_REQUESTS};
use crate::domain::ledger::LimitState;
use crate::service::{CheckError, StartError};

/// What is said of an address that is not mailed to, whatever the reason.
pub const NO_ADDRESS: &str = "Invalid email address";

/// What the simple endpoints refuse, and how. Some is answered before an operation is reached, and stands here for
/// the specification.
#[derive(ApiResponse)]
pub enum SimpleError {
    /// The request cannot be served as it is; the message says why.
    #[oai(status = 400)]
    BadRequest(Json<Message>),
    /// The operator demands an API key, and none that opens anything was shown: `Unauthorized`.
    #[oai(status = 401)]
    Unauthorized(Json<Message>),
    /// The body took longer than ten seconds: `Request timeout`.
    #[oai(status = 408)]
    RequestTimeout(Json<Message>),
    /// The body is longer than 8 KiB: `Payload too large`.
    #[oai(status = 413)]
    PayloadTooLarge(Json<Message>),
    /// The body is not `application/json`: `Unsupported media type`.
    #[oai(status = 415)]
    UnsupportedMediaType(Json<Message>),
    /// The caller's network, or for this address anybody, has done this too often: `Too many requests`.
    #[oai(status = 429)]
    TooManyRequests(
        Json<Message>,
        /// Seconds after which the limit that refused admits this request, if nothing else is sent meanwhile.
        #[oai(header = "Retry-After")]
        u64,
    ),
    /// The relay did not take the mail (`Failed to send OTP`), or a fault of the service (`Internal error`).
    #[oai(status = 500)]
    ServerError(Json<Message>),
    /// A part of the service is down or has no room: `Service unavailable`.
    #[oai(status = 503)]
    Unavailable(
        Json<Message>,
        /// Seconds to wait.
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

    fn internal() -> Self {
        Self::server_error(Rejection::Internal.message())
    }
}

impl From<StartError> for SimpleError {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotAllowed => Self::bad_request(NO_ADDRESS),
            StartError::Refused | StartError::OutcomeUnknown => Self::server_error("Failed to send OTP"),
            StartError::Limited(limit_state) => Self::too_many(&limit_state),
            StartError::Overloaded | StartError::Unavailable => Self::unavailable(),
            StartError::Fault => Self::internal(),
        }
    }
}

impl From<CheckError> for SimpleError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Invalid { .. } | CheckError::Unknown | CheckError::Closed(_) => {
                Self::bad_request("Invalid or expired OTP")
            }
            CheckError::Limited(limit_state) => Self::too_many(&limit_state),
            CheckError::Overloaded | CheckError::Unavailable => Self::unavailable(),
            CheckError::Fault => Self::internal(),
        }
    }
}

//! Responses to requests that no use case handled, in one place.
//!
//! Also converts the framework's own errors, so that no error text of a parser and no internal type
//! name reaches a caller.

use std::fmt;

use poem::error::{MethodNotAllowedError, NotFoundError, ParsePathError};
use poem::http::header::{ACCEPT_ENCODING, RETRY_AFTER, WWW_AUTHENTICATE};
use poem::http::{HeaderValue, StatusCode};
use poem::{Error, IntoResponse as _, Response};

use super::message::{Message, TOO_MANY_REQUESTS};
use super::payload::Json;
use super::problem::{Problem, ProblemCode, RETRY_SECONDS};

/// Why a request was rejected before it reached a use case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The request is not valid for this operation.
    Malformed(MalformedReason),
    /// The request has no valid API key.
    Unauthenticated,
    /// No route has this path.
    NotFound,
    /// The route does not support this method.
    MethodNotAllowed,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The body is larger than 8 KiB.
    PayloadTooLarge,
    /// The body is not declared as JSON.
    UnsupportedMediaType,
    /// The body has a content coding, such as compression.
    UnsupportedContentCoding,
    /// The service took too long.
    Unavailable,
    /// An internal error.
    Internal,
}

/// What is wrong with a malformed request. Names only members that the API defines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MalformedReason {
    /// It could not be parsed.
    Unreadable,
    /// The body is not a JSON object, or has duplicate members.
    NoObject,
    /// A required member is missing.
    Missing(&'static str),
    /// A member or a header does not have this format.
    Format(&'static str, &'static str),
    /// The body has a member that is none of these.
    Unknown(&'static [&'static str]),
}

/// The format of error bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorFormat {
    /// `{"message": …}`, for the simple endpoints and everything else outside of v1.
    Message,
    /// `application/problem+json` (RFC 9457), for v1.
    Problem,
}

impl ErrorFormat {
    /// Returns the format for a path.
    pub fn of(path: &str) -> Self {
        if path == "/v1" || path.starts_with("/v1/") { Self::Problem } else { Self::Message }
    }
}

impl Rejection {
    fn status(self) -> StatusCode {
        self.code().status()
    }

    /// Returns the problem code in v1.
    fn code(self) -> ProblemCode {
        match self {
            Self::Malformed(_) => ProblemCode::MalformedRequest,
            Self::Unauthenticated => ProblemCode::Unauthenticated,
            Self::NotFound => ProblemCode::NotFound,
            Self::MethodNotAllowed => ProblemCode::MethodNotAllowed,
            Self::RequestTimeout => ProblemCode::RequestTimeout,
            Self::PayloadTooLarge => ProblemCode::PayloadTooLarge,
            Self::UnsupportedMediaType | Self::UnsupportedContentCoding => ProblemCode::UnsupportedMediaType,
            Self::Unavailable => ProblemCode::Unavailable,
            Self::Internal => ProblemCode::InternalError,
        }
    }

    /// Returns the message of the simple endpoints.
    pub fn message(self) -> &'static str {
        match self {
            Self::Malformed(_) => "Malformed request",
            Self::Unauthenticated => "Unauthorized",
            Self::NotFound => "Not found",
            Self::MethodNotAllowed => "Method not allowed",
            Self::RequestTimeout => "Request timeout",
            Self::PayloadTooLarge => "Payload too large",
            Self::UnsupportedMediaType | Self::UnsupportedContentCoding => "Unsupported media type",
            Self::Unavailable => "Service unavailable",
            Self::Internal => "Internal error",
        }
    }

    /// Returns the response in this format.
    pub fn response(self, form: ErrorFormat) -> Response {
        let mut response = match (form, self) {
            (ErrorFormat::Message, _) => message(self.status(), self.message()),
            (ErrorFormat::Problem, Self::Malformed(reason)) => {
                Problem::with_detail(ProblemCode::MalformedRequest, reason.to_string()).into_response()
            }
            (ErrorFormat::Problem, _) => Problem::new(self.code()).into_response(),
        };
        let headers = response.headers_mut();
        if (form, self) == (ErrorFormat::Message, Self::Unavailable) {
            headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_SECONDS));
        }
        // Distinguishes an unsupported content coding from an unsupported media type (RFC 9110
        // section 15.5.16).
        if self == Self::UnsupportedContentCoding {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        if self == Self::Unauthenticated {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// Returns the response if a token bucket is empty.
pub(super) fn limited(form: ErrorFormat, policy: &'static str, wait: u64) -> Response {
    let mut response = match form {
        ErrorFormat::Message => message(ProblemCode::RateLimited.status(), TOO_MANY_REQUESTS),
        ErrorFormat::Problem => Problem::rate_limited(policy, wait).into_response(),
    };
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
    response
}

/// Returns a response in the format of the simple endpoints.
pub(super) fn message(status: StatusCode, message: &str) -> Response {
    let mut response = Json(Message::new(message)).into_response();
    response.set_status(status);
    response
}

impl fmt::Display for MalformedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable => f.write_str("The request cannot be read."),
            Self::NoObject => f.write_str("The body must be a JSON object in UTF-8 with no member twice."),
            Self::Missing(name) => write!(f, "`{name}` is missing."),
            Self::Format(name, form) => write!(f, "`{name}` must be {form}."),
            Self::Unknown(known) => {
                write!(f, "The body has a member that is none of: {}.", known.join(", "))
            }
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message())
    }
}

impl std::error::Error for Rejection {}

impl From<Rejection> for Error {
    fn from(rejection: Rejection) -> Self {
        Self::new(rejection, rejection.status())
    }
}

/// Converts an error of the framework.
pub(super) fn rejection_of(error: &Error) -> Rejection {
    if let Some(rejection) = error.downcast_ref::<Rejection>() {
        *rejection
    } else if error.is::<NotFoundError>() || error.is::<ParsePathError>() {
        Rejection::NotFound
    } else if error.is::<MethodNotAllowedError>() {
        Rejection::MethodNotAllowed
    } else if error.status().is_client_error() {
        Rejection::Malformed(MalformedReason::Unreadable)
    } else {
        tracing::error!(status = error.status().as_u16(), "the framework failed");
        Rejection::Internal
    }
}

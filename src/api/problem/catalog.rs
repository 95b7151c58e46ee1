//! The closed set of problems of the v1 API: their names, meanings, and what a caller should do.
//!
//! The OpenAPI document and docs/problems.md are made from this table; tests check that they agree.

use poem::http::StatusCode;
use poem_openapi::Enum;
use serde::Serialize;

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Enum)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum ProblemCode {
    /// Syntax, type, a duplicate or an unknown member.
    MalformedRequest,
    /// No API key, or none that opens anything.
    Unauthenticated,
    /// No such route.
    NotFound,
    /// No such verification, or another tenant's.
    VerificationNotFound,
    /// The route has other methods.
    MethodNotAllowed,
    /// The body came too slowly.
    RequestTimeout,
    /// A request under the same idempotency key is under way.
    IdempotencyInProgress,
    /// The verification is over.
    VerificationClosed,
    /// The body is over 8 KiB.
    PayloadTooLarge,
    /// The body is not JSON by its own word.
    UnsupportedMediaType,
    /// Not an address that otpd mails to.
    InvalidEmail,
    /// The operator does not mail to that domain.
    EmailNotAllowed,
    /// Not a purpose of the tenant's.
    PurposeNotAllowed,
    /// The code is wrong.
    InvalidCode,
    /// The idempotency key belongs to another body.
    IdempotencyMismatch,
    /// A limit is full.
    RateLimited,
    /// A fault of otpd's.
    InternalError,
    /// The relay did not take the mail, or it is not known whether it did.
    DeliveryFailed,
    /// A part of the service is down.
    Unavailable,
    /// There is more to do than the machine can.
    Overloaded,
}

/// What is said of one code.
struct ProblemEntry {
    code: ProblemCode,
    status: u16,
    name: &'static str,
    title: &'static str,
    detail: &'static str,
    advice: &'static str,
}

/// What is said of each, in the order of their statuses.
const TABLE: [ProblemEntry; 20] = [
    ProblemEntry {
        code: ProblemCode::MalformedRequest,
        status: 400,
        name: "malformed_request",
        title: "Malformed request",
        detail: "The request could not be parsed.",
        advice: "Fix the program: `detail` names the member or the header. Do not retry unchanged.",
    },
    ProblemEntry {
        code: ProblemCode::Unauthenticated,
        status: 401,
        name: "unauthenticated",
        title: "Unauthenticated",
        detail: "The Authorization header has no valid API key.",
        advice: "Send `Authorization: Bearer <key>`. If the key was accepted before, ask the operator whether it was revoked.",
    },
    ProblemEntry {
        code: ProblemCode::NotFound,
        status: 404,
        name: "not_found",
        title: "Not found",
        detail: "Nothing is served at this path.",
        advice: "Fix the path.",
    },
    ProblemEntry {
        code: ProblemCode::VerificationNotFound,
        status: 404,
        name: "verification_not_found",
        title: "Verification not found",
        detail: "No verification has this id. A verification is kept for one hour after it ends.",
        advice: "Start a new verification.",
    },
    ProblemEntry {
        code: ProblemCode::MethodNotAllowed,
        status: 405,
        name: "method_not_allowed",
        title: "Method not allowed",
        detail: "This path does not support the method; the Allow header lists those that it does.",
        advice: "Use one of the methods in Allow.",
    },
    ProblemEntry {
        code: ProblemCode::RequestTimeout,
        status: 408,
        name: "request_timeout",
        title: "Request timeout",
        detail: "The request body took longer than 10 seconds to arrive.",
        advice: "Retry the request.",
    },
    ProblemEntry {
        code: ProblemCode::IdempotencyInProgress,
        status: 409,
        name: "idempotency_in_progress",
        title: "Idempotent request in progress",
        detail: "Another request with this Idempotency-Key is still in progress.",
        advice: "Retry with the same key after one second. It is finished after 30 seconds at the latest.",
    },
    ProblemEntry {
        code: ProblemCode::VerificationClosed,
        status: 410,
        name: "verification_closed",
        title: "Verification closed",
        detail: "The verification has ended; `verification_status` is its final status.",
        advice: "Tell the user, and create a new verification if they want to try again. `approved` means that the address was confirmed.",
    },
    ProblemEntry {
        code: ProblemCode::PayloadTooLarge,
        status: 413,
        name: "payload_too_large",
        title: "Payload too large",
        detail: "The request body is larger than 8 KiB.",
        advice: "Fix the program: a body may have 8 KiB at most.",
    },
    ProblemEntry {
        code: ProblemCode::UnsupportedMediaType,
        status: 415,
        name: "unsupported_media_type",
        title: "Unsupported media type",
        detail: "Content-Type must be application/json, without a Content-Encoding.",
        advice: "Fix the program: send `Content-Type: application/json` and no `Content-Encoding`.",
    },
    ProblemEntry {
        code: ProblemCode::InvalidEmail,
        status: 422,
        name: "invalid_email",
        title: "Invalid email address",
        detail: "An address has a local part of ASCII letters, digits, single dots and !#$%&'*+/=?^_`{|}~-, and a fully qualified domain; at most 64 bytes before the @ and 254 in total.",
        advice: "Ask the user to correct the address.",
    },
    ProblemEntry {
        code: ProblemCode::EmailNotAllowed,
        status: 422,
        name: "email_not_allowed",
        title: "Email domain not allowed",
        detail: "The operator does not allow email to this domain, or it takes no email.",
        advice: "Ask the user for another address.",
    },
    ProblemEntry {
        code: ProblemCode::PurposeNotAllowed,
        status: 422,
        name: "purpose_not_allowed",
        title: "Purpose not allowed",
        detail: "The tenant is not configured for this purpose.",
        advice: "Fix the program, or ask the operator to allow the purpose.",
    },
    ProblemEntry {
        code: ProblemCode::InvalidCode,
        status: 422,
        name: "invalid_code",
        title: "Invalid code",
        detail: "The code does not match the most recent email of this verification.",
        advice: "Ask the user to try again while `attempts_remaining` is above 0, or offer to send a new code.",
    },
    ProblemEntry {
        code: ProblemCode::IdempotencyMismatch,
        status: 422,
        name: "idempotency_mismatch",
        title: "Idempotency key reused",
        detail: "This Idempotency-Key was used with a different body in the last 24 hours.",
        advice: "Fix the program: use a new key for each new request.",
    },
    ProblemEntry {
        code: ProblemCode::RateLimited,
        status: 429,
        name: "rate_limited",
        title: "Rate limit exceeded",
        detail: "The request exceeds a limit; `policy` names it.",
        advice: "Retry after `retry_after` seconds, and tell the user. Codes already sent stay valid.",
    },
    ProblemEntry {
        code: ProblemCode::InternalError,
        status: 500,
        name: "internal_error",
        title: "Internal error",
        detail: "The service failed unexpectedly.",
        advice: "Report the X-Request-Id to the operator. Before you repeat a check, get the verification: it may be approved.",
    },
    ProblemEntry {
        code: ProblemCode::DeliveryFailed,
        status: 502,
        name: "delivery_failed",
        title: "Delivery failed",
        detail: "The mail relay did not accept the message.",
        advice: "Ask the user to check the address, or try again later. If there is an `id`, the email may still arrive and its code can be checked.",
    },
    ProblemEntry {
        code: ProblemCode::Unavailable,
        status: 503,
        name: "unavailable",
        title: "Service unavailable",
        detail: "A component that the service depends on is not responding.",
        advice: "Retry after Retry-After; for a create, with the same Idempotency-Key. Never treat it as a success.",
    },
    ProblemEntry {
        code: ProblemCode::Overloaded,
        status: 503,
        name: "overloaded",
        title: "Service overloaded",
        detail: "The service is at capacity; nothing was charged for this request.",
        advice: "Retry after Retry-After.",
    },
];

/// What is said where nothing else is.
const INTERNAL: ProblemEntry = ProblemEntry {
    code: ProblemCode::InternalError,
    status: 500,
    name: "internal_error",
    title: "Internal error",
    detail: "The service failed unexpectedly.",
    advice: "Report it to the operator.",
};

impl ProblemCode {
    /// All of them, in the order of their statuses.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|entry| entry.code)
    }

    /// The status that it comes with.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.entry().status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// The code as it stands on the wire.
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// What it is, in a few words that do not change (RFC 9457 section 3.1.3).
    pub fn title(self) -> &'static str {
        self.entry().title
    }

    /// What happened, where nothing more exact can be said.
    pub fn detail(self) -> &'static str {
        self.entry().detail
    }

    /// What a caller should do.
    pub fn advice(self) -> &'static str {
        self.entry().advice
    }

    /// Returns the `type` of the problem (RFC 9457 section 3.1.1): a URI that names it. That of an
    /// exceeded limit is registered by draft-ietf-httpapi-ratelimit-headers.
    pub fn type_uri(self) -> String {
        match self {
            Self::RateLimited => "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned(),
            code => format!("urn:otpd:problem:{}", code.name()),
        }
    }

    fn entry(self) -> &'static ProblemEntry {
        // A test holds that each has its own.
        TABLE.iter().find(|entry| entry.code == self).unwrap_or(&INTERNAL)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use poem_openapi::types::ToJSON as _;

    use super::*;

    #[test]
    fn names_are_those_of_the_schema_and_each_its_own() {
        let names: HashSet<_> = TABLE.iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), TABLE.len());
        for code in ProblemCode::all() {
            assert_eq!(code.entry().code, code);
            assert_eq!(code.to_json(), Some(code.name().into()));
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
        assert!(TABLE.is_sorted_by_key(|entry| entry.status));
    }
}

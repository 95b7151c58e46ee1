//! The closed set of problems of the v1 API: what each is called, what it means, and what a caller should do.
//!
//! The OpenAPI document and docs/problems.md say what stands here, and tests hold them to it.

use poem::http::StatusCode;
use poem_openapi::Enum;

/// What went wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Enum)]
#[oai(rename_all = "snake_case")]
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

/// All of them, in the order of their statuses.
pub const CODES: [ProblemCode; 20] = [
    ProblemCode::MalformedRequest,
    ProblemCode::Unauthenticated,
    ProblemCode::NotFound,
    ProblemCode::VerificationNotFound,
    ProblemCode::MethodNotAllowed,
    ProblemCode::RequestTimeout,
    ProblemCode::IdempotencyInProgress,
    ProblemCode::VerificationClosed,
    ProblemCode::PayloadTooLarge,
    ProblemCode::UnsupportedMediaType,
    ProblemCode::InvalidEmail,
    ProblemCode::EmailNotAllowed,
    ProblemCode::PurposeNotAllowed,
    ProblemCode::InvalidCode,
    ProblemCode::IdempotencyMismatch,
    ProblemCode::RateLimited,
    ProblemCode::InternalError,
    ProblemCode::DeliveryFailed,
    ProblemCode::Unavailable,
    ProblemCode::Overloaded,
];

/// What is said of one code.
struct Entry {
    status: u16,
    name: &'static str,
    title: &'static str,
    detail: &'static str,
    advice: &'static str,
}

impl ProblemCode {
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

    /// The `type` of the problem (RFC 9457 section 3.1.1): a name, not a place. That of a full limit is registered by
    /// draft-ietf-httpapi-ratelimit-headers.
    pub fn type_uri(self) -> String {
        match self {
            Self::RateLimited => "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned(),
            code => format!("urn:otpd:problem:{}", code.name()),
        }
    }

    #[expect(clippy::too_many_lines, reason = "a table")]
    fn entry(self) -> Entry {
        let (status, name, title, detail, advice) = match self {
            Self::MalformedRequest => (
                400,
                "malformed_request",
                "The request is malformed",
                "The request cannot be read.",
                "Mend the program: `detail` names the member or the header. Do not repeat it as it is.",
            ),
            Self::Unauthenticated => (
                401,
                "unauthenticated",
                "An API key is needed",
                "There is no API key in Authorization, or it opens nothing.",
                "Send `Authorization: Bearer <key>`; ask the operator whether the key was revoked.",
            ),
            Self::NotFound => (
                404,
                "not_found",
                "There is no such route",
                "Nothing is served at this path.",
                "Mend the path.",
            ),
            Self::VerificationNotFound => (
                404,
                "verification_not_found",
                "There is no such verification",
                "The id is unknown, or forgotten: a verification is remembered for an hour after its end.",
                "Start a new verification.",
            ),
            Self::MethodNotAllowed => (
                405,
                "method_not_allowed",
                "The route has other methods",
                "The header Allow names the methods of this path.",
                "Mend the method.",
            ),
            Self::RequestTimeout => (
                408,
                "request_timeout",
                "The body came too slowly",
                "The body took longer than ten seconds.",
                "Repeat the request.",
            ),
            Self::IdempotencyInProgress => (
                409,
                "idempotency_in_progress",
                "The same request is under way",
                "A request with this Idempotency-Key has not ended yet.",
                "Repeat it with the same key after a second; in 30 seconds at the latest it has ended.",
            ),
            Self::VerificationClosed => (
                410,
                "verification_closed",
                "The verification is over",
                "The verification has ended; `verification_status` says how.",
                "Tell the person; start a new verification if they still want to. `approved` means that it was confirmed.",
            ),
            Self::PayloadTooLarge => (
                413,
                "payload_too_large",
                "The body is too long",
                "The body is longer than 8 KiB.",
                "Mend the program.",
            ),
            Self::UnsupportedMediaType => (
                415,
                "unsupported_media_type",
                "The body must be JSON",
                "Content-Type must be application/json, without a content coding.",
                "Mend the program.",
            ),
            Self::InvalidEmail => (
                422,
                "invalid_email",
                "Not an address that can be mailed to",
                "An address has a local part of ASCII letters, digits, single dots and !#$%&'*+/=?^_`{|}~-, and a fully \
                 qualified domain; at most 64 octets before the @ and 254 in all.",
                "Let the person correct the address.",
            ),
            Self::EmailNotAllowed => (
                422,
                "email_not_allowed",
                "Mails to this domain are not allowed",
                "The operator does not let otpd mail to this domain.",
                "Let the person give another address.",
            ),
            Self::PurposeNotAllowed => (
                422,
                "purpose_not_allowed",
                "Not a purpose of this tenant",
                "The tenant's settings do not list this purpose.",
                "Mend the program, or have the operator allow the purpose.",
            ),
            Self::InvalidCode => (
                422,
                "invalid_code",
                "The code is wrong",
                "The code is not that of the newest mail of this verification.",
                "Let the person try again while `attempts_remaining` is above 0; offer to send a new code.",
            ),
            Self::IdempotencyMismatch => (
                422,
                "idempotency_mismatch",
                "The idempotency key belongs to another request",
                "This Idempotency-Key was used with another body in the last 24 hours.",
                "Mend the program: a new request needs a new key.",
            ),
            Self::RateLimited => (
                429,
                "rate_limited",
                "A limit is full",
                "Nothing was done; `policy` names the limit.",
                "Wait for `retry_after` seconds, and tell the person so. What was sent or tried before stays as it is.",
            ),
            Self::InternalError => (
                500,
                "internal_error",
                "A fault of the service",
                "The service has a fault.",
                "Tell the operator, with X-Request-Id. Show the verification before repeating a check.",
            ),
            Self::DeliveryFailed => (
                502,
                "delivery_failed",
                "The mail was not handed over",
                "The relay did not take the mail.",
                "Let the person check the address and try again later. Where there is an `id`, the mail may still arrive and \
                 its code be checked.",
            ),
            Self::Unavailable => (
                503,
                "unavailable",
                "A part of the service is down",
                "A part of the service does not answer.",
                "Repeat the request after Retry-After, a creation with the same Idempotency-Key. Never let anybody in.",
            ),
            Self::Overloaded => (
                503,
                "overloaded",
                "There is too much to do",
                "There is no room for this request now; nothing was spent.",
                "Repeat the request after Retry-After.",
            ),
        };
        Entry { status, name, title, detail, advice }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use poem_openapi::types::ToJSON as _;

    use super::*;

    #[test]
    fn names_are_those_of_the_schema_and_each_its_own() {
        let names: HashSet<_> = CODES.iter().map(|code| code.name()).collect();
        assert_eq!(names.len(), CODES.len());
        for code in CODES {
            assert_eq!(code.to_json(), Some(code.name().into()));
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
        assert!(CODES.is_sorted_by_key(|code| code.status()));
    }
}

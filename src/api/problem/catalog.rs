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

/// What is said of one code.
struct Entry {
    code: ProblemCode,
    status: u16,
    name: &'static str,
    title: &'static str,
    detail: &'static str,
    advice: &'static str,
}

/// What is said of each, in the order of their statuses.
const TABLE: [Entry; 20] = [
    Entry {
        code: ProblemCode::MalformedRequest,
        status: 400,
        name: "malformed_request",
        title: "The request is malformed",
        detail: "The request cannot be read.",
        advice: "Mend the program: `detail` names the member or the header. Do not repeat it as it is.",
    },
    Entry {
        code: ProblemCode::Unauthenticated,
        status: 401,
        name: "unauthenticated",
        title: "An API key is needed",
        detail: "There is no API key in Authorization, or it opens nothing.",
        advice: "Send `Authorization: Bearer <key>`; ask the operator whether the key was revoked.",
    },
    Entry {
        code: ProblemCode::NotFound,
        status: 404,
        name: "not_found",
        title: "There is no such route",
        detail: "Nothing is served at this path.",
        advice: "Mend the path.",
    },
    Entry {
        code: ProblemCode::VerificationNotFound,
        status: 404,
        name: "verification_not_found",
        title: "There is no such verification",
        detail: "The id is unknown, or forgotten: a verification is remembered for an hour after its end.",
        advice: "Start a new verification.",
    },
    Entry {
        code: ProblemCode::MethodNotAllowed,
        status: 405,
        name: "method_not_allowed",
        title: "The route has other methods",
        detail: "The header Allow names the methods of this path.",
        advice: "Mend the method.",
    },
    Entry {
        code: ProblemCode::RequestTimeout,
        status: 408,
        name: "request_timeout",
        title: "The body came too slowly",
        detail: "The body took longer than ten seconds.",
        advice: "Repeat the request.",
    },
    Entry {
        code: ProblemCode::IdempotencyInProgress,
        status: 409,
        name: "idempotency_in_progress",
        title: "The same request is under way",
        detail: "A request with this Idempotency-Key has not ended yet.",
        advice: "Repeat it with the same key after a second; in 30 seconds at the latest it has ended.",
    },
    Entry {
        code: ProblemCode::VerificationClosed,
        status: 410,
        name: "verification_closed",
        title: "The verification is over",
        detail: "The verification has ended; `verification_status` says how.",
        advice: "Tell the person; start a new verification if they still want to. `approved` means that it was confirmed.",
    },
    Entry {
        code: ProblemCode::PayloadTooLarge,
        status: 413,
        name: "payload_too_large",
        title: "The body is too long",
        detail: "The body is longer than 8 KiB.",
        advice: "Fix the program: a body has at most 8 KiB.",
    },
    Entry {
        code: ProblemCode::UnsupportedMediaType,
        status: 415,
        name: "unsupported_media_type",
        title: "The body must be JSON",
        detail: "Content-Type must be application/json, without a content coding.",
        advice: "Fix the program: send `Content-Type: application/json` and no `Content-Encoding`.",
    },
    Entry {
        code: ProblemCode::InvalidEmail,
        status: 422,
        name: "invalid_email",
        title: "Not an address that can be mailed to",
        detail: "An address has a local part of ASCII letters, digits, single dots and !#$%&'*+/=?^_`{|}~-, and a fully qualified domain; at most 64 octets before the @ and 254 in all.",
        advice: "Let the person correct the address.",
    },
    Entry {
        code: ProblemCode::EmailNotAllowed,
        status: 422,
        name: "email_not_allowed",
        title: "Mails to this domain are not allowed",
        detail: "The operator does not let otpd mail to this domain.",
        advice: "Let the person give another address.",
    },
    Entry {
        code: ProblemCode::PurposeNotAllowed,
        status: 422,
        name: "purpose_not_allowed",
        title: "Not a purpose of this tenant",
        detail: "The tenant's settings do not list this purpose.",
        advice: "Mend the program, or have the operator allow the purpose.",
    },
    Entry {
        code: ProblemCode::InvalidCode,
        status: 422,
        name: "invalid_code",
        title: "The code is wrong",
        detail: "The code is not that of the newest mail of this verification.",
        advice: "Let the person try again while `attempts_remaining` is above 0; offer to send a new code.",
    },
    Entry {
        code: ProblemCode::IdempotencyMismatch,
        status: 422,
        name: "idempotency_mismatch",
        title: "The idempotency key belongs to another request",
        detail: "This Idempotency-Key was used with another body in the last 24 hours.",
        advice: "Mend the program: a new request needs a new key.",
    },
    Entry {
        code: ProblemCode::RateLimited,
        status: 429,
        name: "rate_limited",
        title: "A limit is full",
        detail: "The request was not served; `policy` names the limit that is full.",
        advice: "Wait for `retry_after` seconds, and tell the person so. What was sent or tried before stays as it is.",
    },
    Entry {
        code: ProblemCode::InternalError,
        status: 500,
        name: "internal_error",
        title: "A fault of the service",
        detail: "The service has a fault.",
        advice: "Tell the operator, with X-Request-Id. Show the verification before repeating a check.",
    },
    Entry {
        code: ProblemCode::DeliveryFailed,
        status: 502,
        name: "delivery_failed",
        title: "The mail was not handed over",
        detail: "The relay did not take the mail.",
        advice: "Let the person check the address and try again later. Where there is an `id`, the mail may still arrive and its code be checked.",
    },
    Entry {
        code: ProblemCode::Unavailable,
        status: 503,
        name: "unavailable",
        title: "A part of the service is down",
        detail: "A part of the service does not answer.",
        advice: "Repeat the request after Retry-After, a creation with the same Idempotency-Key. Never let anybody in.",
    },
    Entry {
        code: ProblemCode::Overloaded,
        status: 503,
        name: "overloaded",
        title: "There is too much to do",
        detail: "There is no room for this request now; nothing was spent.",
        advice: "Repeat the request after Retry-After.",
    },
];

/// What is said where nothing else is.
const INTERNAL: Entry = Entry {
    code: ProblemCode::InternalError,
    status: 500,
    name: "internal_error",
    title: "A fault of the service",
    detail: "The service has a fault.",
    advice: "Tell the operator.",
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

    /// The `type` of the problem (RFC 9457 section 3.1.1): a name, not a place. That of a full limit is registered by
    /// draft-ietf-httpapi-ratelimit-headers.
    pub fn type_uri(self) -> String {
        match self {
            Self::RateLimited => "https://iana.org/assignments/http-problem-types#quota-exceeded".to_owned(),
            code => format!("urn:otpd:problem:{}", code.name()),
        }
    }

    fn entry(self) -> &'static Entry {
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

//! What each operation of v1 refuses, as the document tells it: from the one table of problems.
//!
//! Must not say anything of a problem that its code does not.

use poem_openapi::ApiResponse as _;
use poem_openapi::registry::Registry;
use serde_json::{Map, Value, json};

use super::{merge, responses};
use crate::api::problem::{PROBLEM_JSON, Problem, ProblemCode};

/// What may come of any operation that takes a key.
const ALWAYS: [ProblemCode; 5] = [
    ProblemCode::Unauthenticated,
    ProblemCode::RateLimited,
    ProblemCode::InternalError,
    ProblemCode::Unavailable,
    ProblemCode::Overloaded,
];
/// What may come of any operation that takes a body.
const OF_A_BODY: [ProblemCode; 4] = [
    ProblemCode::MalformedRequest,
    ProblemCode::RequestTimeout,
    ProblemCode::PayloadTooLarge,
    ProblemCode::UnsupportedMediaType,
];
/// What may come of any operation on a verification.
const OF_AN_ID: [ProblemCode; 2] = [ProblemCode::VerificationNotFound, ProblemCode::NotFound];

/// What else each operation refuses, beside what all of its kind do.
const OPERATIONS: [(&str, &[&[ProblemCode]]); 5] = [
    (
        "createVerification",
        &[
            &OF_A_BODY,
            &[
                ProblemCode::VerificationNotFound,
                ProblemCode::IdempotencyInProgress,
                ProblemCode::InvalidEmail,
                ProblemCode::EmailNotAllowed,
                ProblemCode::PurposeNotAllowed,
                ProblemCode::IdempotencyMismatch,
                ProblemCode::DeliveryFailed,
            ],
        ],
    ),
    (
        "checkVerification",
        &[&OF_A_BODY, &OF_AN_ID, &[ProblemCode::VerificationClosed, ProblemCode::InvalidCode]],
    ),
    (
        "resendVerification",
        &[&OF_A_BODY, &OF_AN_ID, &[ProblemCode::VerificationClosed, ProblemCode::DeliveryFailed]],
    ),
    ("showVerification", &[&OF_AN_ID]),
    ("cancelVerification", &[&OF_AN_ID, &[ProblemCode::VerificationClosed]]),
];

/// Adds what a v1 operation refuses: one response a status, with an example for each of its codes.
pub(super) fn add_problems(operation: &mut Map<String, Value>) {
    let name = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let Some((_, more)) = OPERATIONS.iter().find(|(known, _)| *known == name) else { return };
    let refuses = |code: &ProblemCode| ALWAYS.contains(code) || more.iter().any(|codes| codes.contains(code));
    let codes: Vec<ProblemCode> = ProblemCode::all().filter(refuses).collect();
    let Some(responses) = responses(operation) else { return };
    // How it succeeds is told of the limits too.
    responses.values_mut().for_each(|response| merge(response, json!({ "headers": limits() })));
    for same in codes.chunk_by(|one, other| one.status() == other.status()) {
        let Some(first) = same.first() else { continue };
        responses.insert(first.status().as_u16().to_string(), response(*first, same));
    }
}

fn response(first: ProblemCode, codes: &[ProblemCode]) -> Value {
    let meanings: Vec<_> = codes.iter().map(|code| format!("`{}`: {}.", code.name(), code.title())).collect();
    let examples: Map<String, Value> = codes
        .iter()
        .map(|code| {
            let place = format!("#/components/examples/{}", code.name());
            (code.name().to_owned(), json!({ "$ref": place }))
        })
        .collect();
    let content = json!({ "schema": { "$ref": "#/components/schemas/Problem" }, "examples": examples });
    let (meanings, content) = (meanings.join(" "), json!({ PROBLEM_JSON: content }));
    json!({ "description": meanings, "content": content, "headers": headers(first) })
}

fn text(description: &str) -> Value {
    json!({ "description": description, "schema": { "type": "string" } })
}

/// What a key is told of its limits: it has been asked for its token before anything else is looked at.
fn limits() -> Value {
    json!({
        "RateLimit-Policy":
            text("The limits of the key and, where one was met, of a ledger: name, the most (`q`), in how many seconds (`w`)."),
        "RateLimit": text("How they stand: what is left (`r`), and in how many seconds it is more (`t`)."),
    })
}

/// The headers that a problem comes with.
fn headers(code: ProblemCode) -> Value {
    if code == ProblemCode::Unauthenticated {
        return json!({ "WWW-Authenticate": text("`Bearer`") });
    }
    let mut headers = limits();
    if let 429 | 503 = code.status().as_u16() {
        let seconds = json!({ "type": "integer", "format": "int64", "minimum": 1 });
        let wait = json!({ "description": "Seconds to wait.", "required": true, "schema": seconds });
        merge(&mut headers, json!({ "Retry-After": wait }));
    }
    headers
}

/// Each code as it comes.
pub(super) fn examples() -> Value {
    let example = |code: ProblemCode| {
        let value = Problem::example(code);
        (
            code.name().to_owned(),
            json!({ "summary": code.title(), "description": code.advice(), "value": value }),
        )
    };
    Value::Object(ProblemCode::all().map(example).collect())
}

/// The schema of a problem, and those that it names.
pub(super) fn schemas() -> Value {
    let mut registry = Registry::new();
    Problem::register(&mut registry);
    serde_json::to_value(registry.schemas).unwrap_or_default()
}

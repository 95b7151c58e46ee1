//! The problem responses of each v1 operation in the OpenAPI document, from the table of problem
//! codes.
//!
//! Must not say anything about a problem that its code does not.

use poem_openapi::ApiResponse as _;
use poem_openapi::registry::Registry;
use serde_json::{Map, Value, json};

use super::{merge, responses};
use crate::api::problem::{PROBLEM_JSON, Problem, ProblemCode};

/// Problems of every operation that requires an API key.
const ALWAYS: [ProblemCode; 5] = [
    ProblemCode::Unauthenticated,
    ProblemCode::RateLimited,
    ProblemCode::InternalError,
    ProblemCode::Unavailable,
    ProblemCode::Overloaded,
];
/// Problems of every operation that takes a body.
const OF_A_BODY: [ProblemCode; 4] = [
    ProblemCode::MalformedRequest,
    ProblemCode::RequestTimeout,
    ProblemCode::PayloadTooLarge,
    ProblemCode::UnsupportedMediaType,
];
/// Problems of every operation on a verification.
const OF_AN_ID: [ProblemCode; 2] = [ProblemCode::VerificationNotFound, ProblemCode::NotFound];

/// The problems of each operation in addition to [`ALWAYS`].
const OPERATIONS: [(&str, &[&[ProblemCode]]); 6] = [
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
    ("listTestMails", &[&[ProblemCode::MalformedRequest]]),
];

/// Adds the problems of a v1 operation: one response for each status, with an example for each
/// code.
pub(super) fn add_problems(operation: &mut Map<String, Value>) {
    let name = operation.get("operationId").and_then(Value::as_str).unwrap_or_default();
    let Some((_, more)) = OPERATIONS.iter().find(|(known, _)| *known == name) else { return };
    let refuses = |code: &ProblemCode| ALWAYS.contains(code) || more.iter().any(|codes| codes.contains(code));
    let codes: Vec<ProblemCode> = ProblemCode::all().filter(refuses).collect();
    let Some(responses) = responses(operation) else { return };
    // Successful responses have the RateLimit headers too.
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
    let meanings = meanings.join(" ");
    let content = json!({ PROBLEM_JSON: content });
    json!({ "description": meanings, "content": content, "headers": headers(first) })
}

fn text(description: &str) -> Value {
    json!({ "description": description, "schema": { "type": "string" } })
}

/// Returns the `RateLimit` headers. They are in every authenticated response, because the key's
/// token is taken before anything else.
fn limits() -> Value {
    json!({
        "RateLimit-Policy":
            text("The limit of the API key and the tightest other limit, if any: name, maximum (`q`), window in seconds (`w`)."),
        "RateLimit": text("The state of these limits: what remains (`r`), and the seconds until more is available (`t`)."),
    })
}

/// Returns the headers of the response for a problem.
fn headers(code: ProblemCode) -> Value {
    if code == ProblemCode::Unauthenticated {
        return json!({ "WWW-Authenticate": text("`Bearer`") });
    }
    let mut headers = limits();
    if let 429 | 503 = code.status().as_u16() {
        let seconds = json!({ "type": "integer", "format": "int64", "minimum": 1 });
        let wait =
            json!({ "description": "Seconds to wait before retrying.", "required": true, "schema": seconds });
        merge(&mut headers, json!({ "Retry-After": wait }));
    }
    headers
}

/// Returns an example of each problem.
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

/// Returns the schema of a problem, and the schemas that it refers to.
pub(super) fn schemas() -> Value {
    let mut registry = Registry::new();
    Problem::register(&mut registry);
    serde_json::to_value(registry.schemas).unwrap_or_default()
}

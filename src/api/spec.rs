//! The published OpenAPI document: what the framework generates, and what it cannot express.
//!
//! The framework generates operations and schemas. The rest is in `amendments.json` (a JSON merge
//! patch, RFC 7396), and the problems of each operation are in `problems`. Must not change what the
//! service does.

mod problems;

use std::borrow::Cow;
use std::iter;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};
use poem_openapi::types::{ToYAML, Type};
use poem_openapi::{OpenApi, OpenApiService, Tags};
use serde_json::{Map, Value, json};

use super::problem::ProblemCode;

const AMENDMENTS: &str = include_str!("spec/amendments.json");

/// The usual spelling of header names; the framework writes them in upper case.
const HEADERS: [&str; 5] = ["Location", "OTP-Proof", "RateLimit", "RateLimit-Policy", "Retry-After"];

/// The pattern of an id, and an example.
const ID_PATTERN: &str = "^[A-Za-z0-9_-]{22}$";
const ID: &str = "Qk9Ua0c1c1B0eUx2d1htQQ";

/// The groups of operations in the documentation.
#[derive(Tags)]
pub(super) enum ApiTag {
    /// Send a code to an email address and verify it. There is one code per address at a time.
    Simple,
    /// Verifications with their own ids, for programs with an API key. Errors are problems (RFC
    /// 9457).
    Verifications,
    /// Emails that were captured instead of sent, for tests with a sandbox key.
    Sandbox,
    /// The public keys that verify proofs.
    Proofs,
    /// Probes for load balancers and orchestrators.
    Health,
}

/// The OpenAPI document.
pub(super) struct Document(Value);

impl Document {
    /// Generates the document of an API.
    pub(super) fn of<T: OpenApi>(api: &OpenApiService<T, ()>) -> Self {
        let mut document: Value = serde_json::from_str(&api.spec()).unwrap_or_default();
        operations(&mut document).for_each(problems::add_problems);
        operations(&mut document).for_each(add_request_id);
        merge(
            &mut document,
            json!({ "components": { "schemas": problems::schemas(), "examples": problems::examples() } }),
        );
        tidy(&mut document);
        let amendments = serde_json::from_str(AMENDMENTS).unwrap_or_default();
        let amendments = prune(amendments, &document);
        merge(&mut document, amendments);
        Self(document)
    }

    /// Returns a copy whose server is relative to the URL of the document, so that it works under
    /// any path prefix.
    pub(super) fn relative(&self) -> Self {
        let mut document = self.0.clone();
        merge(&mut document, json!({ "servers": [{ "url": ".", "description": "this service" }] }));
        Self(document)
    }

    /// Returns the document as JSON.
    pub(super) fn json(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap_or_default()
    }

    /// Returns the document as YAML.
    pub(super) fn yaml(&self) -> String {
        self.to_yaml_string()
    }
}

/// Implemented because the framework's YAML writer accepts only types that have a schema.
impl Type for Document {
    const IS_REQUIRED: bool = true;

    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        "document".into()
    }

    fn schema_ref() -> MetaSchemaRef {
        MetaSchemaRef::Inline(Box::new(MetaSchema::ANY))
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(iter::once(self))
    }
}

impl ToYAML for Document {
    fn to_yaml(&self) -> Option<Value> {
        Some(self.0.clone())
    }
}

/// Returns the introduction of the document, with the table of problems.
pub(super) fn description() -> String {
    let rows = ProblemCode::all().map(|code| {
        format!("| {} | `{}` | {} | {} |\n", code.status().as_u16(), code.name(), code.title(), code.advice())
    });
    format!(
        "otpd verifies that a user controls an email address: it sends a one-time code to the address and checks the \
         code that the user submits. It proves nothing more: email is not an authenticator in the sense of NIST SP \
         800-63B.\n\n\
         ## Problems\n\n\
         Every error of the v1 API is a problem (RFC 9457). Handle it by its `code`:\n\n\
         | Status | Code | Meaning | What to do |\n|---|---|---|---|\n{}",
        rows.collect::<String>()
    )
}

/// Iterates over the operations of the document.
fn operations(document: &mut Value) -> impl Iterator<Item = &mut Map<String, Value>> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter();
    let items = paths.flat_map(|paths| paths.values_mut()).filter_map(Value::as_object_mut);
    items.flat_map(|item| item.values_mut()).filter_map(Value::as_object_mut)
}

fn responses(operation: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    operation.get_mut("responses").and_then(Value::as_object_mut)
}

/// Corrects what the framework writes in an unusual form: names of headers, media types, formats of
/// numbers, and references with a description.
fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(members) => {
            if let Some(headers) = members.get_mut("headers").and_then(Value::as_object_mut) {
                rename(headers, |name| {
                    HEADERS.into_iter().find(|written| written.eq_ignore_ascii_case(name))
                });
            }
            if let Some(content) = members.get_mut("content").and_then(Value::as_object_mut) {
                rename(content, |name| name.strip_suffix("; charset=utf-8"));
            }
            tidy_schema(members);
            members.values_mut().for_each(tidy);
        }
        _ => {}
    }
}

/// Renames the members for which `other` returns a name; their order is preserved.
fn rename(members: &mut Map<String, Value>, other: impl Fn(&str) -> Option<&str>) {
    let renamed = std::mem::take(members).into_iter().map(|(name, value)| match other(&name) {
        Some(other) => (other.to_owned(), value),
        None => (name, value),
    });
    *members = renamed.collect();
}

fn tidy_schema(schema: &mut Map<String, Value>) {
    let signed = match schema.get("format").and_then(Value::as_str) {
        Some("uint8" | "uint16") => Some("int32"),
        Some("uint64") => Some("int64"),
        _ => None,
    };
    if let Some(signed) = signed {
        schema.insert("format".to_owned(), signed.into());
        schema.entry("minimum").or_insert(json!(0));
    }
    if let Some(parts) = schema.get_mut("allOf").and_then(Value::as_array_mut) {
        parts.retain(|part| part.get("$ref").is_some());
    }
    if schema.get("in").and_then(Value::as_str) == Some("path") {
        schema.insert("schema".to_owned(), json!({ "type": "string", "pattern": ID_PATTERN, "example": ID }));
    }
}

/// Adds `X-Request-Id` to every response; the operator finds the request in the log by this id.
fn add_request_id(operation: &mut Map<String, Value>) {
    let header =
        json!({ "description": "The id of the request in the log.", "schema": { "type": "string" } });
    for response in responses(operation).into_iter().flat_map(|responses| responses.values_mut()) {
        merge(response, json!({ "headers": { "X-Request-Id": header.clone() } }));
    }
}

/// Removes paths that are not in the document from a patch: the simple endpoints may be off.
fn prune(mut patch: Value, document: &Value) -> Value {
    if let Some(paths) = patch.get_mut("paths").and_then(Value::as_object_mut) {
        paths.retain(|path, _| document.get("paths").is_some_and(|paths| paths.get(path).is_some()));
    }
    patch
}

/// Applies a JSON merge patch (RFC 7396 section 2).
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_adds_replaces_and_removes() {
        // RFC 7396 section 3, shortened.
        let mut target = json!({ "a": "b", "c": { "d": "e", "f": "g" }, "h": [1] });
        merge(&mut target, json!({ "a": "z", "c": { "f": null, "i": { "j": null, "k": 1 } }, "h": [2] }));
        assert_eq!(target, json!({ "a": "z", "c": { "d": "e", "i": { "k": 1 } }, "h": [2] }));
    }

    #[test]
    fn the_amendments_are_json() {
        assert!(serde_json::from_str::<Map<String, Value>>(AMENDMENTS).is_ok());
    }
}

//! The committed OpenAPI document is the one that the code generates.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::app::Process;

fn printed(format: &str) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_otpd")).args(["openapi", "--format", format]).output();
    String::from_utf8(output.expect("the binary runs").stdout).expect("text")
}

#[test]
fn the_committed_document_is_the_generated_one() {
    assert!(printed("json") == include_str!("../../openapi/openapi.json"), "run: make spec");
    assert!(printed("yaml") == include_str!("../../openapi/openapi.yaml"), "run: make spec");
}

fn document() -> Value {
    serde_json::from_str(&printed("json")).expect("JSON")
}

/// Returns every operation with its id.
fn operations(document: &Value) -> Vec<(&str, &Value)> {
    let paths = document["paths"].as_object().expect("paths").values();
    let operations = paths.flat_map(|item| item.as_object().expect("operations").values());
    operations.map(|operation| (operation["operationId"].as_str().expect("an id"), operation)).collect()
}

/// Returns every problem code that an operation can answer with, by its examples.
fn codes(operation: &Value) -> Vec<(u16, String)> {
    let responses = operation["responses"].as_object().expect("responses");
    let codes = responses.iter().flat_map(|(status, response)| {
        let examples = response["content"]["application/problem+json"]["examples"].as_object();
        let status: u16 = status.parse().expect("a status");
        examples.into_iter().flat_map(move |examples| examples.keys().map(move |code| (status, code.clone())))
    });
    codes.collect()
}

#[test]
fn operations_have_ids_that_make_good_names_and_say_who_may_call() {
    let document = document();
    let operations = operations(&document);
    let mut names: Vec<_> = operations.iter().map(|(name, _)| *name).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "cancelVerification",
            "checkVerification",
            "createVerification",
            "listTestMails",
            "live",
            "proofKeys",
            "ready",
            "resendVerification",
            "sendOtp",
            "showVerification",
            "verifyOtp",
        ]
    );
    for (name, operation) in operations {
        for member in ["summary", "description"] {
            assert!(operation[member].as_str().is_some_and(|text| text.len() > 10), "{name}: {member}");
        }
        let needs_a_key = name.ends_with("Verification") || name == "listTestMails";
        assert_eq!(operation["security"] == json!([{ "apiKey": [] }]), needs_a_key, "{name}");
        for (status, response) in operation["responses"].as_object().expect("responses") {
            let headers = response["headers"].as_object().into_iter().flat_map(|headers| headers.keys());
            let headers: Vec<_> = headers.map(String::as_str).collect();
            let waits = ["429", "503"].contains(&status.as_str());
            assert_eq!(headers.contains(&"Retry-After"), waits, "{name}: {status}: {headers:?}");
            if needs_a_key {
                let is_told = headers.contains(&"RateLimit") && headers.contains(&"RateLimit-Policy");
                assert_eq!(is_told, status != "401", "{name}: {status}: {headers:?}");
            }
        }
    }
}

#[test]
fn every_problem_is_in_the_document_with_an_example_and_in_the_docs_with_advice() {
    let document = document();
    let examples = document["components"]["examples"].as_object().expect("examples");
    let listed = document["components"]["schemas"]["ProblemCode"]["enum"].as_array().expect("codes");
    assert_eq!(examples.keys().map(String::as_str).collect::<Vec<_>>(), strings(listed));
    let told: Vec<_> = operations(&document).iter().flat_map(|(_, operation)| codes(operation)).collect();
    for (code, example) in examples {
        let value = &example["value"];
        assert_eq!(value["code"], **code);
        let status = u16::try_from(value["status"].as_u64().expect("a status")).expect("a status");
        // A documented operation is never called with a method that its path does not have.
        let is_told = told.contains(&(status, code.clone())) || code == "method_not_allowed";
        assert!(is_told, "{code} is no example of any operation");
    }
    // The table of docs/problems.md is identical to that of the document.
    let description = document["info"]["description"].as_str().expect("a description");
    let rows = |text: &str| -> Vec<String> {
        let is_row = |line: &&str| line.starts_with("| 4") || line.starts_with("| 5");
        text.lines().filter(is_row).map(str::to_owned).collect()
    };
    let (ours, docs) = (rows(description), rows(include_str!("../../docs/problems.md")));
    assert_eq!(ours.len(), examples.len());
    assert_eq!(docs, ours);
}

fn strings(values: &[Value]) -> Vec<&str> {
    values.iter().map(|value| value.as_str().expect("a text")).collect()
}

#[test]
fn nothing_of_the_document_is_newer_than_openapi_3_0() {
    let document = document();
    assert_eq!(document["openapi"], "3.0.0");
    let text = document.to_string();
    for newer in ["\"webhooks\"", "\"const\"", "\"type\":[", "\"null\"", "\"identifier\""] {
        assert!(!text.contains(newer), "{newer}");
    }
}

#[tokio::test]
async fn the_served_document_is_the_printed_one() {
    let dev = Process::dev().await;
    let served = dev.get("/openapi.json").await;
    assert_eq!(served.header("content-type"), Some("application/json"));
    assert_eq!(served.body.trim_end(), printed("json").trim_end());
    assert_eq!(dev.get("/openapi.yaml").await.body.trim_end(), printed("yaml").trim_end());
}

#[test]
fn every_operation_has_a_name_and_says_how_it_fails() {
    let document = document();
    for path in ["/send-otp", "/verify-otp"] {
        let operation = &document["paths"][path]["post"];
        assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{path}");
        let statuses: Vec<_> = operation["responses"].as_object().expect("responses").keys().collect();
        assert_eq!(statuses, ["200", "400", "401", "408", "413", "415", "429", "500", "503"], "{path}");
        assert_eq!(operation["requestBody"]["required"], true, "{path}");
    }
}

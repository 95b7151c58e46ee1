//! The committed OpenAPI document is the one that the code makes.

use std::process::Command;

use serde_json::Value;

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
    let document: Value = serde_json::from_str(&printed("json")).expect("JSON");
    let paths = document["paths"].as_object().expect("paths");
    assert_eq!(paths.keys().collect::<Vec<_>>(), ["/livez", "/readyz", "/send-otp", "/verify-otp"]);
    for path in ["/send-otp", "/verify-otp"] {
        let operation = &document["paths"][path]["post"];
        assert!(operation["operationId"].is_string() && operation["summary"].is_string(), "{path}");
        let statuses: Vec<_> = operation["responses"].as_object().expect("responses").keys().collect();
        assert_eq!(statuses, ["200", "400", "408", "413", "415", "429", "500", "503"], "{path}");
        assert_eq!(operation["requestBody"]["required"], true, "{path}");
    }
}

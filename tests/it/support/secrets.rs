//! What a process was given in requests and emails, and must not write to its log.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use aho_corasick::AhoCorasick;
use reqwest::header::{AUTHORIZATION, HeaderName};
use serde_json::Value;

/// Members of bodies that are personal or secret.
const MEMBERS: [&str; 4] = ["email", "otp", "code", "end_user_ip"];
/// Fields of log lines that are times, random ids or keyed hashes: digits in them may look like one
/// of many codes.
const RANDOM: [&str; 6] =
    ["timestamp", "duration_ms", "request.id", "email.hash", "client.hash", "verification.hash"];

/// Texts that must not be found.
#[derive(Debug, Default)]
pub struct Secrets(BTreeSet<String>);

impl Secrets {
    /// Adds what is personal or secret in a request.
    pub fn add_request(&mut self, request: &reqwest::Request) {
        let shown = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
        if let Some((_, key)) = shown(AUTHORIZATION).and_then(|value| value.split_once(' ')) {
            self.add_text(key);
        }
        for name in ["x-forwarded-for", "idempotency-key"] {
            if let Some(value) = shown(HeaderName::from_static(name)) {
                self.add_text(value);
            }
        }
        let body = request.body().and_then(|body| body.as_bytes()).unwrap_or_default();
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        for member in MEMBERS {
            if let Some(text) = body[member].as_str() {
                self.add_text(text);
            }
        }
    }

    /// Adds a text, unless it is so short that it may occur by chance.
    pub fn add_text(&mut self, text: &str) {
        if text.len() >= 6 {
            self.0.insert(text.to_owned());
        }
    }

    /// Asserts that the lines contain none of the texts.
    pub fn assert_absent(&self, output: &str) {
        let found = AhoCorasick::builder().ascii_case_insensitive(true).build(&self.0).expect("few texts");
        for line in output.lines().filter(|line| found.is_match(line)) {
            // Lines that are no JSON are for the person who tries otpd.
            let Ok(mut fields) = serde_json::from_str(line) else { continue };
            remove_random(&mut fields);
            let fields = fields.to_string();
            assert!(!found.is_match(&fields), "personal or secret: {fields}");
        }
    }
}

/// Returns whether a value is an address with a port, which only that of a listener is.
fn is_listener(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.parse::<SocketAddr>().is_ok())
}

fn remove_random(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, value| {
                !RANDOM.contains(&name.as_str()) && !value.is_number() && !is_listener(value)
            });
            fields.values_mut().for_each(remove_random);
        }
        Value::Array(values) => values.iter_mut().for_each(remove_random),
        _ => {}
    }
}

#[test]
fn what_was_given_is_found_in_any_case_and_numbers_are_not() {
    let mut secrets = Secrets::default();
    secrets.add_text("a@b.example");
    secrets.add_text("123456");
    secrets.assert_absent(
        "Try a@b.example\n{\"timestamp\":\"123456\",\"spans\":[{\"request.id\":\"0123456\"}]}",
    );
    for line in [r#"{"message":"to A@B.example"}"#, r#"{"spans":[{"name":"x123456"}]}"#] {
        assert!(std::panic::catch_unwind(|| secrets.assert_absent(line)).is_err(), "{line}");
    }
}

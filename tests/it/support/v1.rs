//! The v1 API as a program with a key calls it.

use otpd::domain::api_key::{self, KeyHash, KeyKind};
use reqwest::Method;
use serde_json::{Value, json};

use super::app::{Answer, Process};

/// Returns a key by number; the same each time.
pub fn key(number: u8) -> String {
    api_key::text(&[number; 32]).to_string()
}

/// Returns the hash of that key as in the settings, under the label `k<number>`.
pub fn hash(number: u8) -> String {
    format!("k{number}:{}", KeyHash::of(&key(number)).expect("a key"))
}

/// Returns a sandbox key by number; the same each time.
pub fn sandbox_key(number: u8) -> String {
    api_key::text_of(KeyKind::Sandbox, &[number; 32]).to_string()
}

/// Returns the hash of that key as in the settings, under the label `s<number>`.
pub fn sandbox_hash(number: u8) -> String {
    format!("s{number}:{}", KeyHash::of(&sandbox_key(number)).expect("a key"))
}

/// A caller with a key.
pub struct Caller<'a> {
    process: &'a Process,
    key: String,
}

impl Process {
    /// Returns a caller with the key of this number.
    pub fn caller(&self, number: u8) -> Caller<'_> {
        self.caller_with(&key(number))
    }

    /// Returns a caller with the sandbox key of this number.
    pub fn sandbox(&self, number: u8) -> Caller<'_> {
        self.caller_with(&sandbox_key(number))
    }

    /// Returns a caller with this key.
    pub fn caller_with(&self, key: &str) -> Caller<'_> {
        Caller { process: self, key: key.to_owned() }
    }
}

impl Caller<'_> {
    /// Returns a request to be completed.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.process.request(method, path).bearer_auth(&self.key)
    }

    /// Sends a POST of JSON text.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        self.process.answer(request.body(body.to_owned())).await
    }

    pub async fn create(&self, body: &Value) -> Answer {
        self.post("/v1/verifications", &body.to_string()).await
    }

    /// Creates a verification for this address and returns its id.
    pub async fn start(&self, email: &str) -> String {
        let created = self.create(&json!({ "email": email })).await;
        assert_eq!(created.status, 201, "{created:?}");
        created.json()["id"].as_str().expect("an id").to_owned()
    }

    pub async fn create_under(&self, idempotency_key: &str, body: &Value) -> Answer {
        let request = self.request(Method::POST, "/v1/verifications");
        let request = request.header("content-type", "application/json");
        let request = request.header("idempotency-key", idempotency_key);
        self.process.answer(request.body(body.to_string())).await
    }

    pub async fn check(&self, id: &str, code: &str) -> Answer {
        self.post(&format!("/v1/verifications/{id}/check"), &json!({ "code": code }).to_string()).await
    }

    pub async fn resend(&self, id: &str) -> Answer {
        self.post(&format!("/v1/verifications/{id}/resend"), "{}").await
    }

    pub async fn show(&self, id: &str) -> Answer {
        self.process.answer(self.request(Method::GET, &format!("/v1/verifications/{id}"))).await
    }

    /// Lists the captured emails; `query` is empty or begins with a question mark.
    pub async fn test_mails(&self, query: &str) -> Answer {
        self.process.answer(self.request(Method::GET, &format!("/v1/test/mails{query}"))).await
    }

    /// Returns the captured emails, which must not be in the output of the process.
    pub async fn mails(&self) -> Vec<Value> {
        let listed = self.test_mails("").await;
        assert_eq!(listed.status, 200, "{listed:?}");
        let mails = listed.json().as_array().expect("a list").clone();
        for secret in mails.iter().flat_map(|mail| [&mail["to"], &mail["code"]]) {
            self.process.secrets().add_text(secret.as_str().expect("a text"));
        }
        mails
    }

    pub async fn cancel(&self, id: &str) -> Answer {
        self.process.answer(self.request(Method::DELETE, &format!("/v1/verifications/{id}"))).await
    }
}

impl Answer {
    /// Returns the body.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Returns the status and the code of a problem, after checking its form.
    pub fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        let problem = self.json();
        for member in ["type", "title", "detail", "code"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {self:?}");
        }
        assert_eq!(problem["status"], self.status, "{self:?}");
        let retry_after = self.header("retry-after").map(|seconds| seconds.parse::<u64>().expect("seconds"));
        assert_eq!(retry_after.is_some(), [429, 503].contains(&self.status), "{self:?}");
        assert_eq!(problem["retry_after"].as_u64(), retry_after.filter(|_| self.status == 429), "{self:?}");
        (self.status, problem["code"].as_str().expect("a code").to_owned())
    }
}

//! Requests of every kind, with a relay that fails now and then.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::app::TestApp;
use super::smtp::Fault;
use super::v1::key;

const CALLERS: u64 = 32;
/// Addresses that the emails go to.
const ADDRESSES: u64 = 1_000;
/// Of so many requests, the relay refuses the emails of the last tenth.
const FAULT_PERIOD: u64 = 2_000;

/// What the callers share.
pub struct Traffic {
    app: TestApp,
    client: Client,
    sent: AtomicU64,
}

impl Traffic {
    /// Starts what the callers send to.
    pub async fn start() -> Arc<Self> {
        let app = TestApp::builder()
            .keyed()
            .set("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "10000000")
            .set("OTP_LIMITS__KEY_CHECKS_PER_MINUTE", "10000000")
            .set("OTP_LIMITS__EMAIL_SENDS", "5/1h 10/day")
            .set("OTP_HASH__QUEUE", "1000")
            .set("OTP_AUDIT__OUTPUT", "off")
            .set("OTP_LOG__LEVEL", "info")
            .config("");
        let app = app.spawn().await;
        // The log would be kept here.
        app.reload("[log]\nlevel = \"error\"\n");
        let client = Client::builder().no_proxy().build().expect("a client");
        Arc::new(Self { app, client, sent: AtomicU64::new(0) })
    }

    /// Sends requests until there were so many in all.
    pub async fn run_until(self: &Arc<Self>, end: u64) {
        let mut tasks = JoinSet::new();
        for caller in 0..CALLERS {
            let callers = Arc::clone(self);
            tasks.spawn(async move {
                let mut number = caller * 1_000_003;
                while callers.sent.load(Ordering::Relaxed) < end {
                    callers.round(number).await;
                    number += 1;
                }
            });
        }
        tasks.join_all().await;
    }

    /// Sends requests of every kind.
    async fn round(&self, number: u64) {
        let is_failing = self.sent.load(Ordering::Relaxed) % FAULT_PERIOD > FAULT_PERIOD * 9 / 10;
        self.app.smtp.set(if is_failing { Fault::RefuseRecipient } else { Fault::None });
        let email = format!("person{}@example.com", number.wrapping_mul(7919) % ADDRESSES);
        let sent = self.post("/send-otp", &json!({ "email": email })).await;
        self.post("/verify-otp", &json!({ "email": email, "otp": "000000" })).await;
        if sent.0 == 200 {
            let code = self.app.smtp.take_code_to(&email);
            self.post("/verify-otp", &json!({ "email": email, "otp": code })).await;
        }
        self.post("/send-otp", &json!({ "email": "no address" })).await;
        self.post("/send-otp", &json!([])).await;
        self.send(Method::GET, "/readyz", None).await;
        let unique = format!("v{number}@example.com");
        let (status, created) = self.post("/v1/verifications", &json!({ "email": unique })).await;
        let id = created["id"].as_str().unwrap_or("unknown");
        let path = format!("/v1/verifications/{id}");
        self.post(&format!("{path}/check"), &json!({ "code": "000000" })).await;
        if status == 201 {
            let code = self.app.smtp.take_code_to(&unique);
            self.post(&format!("{path}/check"), &json!({ "code": code })).await;
        }
        self.send(Method::GET, &path, None).await;
        self.send(Method::DELETE, &path, None).await;
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send(Method::POST, path, Some(body)).await
    }

    async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        let url = format!("http://{}{path}", self.app.address());
        let request = self.client.request(method, url).bearer_auth(key(1));
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let answer = request.send().await.expect("an answer");
        (answer.status().as_u16(), answer.json().await.unwrap_or_default())
    }

    /// Returns the resident memory of the process in KiB.
    pub fn memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.app.id())).expect("a process");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a figure");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    }
}

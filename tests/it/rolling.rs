//! Restarts of processes that a load balancer sends requests to.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use reqwest::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::app::{Process, TestApp, eventually};
use crate::support::haproxy::HaProxy;
use crate::support::v1::key;

/// Callers that send requests without a pause.
const CALLERS: usize = 4;

/// What the callers share.
struct Load {
    haproxy: HaProxy,
    client: Client,
    is_over: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.post(self.haproxy.url(path)).bearer_auth(key(1)).json(&body);
        let answer = request.send().await.expect("an answer");
        self.answered.fetch_add(1, Ordering::Relaxed);
        (answer.status().as_u16(), answer.json().await.expect("JSON"))
    }

    /// Creates verifications and submits a wrong code to each, until the load is over.
    async fn call(&self, caller: usize) {
        let mut number = 0;
        while !self.is_over.load(Ordering::Relaxed) {
            number += 1;
            let email = format!("person{number}@caller{caller}.example");
            let (status, created) = self.post("/v1/verifications", json!({ "email": email })).await;
            assert_eq!(status, 201, "{created}");
            let id = created["id"].as_str().expect("an id");
            let check = format!("/v1/verifications/{id}/check");
            let (status, checked) = self.post(&check, json!({ "code": "no code" })).await;
            assert_eq!(status, 422, "{checked}");
        }
    }
}

fn has_served(process: &Process) -> bool {
    process.log().contains("/v1/verifications/{id}/check")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_behind_a_load_balancer_fails_no_request() {
    let app = TestApp::builder().keyed().set("OTP_HTTP__SHUTDOWN_DELAY", "2s");
    let app = app.set("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "10000000");
    let app = app.set("OTP_LIMITS__KEY_CHECKS_PER_MINUTE", "10000000").spawn().await;
    let other = Arc::new(app.another("OTP_LOG__FORMAT", "json").await);
    let haproxy = HaProxy::start([app.address(), other.address()]).await;
    let client = Client::builder().no_proxy().build().expect("a client");
    let (is_over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = Arc::new(Load { haproxy, client, is_over, answered });
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let load = Arc::clone(&load);
        callers.spawn(async move { load.call(caller).await });
    }
    let mut restarted = Vec::new();
    for old in [&app.process, &other] {
        eventually("it serves", async || has_served(old)).await;
        let mut settings: BTreeMap<_, _> = app.settings().clone();
        settings.insert("OTP_HTTP__LISTEN".to_owned(), old.address().to_string());
        assert_eq!(old.stopped().await.code(), Some(0));
        let new = Process::start("serve", &settings).await;
        eventually("its successor serves", async || has_served(&new)).await;
        restarted.push(new);
    }
    load.is_over.store(true, Ordering::Relaxed);
    // A caller panics at the first request that fails.
    callers.join_all().await;
    assert!(load.answered.load(Ordering::Relaxed) > 100);
}

#[tokio::test]
async fn after_sigterm_requests_are_served_while_readyz_answers_503() {
    let app = TestApp::builder().set("OTP_HTTP__SHUTDOWN_DELAY", "5m").spawn().await;
    let ready = app.get("/readyz").await;
    assert_eq!((ready.status, ready.header("connection")), (200, None));
    app.signal("TERM");
    eventually("it is not ready", async || app.get("/readyz").await.status == 503).await;
    let sent = app.send_otp("person@example.com").await;
    // So that a client with open connections finds another process.
    assert_eq!((sent.status, sent.header("connection")), (200, Some("close")));
    assert_eq!(app.get("/livez").await.status, 200);
    // A second signal ends the delay.
    assert_eq!(app.stopped().await.code(), Some(0));
}

#[tokio::test]
async fn ctrl_c_does_not_wait() {
    let app = TestApp::builder().set("OTP_HTTP__SHUTDOWN_DELAY", "5m").spawn().await;
    app.signal("INT");
    eventually("it ends", async || app.try_ended().is_some()).await;
}

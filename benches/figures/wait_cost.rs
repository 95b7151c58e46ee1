//! Measures what waiting for a replica costs: requests a second with and without `WAIT`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::redis::RedisServer;

const CREATES: usize = 3_000;

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    println!("a create and a wrong check, each by so many callers at once; requests a second, and ms each:");
    for at_once in [1, 64] {
        let without = figures("0", at_once).await;
        let with = figures("1", at_once).await;
        for (what, without, with) in [("create", without.0, with.0), ("check", without.1, with.1)] {
            let (rate, ms) = (CREATES as f64 / without, without * 1e3 / CREATES as f64 * at_once as f64);
            let (other, other_ms) = (CREATES as f64 / with, with * 1e3 / CREATES as f64 * at_once as f64);
            println!(
                "  {what:7} {at_once:3} at once: {rate:6.0}/s {ms:6.2} ms; WAIT 1: {other:6.0}/s {other_ms:6.2} ms, {:.2} x as long",
                other_ms / ms
            );
        }
    }
}

/// Returns the seconds that the creates and the checks took.
async fn figures(replicas: &str, at_once: usize) -> (f64, f64) {
    let app = TestApp::builder()
        .keyed()
        .set("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "10000000")
        .set("OTP_LIMITS__KEY_CHECKS_PER_MINUTE", "10000000")
        .set("OTP_HASH__QUEUE", "1000")
        .set("OTP_LOG__LEVEL", "info")
        .set("OTP_REDIS__WAIT_REPLICAS", replicas);
    let app = app.spawn().await;
    let replica = RedisServer::single().await;
    replica.follow(&app.redis).await;
    // The first calls load the scripts.
    let warm = app.caller(1).start("warm@example.com").await;
    app.caller(1).check(&warm, "000000").await;
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for task in 0..at_once {
        let process = Arc::clone(&app.process);
        calls.spawn(async move {
            let mut ids = Vec::new();
            for number in (task..CREATES).step_by(at_once) {
                let email = format!("recipient{number}@example.com");
                let created = process.caller(1).create(&json!({ "email": email })).await;
                assert_eq!(created.status, 201, "{created:?}");
                ids.push(created.json()["id"].as_str().expect("an id").to_owned());
            }
            ids
        });
    }
    let ids = calls.join_all().await;
    let creates = begun.elapsed();
    let begun = Instant::now();
    let mut calls = JoinSet::new();
    for ids in ids {
        let process = Arc::clone(&app.process);
        calls.spawn(async move {
            for id in ids {
                let checked = process.caller(1).check(&id, "000000").await;
                assert_eq!(checked.status, 422, "{checked:?}");
            }
        });
    }
    calls.join_all().await;
    (creates.as_secs_f64(), Duration::as_secs_f64(&begun.elapsed()))
}

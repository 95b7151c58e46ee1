//! Measures sends by a hook that answers after 100 ms, with the lightest hash, so that the waiting
//! shows.
//!
//! The callers begin one after another within the time of one answer, as callers that know nothing
//! of each other would. The beginning and the end are not measured: the first and the last send of
//! each caller are left out, so that between the first measured answer and the last all callers are
//! at work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::hook::{HookReceiver, SECRET};

/// The sends that are measured.
const SENDS: usize = 1000;
const CALLERS: usize = 64;
const DELAY: Duration = Duration::from_millis(100);

/// Sends codes until as many were sent, and returns when each was answered, in order.
async fn send(app: &TestApp, sends: usize) -> Vec<Instant> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for number in 0..CALLERS {
        let begin = DELAY * u32::try_from(number).expect("a few") / u32::try_from(CALLERS).expect("a few");
        let (process, next) = (Arc::clone(&app.process), Arc::clone(&next));
        callers.spawn(async move {
            let (caller, mut answered) = (process.caller(1), Vec::new());
            tokio::time::sleep(begin).await;
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= sends {
                    return answered;
                }
                let created = caller.create(&json!({ "email": format!("person{number}@example.com") })).await;
                assert_eq!(created.status, 201, "{created:?}");
                answered.push(Instant::now());
            }
        });
    }
    let mut answered = callers.join_all().await.concat();
    answered.sort();
    answered
}

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    let hook = HookReceiver::start().await;
    hook.delay(DELAY);
    let app = TestApp::builder()
        .keyed()
        .set("OTP_SENDER", "hook")
        .set("OTP_HOOK__URL", &hook.url())
        .set("OTP_HOOK__SECRET", SECRET)
        .set("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "1000000")
        .set("OTP_LOG__LEVEL", "info")
        .spawn()
        .await;
    let answered = send(&app, CALLERS + SENDS + CALLERS).await;
    let measured = answered[CALLERS + SENDS - 1] - answered[CALLERS - 1];
    let rate = SENDS as f64 / measured.as_secs_f64();
    let most = CALLERS as f64 / DELAY.as_secs_f64();
    let calls = hook.calls();
    let ids: BTreeSet<_> = calls.iter().map(|call| call.body["id"].to_string()).collect();
    println!(
        "hook, {SENDS} sends of {CALLERS} callers, {} ms each: {rate:.0} sends/s, {:.2} x of what the delay allows; \
         {} signed requests for {} sends, {} ids",
        DELAY.as_millis(),
        rate / most,
        calls.len(),
        answered.len(),
        ids.len()
    );
}

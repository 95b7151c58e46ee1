//! Measures sends by a hook that answers after 100 ms, with the lightest hash, so that the waiting
//! shows.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::hook::{HookReceiver, SECRET};

const SENDS: usize = 1000;
const CALLERS: usize = 64;
const DELAY: Duration = Duration::from_millis(100);

/// Sends codes to addresses that begin so, until as many were sent.
async fn send(app: &TestApp, name: &'static str, sends: usize) {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (process, next) = (Arc::clone(&app.process), Arc::clone(&next));
        callers.spawn(async move {
            let caller = process.caller(1);
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= sends {
                    return;
                }
                let created = caller.create(&json!({ "email": format!("{name}{number}@example.com") })).await;
                assert_eq!(created.status, 201, "{created:?}");
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.expect("a caller");
    }
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
    // Opens the connections.
    send(&app, "warm", CALLERS).await;
    hook.calls().clear();
    let begun = Instant::now();
    send(&app, "measured", SENDS).await;
    let rate = SENDS as f64 / begun.elapsed().as_secs_f64();
    let most = CALLERS as f64 / DELAY.as_secs_f64();
    let calls = hook.calls();
    let ids: BTreeSet<_> = calls.iter().map(|call| call.body["id"].to_string()).collect();
    println!(
        "hook, {SENDS} sends of {CALLERS} callers, {} ms each: {rate:.0} sends/s, {:.2} x of what the delay allows; \
         {} signed requests, {} ids",
        DELAY.as_millis(),
        rate / most,
        calls.len(),
        ids.len()
    );
}

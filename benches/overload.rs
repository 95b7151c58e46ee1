//! A thousand checks at once, from a thousand connections: how fast those are answered that are shed, and how much
//! memory it all takes.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a bench that cannot go on stops; what it finds it prints"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

#[path = "../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

use support::app::TestApp;

/// Checks at once.
const CALLS: usize = 1000;
/// MiB of one hash thread's block.
const BLOCK_MIB: usize = 7;
const THREADS: usize = 2;

#[tokio::main(flavor = "multi_thread")]
async fn main() {
    let app = TestApp::builder()
        .set("OTP_HASH__MEMORY_KIB", &(BLOCK_MIB * 1024).to_string())
        .set("OTP_HASH__PASSES", "5")
        .set("OTP_HASH__THREADS", &THREADS.to_string())
        .set("OTP_LOG__LEVEL", "info")
        .spawn()
        .await;
    app.verify_otp("warm@example.com", "123456").await;
    let idle = app.peak_memory_kib();
    for round in 1..=3 {
        let mut calls = JoinSet::new();
        for number in 0..CALLS {
            let process = Arc::clone(&app.process);
            calls.spawn(async move {
                let begun = Instant::now();
                let email = format!("a{round}.{number}@example.com");
                (process.verify_otp(&email, "123456").await.status, begun.elapsed())
            });
        }
        let answers = calls.join_all().await;
        let times = |status| {
            let mut times: Vec<Duration> =
                answers.iter().filter(|answer| answer.0 == status).map(|answer| answer.1).collect();
            times.sort_unstable();
            times
        };
        let (served, shed) = (times(400), times(503));
        println!(
            "round {round}: {} served (slowest {:.0} ms), {} shed (median {:.0} ms, p99 {:.0} ms)",
            served.len(),
            millis(served.last()),
            shed.len(),
            millis(shed.get(shed.len() / 2)),
            millis(shed.get(shed.len() * 99 / 100)),
        );
    }
    let peak = app.peak_memory_kib();
    println!(
        "memory: {:.1} MiB idle, {:.1} MiB at its peak; the hash blocks are {} MiB of both",
        mib(idle),
        mib(peak),
        THREADS * BLOCK_MIB
    );
}

fn millis(time: Option<&Duration>) -> f64 {
    time.map_or(0.0, Duration::as_secs_f64) * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

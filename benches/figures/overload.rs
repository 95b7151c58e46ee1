//! Measures bursts at the default limits: 100, 300 and 1,000 sends, and as many checks, at once,
//! each over its own connection. Prints the statuses, the latencies and the peak memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::app::TestApp;

/// Numbers of concurrent calls.
const BURSTS: [usize; 3] = [100, 300, 1000];

/// The endpoint that is called.
#[derive(Debug, Clone, Copy)]
enum Call {
    Sends,
    Checks,
}

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    for call in [Call::Sends, Call::Checks] {
        for calls in BURSTS {
            burst(call, calls).await;
        }
    }
}

async fn burst(call: Call, calls: usize) {
    let app = TestApp::defaults().set("OTP_LOG__LEVEL", "info").spawn().await;
    app.verify_from("192.0.2.1", "warm@example.com", "123456").await;
    let idle = app.peak_memory_kib();
    let mut answers = JoinSet::new();
    for number in 0..calls {
        let process = Arc::clone(&app.process);
        answers.spawn(async move {
            // Each call has its own client address, so that no per-IP limit refuses it.
            let client = format!("198.51.{}.{}", number / 250, number % 250);
            let email = format!("a{number}@example.com");
            let begun = Instant::now();
            let answer = match call {
                Call::Sends => process.send_from(&client, &email).await,
                Call::Checks => process.verify_from(&client, &email, "123456").await,
            };
            (answer.status, begun.elapsed())
        });
    }
    let mut times: BTreeMap<u16, Vec<Duration>> = BTreeMap::new();
    for (status, time) in answers.join_all().await {
        times.entry(status).or_default().push(time);
    }
    for (status, times) in &mut times {
        times.sort_unstable();
        println!(
            "{calls} {call:?}: {} x {status}, p50 {:.0} ms, p99 {:.0} ms",
            times.len(),
            millis(times[times.len() / 2]),
            millis(times[times.len() * 99 / 100]),
        );
    }
    let peak = app.peak_memory_kib();
    println!("{calls} {call:?}: memory {:.1} MiB idle, {:.1} MiB at its peak", mib(idle), mib(peak));
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

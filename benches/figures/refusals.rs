//! Measures how long the four rejections of `/verify-otp` take. Their response times must not tell
//! whether a code exists, was used or is exhausted.
//!
//! Prints the median of each, and its ratio to that of a wrong code. The calls are interleaved, so
//! that other load on the machine affects all four alike.

use std::time::{Duration, Instant};

use crate::support::app::TestApp;

/// Calls of each kind.
const CALLS: usize = 1000;
/// Attempts that one code allows.
const ATTEMPTS: usize = 5;
/// A code that the service may generate. The bench reads each live code from its email and stops if
/// they are equal.
const CODE: &str = "000000";

/// Runs the benchmark.
#[tokio::main(flavor = "current_thread")]
pub async fn run() {
    let app = TestApp::builder()
        .set("OTP_HASH__MEMORY_KIB", "7168")
        .set("OTP_HASH__PASSES", "5")
        .set("OTP_LOG__LEVEL", "info")
        .spawn()
        .await;
    let used = "used@example.com";
    let code = app.code_for(used).await;
    assert_eq!(app.verify_otp(used, &code).await.status, 200);
    let exhausted = "exhausted@example.com";
    app.code_for(exhausted).await;
    for _ in 0..ATTEMPTS {
        app.verify_otp(exhausted, CODE).await;
    }

    let names = ["wrong", "unknown", "used", "exhausted"];
    let mut times = [const { Vec::new() }; 4];
    for round in 0..CALLS {
        let live = format!("live{}@example.com", round / ATTEMPTS);
        if round % ATTEMPTS == 0 {
            assert_ne!(app.code_for(&live).await, CODE, "one code in a million: run it again");
        }
        let unknown = format!("unknown{round}@example.com");
        for (times, email) in times.iter_mut().zip([live.as_str(), &unknown, used, exhausted]) {
            let begun = Instant::now();
            let answer = app.verify_otp(email, CODE).await;
            times.push(begun.elapsed());
            assert_eq!(answer.status, 400);
        }
    }

    println!("/verify-otp, default hash, {CALLS} interleaved calls of each kind");
    let medians = times.map(median);
    for (name, median) in names.iter().zip(medians) {
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        println!("{name:<10} {:>7.3} ms   {ratio:.3} x wrong", median.as_secs_f64() * 1000.0);
    }
}

/// Returns the median.
pub(super) fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

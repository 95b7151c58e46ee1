//! Measures checks of a verification with two codes: how long a wrong code, the newest, the one
//! before, and the one before after the overlap take. They must not tell how many codes are good.
//!
//! Prints the median of each, and its ratio to that of a wrong code. The calls are interleaved, so
//! that other load on the machine affects all four alike. Then prints the bytes of a verification
//! in Redis with one code and with two.

use std::time::{Duration, Instant};

use super::refusals::median;
use crate::support::app::{Process, TestApp};

/// Calls of each of the four kinds.
const CALLS: usize = 250;
const OVERLAP: Duration = Duration::from_secs(1);

/// Runs the benchmark.
#[tokio::main(flavor = "current_thread")]
pub async fn run() {
    let app = TestApp::builder()
        .set("OTP_HASH__MEMORY_KIB", "7168")
        .set("OTP_HASH__PASSES", "5")
        .set("OTP_CODES__LIFE", "600s")
        .set("OTP_LOG__LEVEL", "info")
        .spawn()
        .await;
    let short = app.another("OTP_CODES__OVERLAP", &format!("{}s", OVERLAP.as_secs())).await;

    let over: Vec<_> = (0..CALLS).map(|round| format!("over{round}@example.com")).collect();
    let mut codes_over = Vec::new();
    for email in &over {
        codes_over.push(two_codes(&app, &short, email).await);
    }
    tokio::time::sleep(OVERLAP).await;

    let names = ["wrong", "newest", "before", "before, over"];
    let statuses = [400, 200, 200, 400];
    let mut times = [const { Vec::new() }; 4];
    for (round, (over, [code_over, newest_over])) in over.iter().zip(codes_over).enumerate() {
        let [wrong, newest, before] =
            ["wrong", "newest", "before"].map(|kind| format!("{kind}{round}@example.com"));
        let [first, second] = two_codes(&app, &app.process, &wrong).await;
        let candidates = ["000000", "000001", "000002"];
        let neither = candidates.into_iter().find(|code| *code != first && *code != second);
        let neither = neither.expect("one of three");
        let [_, of_newest] = two_codes(&app, &app.process, &newest).await;
        let [of_before, _] = two_codes(&app, &app.process, &before).await;
        if code_over == newest_over {
            // One code in a million.
            continue;
        }
        let attempts =
            [(&wrong, neither), (&newest, &*of_newest), (&before, &*of_before), (over, &*code_over)];
        for (kind, (email, code)) in attempts.into_iter().enumerate() {
            let begun = Instant::now();
            let answer = app.verify_otp(email, code).await;
            times[kind].push(begun.elapsed());
            assert_eq!(answer.status, statuses[kind], "{}", names[kind]);
        }
    }

    println!("/verify-otp with two codes, default hash, {CALLS} interleaved calls of each kind");
    let medians = times.map(median);
    for (name, median) in names.iter().zip(medians) {
        let ratio = median.as_secs_f64() / medians[0].as_secs_f64();
        println!("{name:<12} {:>7.3} ms   {ratio:.3} x wrong", median.as_secs_f64() * 1000.0);
    }
    bytes(&app).await;
}

/// Sends two codes to an address.
async fn two_codes(app: &TestApp, process: &Process, email: &str) -> [String; 2] {
    let mut codes = [const { String::new() }; 2];
    for code in &mut codes {
        assert_eq!(process.send_otp(email).await.status, 200);
        *code = app.smtp.last_code_to(email);
    }
    codes
}

/// Prints what a verification takes in Redis.
async fn bytes(app: &TestApp) {
    for codes in [1, 2] {
        app.redis.flush_all().await;
        for _ in 0..codes {
            app.code_for("person@example.com").await;
        }
        let dump = app.redis.dump().await;
        let is_record = |key: &[u8]| key.starts_with(b"otp:{s:") && !key.ends_with(b":sends");
        let (key, value, _) = dump.iter().find(|(key, ..)| is_record(key)).expect("a verification");
        let mut usage = redis::cmd("MEMORY");
        let usage: u64 = app.redis.query(usage.arg("USAGE").arg(key)).await;
        println!("a verification with {codes} code(s): {} bytes, {usage} with its key in Redis", value.len());
    }
}

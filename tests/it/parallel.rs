//! Many concurrent calls, on both stores.

use std::sync::Arc;

use tokio::task::JoinSet;

use crate::support::app::{Process, TestApp};

/// Returns the statuses of many concurrent checks.
async fn at_once(process: &Arc<Process>, email: &str, codes: impl IntoIterator<Item = String>) -> Vec<u16> {
    let mut calls = JoinSet::new();
    for code in codes {
        let (process, email) = (Arc::clone(process), email.to_owned());
        calls.spawn(async move { process.verify_otp(&email, &code).await.status });
    }
    calls.join_all().await
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|other| **other == status).count()
}

/// Returns a thousand wrong codes.
fn wrong(code: &str) -> impl Iterator<Item = String> + use<> {
    let code: u32 = code.parse().expect("digits");
    (1..=1000).map(move |step| format!("{:06}", (code + step) % 1_000_000))
}

/// Makes 20 trials of 100 concurrent right codes: one succeeds in each.
async fn one_success(process: &Arc<Process>, code_for: impl AsyncFn(&str) -> String) {
    for trial in 0..20 {
        let email = format!("winner{trial}@example.com");
        let code = code_for(&email).await;
        let statuses = at_once(process, &email, std::iter::repeat_n(code, 100)).await;
        assert_eq!(count(&statuses, 200), 1, "trial {trial}: {statuses:?}");
        assert_eq!(count(&statuses, 400), 99, "trial {trial}: {statuses:?}");
    }
}

/// Makes 1,000 concurrent wrong attempts: all are rejected, and so is the right code after them.
async fn no_more_than_five(process: &Arc<Process>, code_for: impl AsyncFn(&str) -> String) {
    let code = code_for("guessed@example.com").await;
    let statuses = at_once(process, "guessed@example.com", wrong(&code)).await;
    assert_eq!(count(&statuses, 400), 1000, "{statuses:?}");
    assert_eq!(process.verify_otp("guessed@example.com", &code).await.status, 400);
    assert_eq!(process.compared().await, 5);
}

async fn redis() -> TestApp {
    TestApp::builder().set("OTP_HASH__QUEUE", "2000").spawn().await
}

async fn memory() -> Arc<Process> {
    Arc::new(Process::dev().await)
}

async fn dev_code(process: &Process, email: &str) -> String {
    assert_eq!(process.send_otp(email).await.status, 200);
    process.captured_codes(email).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_right_codes_at_once_one_succeeds_on_redis() {
    let app = redis().await;
    one_success(&app.process, async |email| app.code_for(email).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_hundred_right_codes_at_once_one_succeeds_in_memory() {
    let dev = memory().await;
    one_success(&dev, async |email| dev_code(&dev, email).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_wrong_codes_at_once_five_are_compared_on_redis() {
    let app = redis().await;
    no_more_than_five(&app.process, async |email| app.code_for(email).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_wrong_codes_at_once_five_are_compared_in_memory() {
    let dev = memory().await;
    no_more_than_five(&dev, async |email| dev_code(&dev, email).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_on_one_redis_count_as_one() {
    let app = redis().await;
    let other = Arc::new(app.another("OTP_LOG__FORMAT", "json").await);
    let email = "shared@example.com";
    let code = app.code_for(email).await;
    let (some, rest) = (wrong(&code).take(500), wrong(&code).skip(500));
    let (here, there) = tokio::join!(at_once(&app.process, email, some), at_once(&other, email, rest));
    assert_eq!(count(&here, 400) + count(&there, 400), 1000);
    assert_eq!(app.compared().await + other.compared().await, 5);

    let code = app.code_for(email).await;
    let right = || std::iter::repeat_n(code.clone(), 50);
    let (here, there) = tokio::join!(at_once(&app.process, email, right()), at_once(&other, email, right()));
    assert_eq!(count(&here, 200) + count(&there, 200), 1);
}

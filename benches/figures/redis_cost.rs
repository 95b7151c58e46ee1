//! Measures what a verification costs in Redis: the round trips of each call, and the bytes that
//! each open verification takes.

use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::redis::RedisServer;

/// Number of verifications: large enough that the server's fixed memory does not matter.
const MANY: usize = 20_000;
const AT_ONCE: usize = 32;

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    round_trips().await;
    bytes_of_one().await;
    println!("bytes by used_memory, each of {MANY} recipients with one send and an open verification:");
    for (name, simple, limit) in [("simple", true, 450), ("v1", false, 550)] {
        let each = bytes_of_many(simple).await;
        println!("  {name:8} {each:5}  (target {limit})");
    }
}

async fn app() -> TestApp {
    let app = TestApp::builder()
        .keyed()
        .set("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "10000000")
        .set("OTP_LIMITS__EMAIL_SENDS", "5/1h 10/day")
        .set("OTP_HASH__QUEUE", "1000")
        .set("OTP_LOG__LEVEL", "info");
    app.spawn().await
}

/// Returns how many scripts Redis has run since the last call of this function.
async fn asked(server: &RedisServer) -> u64 {
    let mut connection = server.connection().await;
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.expect("figures");
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut connection).await.expect("an answer");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

async fn round_trips() {
    let app = app().await;
    let caller = app.caller(1);
    let email = |name: &str| json!({ "email": format!("{name}@example.com") });
    let with_ip = |name: &str| json!({ "email": format!("{name}@example.com"), "end_user_ip": "192.0.2.1" });
    // The first calls load the scripts.
    let warm = caller.start("warm@example.com").await;
    caller.create_under("warm", &with_ip("warm2")).await;
    caller.create_under("warm", &with_ip("warm2")).await;
    caller.resend(&warm).await;
    caller.show(&warm).await;
    let code = app.smtp.last_code_to("warm@example.com");
    let body = json!({ "code": code, "end_user_ip": "192.0.2.1" }).to_string();
    caller.post(&format!("/v1/verifications/{warm}/check"), &body).await;
    caller.cancel(&warm).await;
    let code = app.code_for("warm@example.com").await;
    app.verify_otp("warm@example.com", &code).await;
    asked(&app.redis).await;

    println!("round trips to Redis before the answer:");
    let round_trips_of = async |name: &str, status: u16, answer: crate::support::app::Answer| {
        assert_eq!(answer.status, status, "{answer:?}");
        println!("  {name:40} {}", asked(&app.redis).await);
    };
    round_trips_of("POST /send-otp", 200, app.send_otp("a@example.com").await).await;
    round_trips_of("POST /verify-otp, wrong", 400, app.verify_otp("a@example.com", "000000").await).await;
    let code = app.smtp.last_code_to("a@example.com");
    round_trips_of("POST /verify-otp, right", 200, app.verify_otp("a@example.com", &code).await).await;
    round_trips_of("create", 201, caller.create(&email("b")).await).await;
    round_trips_of("create, end_user_ip", 201, caller.create(&with_ip("c")).await).await;
    round_trips_of(
        "create, end_user_ip, Idempotency-Key",
        201,
        caller.create_under("k", &with_ip("d")).await,
    )
    .await;
    round_trips_of("the same again", 201, caller.create_under("k", &with_ip("d")).await).await;
    let id = caller.start("e@example.com").await;
    asked(&app.redis).await;
    round_trips_of("show", 200, caller.show(&id).await).await;
    round_trips_of("check, wrong", 422, caller.check(&id, "000000").await).await;
    let path = format!("/v1/verifications/{id}/check");
    let with_ip = |code: &str| json!({ "code": code, "end_user_ip": "192.0.2.1" }).to_string();
    round_trips_of("check, wrong, end_user_ip", 422, caller.post(&path, &with_ip("000000")).await).await;
    round_trips_of("resend", 200, caller.resend(&id).await).await;
    let code = app.smtp.last_code_to("e@example.com");
    round_trips_of("check, right, end_user_ip", 200, caller.post(&path, &with_ip(&code)).await).await;
    let id = caller.start("f@example.com").await;
    let code = app.smtp.last_code_to("f@example.com");
    asked(&app.redis).await;
    round_trips_of("check, right", 200, caller.check(&id, &code).await).await;
    round_trips_of("check, over", 410, caller.check(&id, &code).await).await;
    round_trips_of("cancel, over", 410, caller.cancel(&id).await).await;
}

async fn bytes_of_one() {
    let app = app().await;
    let body = json!({ "email": "recipient@example.com", "purpose": "login" });
    app.caller(1).create_under("k", &body).await;
    println!(
        "bytes by MEMORY USAGE, a v1 verification of recipient@example.com for login, under an idempotency key:"
    );
    let mut connection = app.redis.connection().await;
    for (key, value, _) in app.redis.dump().await {
        let bytes: u64 =
            redis::cmd("MEMORY").arg("USAGE").arg(&key).query_async(&mut connection).await.expect("a figure");
        let name = String::from_utf8_lossy(&key);
        let what = match name.as_bytes() {
            [b'o', b't', b'p', b':', b'{', b'v', ..] => "the verification",
            [b'o', b't', b'p', b':', b'{', b'i', ..] => "its idempotency key",
            [b'o', b't', b'p', b':', b'{', b's', ..] => "the sends to its recipient",
            _ => panic!("{name}"),
        };
        println!("  {what:24} {bytes:5}  (value {})", value.len());
    }
}

async fn used_memory(server: &RedisServer) -> usize {
    let mut connection = server.connection().await;
    let info: String = redis::cmd("INFO").arg("memory").query_async(&mut connection).await.expect("figures");
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a figure");
    line.trim().parse().expect("a number")
}

async fn bytes_of_many(simple: bool) -> usize {
    let app = app().await;
    app.caller(1).start("warm@example.com").await;
    app.code_for("warm@example.com").await;
    let before = used_memory(&app.redis).await;
    let mut calls = JoinSet::new();
    for task in 0..AT_ONCE {
        let process = Arc::clone(&app.process);
        calls.spawn(async move {
            for number in (task..MANY).step_by(AT_ONCE) {
                let email = format!("recipient{number:05}@example.com");
                let status = if simple {
                    process.send_otp(&email).await.status
                } else {
                    process.caller(1).create(&json!({ "email": email, "purpose": "login" })).await.status
                };
                assert!([200, 201].contains(&status), "{status}");
            }
        });
    }
    calls.join_all().await;
    // On the simple endpoints all sends count against one IP. Its ledger is not part of a
    // verification.
    if simple {
        let mut connection = app.redis.connection().await;
        for (key, ..) in app.redis.dump().await {
            if key.starts_with(b"otp:{n:") {
                redis::cmd("DEL").arg(&key).exec_async(&mut connection).await.expect("an answer");
            }
        }
    }
    used_memory(&app.redis).await.saturating_sub(before) / MANY
}

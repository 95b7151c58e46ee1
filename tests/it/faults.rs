//! Redis and relays that fail: what otpd answers, what happens to the code, and that otpd recovers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::task::JoinSet;

use crate::support::app::{Answer, TestApp, eventually, new_pepper, one_pepper, rotated_peppers};
use crate::support::smtp::Fault;

const NOT_SENT: (u16, &str) = (500, "Failed to send OTP");
const UNAVAILABLE: (u16, &str) = (503, "Service unavailable");
const EMAIL: &str = "a@example.com";

fn said((status, message): (u16, &str)) -> (u16, String) {
    (status, message.to_owned())
}

fn assert_unavailable(answer: &Answer) {
    assert_eq!(answer.message(), said(UNAVAILABLE));
    let wait: u64 = answer.header("retry-after").expect("Retry-After").parse().expect("whole seconds");
    assert!(wait >= 1);
}

/// Repeats a call until it returns the expected status.
async fn until(status: u16, within: Duration, call: impl AsyncFn() -> Answer) -> Answer {
    let begun = Instant::now();
    loop {
        let answer = call().await;
        if answer.status == status {
            return answer;
        }
        assert!(begun.elapsed() < within, "still {answer:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn without_redis_everything_is_unavailable_and_it_recovers_by_itself() {
    let app = TestApp::spawn().await;
    let code = app.code_for(EMAIL).await;
    app.redis.stop();
    for _ in 0..3 {
        assert_unavailable(&app.send_otp(EMAIL).await);
        assert_unavailable(&app.verify_otp(EMAIL, &code).await);
    }
    assert_eq!(app.get("/livez").await.status, 200);
    let not_ready = app.get("/readyz").await;
    assert_eq!((not_ready.status, not_ready.header("retry-after").is_some()), (503, true));
    assert_eq!(app.smtp.mails().len(), 1, "no mail without a stored code");

    app.redis.start_again().await;
    until(200, Duration::from_secs(2), async || app.get("/readyz").await).await;
    let code = app.code_for(EMAIL).await;
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_killed_in_mid_flow_lets_nothing_pass_until_it_is_back() {
    let app = TestApp::spawn().await;
    let (away, over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut flow = JoinSet::new();
    for worker in 0..8 {
        let (process, away, over) = (Arc::clone(&app.process), Arc::clone(&away), Arc::clone(&over));
        flow.spawn(async move {
            let (mut number, mut in_between) = (0, 0);
            while !over.load(SeqCst) {
                number += 1;
                let email = format!("a{worker}.{number}@example.com");
                let was_away = away.load(SeqCst);
                let answer = process.verify_otp(&email, "000000").await;
                if was_away && away.load(SeqCst) {
                    assert_unavailable(&answer);
                    in_between += 1;
                } else {
                    assert!([400, 503].contains(&answer.status), "{answer:?}");
                }
            }
            in_between
        });
    }
    eventually("attempts are answered", async || app.log().matches(r#""http.status":400"#).count() > 50)
        .await;
    app.redis.stop();
    away.store(true, SeqCst);
    eventually("attempts are refused", async || app.log().matches(r#""http.status":503"#).count() > 50).await;
    away.store(false, SeqCst);
    app.redis.start_again().await;
    until(400, Duration::from_secs(2), async || app.verify_otp(EMAIL, "000000").await).await;
    over.store(true, SeqCst);
    let refused: usize = flow.join_all().await.into_iter().sum();
    assert!(refused > 10, "{refused} requests came while it was away");
}

#[tokio::test]
async fn a_redis_that_hangs_is_unavailable_in_time() {
    let app = TestApp::spawn().await;
    let code = app.code_for(EMAIL).await;
    app.redis.pause();
    let begun = Instant::now();
    assert_unavailable(&app.verify_otp(EMAIL, &code).await);
    assert_unavailable(&app.send_otp(EMAIL).await);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    app.redis.resume();
    until(200, Duration::from_secs(5), async || app.get("/readyz").await).await;
    let code = app.code_for(EMAIL).await;
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn a_redis_that_takes_no_writes_is_not_ready() {
    let app = TestApp::spawn().await;
    let code = app.code_for(EMAIL).await;
    for (name, bad, good) in [("maxmemory", "1", "0"), ("min-replicas-to-write", "5", "0")] {
        app.redis.configure(name, bad).await;
        until(503, Duration::from_secs(5), async || app.get("/readyz").await).await;
        // The answer is the same whether or not there is a code to check.
        assert_unavailable(&app.verify_otp(EMAIL, &code).await);
        assert_unavailable(&app.verify_otp("unknown@example.com", &code).await);
        app.redis.configure(name, good).await;
        until(200, Duration::from_secs(5), async || app.get("/readyz").await).await;
    }
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn a_relay_that_never_ends_its_line_takes_no_memory() {
    let app = TestApp::spawn().await;
    let before = app.peak_memory_kib();
    app.smtp.set(Fault::EndlessLine);
    assert_eq!(app.send_otp(EMAIL).await.message(), said(NOT_SENT));
    let grown = app.peak_memory_kib() - before;
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[tokio::test]
async fn a_redis_that_evicts_is_not_ready() {
    let app = TestApp::spawn().await;
    for policy in ["allkeys-lru", "volatile-ttl", "volatile-lru"] {
        app.redis.configure("maxmemory-policy", policy).await;
        until(503, Duration::from_secs(5), async || app.get("/readyz").await).await;
        app.redis.configure("maxmemory-policy", "noeviction").await;
        until(200, Duration::from_secs(5), async || app.get("/readyz").await).await;
    }
}

#[tokio::test]
async fn a_redis_that_is_full_admits_nothing() {
    let app = TestApp::spawn().await;
    let code = app.code_for(EMAIL).await;
    app.redis.configure("maxmemory", "1").await;
    assert_unavailable(&app.send_otp(EMAIL).await);
    assert_unavailable(&app.verify_otp(EMAIL, &code).await);
    assert_eq!(app.smtp.mails().len(), 1);
    app.redis.configure("maxmemory", "0").await;
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn a_redis_that_refused_the_login_is_retried() {
    let app = TestApp::spawn().await;
    app.redis.lock().await;
    let early = app.another("OTP_LOG__LEVEL", "info").await;
    assert_eq!(early.get("/readyz").await.status, 503);
    assert_unavailable(&early.send_otp(EMAIL).await);
    app.redis.unlock().await;
    until(200, Duration::from_secs(5), async || early.get("/readyz").await).await;
    for _ in 0..10 {
        assert_eq!(early.send_otp(EMAIL).await.status, 200);
    }
    // The same holds for a process that was connected and lost its authenticated connection.
    app.redis.lock().await;
    app.redis.hang_up().await;
    assert_unavailable(&early.send_otp(EMAIL).await);
    app.redis.unlock().await;
    until(200, Duration::from_secs(5), async || early.get("/readyz").await).await;
    for _ in 0..10 {
        assert_eq!(early.send_otp(EMAIL).await.status, 200);
    }
}

#[tokio::test]
async fn scripts_that_redis_forgot_are_loaded_again() {
    let app = TestApp::spawn().await;
    let code = app.code_for(EMAIL).await;
    app.redis.script_flush().await;
    assert_eq!(app.verify_otp(EMAIL, "000000").await.status, 400);
    app.redis.script_flush().await;
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn of_many_calls_of_a_forgotten_script_at_once_one_sends_its_text() {
    let app = TestApp::spawn().await;
    app.redis.script_flush().await;
    let attempt = async |number| app.verify_otp(&format!("{number}@example.com"), "000000").await.status;
    let commands = app.redis.monitored(async {
        assert_eq!(join_all((0..50).map(attempt)).await, [400; 50]);
    });
    let commands = commands.await;
    let named = |name: &str| commands.iter().filter(|line| line.contains(&format!("] \"{name}\""))).count();
    assert_eq!(named("EVAL"), 1);
    assert!(named("EVALSHA") >= 50);
}

/// Returns the stored value of the only verification; all other keys are ledgers.
async fn verification(app: &TestApp) -> Vec<u8> {
    let is_ledger = |key: &[u8]| key.ends_with(b":sends") || key.windows(9).any(|part| part == b":attempts");
    let mut dump = app.redis.dump().await.into_iter().filter(|(key, ..)| !is_ledger(key));
    dump.next().expect("a verification").1
}

#[tokio::test]
async fn a_right_attempt_outlives_a_store_that_did_not_answer() {
    // The hash takes long enough to freeze Redis between taking the attempt and approving.
    let slow = [("OTP_HASH__MEMORY_KIB", "131072"), ("OTP_HASH__PASSES", "7")];
    let app = slow.iter().fold(TestApp::builder(), |app, (name, value)| app.set(name, value)).spawn().await;
    let code = app.code_for(EMAIL).await;
    let unspent = verification(&app).await;
    let (answer, ()) = tokio::join!(app.verify_otp(EMAIL, &code), async {
        eventually("an attempt is taken", async || verification(&app).await != unspent).await;
        app.redis.pause();
        eventually("the approval is retried", async || {
            app.log().contains("the approval of a right attempt is retried")
        })
        .await;
        app.redis.resume();
    });
    assert_eq!(answer.message(), (200, "OTP verified successfully".to_owned()), "{}", app.log());
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 400, "it has served");
}

#[tokio::test]
async fn otpd_starts_before_its_redis() {
    let app = TestApp::spawn().await;
    app.redis.stop();
    let early = app.another("OTP_LOG__LEVEL", "info").await;
    assert_eq!(early.get("/readyz").await.status, 503);
    app.redis.start_again().await;
    until(200, Duration::from_secs(5), async || early.get("/readyz").await).await;
    assert_eq!(early.send_otp(EMAIL).await.status, 200);
}

#[tokio::test]
async fn a_refused_email_is_a_failure_and_invalidates_its_code() {
    for fault in [Fault::RefuseRecipient, Fault::RefuseContent, Fault::CloseOnConnect, Fault::GarbageReply] {
        let app = TestApp::spawn().await;
        app.smtp.set(fault);
        assert_eq!(app.send_otp(EMAIL).await.message(), said(NOT_SENT), "{fault:?}");
        assert_eq!(app.smtp.mails().len(), 0, "{fault:?}");
        // The test does not know the code. If the code is invalid, no attempt is compared with it.
        assert_eq!(app.verify_otp(EMAIL, "000000").await.status, 400);
        assert_eq!(app.compared().await, 0, "{fault:?}");
        app.smtp.set(Fault::None);
        let code = app.code_for(EMAIL).await;
        assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200, "{fault:?}");
    }
}

#[tokio::test]
async fn a_relay_that_is_down_is_a_failure() {
    let app = TestApp::spawn().await;
    app.smtp.stop();
    assert_eq!(app.send_otp(EMAIL).await.message(), said(NOT_SENT));
    app.smtp.start_again().await;
    assert_eq!(app.send_otp(EMAIL).await.status, 200);
}

#[tokio::test]
async fn a_mail_whose_outcome_is_unknown_is_a_failure_and_its_code_lives() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::CloseAfterContent);
    assert_eq!(app.send_otp(EMAIL).await.message(), said(NOT_SENT));
    assert_eq!(app.smtp.mails().len(), 1, "one attempt, for the mail may arrive");
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn a_relay_that_falls_silent_is_given_up_within_ten_seconds() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::SilentAfterContent);
    let begun = Instant::now();
    assert_eq!(app.send_otp(EMAIL).await.message(), said(NOT_SENT));
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn a_relay_that_never_greets_is_given_up_within_ten_seconds() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::NoGreeting);
    let begun = Instant::now();
    assert_eq!(app.send_otp(EMAIL).await.message(), said(NOT_SENT));
    assert!(begun.elapsed() < Duration::from_secs(14), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn after_a_temporary_failure_the_relay_gets_the_same_code_again() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::RefuseRecipientTransiently { times: 2 });
    let code = app.code_for(EMAIL).await;
    assert_eq!(app.smtp.mails().len(), 1);
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn connections_are_used_again_and_a_stale_one_fails_no_send() {
    let app = TestApp::spawn().await;
    app.code_for(EMAIL).await;
    app.code_for(EMAIL).await;
    assert_eq!(app.smtp.connections(), 1);
    app.smtp.set(Fault::DropIdle);
    app.code_for(EMAIL).await;
    assert_eq!((app.smtp.connections(), app.smtp.mails().len()), (2, 3));
}

#[tokio::test]
async fn a_failed_send_leaves_the_code_of_a_later_one_alone() {
    let app = TestApp::spawn().await;
    // The relay refuses the first send only after the second send has replaced its code.
    app.smtp.set(Fault::NoGreeting);
    let first = app.send_otp(EMAIL);
    let later = async {
        let begun = Instant::now();
        while app.smtp.connections() == 0 {
            assert!(begun.elapsed() < Duration::from_secs(5), "no connection");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        app.smtp.set(Fault::None);
        app.code_for(EMAIL).await
    };
    let (first, code) = tokio::join!(first, later);
    assert_eq!(first.message(), said(NOT_SENT));
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn a_caller_who_hangs_up_does_not_stop_a_send() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::Slow(Duration::from_millis(500)));
    let body = format!(r#"{{"email":"{EMAIL}"}}"#);
    let head = format!(
        "POST /send-otp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut stream = app.connect().await;
    tokio::io::AsyncWriteExt::write_all(&mut stream, format!("{head}{body}").as_bytes()).await.expect("sent");
    app.smtp.await_mail(1).await;
    drop(stream);
    app.smtp.set(Fault::RefuseContent);
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(app.verify_otp(EMAIL, &code).await.status, 200);
    let begun = Instant::now();
    while !app.log().contains("a code was sent") {
        assert!(begun.elapsed() < Duration::from_secs(5), "the send was cut off: {}", app.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_request_under_way_is_finished_at_shutdown() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::Slow(Duration::from_secs(1)));
    let (sent, ()) = tokio::join!(app.send_otp(EMAIL), async {
        app.smtp.await_mail(1).await;
        app.terminate();
    });
    assert_eq!(sent.status, 200);
    assert_eq!(app.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_restart_forgets_nothing() {
    let app = TestApp::spawn().await;
    let code = app.code_for(EMAIL).await;
    for _ in 0..4 {
        app.verify_otp(EMAIL, "no code at all").await;
    }
    let wrong = if code == "000000" { "000001" } else { "000000" };
    for _ in 0..4 {
        app.verify_otp(EMAIL, wrong).await;
    }
    app.terminate();
    app.ended().await;
    let next = app.another("OTP_LOG__LEVEL", "info").await;
    assert_eq!(next.verify_otp(EMAIL, wrong).await.status, 400);
    assert_eq!(next.verify_otp(EMAIL, &code).await.status, 400, "five were spent across the restart");
}

#[tokio::test]
async fn peppers_rotate_without_losing_a_code_and_a_dropped_one_loses_its_codes() {
    let app = TestApp::builder().set("OTP_SECRETS__PEPPERS", &one_pepper()).spawn().await;
    let (first, second) = (app.code_for("first@example.com").await, app.code_for("second@example.com").await);
    let rotated = app.another("OTP_SECRETS__PEPPERS", &rotated_peppers()).await;
    assert_eq!(rotated.verify_otp("first@example.com", &first).await.status, 200);
    assert_eq!(rotated.send_otp("third@example.com").await.status, 200);
    let third = app.smtp.last_code_to("third@example.com");
    let dropped = app.another("OTP_SECRETS__PEPPERS", &new_pepper()).await;
    assert_eq!(dropped.verify_otp("second@example.com", &second).await.status, 400);
    assert_eq!(dropped.verify_otp("third@example.com", &third).await.status, 200);
}

#[tokio::test]
async fn a_full_hash_queue_is_answered_at_once() {
    // One hash thread, a queue of one, and a slow hash.
    let app = TestApp::builder()
        .set("OTP_HASH__MEMORY_KIB", "65536")
        .set("OTP_HASH__PASSES", "20")
        .set("OTP_HASH__THREADS", "1")
        .set("OTP_HASH__QUEUE", "1")
        .spawn()
        .await;
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let process = Arc::clone(&app.process);
        calls.spawn(async move { process.verify_otp(EMAIL, "123456").await });
    }
    // The first six answers are rejections, because those requests did not wait.
    for _ in 0..6 {
        let answer = calls.join_next().await.expect("a call").expect("an answer");
        assert_unavailable(&answer);
    }
    assert_eq!(calls.join_all().await.iter().filter(|answer| answer.status == 400).count(), 2);
    // Only the two served calls are charged: the ledger of the IP and that of the IP for this
    // address have two entries each.
    let logs: Vec<_> = app.redis.dump().await.into_iter().map(|(_, value, _)| value.len()).collect();
    assert_eq!(logs, [12, 12]);
}

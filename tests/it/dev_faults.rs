//! `otpd dev --fail`: each injected fault has the response and the effect of the real one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::tempdir;
use tokio::task::JoinSet;

use crate::commands::{run, text};
use crate::support::app::{Answer, Process, TestApp, light_hash};
use crate::support::smtp::Fault;
use crate::support::v1::Caller;

const EMAIL: &str = "a@example.com";
/// An id that no verification has.
const ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";
const NOT_SENT: (u16, &str) = (500, "Failed to send OTP");

/// Starts `otpd dev` with these options.
async fn dev(options: &str) -> Process {
    let mut settings: BTreeMap<_, _> = light_hash().into();
    settings.insert("OTP_HASH__QUEUE".to_owned(), "2000".to_owned());
    Process::start(&format!("dev {options}"), &settings).await
}

/// Returns a caller with the key that was printed.
async fn caller(dev: &Process) -> Caller<'_> {
    dev.caller_with(&dev.printed("API key").await)
}

fn said((status, message): (u16, &str)) -> (u16, String) {
    (status, message.to_owned())
}

/// Returns the answer without what differs from one request to the next.
fn comparable(answer: Answer) -> (u16, Vec<(String, String)>, Value) {
    let Answer { status, mut headers, body } = answer.without_date_and_id();
    for (name, value) in &mut headers {
        if ["content-length", "retry-after"].contains(&name.as_str()) {
            value.clear();
        }
    }
    let mut body: Value = serde_json::from_str(&body).expect("JSON");
    for member in ["id", "retry_after"] {
        if let Some(value) = body.get_mut(member) {
            *value = Value::Null;
        }
    }
    (status, headers, body)
}

/// Returns the answers to a send with either API.
async fn sends(process: &Process, caller: &Caller<'_>, email: &str) -> [Answer; 2] {
    [process.send_otp(email).await, caller.create(&json!({ "email": email })).await]
}

#[tokio::test]
async fn what_a_relay_does_on_purpose_is_answered_as_what_a_real_one_does() {
    let real = TestApp::limited().keyed().spawn().await;
    for (options, fault, simple, v1) in [
        ("send=100%", Fault::RefuseRecipient, NOT_SENT, false),
        ("unknown=100%", Fault::CloseAfterContent, NOT_SENT, true),
    ] {
        let dev = dev(&format!("--production-limits --fail {options}")).await;
        real.smtp.set(fault);
        let injected = sends(&dev, &caller(&dev).await, EMAIL).await;
        let email = if v1 { "b@example.com" } else { EMAIL };
        let expected = sends(&real, &real.caller(1), email).await;
        assert_eq!(injected[0].message(), said(simple));
        assert_eq!(injected[1].problem(), (502, "delivery_failed".to_owned()));
        assert_eq!(injected[1].json()["id"].is_string(), v1, "{options}");
        for (injected, expected) in injected.into_iter().zip(expected) {
            assert_eq!(comparable(injected), comparable(expected), "{options}");
        }
    }
}

#[tokio::test]
async fn a_limit_and_a_lost_store_on_purpose_are_answered_as_real_ones() {
    let real = TestApp::limited().keyed().single_redis().spawn().await;
    let limited = dev("--production-limits --fail limited=100%").await;
    let injected = sends(&limited, &caller(&limited).await, EMAIL).await;
    for answer in sends(&real, &real.caller(1), EMAIL).await {
        assert!(answer.status < 300, "{answer:?}");
    }
    let expected = sends(&real, &real.caller(1), EMAIL).await;
    assert_eq!(injected[0].message(), said((429, "Too many requests")));
    assert_eq!(injected[1].problem(), (429, "rate_limited".to_owned()));
    for (injected, expected) in injected.into_iter().zip(expected) {
        assert_eq!(injected.header("retry-after"), Some("5"));
        assert!(injected.header("ratelimit").is_some_and(|state| state.contains(r#""email_sends";r=0;t=5"#)));
        assert_eq!(comparable(injected), comparable(expected));
    }

    let lost = dev("--fail unavailable=100%").await;
    real.redis.stop();
    let injected = sends(&lost, &caller(&lost).await, EMAIL).await;
    let expected = sends(&real, &real.caller(1), EMAIL).await;
    assert_eq!(injected[0].message(), said((503, "Service unavailable")));
    assert_eq!(injected[1].problem(), (503, "unavailable".to_owned()));
    for (injected, expected) in injected.into_iter().zip(expected) {
        assert_eq!(injected.header("retry-after"), expected.header("retry-after"));
        assert_eq!(comparable(injected).2, comparable(expected).2);
    }
}

#[tokio::test]
async fn attempts_and_look_ups_meet_limits_and_a_lost_store_too() {
    let limited = dev("--fail limited=100%").await;
    let answer = limited.verify_otp(EMAIL, "000000").await;
    assert_eq!(answer.message(), said((429, "Too many requests")));
    assert!(answer.header("ratelimit").is_some_and(|state| state.contains(r#""ip_attempts";r=0;t=5"#)));
    let caller_of = caller(&limited).await;
    let path = format!("/v1/verifications/{ID}/check");
    let attempt = caller_of.post(&path, r#"{"code":"000000","end_user_ip":"192.0.2.1"}"#).await;
    assert_eq!(attempt.status, 429, "{attempt:?}");
    assert_eq!(attempt.json()["policy"], "ip_attempts");

    let lost = dev("--fail unavailable=100%").await;
    assert_eq!(lost.verify_otp(EMAIL, "000000").await.message(), said((503, "Service unavailable")));
    let caller_of = caller(&lost).await;
    let answers = [
        caller_of.check(ID, "000000").await,
        caller_of.check(ID, "no code").await,
        caller_of.resend(ID).await,
        caller_of.show(ID).await,
        caller_of.cancel(ID).await,
    ];
    for answer in answers {
        assert_eq!(answer.problem(), (503, "unavailable".to_owned()));
    }
    assert_eq!(lost.get("/readyz").await.status, 200, "a script can wait for it");
    let log = lost.whole_log().await;
    assert!(log.contains("injected on purpose by --fail unavailable"), "{log}");
}

#[tokio::test]
async fn a_refused_email_is_refunded_and_nobody_has_its_code() {
    let dev = dev("--production-limits --fail send=100%").await;
    for _ in 0..3 {
        // Without the refund the second one would have to wait for a minute.
        assert_eq!(dev.send_otp(EMAIL).await.message(), said(NOT_SENT));
    }
    assert_eq!(dev.captured_codes(EMAIL).await.len(), 0);
}

#[tokio::test]
async fn a_code_whose_email_may_have_arrived_is_live_and_its_send_stays_charged() {
    let limited = dev("--production-limits --fail unknown=100%").await;
    assert_eq!(limited.send_otp(EMAIL).await.message(), said(NOT_SENT));
    assert_eq!(limited.send_otp(EMAIL).await.status, 429);

    let dev = dev("--fail unknown=100%").await;
    let caller = caller(&dev).await;
    let (mut arrived, mut lost) = (0, 0);
    // Half of them arrive: one chance in 2^63 that all of them do, or none.
    for number in 0..64 {
        let email = format!("a{number}@example.com");
        let created = caller.create(&json!({ "email": email })).await;
        assert_eq!(created.problem(), (502, "delivery_failed".to_owned()));
        let id = created.json()["id"].as_str().expect("an id").to_owned();
        let shown = caller.show(&id).await.json();
        assert_eq!(
            (&shown["status"], &shown["delivery"]["status"]),
            (&json!("pending"), &json!("unknown")),
            "{shown}"
        );
        match dev.captured_codes(&email).await.as_slice() {
            [] => lost += 1,
            [code] => {
                arrived += 1;
                assert_eq!(caller.check(&id, code).await.status, 200);
            }
            several => panic!("{several:?}"),
        }
        if arrived > 0 && lost > 0 {
            return;
        }
    }
    panic!("{arrived} of 64 have arrived");
}

#[tokio::test]
async fn slow_emails_take_their_time_at_once_and_hold_up_nothing_else() {
    const SLOW: Duration = Duration::from_secs(2);
    let dev = Arc::new(dev("--fail slow=2s").await);
    let begun = Instant::now();
    let mut slow = JoinSet::new();
    for number in 0..40 {
        let dev = Arc::clone(&dev);
        slow.spawn(async move { dev.send_otp(&format!("a{number}@example.com")).await.status });
    }
    assert_eq!(dev.verify_otp(EMAIL, "000000").await.status, 400);
    assert!(begun.elapsed() < SLOW, "an attempt waits for no email");
    assert_eq!(dev.get("/dev/mails").await.body, "[]");
    while let Some(status) = slow.join_next().await {
        assert_eq!(status.expect("no panic"), 200);
        assert!(begun.elapsed() >= SLOW, "{:?}", begun.elapsed());
    }
    assert!(begun.elapsed() < 5 * SLOW, "one after the other they take 80 s: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_share_of_the_emails_is_refused_and_the_others_arrive() {
    let dev = dev("--fail send=30%").await;
    let mut refused = 0;
    for number in 0..200 {
        let answer = dev.send_otp(&format!("a{number}@example.com")).await;
        assert!([200, 500].contains(&answer.status), "{answer:?}");
        refused += usize::from(answer.status == 500);
    }
    // Seven standard deviations of 6.5 from the mean of 60.
    assert!((15..=105).contains(&refused), "{refused}");
    let mails: Vec<Value> = serde_json::from_str(&dev.get("/dev/mails").await.body).expect("JSON");
    assert_eq!(mails.len(), 200 - refused);
}

#[tokio::test]
async fn shares_of_zero_inject_nothing_and_leave_the_page_as_it_is() {
    let none = dev("--fail send=0%,unknown=0%,limited=0%,unavailable=0%,slow=0s").await;
    let without = dev("").await;
    for number in 0..30 {
        assert_eq!(none.send_otp(&format!("a{number}@example.com")).await.status, 200);
        assert_eq!(none.verify_otp(EMAIL, "000000").await.status, 400);
    }
    let mut pages = Vec::new();
    for dev in [&none, &without] {
        let page = dev.get("/dev").await.body;
        let page = page.replace(&dev.printed("API key").await, "KEY");
        pages.push(page.replace(&dev.address().to_string(), "ADDRESS"));
    }
    assert!(!pages[0].contains("id=\"faults\""));
    assert_eq!(pages[0], pages[1]);
    let log = none.whole_log().await;
    assert!(!log.contains("on purpose"), "{log}");
}

#[tokio::test]
async fn the_terminal_and_the_page_name_the_faults() {
    let dev = dev("--fail Slow=10ms,send=100").await;
    assert_eq!(dev.printed("faults").await, "send=100%, slow=10ms, on purpose");
    let page = dev.get("/dev").await.body;
    let notice = page.lines().find(|line| line.contains("id=\"faults\"")).expect("a notice");
    assert!(notice.contains("send=100%, slow=10ms") && notice.contains("on purpose"), "{notice}");
    dev.send_otp(EMAIL).await;
    dev.logged(r#""fault.name":"send""#).await;
}

#[test]
fn a_wrong_list_is_refused_before_anything_starts() {
    let folder = tempdir().expect("a folder");
    for (list, named) in [
        ("sent=30%", "\"sent\""),
        ("send=101%", "\"101%\""),
        ("slow=11s", "\"11s\""),
        ("send=1%,send=2%", "send is given twice"),
        ("", "has no value"),
    ] {
        let output = run(folder.path(), &[], &["dev", "--fail", list]);
        assert_eq!((output.status.code(), text(&output.stdout).as_str()), (Some(2), ""), "{list}");
        let said = text(&output.stderr);
        assert!(said.contains("--fail") && said.contains(named), "{list}: {said}");
        for allowed in ["send=N%", "unknown=N%", "slow=DURATION", "limited=N%", "unavailable=N%"] {
            assert!(said.contains(allowed), "{list}: {said}");
        }
    }
}

#[test]
fn serve_cannot_be_made_to_fail() {
    let folder = tempdir().expect("a folder");
    for arguments in [&["serve", "--fail", "send=30%"][..], &["--fail", "send=30%"]] {
        let output = run(folder.path(), &[], arguments);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("unexpected argument '--fail'"), "{said}");
    }
}

//! Idempotency keys: one request per key is executed once, whatever fails in between.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;

use crate::support::app::{Process, TestApp, eventually};
use crate::support::smtp::Fault;
use crate::support::v1::key;

const EMAIL: &str = "recipient@example.com";

/// Waits until a verification is stored; its email is then being sent.
async fn wait_until_opened(app: &TestApp) {
    let has_verification =
        |dump: Vec<(Vec<u8>, Vec<u8>, i64)>| dump.iter().any(|(key, ..)| key.starts_with(b"otp:{v:"));
    eventually("a verification is opened", async || has_verification(app.redis.dump().await)).await;
}

#[tokio::test]
async fn a_repeated_request_mails_once_and_is_rendered_afresh() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let body = json!({ "email": EMAIL, "purpose": "login", "end_user_ip": "192.0.2.1" });
    let first = caller.create_under("order-1", &body).await;
    assert_eq!(first.status, 201);
    let id = first.json()["id"].as_str().expect("an id").to_owned();
    // The same members in another order and form, the key quoted as a structured field, and the
    // tenant's other API key.
    let same =
        json!({ "end_user_ip": "::ffff:192.0.2.1", "purpose": "login", "email": EMAIL, "locale": null });
    for again in [
        caller.create_under("order-1", &body).await,
        caller.create_under("\"order-1\"", &same).await,
        app.caller(2).create_under("order-1", &body).await,
    ] {
        assert_eq!((again.status, again.header("location")), (201, first.header("location")));
        let same = |member: &str| again.json()[member] == first.json()[member];
        assert!(["id", "status", "reference", "expires_at"].into_iter().all(same), "{again:?}");
    }
    assert_eq!(app.smtp.mails().len(), 1);
    caller.check(&id, "000000").await;
    assert_eq!(caller.check(&id, &app.smtp.last_code_to(EMAIL)).await.status, 200);
    let afterwards = caller.create_under("order-1", &body).await;
    assert_eq!((afterwards.status, &afterwards.json()["status"]), (201, &json!("approved")));
    assert_ne!(caller.create_under("order-2", &body).await.json()["id"], json!(id));
}

#[tokio::test]
async fn a_replay_touches_no_ledger() {
    let app = TestApp::limited().keyed().spawn().await;
    let caller = app.caller(1);
    let body = json!({ "email": EMAIL, "end_user_ip": "192.0.2.1" });
    assert_eq!(caller.create_under("k", &body).await.status, 201);
    let before = app.redis.dump().await;
    for _ in 0..5 {
        let replayed = caller.create_under("k", &body).await;
        // A new send would exceed a limit now.
        assert_eq!(replayed.status, 201, "{replayed:?}");
        assert_eq!(replayed.header("ratelimit-policy"), Some("\"key\";q=600;w=60"));
    }
    let without_ttl = |dump: Vec<(Vec<u8>, Vec<u8>, i64)>| {
        let mut entries: Vec<_> = dump.into_iter().map(|(key, value, _)| (key, value)).collect();
        entries.sort();
        entries
    };
    assert_eq!(without_ttl(app.redis.dump().await), without_ttl(before));
}

#[tokio::test]
async fn a_key_belongs_to_one_body() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    assert_eq!(caller.create_under("k", &json!({ "email": EMAIL })).await.status, 201);
    for other in [
        json!({ "email": "other@example.com" }),
        json!({ "email": EMAIL, "purpose": "login" }),
        json!({ "email": EMAIL, "locale": "de" }),
        json!({ "email": EMAIL, "end_user_ip": "192.0.2.1" }),
    ] {
        let refused = caller.create_under("k", &other).await;
        assert_eq!(refused.problem(), (422, "idempotency_mismatch".to_owned()), "{other}");
    }
    assert_eq!(app.smtp.mails().len(), 1);
}

#[tokio::test]
async fn what_did_not_succeed_frees_its_key() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let body = json!({ "email": EMAIL });
    for fault in [Fault::RefuseRecipient, Fault::CloseAfterContent] {
        app.smtp.set(fault);
        assert_eq!(caller.create_under("k", &body).await.status, 502);
    }
    app.smtp.set(Fault::None);
    // A request that is rejected earlier does not use up its key.
    assert_eq!(caller.create_under("k", &json!({ "email": "nobody" })).await.status, 422);
    let created = caller.create_under("k", &body).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(caller.create_under("k", &body).await.json()["id"], created.json()["id"]);
}

#[tokio::test]
async fn a_request_that_a_limit_refused_can_be_repeated_under_its_key() {
    let app = TestApp::limited().keyed().spawn().await;
    let caller = app.caller(1);
    let (body, other) = (json!({ "email": EMAIL }), json!({ "email": "other@example.com" }));
    caller.start(EMAIL).await;
    for _ in 0..2 {
        assert_eq!(caller.create_under("k", &body).await.problem().0, 429);
    }
    assert_eq!(caller.create_under("k", &other).await.status, 201, "the key was free");
}

#[tokio::test]
async fn of_requests_at_the_same_time_one_is_served() {
    let app = TestApp::builder().keyed().set("OTP_HASH__QUEUE", "1000").spawn().await;
    let another = Arc::new(app.another("OTP_LOG__FORMAT", "json").await);
    let processes: [Arc<Process>; 2] = [app.process.clone(), another];
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..60 {
        let process = processes[number % 2].clone();
        tasks.spawn(async move {
            let answer = process.caller(1).create_under("k", &json!({ "email": EMAIL })).await;
            let id = answer.json()["id"].as_str().map(str::to_owned);
            if answer.status != 201 {
                assert_eq!(answer.problem(), (409, "idempotency_in_progress".to_owned()));
            }
            (answer.status, id)
        });
    }
    let answers = tasks.join_all().await;
    let mut ids: Vec<_> = answers.iter().filter_map(|(_, id)| id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 1, "{answers:?}");
    assert_eq!(app.smtp.mails().len(), 1);
}

#[tokio::test]
async fn a_key_is_1_to_64_visible_characters() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let body = json!({ "email": EMAIL });
    for key in ["", "\"\"", "a b", &"k".repeat(65)] {
        let refused = caller.create_under(key, &body).await;
        assert_eq!(refused.problem(), (400, "malformed_request".to_owned()), "{key:?}");
        assert_eq!(
            refused.json()["detail"],
            "`Idempotency-Key` must be 1 to 64 visible ASCII characters, and there once."
        );
    }
    assert_eq!(caller.create_under(&"k".repeat(64), &body).await.status, 201);
    // Headers that a library would ignore, or of which it would read only the first. They must not
    // be treated as a missing key.
    let post = || caller.request(reqwest::Method::POST, "/v1/verifications").body(body.to_string());
    let json = || post().header("content-type", "application/json");
    let bytes = reqwest::header::HeaderValue::from_bytes(b"\xc3\xa9").expect("bytes of a header");
    let twice = json().header("idempotency-key", "a").header("idempotency-key", "a");
    for request in [json().header("idempotency-key", bytes), twice] {
        let refused = app.answer(request).await;
        assert_eq!(refused.problem(), (400, "malformed_request".to_owned()));
    }
    assert_eq!(app.smtp.mails().len(), 1);
}

#[tokio::test]
async fn who_hangs_up_gets_the_answer_to_the_same_request_later() {
    let app = TestApp::builder().keyed().spawn().await;
    app.smtp.set(Fault::Slow(Duration::from_millis(500)));
    let body = json!({ "email": EMAIL });
    let head = format!(
        "POST /v1/verifications HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nIdempotency-Key: k\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        key(1),
        body.to_string().len()
    );
    let mut stream = app.connect().await;
    stream.write_all(head.as_bytes()).await.expect("sent");
    wait_until_opened(&app).await;
    drop(stream);
    let repeated = app.caller(1).create_under("k", &body).await;
    assert_eq!(repeated.problem(), (409, "idempotency_in_progress".to_owned()));
    eventually("the answer", async || app.caller(1).create_under("k", &body).await.status == 201).await;
    assert_eq!(app.smtp.mails().len(), 1);
}

#[tokio::test]
async fn a_process_that_dies_in_between_leaves_a_key_that_others_wait_for() {
    let app = TestApp::builder().keyed().spawn().await;
    app.smtp.set(Fault::SilentAfterContent);
    let process = app.process.clone();
    let lost = tokio::spawn(async move {
        let request = process.caller(1).request(reqwest::Method::POST, "/v1/verifications");
        let request = request.header("content-type", "application/json").header("idempotency-key", "k");
        request.body(json!({ "email": EMAIL }).to_string()).send().await.map(|answer| answer.status())
    });
    wait_until_opened(&app).await;
    app.kill();
    lost.await.expect("no panic").expect_err("no answer");
    app.smtp.set(Fault::None);
    let another = app.another("OTP_LOG__FORMAT", "json").await;
    let refused = another.caller(1).create_under("k", &json!({ "email": EMAIL })).await;
    assert_eq!(refused.problem(), (409, "idempotency_in_progress".to_owned()));
    // It expires after at most 30 seconds.
    let (_, _, ttl) = app
        .redis
        .dump()
        .await
        .into_iter()
        .find(|(key, ..)| key.starts_with(b"otp:{i:"))
        .expect("the key is claimed");
    assert!((1..=30_000).contains(&ttl), "{ttl}");
}

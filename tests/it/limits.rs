//! The ledgers as callers see them: what is charged, what is refunded, and what a 429 says.
//!
//! The arithmetic of windows is tested at the store. These tests cover the order of the steps.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::app::{Answer, Builder, Process, TestApp, within};
use crate::support::smtp::Fault;

const CLIENT: &str = "192.0.2.1";
const EMAIL: &str = "a@example.com";

/// Returns the policy that an answer names, how much it has left, and the wait if it is a 429.
fn limit_state_of(answer: &Answer) -> (String, u32, Option<u64>) {
    let state = answer.header("ratelimit").unwrap_or_else(|| panic!("no limit is reported: {answer:?}"));
    let name = state.split('"').nth(1).expect("a quoted name").to_owned();
    let room = state.split_once(";r=").and_then(|(_, rest)| rest.split_once(';')).expect("the room").0;
    let policy = answer.header("ratelimit-policy").expect("a policy");
    assert!(policy.starts_with(&format!("\"{name}\";q=")) && policy.contains(";w="), "{policy}");
    let wait = answer.header("retry-after").filter(|_| answer.status == 429);
    (name, room.parse().expect("a number"), wait.map(|wait| wait.parse().expect("whole seconds")))
}

/// Returns the lengths of all ledgers in the store whose key ends like this.
async fn logs(app: &TestApp, end: &str) -> Vec<usize> {
    let dump = app.redis.dump().await.into_iter();
    dump.filter(|(key, ..)| key.ends_with(end.as_bytes())).map(|(_, value, _)| value.len()).collect()
}

#[tokio::test]
async fn answers_tell_a_caller_of_its_own_network_only() {
    let app = TestApp::limited().spawn().await;
    let sent = app.send_from(CLIENT, EMAIL).await;
    assert_eq!((sent.status, limit_state_of(&sent)), (200, ("ip_sends".to_owned(), 29, None)));
    assert_eq!(sent.header("ratelimit-policy"), Some("\"ip_sends\";q=30;w=3600"));
    // The same whether or not the address has a code outstanding.
    for email in [EMAIL, "unknown@example.com"] {
        let wrong = app.verify_from("198.51.100.1", email, "000000").await;
        assert_eq!((wrong.status, limit_state_of(&wrong).0), (400, "ip_attempts".to_owned()));
    }
}

#[tokio::test]
async fn what_is_refused_before_the_ledgers_touches_none() {
    let app = TestApp::limited().spawn().await;
    for (path, body) in [
        ("/send-otp", "{}"),
        ("/send-otp", r#"{"email":"nobody"}"#),
        ("/verify-otp", r#"{"email":"a@example.com","otp":"12345"}"#),
        ("/verify-otp", r#"{"email":"a@example.com","otp":"12345678901"}"#),
        ("/verify-otp", r#"{"email":"a@example.com","otp":"abcdef"}"#),
        ("/verify-otp", "no JSON"),
    ] {
        let answer = app.post(path, body).await;
        assert_eq!((answer.status, answer.header("ratelimit")), (400, None), "{path} {body}");
    }
    assert!(app.redis.dump().await.is_empty());
}

#[tokio::test]
async fn the_wait_is_the_longest_of_the_refusing_step_and_of_those_charged_before_it() {
    let app = TestApp::limited().set("OTP_LIMITS__IP_SENDS", "2/1h").spawn().await;
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 200);
    // The email address would admit another send in a minute. The IP, which this very request
    // fills, only in an hour.
    let (name, room, wait) = limit_state_of(&app.send_from(CLIENT, EMAIL).await);
    assert_eq!((name.as_str(), room), ("ip_sends", 0));
    assert!(wait.is_some_and(|wait| (3590..=3600).contains(&wait)), "{wait:?}");
    // From another IP, the wait is that of the email address.
    let (name, room, wait) = limit_state_of(&app.send_from("198.51.100.1", EMAIL).await);
    assert_eq!((name.as_str(), room), ("email_sends", 0));
    assert!(wait.is_some_and(|wait| (50..=60).contains(&wait)), "{wait:?}");
}

#[tokio::test]
async fn after_retry_after_the_same_request_passes() {
    let app = TestApp::limited()
        .set("OTP_LIMITS__EMAIL_SENDS", "1/5s 10/day")
        .set("OTP_DANGEROUS__WEAK_LIMITS", "true")
        .spawn()
        .await;
    let begun = Instant::now();
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 200);
    let refused = app.send_from(CLIENT, EMAIL).await;
    let told_at = Instant::now();
    let wait = Duration::from_secs(limit_state_of(&refused).2.expect("a wait"));
    loop {
        let asked_at = Instant::now();
        if app.send_from(CLIENT, EMAIL).await.status == 200 {
            break;
        }
        assert!(asked_at < told_at + wait, "refused when the time was up");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(5), "it came in before: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_refused_send_leaves_the_live_code_as_it_is() {
    let app = TestApp::limited().spawn().await;
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 200);
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 429);
    assert_eq!(app.smtp.mails().len(), 1);
    assert_eq!(app.verify_from(CLIENT, EMAIL, &code).await.status, 200);
}

#[tokio::test]
async fn a_refused_email_refunds_the_recipient_and_not_the_network() {
    let app = TestApp::limited().spawn().await;
    app.smtp.set(Fault::RefuseContent);
    let refused = app.send_from(CLIENT, EMAIL).await;
    assert_eq!((refused.status, limit_state_of(&refused).1), (500, 29));
    app.smtp.set(Fault::None);
    let sent = app.send_from(CLIENT, EMAIL).await;
    assert_eq!((sent.status, limit_state_of(&sent).1), (200, 28), "no cooldown after a mail that nobody got");
}

#[tokio::test]
async fn an_email_whose_outcome_is_unknown_refunds_nothing() {
    let app = TestApp::limited().spawn().await;
    app.smtp.set(Fault::CloseAfterContent);
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 500);
    app.smtp.set(Fault::None);
    assert_eq!(limit_state_of(&app.send_from(CLIENT, EMAIL).await).0, "email_sends");
}

#[tokio::test]
async fn a_right_attempt_is_refunded_in_all_ledgers_of_its_ip() {
    let app = TestApp::limited().spawn().await;
    assert_eq!(app.send_from("2001:db8::1", EMAIL).await.status, 200);
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(app.verify_from("2001:db8::1", EMAIL, &code).await.status, 200);
    let attempts = app.redis.dump().await.into_iter().map(|(key, ..)| key);
    let attempts: Vec<_> = attempts.filter(|key| key.windows(9).any(|part| part == b":attempts")).collect();
    assert!(
        attempts.is_empty(),
        "no entry is left for the /64, the /48 or the share of the email: {attempts:?}"
    );
}

#[tokio::test]
async fn beyond_the_relays_day_nothing_is_sent_and_nothing_charged() {
    let app = TestApp::limited().set("OTP_LIMITS__RELAY_EMAILS_PER_DAY", "2").spawn().await;
    for email in ["a@example.com", "b@example.com"] {
        assert_eq!(app.send_from(CLIENT, email).await.status, 200);
    }
    for _ in 0..3 {
        assert_eq!(app.send_from(CLIENT, "c@example.com").await.message().0, 503);
    }
    assert_eq!(app.smtp.mails().len(), 2);
    assert_eq!(
        logs(&app, ":simple:sends").await,
        [12],
        "two sends of the network, none of them of the refused"
    );
}

#[tokio::test]
async fn beyond_the_relays_day_a_resend_is_refunded_and_an_exceeded_limit_of_the_ip_comes_first() {
    let app = TestApp::limited()
        .keyed()
        .set("OTP_LIMITS__RELAY_EMAILS_PER_DAY", "2")
        .set("OTP_LIMITS__IP_SENDS", "1/1h")
        .spawn()
        .await;
    let id = app.caller(1).start("a@example.com").await;
    assert_eq!(app.send_from(CLIENT, "b@example.com").await.status, 200);
    for _ in 0..3 {
        let body = r#"{"end_user_ip":"192.0.2.1"}"#;
        let answer = app.caller(1).post(&format!("/v1/verifications/{id}/resend"), body).await;
        assert_eq!(answer.problem(), (503, "overloaded".to_owned()));
    }
    assert_eq!(logs(&app, ":simple:sends").await, [6], "that of the simple endpoint");
    let limited = app.send_from(CLIENT, "c@example.com").await;
    assert_eq!(limited.message(), (429, "Too many requests".to_owned()));
    assert!(limited.header("ratelimit").is_some_and(|limit| limit.starts_with("\"ip_sends\"")));
}

#[tokio::test]
async fn emails_beyond_the_relays_day_that_were_under_way_are_counted() {
    let app = Arc::new(TestApp::limited().set("OTP_LIMITS__RELAY_EMAILS_PER_DAY", "2").spawn().await);
    app.smtp.set(Fault::Slow(Duration::from_millis(500)));
    let mut sends = JoinSet::new();
    for number in 0..5 {
        let app = Arc::clone(&app);
        sends.spawn(async move { app.send_from(CLIENT, &format!("{number}@example.com")).await.status });
    }
    assert_eq!(sends.join_all().await, [200; 5], "none of them was counted yet");
    assert_eq!(logs(&app, "otp:{relay}:emails").await, [5 * 6]);
    assert_eq!(app.send_from(CLIENT, "beyond@example.com").await.status, 503);
}

#[tokio::test]
async fn a_charge_that_timed_out_is_not_repeated() {
    let app = TestApp::limited().spawn().await;
    // Opens every connection and loads every script, so that all requests made during the pause
    // reach Redis.
    for number in 0..4 {
        assert_eq!(app.send_from(CLIENT, &format!("warm{number}@example.com")).await.status, 200);
        assert_eq!(app.verify_from(CLIENT, &format!("warm{number}@example.com"), "000000").await.status, 400);
    }
    app.redis.pause();
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 503);
    assert_eq!(app.verify_from(CLIENT, EMAIL, "000000").await.status, 503);
    app.redis.resume();
    let is_ready = async || app.get("/readyz").await.status == 200;
    within(Duration::from_secs(5), "otpd recovers", is_ready).await;
    // Redis found the requests waiting when it resumed; each was sent once.
    for end in [":simple:sends", ":simple:attempts"] {
        assert_eq!(logs(&app, end).await, [5 * 6], "{end}");
    }
    assert_eq!(app.smtp.mails().len(), 4);
}

/// Makes many calls at once, spread over two processes on one Redis.
async fn spread<C>(
    processes: [&Arc<Process>; 2],
    many: usize,
    call: impl Fn(Arc<Process>, usize) -> C,
) -> Vec<u16>
where
    C: Future<Output = Answer> + Send + 'static,
{
    let mut calls = JoinSet::new();
    for number in 0..many {
        let call = call(Arc::clone(processes[number % 2]), number);
        calls.spawn(async move { call.await.status });
    }
    calls.join_all().await
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|other| **other == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_keep_the_limits_as_one() {
    let app = TestApp::limited()
        .set("OTP_LIMITS__EMAIL_SENDS", "5/1h 10/day")
        .set("OTP_DANGEROUS__WEAK_LIMITS", "true")
        .spawn()
        .await;
    let other = Arc::new(app.another("OTP_LOG__LEVEL", "debug").await);
    let both = [&app.process, &other];

    let sends = spread(both, 60, |process, number| async move {
        process.send_from("203.0.113.1", &format!("a{number}@example.com")).await
    });
    let sends = sends.await;
    assert_eq!((count(&sends, 200), count(&sends, 429)), (30, 30), "of one network: {sends:?}");

    let sends = spread(both, 40, |process, number| async move {
        process.send_from(&format!("198.51.100.{number}"), "victim@example.com").await
    });
    let sends = sends.await;
    assert_eq!((count(&sends, 200), count(&sends, 429)), (5, 35), "to one person: {sends:?}");

    let sends = spread(both, 20, |process, number| async move {
        process.send_from("203.0.113.2", &format!("other+{number}@example.com")).await
    });
    let sends = sends.await;
    assert_eq!((count(&sends, 200), count(&sends, 429)), (3, 17), "of one IP to one recipient: {sends:?}");

    let attempts = spread(both, 60, |process, number| async move {
        process.verify_from("203.0.113.3", &format!("a{number}@example.com"), "000000").await
    });
    let attempts = attempts.await;
    assert_eq!((count(&attempts, 400), count(&attempts, 429)), (20, 40), "of one network: {attempts:?}");
}

#[tokio::test]
async fn a_resend_looks_its_id_up_behind_the_network_and_before_anything_else() {
    let app = TestApp::limited().keyed().set("OTP_LIMITS__IP_SENDS", "2/1h").spawn().await;
    let caller = app.caller(1);
    let resend = async |id: &str| {
        let body = r#"{"end_user_ip":"192.0.2.1"}"#;
        caller.post(&format!("/v1/verifications/{id}/resend"), body).await
    };
    let id = caller.start(EMAIL).await;
    caller.cancel(&id).await;
    let sends = logs(&app, ":sends").await;
    // For an unknown and for a closed verification, the IP is charged and the email address is not.
    assert_eq!(resend("AAAAAAAAAAAAAAAAAAAAAA").await.problem().0, 404);
    assert_eq!(resend(&id).await.problem().0, 410);
    assert_eq!(resend(&id).await.json()["policy"], "ip_sends");
    let mut now = logs(&app, ":sends").await;
    now.retain(|bytes| *bytes != 12);
    assert_eq!(now, sends, "two entries of the network are all that came");
    assert_eq!(app.smtp.mails().len(), 1);
}

#[tokio::test]
async fn a_canceled_verification_refunds_nothing() {
    let app = TestApp::limited().keyed().spawn().await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    assert_eq!(caller.cancel(&id).await.status, 204);
    assert_eq!(caller.create(&serde_json::json!({ "email": EMAIL })).await.json()["policy"], "email_sends");
}

#[tokio::test]
async fn a_refused_email_of_v1_refunds_the_recipient() {
    let app = TestApp::limited().keyed().spawn().await;
    let caller = app.caller(1);
    app.smtp.set(Fault::RefuseRecipient);
    let body = serde_json::json!({ "email": EMAIL, "end_user_ip": CLIENT });
    assert_eq!(caller.create(&body).await.problem().0, 502);
    app.smtp.set(Fault::None);
    let created = caller.create(&body).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert!(created.header("ratelimit").expect("told").contains("\"ip_sends\";r=28;"), "{created:?}");
}

#[tokio::test]
async fn a_refused_resend_of_v1_refunds_nothing() {
    let app = TestApp::limited()
        .keyed()
        .set("OTP_DANGEROUS__WEAK_LIMITS", "true")
        .set("OTP_LIMITS__EMAIL_SENDS", "2/1h")
        .spawn()
        .await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    app.smtp.set(Fault::RefuseRecipient);
    assert_eq!(caller.resend(&id).await.problem().0, 502);
    app.smtp.set(Fault::None);
    // The code had replaced a live one.
    assert_eq!(caller.create(&serde_json::json!({ "email": EMAIL })).await.json()["policy"], "email_sends");
}

#[tokio::test]
async fn a_full_hash_queue_refunds_the_attempt_and_the_send_of_a_named_network() {
    let app = TestApp::limited()
        .keyed()
        .set("OTP_HASH__MEMORY_KIB", "262144")
        .set("OTP_HASH__PASSES", "3")
        .set("OTP_HASH__THREADS", "1")
        .set("OTP_HASH__QUEUE", "1")
        .spawn()
        .await;
    let id = app.caller(1).start(EMAIL).await;
    let mut calls = JoinSet::new();
    for _ in 0..12 {
        let (process, id) = (app.process.clone(), id.clone());
        calls.spawn(async move {
            let body = r#"{"code":"000000","end_user_ip":"192.0.2.1"}"#;
            process.caller(1).post(&format!("/v1/verifications/{id}/check"), body).await
        });
    }
    let answers = calls.join_all().await;
    let overloaded = answers.iter().filter(|answer| answer.status == 503);
    let overloaded = overloaded.inspect(|answer| assert_eq!(answer.problem().1, "overloaded")).count();
    assert!(overloaded > 0, "{answers:?}");
    let entries: usize = logs(&app, ":attempts").await.iter().map(|bytes| bytes / 6).sum();
    assert_eq!(entries, answers.len() - overloaded);
}

#[tokio::test]
async fn a_client_that_exceeded_its_limit_is_told_so_while_the_hash_queue_is_full() {
    let app = TestApp::limited()
        .set("OTP_LIMITS__IP_ATTEMPTS", "1/1h")
        .set("OTP_HASH__MEMORY_KIB", "262144")
        .set("OTP_HASH__PASSES", "3")
        .set("OTP_HASH__THREADS", "1")
        .set("OTP_HASH__QUEUE", "1")
        .spawn()
        .await;
    assert_eq!(app.verify_from(CLIENT, EMAIL, "000000").await.status, 400);
    assert_eq!(app.verify_from(CLIENT, EMAIL, "000000").await.status, 429);
    let app = Arc::new(app);
    let mut others = JoinSet::new();
    for number in 0..8 {
        let app = Arc::clone(&app);
        others.spawn(async move {
            let client = format!("198.51.100.{number}");
            app.verify_from(&client, &format!("{number}@example.com"), "000000").await.status
        });
    }
    // Those that are not hashed are refused first.
    assert_eq!(others.join_next().await.map(Result::unwrap), Some(503), "the queue is full");
    let limited = app.verify_from(CLIENT, EMAIL, "000000").await;
    assert_eq!(limited.message(), (429, "Too many requests".to_owned()));
    assert!(limited.header("ratelimit").is_some_and(|limit| limit.starts_with("\"ip_attempts\"")));
    // What is not hashed does not wait either.
    assert_eq!(app.verify_from("198.51.100.99", EMAIL, "abc").await.status, 400);
    let statuses = others.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 400).count(), 2, "{statuses:?}");
}

#[tokio::test]
async fn a_trusted_proxy_that_names_the_client_elsewhere_is_warned_of_once_with_the_setting_that_takes_it() {
    let send = async |app: &TestApp, number: u32| {
        let request = app.request(reqwest::Method::POST, "/send-otp");
        let request = request.header("x-real-ip", format!("192.0.2.{number}"));
        let request = request.header("content-type", "application/json");
        app.answer(request.body(format!(r#"{{"email":"a{number}@example.com"}}"#))).await.status
    };
    let app = TestApp::limited().spawn().await;
    // The probe of a load balancer names no client and does not have to.
    assert_eq!(app.get("/readyz").await.status, 200);
    assert!(!app.whole_log().await.contains("OTP_HTTP__FORWARDED_HEADER"));
    for number in 1..=30 {
        assert_eq!(send(&app, number).await, 200);
    }
    assert_eq!(send(&app, 31).await, 429);
    let log = app.whole_log().await;
    assert_eq!(log.matches("OTP_HTTP__FORWARDED_HEADER=x-real-ip").count(), 1, "{log}");
    assert!(!log.contains("192.0.2."), "the log names no client");

    // The fix that the warning names works.
    let app = TestApp::limited().set("OTP_HTTP__FORWARDED_HEADER", "x-real-ip").spawn().await;
    for number in 1..=31 {
        assert_eq!(send(&app, number).await, 200);
    }
    assert!(!app.whole_log().await.contains("a peer in OTP_HTTP__TRUSTED_PROXIES"));
}

/// An exempt network, for example of a probe or an office. Without the exemption, it would reach
/// every limit per IP at once.
fn with_an_exempt_network() -> Builder {
    TestApp::limited()
        .keyed()
        .set("OTP_LIMITS__EXEMPT_NETWORKS", "192.0.2.0/24, 2001:db8::/32")
        .set("OTP_LIMITS__IP_SENDS", "2/1h")
        .set("OTP_LIMITS__IP_ATTEMPTS", "2/1h")
}

#[tokio::test]
async fn exempt_networks_are_not_counted_per_ip() {
    let app = with_an_exempt_network().spawn().await;
    for client in [CLIENT, "2001:db8:1::1"] {
        for number in 0..6 {
            let email = format!("{number}.{}@example.com", client.len());
            let sent = app.send_from(client, &email).await;
            assert_eq!((sent.status, sent.header("ratelimit")), (200, None), "{sent:?}");
            let wrong = app.verify_from(client, &email, "000000").await;
            assert_eq!((wrong.status, wrong.header("ratelimit-policy")), (400, None), "{wrong:?}");
        }
    }
    let dump = app.redis.dump().await.into_iter();
    assert_eq!(
        dump.filter(|(key, ..)| key.starts_with(b"otp:{n:")).count(),
        0,
        "no ledger of a network is kept"
    );
    for number in 0..3 {
        let status = app.send_from("198.51.100.1", &format!("b{number}@example.com")).await.status;
        assert_eq!(status, if number < 2 { 200 } else { 429 }, "others are counted");
    }
}

#[tokio::test]
async fn the_load_of_an_exempt_network_is_not_shed() {
    let app = with_an_exempt_network()
        .set("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "1")
        .set("OTP_LIMITS__IP_REQUESTS_BURST", "3")
        .spawn()
        .await;
    let statuses = async |client: &str| {
        let mut statuses = Vec::new();
        for _ in 0..8 {
            statuses.push(app.verify_from(client, "nobody", "1").await.status);
        }
        statuses
    };
    assert_eq!(statuses(CLIENT).await, [400; 8]);
    assert!(statuses("198.51.100.1").await.contains(&429), "others are shed");
}

#[tokio::test]
async fn an_exempt_network_gets_no_more_of_one_address_than_others() {
    let app = with_an_exempt_network().spawn().await;
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 200);
    let again = app.send_from(CLIENT, EMAIL).await;
    assert_eq!((again.status, limit_state_of(&again).0), (429, "email_sends".to_owned()));
    for number in 0..11 {
        let wrong = app.verify_from(CLIENT, EMAIL, "000000").await;
        if number < 10 {
            assert_eq!(wrong.status, 400, "{number}");
        } else {
            assert_eq!((wrong.status, limit_state_of(&wrong).0), (429, "ip_email_attempts".to_owned()));
        }
    }
}

#[tokio::test]
async fn an_end_user_in_an_exempt_network_is_not_counted_per_ip() {
    let app = with_an_exempt_network().spawn().await;
    let caller = app.caller(1);
    for number in 0..4 {
        let body = serde_json::json!({ "email": format!("{number}@example.com"), "end_user_ip": CLIENT });
        let created = caller.create(&body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let told = created.header("ratelimit-policy").unwrap_or_default();
        assert!(!told.contains("ip_sends"), "{told}");
        let id = created.json()["id"].as_str().expect("an id").to_owned();
        let body = r#"{"code":"000000","end_user_ip":"192.0.2.1"}"#;
        assert_eq!(caller.post(&format!("/v1/verifications/{id}/check"), body).await.problem().0, 422);
    }
}

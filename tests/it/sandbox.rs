//! Sandbox keys: a whole sign-up without mail, apart from everything that is live.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::commands::{run, text};
use crate::support::app::{Answer, TestApp, eventually};
use crate::support::dns::DnsServer;
use crate::support::v1::{Caller, hash, key, sandbox_hash, sandbox_key};
use crate::verifications::proven;

const EMAIL: &str = "tester@kestrel.example";

fn id(created: &Answer) -> String {
    assert_eq!(created.status, 201, "{created:?}");
    created.json()["id"].as_str().expect("an id").to_owned()
}

fn member<'a>(mail: &'a Value, name: &str) -> &'a str {
    mail[name].as_str().unwrap_or_else(|| panic!("no {name}: {mail}"))
}

fn empty(answer: &Answer) {
    assert_eq!((answer.status, answer.json()), (200, json!([])));
}

fn unknown(answer: &Answer) {
    assert_eq!(answer.problem(), (404, "verification_not_found".to_owned()));
}

/// Returns the policy of the limit that the answer names.
fn limited(answer: &Answer) -> String {
    assert_eq!(answer.problem(), (429, "rate_limited".to_owned()));
    answer.json()["policy"].as_str().expect("a policy").to_owned()
}

#[tokio::test]
async fn a_sign_up_is_tested_from_its_start_to_its_proof_without_mail() {
    let app = TestApp::builder().sandboxed().set("OTP_MAIL__BRAND", "Shop").spawn().await;
    let caller = app.sandbox(1);
    let body = json!({ "email": EMAIL, "purpose": "login", "locale": "de-AT", "end_user_ip": "192.0.2.7" });
    let created = caller.create(&body).await;
    let id = id(&created);
    let [mail] = <[Value; 1]>::try_from(caller.mails().await).expect("one mail");
    let created = created.json();
    assert_eq!((member(&mail, "id"), member(&mail, "to")), (id.as_str(), EMAIL));
    assert_eq!(created["test"], true, "{created}");
    assert_eq!((&mail["reference"], &mail["expires_at"]), (&created["reference"], &created["expires_at"]));
    assert_eq!(member(&mail, "locale"), "de");
    let subject = member(&mail, "subject");
    assert!(subject.contains("Shop") && subject.contains(member(&mail, "reference")), "{mail}");
    let code = member(&mail, "code");
    assert_eq!(member(&mail, "text").lines().filter(|line| *line == code).count(), 1, "{mail}");
    assert!(member(&mail, "html").contains(code) && member(&mail, "html").contains("<html"), "{mail}");
    let received_at = humantime::parse_rfc3339(member(&mail, "received_at")).expect("a time");
    let expires_at = humantime::parse_rfc3339(member(&mail, "expires_at")).expect("a time");
    assert!((299..=301).contains(&expires_at.duration_since(received_at).expect("later").as_secs()));

    let wrong = if code == "000000" { "000001" } else { "000000" };
    assert_eq!(caller.check(&id, wrong).await.json()["attempts_remaining"], 4);
    let checked = caller.check(&id, code).await;
    assert_eq!(checked.status, 200, "{checked:?}");
    let (_, claims) = proven(&app, member(&checked.json(), "proof")).await;
    for (claim, value) in [
        ("test", json!(true)),
        ("aud", json!("default")),
        ("sub", json!(EMAIL)),
        ("purpose", json!("login")),
        ("jti", json!(id)),
    ] {
        assert_eq!(claims[claim], value, "{claim}: {claims}");
    }
    let shown = caller.show(&id).await.json();
    let (_, claims) = proven(&app, member(&shown, "proof")).await;
    assert_eq!(claims["test"], true);
    assert_eq!(app.smtp.connections(), 0);
}

#[tokio::test]
async fn each_resend_is_captured_and_a_query_selects_a_recipient() {
    let app = TestApp::builder().sandboxed().spawn().await;
    let caller = app.sandbox(1);
    let first = caller.start("a+x@kestrel.example").await;
    let other = caller.start("b@kestrel.example").await;
    assert_eq!(caller.resend(&first).await.status, 200);
    let mails = caller.mails().await;
    let ids: Vec<_> = mails.iter().map(|mail| member(mail, "id")).collect();
    assert_eq!(ids, [&first, &other, &first], "newest first");
    for (query, count) in [
        ("?to=a%2Bx@kestrel.example", 2),
        ("?to=a+x@kestrel.example", 2),
        ("?to=A%2BX@KESTREL.example", 2),
        ("?to=%20b@kestrel.example", 1),
        ("?to=nobody@kestrel.example", 0),
    ] {
        let listed = caller.test_mails(query).await;
        assert_eq!(listed.json().as_array().map(Vec::len), Some(count), "{query}: {listed:?}");
    }
    for query in ["?to=nobody", "?to="] {
        let refused = caller.test_mails(query).await;
        assert_eq!(refused.problem(), (400, "malformed_request".to_owned()), "{query}");
        assert!(refused.json()["detail"].as_str().expect("a text").contains("`to`"), "{refused:?}");
    }
    // The code of the resend is the live one.
    assert_eq!(caller.check(&first, member(&mails[0], "code")).await.status, 200);
    assert_eq!(caller.cancel(&other).await.status, 204);
    assert!(app.smtp.mails().is_empty());
}

#[tokio::test]
async fn a_sandbox_and_what_is_live_see_nothing_of_each_other() {
    let app = TestApp::builder().sandboxed().spawn().await;
    let (live, sandbox) = (app.caller(1), app.sandbox(1));
    let body = json!({ "email": EMAIL });
    let of_live = id(&live.create_under("one", &body).await);
    // The same idempotency key, also with another body.
    let of_sandbox = id(&sandbox.create_under("one", &body).await);
    assert_ne!(of_live, of_sandbox);
    let other_body = json!({ "email": "other@kestrel.example" });
    id(&sandbox.create_under("two", &other_body).await);
    let third_body = json!({ "email": "third@kestrel.example" });
    assert_eq!(id(&live.create_under("two", &third_body).await).len(), 22);
    assert_eq!(id(&sandbox.create_under("one", &body).await), of_sandbox, "repeated");
    let captured = sandbox.mails().await;
    assert_eq!(captured.len(), 2, "a repeated request captures nothing");
    let codes = (app.smtp.last_code_to(EMAIL), member(&captured[1], "code").to_owned());
    for (caller, foreign, code) in [(&live, &of_sandbox, &codes.1), (&sandbox, &of_live, &codes.0)] {
        unknown(&caller.show(foreign).await);
        unknown(&caller.check(foreign, code).await);
        unknown(&caller.check(foreign, "no code").await);
        unknown(&caller.resend(foreign).await);
        unknown(&caller.cancel(foreign).await);
    }
    // None of that changed anything.
    for (caller, own, code) in [(&live, &of_live, &codes.0), (&sandbox, &of_sandbox, &codes.1)] {
        assert_eq!(caller.show(own).await.json()["attempts_remaining"], 5);
        let proof = caller.check(own, code).await.json()["proof"].as_str().expect("a proof").to_owned();
        let (_, claims) = proven(&app, &proof).await;
        assert_eq!(claims["test"].as_bool(), (own == &of_sandbox).then_some(true), "{claims}");
    }
    assert_eq!(app.smtp.mails().len(), 2, "those of the live key");
}

#[tokio::test]
async fn mails_are_listed_for_the_sandbox_key_that_caused_them_and_for_no_other() {
    let app = TestApp::builder().sandboxed().spawn().await;
    let id = app.sandbox(1).start(EMAIL).await;
    for live in [1, 2] {
        empty(&app.caller(live).test_mails("").await);
        empty(&app.caller(live).test_mails(&format!("?to={EMAIL}")).await);
    }
    assert!(app.sandbox(2).mails().await.is_empty());
    for nobody in [app.get("/v1/test/mails").await, app.sandbox(9).test_mails("").await] {
        assert_eq!(nobody.problem(), (401, "unauthenticated".to_owned()));
    }
    // The sandbox is the tenant's, so another key may resend; it then gets the mail.
    assert_eq!(app.sandbox(2).resend(&id).await.status, 200);
    assert_eq!((app.sandbox(1).mails().await.len(), app.sandbox(2).mails().await.len()), (1, 1));
}

#[tokio::test]
async fn what_one_process_captures_another_lists() {
    let app = TestApp::builder().sandboxed().spawn().await;
    let another = app.another("OTP_MAIL__BRAND", "Another").await;
    let id = app.sandbox(1).start(EMAIL).await;
    let mails = another.sandbox(1).mails().await;
    assert_eq!(mails, app.sandbox(1).mails().await);
    assert_eq!(another.sandbox(1).check(&id, member(&mails[0], "code")).await.status, 200);
}

#[tokio::test]
async fn of_sixty_mails_the_newest_fifty_are_listed() {
    let app = TestApp::builder().sandboxed().spawn().await;
    let caller = app.sandbox(1);
    for number in 0..60 {
        caller.start(&format!("tester{number}@kestrel.example")).await;
    }
    let listed: Vec<_> = caller.mails().await.iter().map(|mail| member(mail, "to").to_owned()).collect();
    let expected: Vec<_> = (10..60).rev().map(|number| format!("tester{number}@kestrel.example")).collect();
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn the_limits_hold_in_a_sandbox_and_use_up_nothing_that_is_live() {
    let app = TestApp::limited()
        .sandboxed()
        .set("OTP_LIMITS__IP_SENDS", "2/1h")
        .set("OTP_LIMITS__IP_ATTEMPTS", "2/1h")
        .spawn()
        .await;
    let create = async |caller: &Caller<'_>, email: &str, ip: &str| {
        caller.create(&json!({ "email": email, "end_user_ip": ip })).await
    };
    // Each kind of key meets its limits, and then the other one still has all of its own.
    for caller in [app.sandbox(1), app.caller(1)] {
        let created = id(&create(&caller, "a@kestrel.example", "192.0.2.1").await);
        assert_eq!(limited(&create(&caller, "a@kestrel.example", "192.0.2.2").await), "email_sends");
        assert_eq!(create(&caller, "b@kestrel.example", "192.0.2.1").await.status, 201);
        assert_eq!(limited(&create(&caller, "c@kestrel.example", "192.0.2.1").await), "ip_sends");
        let attempt = json!({ "code": "no digits", "end_user_ip": "192.0.2.1" }).to_string();
        let path = format!("/v1/verifications/{created}/check");
        assert_eq!(caller.post(&path, &attempt).await.status, 422);
        let attempt = attempt.replace("no digits", "0000000");
        for _ in 0..2 {
            assert_eq!(caller.post(&path, &attempt).await.problem(), (422, "invalid_code".to_owned()));
        }
        assert_eq!(limited(&caller.post(&path, &attempt).await), "ip_attempts");
    }
}

#[tokio::test]
async fn the_limit_over_all_tenants_is_one_of_all_sandboxes_and_another_of_people() {
    let shop = format!(
        "[[tenants]]\nname = \"shop\"\nkeys = [\"{}\"]\nsandbox_keys = [\"{}\"]\n",
        hash(3),
        sandbox_hash(3)
    );
    let app = TestApp::builder().sandboxed().config(&shop).set("OTP_LIMITS__EMAIL_SENDS_TOTAL", "3/1h");
    let app = app.spawn().await;
    let body = json!({ "email": EMAIL });
    for callers in [[app.sandbox(1), app.sandbox(3)], [app.caller(1), app.caller(3)]] {
        let [one, other] = callers;
        assert_eq!([one.create(&body).await.status, other.create(&body).await.status], [201, 201]);
        assert_eq!(one.create(&body).await.status, 201);
        assert_eq!(limited(&one.create(&body).await), "email_sends_total");
        assert_eq!(limited(&other.create(&body).await), "email_sends_total");
    }
    // An operator empties both.
    let settings: Vec<_> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let said = run(folder.path(), &settings, &["unblock", EMAIL]);
    assert!(text(&said.stdout).contains("2 ledgers were emptied"), "{said:?}");
    assert_eq!(app.sandbox(1).create(&body).await.status, 201);
}

#[tokio::test]
async fn a_test_needs_neither_the_relay_nor_its_day_nor_a_domain_that_takes_mail() {
    let dns = DnsServer::start().await;
    let app = TestApp::builder().sandboxed().set("OTP_LIMITS__RELAY_EMAILS_PER_DAY", "1");
    let app = app.set("OTP_DOMAINS__CHECK_MX", "true").set("OTP_DNS__SERVERS", &dns.address());
    let app = app.spawn().await;
    for _ in 0..3 {
        app.sandbox(1).start("a@nullmx.test").await;
    }
    let refused = app.caller(1).create(&json!({ "email": "a@nullmx.test" })).await;
    assert_eq!(refused.problem(), (422, "email_not_allowed".to_owned()));
    app.caller(1).start("a@good.test").await;
    assert_eq!(app.caller(1).create(&json!({ "email": "b@good.test" })).await.status, 503);
    app.smtp.stop();
    let id = app.sandbox(1).start("a@good.test").await;
    assert_eq!(app.sandbox(1).resend(&id).await.status, 200);
    assert_eq!(app.sandbox(1).mails().await.len(), 5);
}

#[tokio::test]
async fn a_key_is_known_in_its_own_list_by_its_own_prefix_only() {
    let app = TestApp::builder().keyed();
    // The hash of a live key in the list of the sandbox, and the other way round.
    let app = app.set("OTP_TENANT__SANDBOX_KEYS", &format!("{},{}", sandbox_hash(1), hash(5)));
    let app = app.set("OTP_TENANT__KEYS", &format!("{},{}", hash(1), sandbox_hash(6))).spawn().await;
    for wrong in [key(5), sandbox_key(5), key(6), sandbox_key(6)] {
        let refused = app.caller_with(&wrong).create(&json!({ "email": EMAIL })).await;
        assert_eq!(refused.problem(), (401, "unauthenticated".to_owned()), "{wrong}");
    }
    app.caller(1).start(EMAIL).await;
    app.sandbox(1).start(EMAIL).await;
}

#[tokio::test]
async fn a_sandbox_key_opens_nothing_at_the_simple_endpoints() {
    let app = TestApp::builder().sandboxed().set("OTP_SIMPLE__ACCESS", "keyed").spawn().await;
    let send = async |key: &str| {
        let request = app.request(Method::POST, "/send-otp").bearer_auth(key);
        let request = request.header("content-type", "application/json");
        app.answer(request.body(json!({ "email": EMAIL }).to_string())).await
    };
    assert_eq!(send(&sandbox_key(1)).await.status, 401);
    assert!(app.smtp.mails().is_empty());
    assert_eq!(send(&key(1)).await.status, 200);
    // Where they are open to everybody, the key makes no difference: a person gets the mail.
    let open = app.another("OTP_SIMPLE__ACCESS", "open").await;
    let request = open.request(Method::POST, "/send-otp").bearer_auth(sandbox_key(1));
    let request = request.header("content-type", "application/json");
    let answer = open.answer(request.body(json!({ "email": EMAIL }).to_string())).await;
    assert_eq!((answer.status, app.smtp.mails().len()), (200, 2));
    assert!(open.sandbox(1).mails().await.is_empty());
}

#[tokio::test]
async fn at_the_simple_endpoints_the_load_of_a_sandbox_key_is_shed() {
    let app = TestApp::builder()
        .sandboxed()
        .set("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "1")
        .set("OTP_LIMITS__IP_REQUESTS_BURST", "2")
        .spawn()
        .await;
    let status = async |key: String| {
        let request = app.request(Method::POST, "/verify-otp").bearer_auth(key);
        app.answer(request.header("content-type", "application/json").body("{")).await.status
    };
    let (mut with_live, mut with_sandbox) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..6 {
        with_live.insert(status(key(1)).await);
        with_sandbox.insert(status(sandbox_key(1)).await);
    }
    assert_eq!(with_live, BTreeSet::from([400]));
    assert!(with_sandbox.contains(&429), "{with_sandbox:?}");
}

#[tokio::test]
async fn sandbox_keys_are_reloaded_and_a_tenant_may_have_no_others() {
    let with = |keys: &str| format!("[[tenants]]\nname = \"shop\"\nsandbox_keys = [{keys}]\n");
    let one = format!("\"{}\"", sandbox_hash(3));
    let two = format!("{one}, \"{}\"", sandbox_hash(4));
    let app = TestApp::builder().config(&with(&two)).spawn().await;
    app.sandbox(3).start(EMAIL).await;
    let id = app.sandbox(4).start(EMAIL).await;
    app.reload(&with(&one));
    eventually("it is revoked", async || app.sandbox(4).show(&id).await.status == 401).await;
    assert_eq!(app.sandbox(3).show(&id).await.status, 200);
    assert_eq!(app.sandbox(3).mails().await.len(), 1);
    let log = app.whole_log().await;
    assert!(log.contains(r#""tenants":1,"keys":1"#), "{log}");
}

#[tokio::test]
async fn a_list_takes_a_token_of_the_key_and_fails_without_redis() {
    let app = TestApp::builder().sandboxed().set("OTP_LIMITS__KEY_CHECKS_PER_MINUTE", "2").spawn().await;
    app.sandbox(1).mails().await;
    let listed = app.sandbox(1).test_mails("").await;
    assert!(listed.header("ratelimit").expect("told").starts_with("\"key\";r=0;"), "{listed:?}");
    assert_eq!(limited(&app.sandbox(1).test_mails("").await), "key");
    app.sandbox(2).start(EMAIL).await;
    app.redis.stop();
    assert_eq!(app.sandbox(2).test_mails("").await.problem(), (503, "unavailable".to_owned()));
    assert_eq!(app.sandbox(2).create(&json!({ "email": EMAIL })).await.problem().0, 503);
}

#[tokio::test]
async fn the_audit_log_says_that_it_was_a_test_and_the_metrics_count_for_the_tenant() {
    let app = TestApp::limited().sandboxed().spawn().await;
    let caller = app.sandbox(1);
    let id = caller.start(EMAIL).await;
    limited(&caller.create(&json!({ "email": EMAIL })).await);
    caller.check(&id, "00000000").await;
    let code = member(&caller.mails().await[0], "code").to_owned();
    caller.check(&id, &code).await;
    caller.cancel(&id).await;
    app.caller(1).start(EMAIL).await;
    let metrics = app.admin("/metrics").await.body;
    assert!(metrics.contains(r#"otpd_sends_total{tenant="default",outcome="sent"} 2"#), "{metrics}");
    assert_eq!(app.stopped().await.code(), Some(0));
    let audited = app.audited();
    let seen: Vec<_> =
        audited.iter().map(|line| (member(line, "outcome"), &line["verification.test"])).collect();
    let test = json!(true);
    let expected = [
        ("sent", &test),
        ("rate_limited", &test),
        ("wrong", &test),
        ("approved", &test),
        ("closed", &test),
        ("sent", &Value::Null),
    ];
    assert_eq!(seen, expected);
    let tenants: BTreeSet<_> = audited.iter().map(|line| member(line, "tenant.name")).collect();
    assert_eq!(tenants, BTreeSet::from(["default"]));
}

#[tokio::test]
async fn doctor_counts_sandbox_keys_apart() {
    let app = TestApp::builder().sandboxed().spawn().await;
    let settings: Vec<_> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let said = text(&run(folder.path(), &settings, &["doctor"]).stdout);
    assert!(said.contains("API keys each has: default (2, and 2 for tests)"), "{said}");
}

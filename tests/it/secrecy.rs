//! What must never be stored or logged: codes and addresses in Redis, personal data and secrets in
//! the log.

use std::time::Duration;

use serde_json::json;

use crate::support::app::{Builder, SENDER, TestApp, one_pepper};
use crate::support::smtp::{Fault, SmtpPeer};
use crate::support::v1::key;
use crate::test_recipients::{CODE, HASH, in_days};

/// Addresses whose parts occur nowhere else in the tests.
const PEOPLE: [&str; 3] =
    ["quizzical.person@kestrel.example", "Borogove+tag@kestrel.example", "slithy@wabe.example"];

/// A test recipient, whose parts occur nowhere else in the tests.
const TEST_RECIPIENT: &str = "gimble@tove.example";

/// Sets sandbox keys and a test recipient.
fn with_tests(builder: Builder) -> Builder {
    let entry = format!("{TEST_RECIPIENT} {} {HASH}", in_days(30));
    let builder = builder.sandboxed().set("OTP_TENANT__TEST_DOMAINS", "tove.example");
    builder.set("OTP_TENANT__TEST_RECIPIENTS", &entry)
}

/// Makes the same calls over the v1 API.
async fn full_run_of_v1(app: &TestApp) -> Vec<String> {
    let (caller, mut codes) = (app.caller(1), Vec::new());
    for person in PEOPLE {
        let body = json!({ "email": person, "purpose": "login", "end_user_ip": "198.51.100.237" });
        let created = caller.create_under(&format!("key-of-{}", person.len()), &body).await;
        let id = created.json()["id"].as_str().expect("an id").to_owned();
        codes.push(app.smtp.last_code_to(person));
        caller.check(&id, "314159").await;
        caller.resend(&id).await;
        codes.push(app.smtp.last_code_to(person));
        caller.show(&id).await;
        if person == PEOPLE[0] {
            assert_eq!(caller.check(&id, codes.last().expect("a code")).await.status, 200);
        }
        caller.cancel(&id).await;
    }
    app.smtp.set(Fault::CloseAfterContent);
    assert_eq!(caller.create(&json!({ "email": PEOPLE[1] })).await.status, 502);
    app.smtp.set(Fault::None);
    caller.create(&json!({ "email": PEOPLE[0], "nickname": "quizzical" })).await;
    app.caller(9).create(&json!({ "email": PEOPLE[0] })).await;
    codes.extend(full_run_of_a_sandbox(app).await);
    let id = caller.start(TEST_RECIPIENT).await;
    assert_eq!(caller.check(&id, "314159").await.status, 422);
    assert_eq!(caller.resend(&id).await.status, 200);
    assert_eq!(caller.check(&id, CODE).await.status, 200);
    codes.push(CODE.to_owned());
    codes
}

/// Makes the calls of a test with a sandbox key.
async fn full_run_of_a_sandbox(app: &TestApp) -> Vec<String> {
    let caller = app.sandbox(1);
    for person in PEOPLE {
        let id = caller.start(person).await;
        assert_eq!(caller.check(&id, "314159").await.status, 422);
        assert_eq!(caller.resend(&id).await.status, 200);
        caller.test_mails(&format!("?to={person}")).await;
    }
    app.caller(1).test_mails("").await;
    let mails = caller.mails().await;
    assert_eq!(mails.len(), 2 * PEOPLE.len());
    let newest = |member: &str| mails[0][member].as_str().expect("a text").to_owned();
    assert_eq!(caller.check(&newest("id"), &newest("code")).await.status, 200);
    mails.iter().map(|mail| mail["code"].as_str().expect("a code").to_owned()).collect()
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle.as_bytes()))
}

/// Returns the parts of an address that must not be found.
fn parts_of(email: &str) -> Vec<&str> {
    let (local, domain) = email.split_once('@').expect("an address");
    vec![email, local.split('+').next().unwrap_or(local), domain]
}

/// Makes one of each call: sends, wrong attempts, an approval, a resend, refused and unknown
/// emails, bad input.
async fn full_run(app: &TestApp) -> Vec<String> {
    let mut codes = Vec::new();
    for person in PEOPLE {
        codes.push(app.code_for(person).await);
        app.verify_otp(person, "314159").await;
        codes.push(app.code_for(person).await);
    }
    assert_eq!(app.verify_otp(PEOPLE[0], &codes[1]).await.status, 200);
    for fault in
        [Fault::RefuseRecipient, Fault::CloseAfterContent, Fault::CloseOnConnect, Fault::GarbageReply]
    {
        app.smtp.set(fault);
        assert_eq!(app.send_otp(PEOPLE[1]).await.status, 500);
    }
    app.smtp.set(Fault::None);
    codes.push(app.code_for(PEOPLE[1]).await);
    codes.extend(full_run_of_v1(app).await);
    app.post("/verify-otp", &format!(r#"{{"email":"{}","otp":314159,"otp":1}}"#, PEOPLE[0])).await;
    app.get(&format!("/{}?email={}", PEOPLE[0], PEOPLE[0])).await;
    codes
}

#[tokio::test]
async fn a_dump_of_redis_holds_no_code_and_no_address_and_every_key_expires() {
    let app = with_tests(TestApp::builder()).spawn().await;
    let codes = full_run(&app).await;
    let dump = app.redis.dump().await;
    assert!(dump.len() >= 2, "something is stored: {dump:?}");
    let rdb = app.redis.rdb().await;
    for (key, value, ttl) in &dump {
        let name = String::from_utf8_lossy(key);
        assert!(name.starts_with("otp:{"), "{name}");
        // Only the result under an idempotency key is stored for a day.
        let most =
            if name.starts_with("otp:{i:") { Duration::from_hours(24) } else { Duration::from_mins(65) };
        assert!((1..=most.as_millis().try_into().expect("small")).contains(ttl), "{name}: {ttl}");
        for person in PEOPLE.into_iter().chain([TEST_RECIPIENT]) {
            for part in parts_of(person) {
                assert!(!contains(key, part) && !contains(value, part) && !contains(&rdb, part), "{part}");
            }
        }
        for code in &codes {
            assert!(!contains(key, code) && !contains(value, code), "{code} in {name}");
        }
    }
}

/// Returns a log line without its times and its request id.
fn without_numbers(line: &str) -> String {
    let mut line: serde_json::Value = serde_json::from_str(line).expect("a line of JSON");
    let fields = line.as_object_mut().expect("an object");
    fields.retain(|name, _| !["timestamp", "duration_ms"].contains(&name.as_str()));
    for span in fields.get_mut("spans").and_then(|spans| spans.as_array_mut()).into_iter().flatten() {
        span.as_object_mut().expect("an object").remove("request.id");
    }
    line.to_string()
}

#[tokio::test]
async fn the_log_at_its_finest_holds_nothing_personal_and_nothing_secret() {
    let app = with_tests(TestApp::builder().tls()).spawn().await;
    let codes = full_run(&app).await;
    app.redis.stop();
    assert_eq!(app.send_otp(PEOPLE[2]).await.status, 503);
    assert_eq!(app.stopped().await.code(), Some(0));
    let log = app.log();
    assert!(log.contains(r#""http.route":"/verify-otp""#), "the log says what was served: {log}");
    // Times and random ids contain digits too, and any of them may look like a code.
    let log: Vec<String> = log.lines().map(without_numbers).collect();
    let mut never: Vec<String> =
        PEOPLE.iter().flat_map(|person| parts_of(person)).map(str::to_owned).collect();
    never.extend(parts_of(TEST_RECIPIENT).into_iter().map(str::to_owned));
    never.extend(HASH.rsplit('$').take(2).map(str::to_owned));
    never.extend(codes);
    never.extend(["314159", "127.0.0.1", "198.51.100.237", "relay password", SENDER].map(str::to_owned));
    never.extend([key(1), key(9), "key-of-".to_owned()]);
    never.push(one_pepper().split_once(':').expect("a name").1.to_owned());
    for text in never {
        // The addresses that otpd listens on may be logged.
        let listens = ["\"listening\"", "\"serving metrics\""];
        let is_of_a_listener = |line: &str| listens.iter().any(|listens| line.contains(listens));
        let line = log.iter().find(|line| contains(line.as_bytes(), &text) && !is_of_a_listener(line));
        assert_eq!(line, None, "{text}");
    }
}

#[tokio::test]
async fn a_relay_without_starttls_hears_nothing_worth_keeping() {
    // The settings require STARTTLS and a login with a password; the relay offers neither.
    let app = TestApp::builder()
        .set("OTP_SMTP__TLS", "starttls")
        .set("OTP_SMTP__AUTH", "password")
        .set("EMAIL_PASSWORD", "relay password")
        .spawn()
        .await;
    assert_eq!(app.send_otp(PEOPLE[0]).await.message(), (500, "Failed to send OTP".to_owned()));
    assert!(app.smtp.mails().is_empty());
    let heard = app.smtp.transcript();
    let lines = String::from_utf8_lossy(&heard).lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(matches!(lines.as_slice(), [hello] if hello.starts_with("EHLO ")), "{lines:?}");
    app.process.logged("the relay does not offer STARTTLS").await;
    for text in ["AUTH", "MAIL", "RCPT", "DATA", "relay password"].iter().copied().chain(parts_of(PEOPLE[0]))
    {
        assert!(!contains(&heard, text), "{text}");
    }
}

#[tokio::test]
async fn a_relay_with_a_certificate_of_nobody_hears_no_password() {
    let stranger = SmtpPeer::builder().start().await;
    let authorities = stranger.ca_file().display().to_string();
    let app = TestApp::builder().tls().set("SSL_CERT_FILE", &authorities).spawn().await;
    assert_eq!(app.send_otp(PEOPLE[0]).await.status, 500);
    assert!(app.smtp.mails().is_empty());
    assert!(!contains(&app.smtp.transcript(), "AUTH"));
}

#[tokio::test]
async fn a_relay_that_speaks_tls_from_the_first_byte_gets_mail() {
    let app = TestApp::builder().implicit_tls().spawn().await;
    let code = app.code_for(PEOPLE[0]).await;
    assert!(app.smtp.mails()[0].tls);
    assert!(app.smtp.transcript().is_empty(), "nothing was said outside TLS");
    assert_eq!(app.verify_otp(PEOPLE[0], &code).await.status, 200);
}

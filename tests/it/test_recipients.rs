//! Test recipients: addresses whose code the operator has set. No email is sent to them; all else
//! is as for any address.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, UNIX_EPOCH};

use otpd::adapters::clock::SystemClock;
use otpd::domain::time::{millis, utc_date};
use otpd::ports::Clock as _;
use serde_json::{Value, json};

use crate::commands::{run, text};
use crate::support::app::{Answer, Builder, TestApp, command, eventually, one_pepper};
use crate::support::dns::SilentDnsServer;
use crate::support::smtp::Fault;
use crate::support::v1::{hash, sandbox_hash};
use crate::verifications::proven;

const EMAIL: &str = "reviewer@review.example.com";
const OTHER: &str = "somebody@example.com";
const CLIENT: &str = "198.51.100.237";
/// The code of the hash below, which has the light cost of tests.
pub const CODE: &str = "424242";
const WRONG: &str = "424243";
pub const HASH: &str =
    "$argon2id$v=19$m=64,t=1,p=1$c2l4dGVlbiBieXRlcyBvZg$Mp0Ar1/QG7wmPFy0/AVwtl5WIKFseiLwqykghlN2oCo";
/// An end that has passed.
const PAST: &str = "2020-01-31";

/// Returns the date after this many days.
pub fn in_days(days: u64) -> String {
    let now = SystemClock.now().duration_since(UNIX_EPOCH).map_or(0, millis);
    utc_date(now + days * millis(Duration::from_hours(24)))
}

/// Returns a file of settings with two tenants, of the keys 3 and 4. The first has this test
/// recipient, and sandbox key 3.
fn file(email: &str, end: &str) -> String {
    let domain = email.rsplit_once('@').expect("an address").1;
    let listed = format!("test_domains = \"{domain}\"\ntest_recipients = [\"{email} {end} {HASH}\"]");
    let [shop, sandbox, bank] = [hash(3), sandbox_hash(3), hash(4)];
    format!(
        "[[tenants]]\nname = \"shop\"\nkeys = \"{shop}\"\nsandbox_keys = \"{sandbox}\"\n{listed}\n\
         [[tenants]]\nname = \"bank\"\nkeys = \"{bank}\"\n"
    )
}

fn with_recipient(builder: Builder) -> Builder {
    builder.keyed().config(&file(EMAIL, &in_days(30)))
}

fn id(created: &Answer) -> String {
    assert_eq!(created.status, 201, "{created:?}");
    created.json()["id"].as_str().expect("an id").to_owned()
}

/// Asserts that the relay gets one email, to this address, and returns its code.
async fn mailed(app: &TestApp, email: &str) -> String {
    let mail = app.smtp.await_mail(1).await;
    assert_eq!((app.smtp.mails().len(), &mail.to), (1, &vec![email.to_owned()]));
    app.smtp.take_code_to(email)
}

/// Reloads and waits until it is applied.
async fn reload(app: &TestApp, text: &str) {
    let applied = || app.log().matches("the settings were reloaded").count();
    let before = applied();
    app.reload(text);
    eventually("the reload is applied", async || applied() > before).await;
}

async fn series(app: &TestApp, name: &str) -> Option<String> {
    let metrics = app.admin("/metrics").await.body;
    let mut values = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    values.next().map(str::to_owned)
}

#[tokio::test]
async fn nothing_is_mailed_and_the_code_of_the_settings_gives_a_proof_that_says_test() {
    let app = with_recipient(TestApp::builder()).spawn().await;
    let caller = app.caller(3);
    let body = json!({ "email": EMAIL, "purpose": "login" });
    let created = caller.create_under("k", &body).await;
    let id = id(&created);
    assert_eq!((&created.json()["test"], &created.json()["status"]), (&json!(true), &json!("pending")));
    assert_eq!(created.json()["delivery"]["status"], "accepted");
    let replayed = caller.create_under("k", &body).await;
    assert_eq!((&replayed.json()["id"], &replayed.json()["test"]), (&json!(id), &json!(true)));
    let wrong = caller.check(&id, WRONG).await;
    assert_eq!(
        (wrong.problem().1.as_str(), &wrong.json()["attempts_remaining"]),
        ("invalid_code", &json!(4))
    );
    let resent = caller.resend(&id).await;
    assert_eq!((resent.status, &resent.json()["test"]), (200, &json!(true)));
    let shown = caller.show(&id).await.json();
    assert_eq!((&shown["attempts_remaining"], &shown["delivery"]["status"]), (&json!(4), &json!("accepted")));
    let approved = caller.check(&id, " 424-242 ").await;
    assert_eq!((approved.status, &approved.json()["test"]), (200, &json!(true)));
    let proof = approved.json()["proof"].as_str().expect("a proof").to_owned();
    let (_, claims) = proven(&app, &proof).await;
    assert_eq!(
        (&claims["test"], &claims["sub"], &claims["aud"]),
        (&json!(true), &json!(EMAIL), &json!("shop"))
    );
    let shown = caller.show(&id).await.json();
    assert_eq!((&shown["status"], &shown["test"]), (&json!("approved"), &json!(true)));
    let (_, claims) = proven(&app, shown["proof"].as_str().expect("a proof")).await;
    assert_eq!(claims["test"], true);
    assert_eq!(caller.check(&id, CODE).await.problem().0, 410, "it is approved once");
    // One hash for each code and each attempt.
    assert_eq!(series(&app, "otpd_hash_duration_seconds_count").await.as_deref(), Some("4"));
    assert_eq!(app.compared().await, 2);
    // The only email is one that was sent after all of that.
    assert_eq!(app.smtp.transmissions(), 0);
    caller.start(OTHER).await;
    mailed(&app, OTHER).await;
}

#[tokio::test]
async fn the_audit_log_and_the_metrics_say_that_it_is_a_test() {
    let app = with_recipient(TestApp::builder()).spawn().await;
    let caller = app.caller(3);
    assert_eq!(series(&app, "otpd_test_sends_total{tenant=\"shop\"}").await.as_deref(), Some("0"));
    let id = caller.start(EMAIL).await;
    caller.check(&id, WRONG).await;
    caller.resend(&id).await;
    caller.check(&id, CODE).await;
    let other = caller.start(OTHER).await;
    assert_eq!(caller.check(&other, &app.smtp.last_code_to(OTHER)).await.status, 200);
    for (name, value) in [
        ("otpd_test_sends_total{tenant=\"shop\"}", Some("2")),
        ("otpd_test_sends_total{tenant=\"bank\"}", Some("0")),
        ("otpd_test_sends_total{tenant=\"simple\"}", None),
        ("otpd_sends_total{tenant=\"shop\",outcome=\"sent\"}", Some("3")),
        ("otpd_test_recipients{tenant=\"shop\"}", Some("1")),
        ("otpd_test_recipients{tenant=\"bank\"}", Some("0")),
    ] {
        assert_eq!(series(&app, name).await.as_deref(), value, "{name}");
    }
    reload(&app, &file(EMAIL, &in_days(30)).replace("shop", "store").replace("\"bank\"", "\"shop\"")).await;
    for (tenant, count) in [("store", Some("1")), ("shop", Some("0")), ("bank", None)] {
        let gauge = series(&app, &format!("otpd_test_recipients{{tenant=\"{tenant}\"}}")).await;
        assert_eq!(gauge.as_deref(), count, "{tenant}");
    }
    assert_eq!(app.stopped().await.code(), Some(0));
    let lines = app.audited();
    let of_verifications = lines.iter().filter(|line| line["event"] != "reload");
    let said: Vec<_> = of_verifications
        .map(|line| ["event", "outcome", "verification.test"].map(|name| line[name].clone()))
        .collect();
    let line = |event: &str, outcome: &str, test: Value| [json!(event), json!(outcome), test];
    let expected = [
        line("send", "sent", json!(true)),
        line("attempt", "wrong", json!(true)),
        line("send", "sent", json!(true)),
        line("attempt", "approved", json!(true)),
        line("send", "sent", Value::Null),
        line("attempt", "approved", Value::Null),
    ];
    assert_eq!(said, expected);
}

#[tokio::test]
async fn the_ledgers_and_the_attempts_are_those_of_any_address() {
    let app = with_recipient(TestApp::limited()).spawn().await;
    let caller = app.caller(3);
    let body = json!({ "email": EMAIL, "end_user_ip": CLIENT });
    let created = caller.create(&body).await;
    let id = id(&created);
    assert!(created.header("ratelimit").expect("told").contains("\"ip_sends\";r=29;"), "{created:?}");
    let refused = caller.create(&body).await;
    assert_eq!((refused.problem().0, &refused.json()["policy"]), (429, &json!("email_sends")));
    assert_eq!(caller.resend(&id).await.json()["policy"], "email_sends");
    for left in (0..5).rev() {
        assert_eq!(caller.check(&id, WRONG).await.json()["attempts_remaining"], left);
    }
    let closed = caller.check(&id, CODE).await;
    assert_eq!((closed.problem().0, &closed.json()["verification_status"]), (410, &json!("exhausted")));
    assert_eq!(app.compared().await, 5);
}

#[tokio::test]
async fn neither_the_relay_nor_its_daily_limit_nor_dns_is_needed() {
    let silent = SilentDnsServer::start();
    let app = with_recipient(TestApp::builder())
        .set("OTP_LIMITS__RELAY_EMAILS_PER_DAY", "1")
        .set("OTP_DOMAINS__CHECK_MX", "true")
        .set("OTP_DNS__SERVERS", &silent.address())
        .spawn()
        .await;
    let caller = app.caller(3);
    app.smtp.set(Fault::RefuseRecipient);
    for _ in 0..3 {
        let id = caller.start(EMAIL).await;
        assert_eq!(caller.check(&id, CODE).await.status, 200);
    }
    assert!(!silent.was_asked_about("review"));
    app.smtp.set(Fault::None);
    caller.start(OTHER).await;
    assert!(silent.was_asked_about("example"), "any other domain is asked about");
    assert_eq!(caller.create(&json!({ "email": OTHER })).await.status, 503, "the day of the relay is full");
    caller.start(EMAIL).await;
    mailed(&app, OTHER).await;
}

#[tokio::test]
async fn the_lists_of_domains_apply() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("allow");
    std::fs::write(&list, "example.com\n").expect("written");
    let list = list.display().to_string();
    let app = with_recipient(TestApp::builder()).set("OTP_DOMAINS__ALLOW_FILE", &list).spawn().await;
    let refused = app.caller(3).create(&json!({ "email": EMAIL })).await;
    assert_eq!(refused.problem(), (422, "email_not_allowed".to_owned()));
}

#[tokio::test]
async fn after_its_end_it_is_an_address_as_any_other() {
    let app = TestApp::builder().keyed().config(&file(EMAIL, PAST)).spawn().await;
    let caller = app.caller(3);
    let created = caller.create(&json!({ "email": EMAIL })).await;
    assert!(created.json().get("test").is_none(), "{created:?}");
    let code = mailed(&app, EMAIL).await;
    let id = id(&created);
    if code != CODE {
        assert_eq!(caller.check(&id, CODE).await.problem().1, "invalid_code");
    }
    let approved = caller.check(&id, &code).await.json();
    assert!(approved.get("test").is_none(), "{approved}");
    let (_, claims) = proven(&app, approved["proof"].as_str().expect("a proof")).await;
    assert!(claims.get("test").is_none(), "{claims}");
}

#[tokio::test]
async fn what_ends_between_create_and_check_gives_no_proof() {
    let app = with_recipient(TestApp::builder()).spawn().await;
    let caller = app.caller(3);
    let id = caller.start(EMAIL).await;
    reload(&app, &file(EMAIL, PAST)).await;
    assert_eq!(caller.check(&id, CODE).await.problem().1, "invalid_code", "it has expired");
    reload(&app, &file("b@review.example.com", &in_days(1))).await;
    assert_eq!(caller.check(&id, CODE).await.problem().1, "invalid_code", "it is not listed");
    // A verification that began as a test stays one: no email is sent for it.
    assert_eq!(caller.resend(&id).await.json()["test"], true);
    caller.start(EMAIL).await;
    mailed(&app, EMAIL).await;
    reload(&app, &file(EMAIL, &in_days(1))).await;
    assert_eq!(caller.check(&id, CODE).await.status, 200, "it is listed again");
    // In between nothing could be right.
    assert_eq!(app.compared().await, 1);
}

#[tokio::test]
async fn a_verification_that_did_not_begin_as_a_test_needs_the_code_of_its_email() {
    let app = TestApp::builder().keyed().config(&file(EMAIL, PAST)).spawn().await;
    let caller = app.caller(3);
    let id = caller.start(EMAIL).await;
    let code = mailed(&app, EMAIL).await;
    reload(&app, &file(EMAIL, &in_days(30))).await;
    if code != CODE {
        assert_eq!(caller.check(&id, CODE).await.problem().1, "invalid_code");
    }
    // Its resend is mailed too.
    assert_eq!(caller.resend(&id).await.status, 200);
    let code = mailed(&app, EMAIL).await;
    let approved = caller.check(&id, &code).await.json();
    let (_, claims) = proven(&app, approved["proof"].as_str().expect("a proof")).await;
    assert!(claims.get("test").is_none() && approved.get("test").is_none(), "{claims}");
}

#[tokio::test]
async fn it_is_one_for_its_own_tenant_only_and_never_on_the_simple_endpoints() {
    let app = with_recipient(TestApp::builder()).spawn().await;
    for caller in [app.caller(4), app.caller(1)] {
        let created = caller.create(&json!({ "email": EMAIL })).await;
        assert!(created.json().get("test").is_none(), "{created:?}");
        let code = mailed(&app, EMAIL).await;
        if code != CODE {
            assert_eq!(caller.check(&id(&created), CODE).await.problem().1, "invalid_code");
        }
        assert_eq!(caller.check(&id(&created), &code).await.status, 200);
    }
    let of_test = app.caller(3).start(EMAIL).await;
    assert_eq!(app.caller(4).check(&of_test, CODE).await.problem().0, 404);
    let (listed, other) = (app.send_otp(EMAIL).await, app.send_otp(OTHER).await);
    assert_eq!(listed.clone().without_date_and_id(), other.without_date_and_id());
    assert_eq!(listed.message(), (200, "OTP sent successfully".to_owned()));
    let code = app.smtp.take_code_to(EMAIL);
    if code != CODE {
        assert_eq!(app.verify_otp(EMAIL, CODE).await.message().0, 400);
    }
    let verified = app.verify_otp(EMAIL, &code).await;
    let (_, claims) = proven(&app, verified.header("otp-proof").expect("a proof")).await;
    assert!(claims.get("test").is_none(), "{claims}");
    assert_eq!(app.stopped().await.code(), Some(0));
    let simple: Vec<_> = app.audited().into_iter().filter(|line| line["tenant.name"] == "simple").collect();
    assert!(simple.len() >= 4 && simple.iter().all(|line| line.get("verification.test").is_none()));
}

#[tokio::test]
async fn no_request_makes_one_of_an_address() {
    let app = with_recipient(TestApp::builder()).spawn().await;
    let caller = app.caller(3);
    for member in ["test", "is_test", "code", "test_code"] {
        let refused = caller.create(&json!({ "email": OTHER, member: true })).await;
        assert_eq!(refused.problem(), (400, "malformed_request".to_owned()), "{member}");
        assert_eq!(app.caller(3).create(&json!({ "email": EMAIL, member: false })).await.status, 400);
    }
    // The domain in another case is the same; any other spelling is another address.
    let created = caller.create(&json!({ "email": " reviewer@REVIEW.Example.com " })).await;
    assert_eq!(created.json()["test"], true, "{created:?}");
    for other in [
        "Reviewer@review.example.com",
        "reviewer+a@review.example.com",
        "reviewer.@review.example.com",
        "reviewer@a.review.example.com",
        "reviewer@example.com",
        "reviewer2@review.example.com",
    ] {
        let created = caller.create(&json!({ "email": other })).await;
        if other.contains(".@") {
            assert_eq!(created.problem().1, "invalid_email");
            continue;
        }
        assert!(created.json().get("test").is_none(), "{other}: {created:?}");
        let code = mailed(&app, other).await;
        if code != CODE {
            assert_eq!(caller.check(&id(&created), CODE).await.problem().1, "invalid_code", "{other}");
        }
    }
}

#[tokio::test]
async fn what_is_refused_stops_the_start_and_a_reload() {
    let app = with_recipient(TestApp::builder()).spawn().await;
    let refused = || app.log().matches("the settings were not reloaded").count();
    app.reload(&file(EMAIL, &in_days(92)));
    eventually("the reload is refused", async || refused() == 1).await;
    let log = app.whole_log().await;
    assert!(log.contains("entry 1 ends in more than 90 days"), "{log}");
    let id = app.caller(3).start(EMAIL).await;
    assert_eq!(app.caller(3).check(&id, CODE).await.status, 200, "the settings of the start apply");
    let folder = tempfile::tempdir().expect("a folder");
    let entry = format!("{EMAIL} {} {HASH}", in_days(1));
    let peppers = one_pepper();
    let settings =
        [("OTP_TENANT__TEST_RECIPIENTS", entry.as_str()), ("OTP_SECRETS__PEPPERS", peppers.as_str())];
    let output = run(folder.path(), &settings, &["serve"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("entry 1 is at a domain that is not in test_domains"), "{said}");
    assert!(said.contains("\n    OTP_TENANT__TEST_DOMAINS=review.example.com"), "{said}");
    assert!(!said.contains("reviewer") && !said.contains("argon2id$"), "{said}");
}

#[tokio::test]
async fn a_hash_that_needs_more_memory_than_that_of_the_start_takes_a_restart() {
    let with_memory = |kib: u32| {
        let text = file(EMAIL, &in_days(30)).replace("m=64", &format!("m={kib}"));
        format!("[hash]\nmemory_kib = {kib}\n{text}")
    };
    let builder = TestApp::builder().set("OTP_HASH__MEMORY_KIB", "").config(&with_memory(64));
    let app = builder.spawn().await;
    app.reload(&with_memory(128));
    app.logged("a test recipient has a hash that needs the new OTP_HASH__MEMORY_KIB").await;
    let id = app.caller(3).start(EMAIL).await;
    assert_eq!(app.caller(3).check(&id, CODE).await.status, 200, "the settings of the start apply");
    reload(&app, &with_memory(64).replace("kib = 64", "kib = 128")).await;
}

#[tokio::test]
async fn keygen_makes_the_entry_of_a_code_and_doctor_reports_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let keygen = |typed: &str| {
        let mut command = command(folder.path(), &[].into());
        command.args(["keygen", "test-code", EMAIL, "--stdin", "--days", "3"]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut child = piped.expect("the binary starts");
        child.stdin.take().expect("piped").write_all(typed.as_bytes()).expect("written");
        child.wait_with_output().expect("it ends")
    };
    assert_eq!(keygen("12345\n").status.code(), Some(1));
    let printed = text(&keygen(" 135-790\n").stdout);
    assert!(!printed.contains("135790") && !printed.contains("code "), "{printed}");
    let entry = printed.lines().find_map(|line| line.strip_prefix("entry  ")).expect("an entry");
    // In the settings of a deployment that has as much memory as the hash needs.
    let app = TestApp::builder()
        .keyed()
        .set("OTP_HASH__MEMORY_KIB", "7168")
        .set("OTP_TENANT__TEST_DOMAINS", "review.example.com")
        .set("OTP_TENANT__TEST_RECIPIENTS", &format!("{entry},old@review.example.com {PAST} {HASH}"))
        .spawn()
        .await;
    let id = app.caller(1).start(EMAIL).await;
    assert_eq!(app.caller(1).check(&id, "531097").await.problem().1, "invalid_code");
    assert_eq!(app.caller(1).check(&id, "135790").await.json()["test"], true);
    let settings: Vec<_> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let said = text(&run(folder.path(), &settings, &["doctor"]).stdout);
    for line in [
        "note  test recipients of tenant default: 1 at review.example.com; ".to_owned(),
        "note  test recipients of tenant default that end within 7 days: 1".to_owned(),
        "note  test recipients of tenant default that have expired: 1 at review.example.com".to_owned(),
    ] {
        assert!(said.contains(&line), "{said}");
    }
    assert!(
        said.contains(&format!("the next one ends on {}", in_days(3))) || said.contains(&in_days(2)),
        "{said}"
    );
    assert!(!said.contains("reviewer@") && !said.contains("argon2id"), "{said}");
}

#[tokio::test]
async fn in_a_sandbox_a_listed_address_has_the_code_of_its_captured_email() {
    let app = with_recipient(TestApp::builder()).spawn().await;
    let caller = app.sandbox(3);
    let id = caller.start(EMAIL).await;
    let code = caller.mails().await[0]["code"].as_str().expect("a code").to_owned();
    if code != CODE {
        assert_eq!(caller.check(&id, CODE).await.problem(), (422, "invalid_code".to_owned()));
    }
    assert_eq!(caller.check(&id, &code).await.status, 200);
}

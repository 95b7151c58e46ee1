//! What relays do, and what happens to the answer, the emails and the code; two relays; processes
//! that end during a send.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::support::app::{SENDER, TestApp, eventually};
use crate::support::smtp::{Fault, SmtpPeer};

/// What a relay does and its outcome: the answers, the emails at all relays, and the code.
struct Row {
    relay: &'static str,
    setting: Setting,
    simple: u16,
    v1: &'static str,
    mails: usize,
    code: &'static str,
}

/// The state of the relays before each send.
#[derive(Clone, Copy)]
enum Setting {
    One(Fault),
    Gone,
    Two(Fault, Fault),
    FirstGone,
}

const MATRIX: [Row; 18] = [
    row("takes the mail", Setting::One(Fault::None), 200, "201", 1, "lives"),
    row("refuses the connection", Setting::Gone, 500, "502", 0, "dead"),
    row("closes the connection at once", Setting::One(Fault::CloseOnConnect), 500, "502", 0, "dead"),
    row(
        "closes once it has the message",
        Setting::One(Fault::CloseAfterContent),
        500,
        "502 with `id`",
        1,
        "lives",
    ),
    row(
        "falls silent once it has the message",
        Setting::One(Fault::SilentAfterContent),
        500,
        "502 with `id`",
        1,
        "lives",
    ),
    row("answers 421 and closes", Setting::One(Fault::HangUp), 500, "502", 0, "dead"),
    row(
        "answers 451 twice, then takes it",
        Setting::One(Fault::RefuseRecipientTransiently { times: 2 }),
        200,
        "201",
        1,
        "lives",
    ),
    row("answers 550 to the recipient", Setting::One(Fault::RefuseRecipient), 500, "502", 0, "dead"),
    row("answers 554 to the message", Setting::One(Fault::RefuseContent), 500, "502", 0, "dead"),
    row("takes it after 3 s", Setting::One(Fault::Slow(Duration::from_secs(3))), 200, "201", 1, "lives"),
    row("has closed its idle connections", Setting::One(Fault::DropIdle), 200, "201", 1, "lives"),
    row("is down; the second is up", Setting::FirstGone, 200, "201", 1, "lives"),
    row(
        "never greets; the second is up",
        Setting::Two(Fault::NoGreeting, Fault::None),
        200,
        "201",
        1,
        "lives",
    ),
    row(
        "answers 550; the second takes it",
        Setting::Two(Fault::RefuseRecipient, Fault::None),
        200,
        "201",
        1,
        "lives",
    ),
    row(
        "answers 554 to the message; the second takes it",
        Setting::Two(Fault::RefuseContent, Fault::None),
        200,
        "201",
        1,
        "lives",
    ),
    row(
        "answers 451 twice, then takes it; the second 550",
        Setting::Two(Fault::RefuseRecipientTransiently { times: 2 }, Fault::RefuseRecipient),
        200,
        "201",
        1,
        "lives",
    ),
    row(
        "closes once it has the message; the second is up",
        Setting::Two(Fault::CloseAfterContent, Fault::None),
        500,
        "502 with `id`",
        1,
        "lives",
    ),
    row(
        "answers 550; the second as well",
        Setting::Two(Fault::RefuseRecipient, Fault::RefuseRecipient),
        500,
        "502",
        0,
        "dead",
    ),
];

const fn row(
    relay: &'static str,
    setting: Setting,
    simple: u16,
    v1: &'static str,
    mails: usize,
    code: &'static str,
) -> Row {
    Row { relay, setting, simple, v1, mails, code }
}

/// Starts a second relay, and otpd with both.
async fn with_two() -> (TestApp, SmtpPeer) {
    let second = SmtpPeer::builder().start().await;
    let app = TestApp::builder()
        .keyed()
        .set("OTP_SMTP_FALLBACK__SERVER", "localhost")
        .set("OTP_SMTP_FALLBACK__PORT", &second.port().to_string())
        .set("OTP_SMTP_FALLBACK__AUTH", "none")
        .set("OTP_SMTP_FALLBACK__TLS", "none")
        .spawn()
        .await;
    (app, second)
}

/// Returns the row as observed. A part of it that cannot be observed fails the test.
async fn seen(row: &Row, pipelining: bool) -> String {
    let (app, second) = with_two_or_one(row.setting).await;
    for relay in [Some(&app.smtp), second.as_ref()].into_iter().flatten() {
        relay.offer_pipelining(pipelining);
    }
    let mut before = BTreeSet::new();
    for to in ["warm@example.com", "up@example.com"] {
        assert_eq!(app.send_otp(to).await.status, 200, "a connection lies ready");
        before.insert(to.to_owned());
    }
    set(&app, second.as_ref(), row.setting);
    let simple = app.send_otp("simple@example.com").await;
    let live = |to: &str| {
        let all = [Some(&app.smtp), second.as_ref()];
        let mails = all.into_iter().flatten().flat_map(SmtpPeer::mails);
        mails.filter(|mail| mail.to == [to]).map(|mail| mail.code()).collect::<Vec<_>>()
    };
    let codes = live("simple@example.com");
    for code in &codes {
        assert_eq!(
            app.verify_otp("simple@example.com", code).await.status,
            200,
            "{}: its code lives",
            row.relay
        );
    }
    set(&app, second.as_ref(), row.setting);
    let created = app.caller(1).create(&json!({ "email": "v1@example.com" })).await;
    let (mails, id) = (live("v1@example.com"), created.json()["id"].as_str().map(str::to_owned));
    assert_eq!(codes.len(), mails.len(), "{}: both endpoints mail alike", row.relay);
    let fate = match (&id, mails.as_slice()) {
        (Some(id), [code]) => {
            assert_eq!(app.caller(1).check(id, code).await.status, 200, "{}", row.relay);
            "lives"
        }
        (None, []) => "dead",
        other => panic!("{}: {other:?}", row.relay),
    };
    let v1 = match (created.status, &id) {
        (502, Some(_)) => "502 with `id`".to_owned(),
        (status, _) => status.to_string(),
    };
    format!("| {} | {} | {v1} | {} | {fate} |", row.relay, simple.status, mails.len())
}

async fn with_two_or_one(setting: Setting) -> (TestApp, Option<SmtpPeer>) {
    match setting {
        Setting::One(_) | Setting::Gone => (TestApp::builder().keyed().spawn().await, None),
        Setting::Two(..) | Setting::FirstGone => {
            let (app, second) = with_two().await;
            (app, Some(second))
        }
    }
}

fn set(app: &TestApp, second: Option<&SmtpPeer>, setting: Setting) {
    match setting {
        Setting::One(Fault::CloseOnConnect) => {
            app.smtp.set(Fault::CloseOnConnect);
            app.smtp.set(Fault::DropIdle);
        }
        Setting::One(fault) => app.smtp.set(fault),
        Setting::Gone | Setting::FirstGone => app.smtp.stop(),
        Setting::Two(first, other) => {
            app.smtp.set(first);
            // An idle connection would not be greeted again.
            app.smtp.set(Fault::DropIdle);
            second.expect("a second relay").set(other);
        }
    }
}

#[tokio::test]
async fn what_each_relay_does_leads_to_the_answer_in_the_table() {
    assert_matrix(true).await;
}

#[tokio::test]
async fn what_each_relay_does_leads_to_the_same_answer_without_pipelining() {
    assert_matrix(false).await;
}

async fn assert_matrix(pipelining: bool) {
    let mut rows = JoinSet::new();
    for (number, row) in MATRIX.iter().enumerate() {
        rows.spawn(async move { (number, seen(row, pipelining).await) });
    }
    let mut seen = rows.join_all().await;
    seen.sort();
    let told: Vec<String> = MATRIX
        .iter()
        .map(|Row { relay, simple, v1, mails, code, .. }| {
            format!("| {relay} | {simple} | {v1} | {mails} | {code} |")
        })
        .collect();
    assert_eq!(seen.into_iter().map(|(_, row)| row).collect::<Vec<_>>(), told);
    let page = std::fs::read_to_string("docs/mails.md").expect("the page about mails");
    assert!(page.contains(&told.join("\n")), "docs/mails.md lacks:\n{}", told.join("\n"));
}

#[tokio::test]
async fn a_permanent_refusal_is_tried_once() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::RefuseRecipient);
    assert_eq!(app.send_otp("a@example.com").await.status, 500);
    assert_eq!(app.smtp.connections(), 1, "what was refused is not asked for again");
}

#[tokio::test]
async fn a_relay_that_is_down_is_skipped_and_retried_later() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::CloseOnConnect);
    for number in 0..5 {
        assert_eq!(app.send_otp(&format!("{number}@example.com")).await.status, 500);
    }
    app.process.logged("a relay is down").await;
    let connections = app.smtp.connections();
    for number in 5..8 {
        assert_eq!(app.send_otp(&format!("{number}@example.com")).await.status, 500);
    }
    assert_eq!(app.smtp.connections(), connections, "it is left alone");
    app.smtp.set(Fault::None);
    eventually("the relay is asked again", async || app.send_otp("again@example.com").await.status == 200)
        .await;
}

/// Sends ten emails, one after the other; each must arrive exactly once.
async fn ten_mails(app: &TestApp) {
    for number in 0..10 {
        let email = format!("{number}@example.com");
        let sent = app.send_otp(&email).await;
        assert_eq!(sent.status, 200, "{}", app.log());
        let code = app.smtp.last_code_to(&email);
        assert_eq!(app.verify_otp(&email, &code).await.status, 200);
    }
    assert_eq!(app.smtp.mails().len(), 10);
}

#[tokio::test]
async fn a_first_relay_that_is_down_is_soon_passed_over_for_the_second() {
    let (app, second) = with_two().await;
    app.smtp.set(Fault::CloseOnConnect);
    for number in 0..20 {
        assert_eq!(app.send_otp(&format!("{number}@example.com")).await.status, 200);
    }
    assert_eq!(second.mails().len(), 20);
    assert!(app.smtp.connections() < 20, "it was asked {} times", app.smtp.connections());
}

#[tokio::test]
async fn a_relay_that_says_too_much_fails_no_later_send() {
    for builder in [TestApp::builder(), TestApp::builder().tls()] {
        let app = builder.spawn().await;
        app.smtp.set(Fault::RepliesTwice);
        ten_mails(&app).await;
    }
}

#[tokio::test]
async fn a_relay_that_takes_few_connections_gets_every_mail_over_those() {
    let app = Arc::new(TestApp::builder().set("OTP_HASH__QUEUE", "200").spawn().await);
    app.smtp.set(Fault::FewConnections { most: 5, delay: Duration::from_millis(100) });
    let mut sends = JoinSet::new();
    for number in 0..100 {
        let app = Arc::clone(&app);
        sends.spawn(async move { app.send_otp(&format!("{number}@example.com")).await.status });
    }
    let statuses = sends.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 100, "{statuses:?}");
    assert_eq!(app.smtp.mails().len(), 100);
    assert!(!app.whole_log().await.contains("a relay is down"), "it is busy, not down");
}

#[tokio::test]
async fn a_relay_that_takes_few_mails_on_a_connection_gets_another_at_once() {
    for at in ["MAIL", "RCPT", "CONTENT"] {
        let app = TestApp::spawn().await;
        app.smtp.set(Fault::OneMailEach(at));
        ten_mails(&app).await;
        assert_eq!(app.smtp.connections(), 10, "{at}");
    }
}

/// Makes one send over a connection that was used before, while the relay answers that command with
/// this reply. Returns how many new connections and how many transmissions of the message it took,
/// and the status of the send. They are the same with PIPELINING and without it.
async fn retries_after(at: &'static str, reply: &'static str) -> (usize, usize, u16) {
    let mut seen = Vec::new();
    for pipelining in [true, false] {
        let app = TestApp::spawn().await;
        app.smtp.offer_pipelining(pipelining);
        app.code_for("first@example.com").await;
        let before = (app.smtp.connections(), app.smtp.transmissions());
        app.smtp.set(Fault::AnswersOnceUsed(at, reply));
        let status = app.send_otp("second@example.com").await.status;
        seen.push((app.smtp.connections() - before.0, app.smtp.transmissions() - before.1, status));
    }
    assert_eq!(seen[0], seen[1], "{at}: {reply}");
    seen[0]
}

#[tokio::test]
async fn a_final_refusal_of_the_message_is_never_retried() {
    for reply in
        ["550 5.7.1 Spam", "554 5.6.0 Bad content", "552 5.3.4 Too big", "550", "521 5.7.0 x", "571 Blocked"]
    {
        assert_eq!(retries_after("CONTENT", reply).await, (0, 1, 500), "{reply}");
        assert_eq!(retries_after("DATA", reply).await, (0, 0, 500), "{reply} to DATA itself");
    }
}

#[tokio::test]
async fn what_can_be_the_fault_of_a_used_connection_is_retried_on_a_fresh_one() {
    for at in ["MAIL", "RCPT"] {
        for reply in ["554 5.7.0 Too many mails", "530 5.7.0 Log in", "503 5.5.1 Bad sequence", "552 5.3.1 x"]
        {
            assert_eq!(retries_after(at, reply).await, (1, 1, 200), "{at}: {reply}");
        }
    }
    for at in ["MAIL", "RCPT", "DATA", "CONTENT"] {
        for reply in ["421 4.7.0 Closing", "451 4.3.0 Later", "452 4.5.3 Too many mails"] {
            let transmissions = if at == "CONTENT" { 2 } else { 1 };
            assert_eq!(retries_after(at, reply).await, (1, transmissions, 200), "{at}: {reply}");
        }
    }
}

#[tokio::test]
async fn a_refusal_that_names_a_mailbox_is_never_retried() {
    for at in ["MAIL", "RCPT"] {
        for reply in ["550 5.1.1 No such user", "551", "553 5.1.8 Sender", "554 5.1.0 x", "552 5.2.2 Full"] {
            assert_eq!(retries_after(at, reply).await, (0, 0, 500), "{at}: {reply}");
        }
    }
}

#[tokio::test]
async fn a_log_tells_the_enhanced_code_of_a_refusal_and_none_of_its_words() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::Answers("RCPT", "550 5.7.139 a@example.com is not welcome"));
    assert_eq!(app.send_otp("a@example.com").await.status, 500);
    let log = app.whole_log().await;
    assert!(log.contains("RCPT TO: refused with reply 550 5.7.139"), "{log}");
    assert!(!log.contains("welcome") && !log.contains("a@example.com"));
}

#[tokio::test]
async fn replies_that_are_legal_or_meant_well_are_understood() {
    for fault in [Fault::Terse, Fault::Sloppy] {
        for builder in [TestApp::builder(), TestApp::builder().tls(), TestApp::builder().implicit_tls()] {
            let app = builder.spawn().await;
            app.smtp.set(fault);
            ten_mails(&app).await;
            assert_eq!(app.smtp.connections(), 1, "{fault:?}");
        }
    }
    let app = TestApp::builder().tls().spawn().await;
    app.smtp.set(Fault::NoPlain);
    ten_mails(&app).await;
}

#[tokio::test]
async fn what_is_said_in_the_clear_before_tls_is_not_taken_for_the_relays_word() {
    let app = TestApp::builder().tls().spawn().await;
    app.smtp.set(Fault::SpeaksBeforeTls);
    assert_eq!(app.send_otp("a@example.com").await.status, 500);
    assert!(app.smtp.mails().is_empty());
    let heard = String::from_utf8_lossy(&app.smtp.transcript()).into_owned();
    assert_eq!(heard.lines().map(|line| &line[..4]).collect::<Vec<_>>(), ["EHLO", "STAR"], "{heard:?}");
}

#[tokio::test]
async fn the_second_relay_is_reached_as_safely_as_the_first() {
    let second = SmtpPeer::builder().starttls().credentials("second", "its password").start().await;
    let builder = TestApp::builder()
        .tls()
        .set("OTP_SMTP_FALLBACK__SERVER", "localhost")
        .set("OTP_SMTP_FALLBACK__PORT", &second.port().to_string())
        .set("OTP_SMTP_FALLBACK__USERNAME", "second")
        .set("OTP_SMTP_FALLBACK__PASSWORD", "its password")
        .set("OTP_SMTP_FALLBACK__CA_FILE", &second.ca_file().display().to_string());
    let app = builder.spawn().await;
    app.code_for("a@example.com").await;
    assert!(second.mails().is_empty(), "the first is asked first");
    app.smtp.stop();
    assert_eq!(app.send_otp("b@example.com").await.status, 200);
    let [mail] = second.mails().try_into().expect("one mail");
    assert!(mail.tls && mail.user.as_deref() == Some("second") && mail.from == SENDER);
}

#[tokio::test]
async fn authorities_of_our_own_are_the_only_ones() {
    let stranger = SmtpPeer::builder().start().await;
    let own = |ca_file: String| TestApp::builder().tls().set("OTP_SMTP__CA_FILE", &ca_file);
    // The system's certificate authorities, set by SSL_CERT_FILE, include that of the relay. The
    // file contains others.
    let app = own(stranger.ca_file().display().to_string()).spawn().await;
    assert_eq!(app.send_otp("a@example.com").await.status, 500);
    assert!(app.whole_log().await.contains("certificate is from an unknown issuer"));
}

#[tokio::test]
async fn what_waits_for_a_slow_relay_is_bounded() {
    let app =
        Arc::new(TestApp::builder().set("OTP_HASH__THREADS", "2").set("OTP_HASH__QUEUE", "30").spawn().await);
    app.code_for("first@example.com").await;
    app.smtp.set(Fault::Slow(Duration::from_secs(8)));
    let before = app.process.peak_memory_kib();
    let mut sends = JoinSet::new();
    for number in 0..1000 {
        let app = Arc::clone(&app);
        sends.spawn(async move { app.send_otp(&format!("{number}@example.com")).await.status });
    }
    let statuses = sends.join_all().await;
    let count = |status| statuses.iter().filter(|other| **other == status).count();
    assert_eq!(count(200) + count(503), 1000);
    // At most twice the hash threads and their queue.
    assert!((1..=64).contains(&count(200)), "{} were sent", count(200));
    assert_eq!(app.smtp.mails().len(), count(200) + 1);
    let grown = app.process.peak_memory_kib().saturating_sub(before);
    // The connections of a thousand callers, without a queue behind them.
    assert!(grown < 64 * 1024, "{grown} KiB more");
}

/// Sends to many addresses at once, and returns the addresses for which a send was reported as
/// successful.
async fn sends_cut_short(app: &Arc<TestApp>, cut: impl AsyncFn(&TestApp)) -> BTreeSet<String> {
    let mut sends = JoinSet::new();
    for number in 0..64 {
        let app = Arc::clone(app);
        sends.spawn(async move {
            let email = format!("{number}@example.com");
            let request = app.request(reqwest::Method::POST, "/send-otp");
            let body = json!({ "email": email }).to_string();
            let response = request.header("content-type", "application/json").body(body).send().await.ok()?;
            (response.status().as_u16() == 200).then_some(email)
        });
    }
    cut(app).await;
    sends.join_all().await.into_iter().flatten().collect()
}

#[tokio::test]
async fn a_send_reported_as_successful_was_delivered_even_if_otpd_is_killed() {
    for mails_before in [0, 1, 20, 40] {
        // Few connections, so that some sends are answered while others wait.
        let app = TestApp::builder().set("OTP_HASH__QUEUE", "200").set("OTP_SMTP__CONNECTIONS", "4");
        let app = Arc::new(app.spawn().await);
        app.smtp.set(Fault::Slow(Duration::from_millis(50)));
        let told = sends_cut_short(&app, async |app| {
            if mails_before > 0 {
                app.smtp.await_mail(mails_before).await;
            }
            app.process.kill();
        })
        .await;
        let mailed = mailed(&app);
        assert!(told.is_subset(&mailed), "{:?}", told.difference(&mailed));
        // All but the last send of each connection were answered.
        assert!(mails_before < 20 || !told.is_empty());
        assert!(mailed.len() < 64, "it was killed in the middle");
    }
}

#[tokio::test]
async fn requests_in_progress_at_shutdown_are_finished_and_answered() {
    let app = Arc::new(TestApp::builder().set("OTP_HASH__QUEUE", "200").spawn().await);
    app.smtp.set(Fault::Slow(Duration::from_millis(300)));
    let told = sends_cut_short(&app, async |app| {
        app.smtp.await_mail(1).await;
        app.process.terminate();
    })
    .await;
    assert!(app.process.ended().await.success());
    assert_eq!(told, mailed(&app), "who has a mail was told so, and nobody else");
    assert!(!told.is_empty());
}

#[tokio::test]
async fn a_send_whose_caller_has_gone_is_finished_at_shutdown() {
    let app = TestApp::spawn().await;
    app.smtp.set(Fault::Slow(Duration::from_millis(500)));
    let body = json!({ "email": "a@example.com" }).to_string();
    let head = format!(
        "POST /send-otp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}",
        body.len()
    );
    let mut caller = app.connect().await;
    caller.write_all(format!("{head}\r\n\r\n{body}").as_bytes()).await.expect("sent");
    app.smtp.await_mail(1).await;
    // Reset, so that nobody waits for the answer any more.
    caller.set_zero_linger().expect("set");
    drop(caller);
    app.process.terminate();
    assert!(app.process.ended().await.success());
    // The end of the log: it is read completely.
    app.process.logged("a code was sent").await;
}

fn mailed(app: &TestApp) -> BTreeSet<String> {
    app.smtp.mails().into_iter().flat_map(|mail| mail.to).collect()
}

//! What `otpd doctor` reports for relays that fail at each stage, and for settings that open
//! something to the public.

use serde_json::json;

use crate::commands::{run, text};
use crate::support::app::TestApp;
use crate::support::redis::RedisServer;
use crate::support::smtp::{Certificate, Fault, SmtpPeer, SmtpPeerBuilder};
use crate::support::token_server::{CLIENT_SECRET, TokenAnswer, TokenServer, token};

#[tokio::test]
async fn doctor_says_what_exempt_networks_open() {
    let app = TestApp::limited().spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let doctor = |changes: &[(&str, &str)]| {
        let mut settings: Vec<(&str, &str)> =
            app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        settings.extend_from_slice(changes);
        text(&run(folder.path(), &settings, &["doctor"]).stdout)
    };
    let name = "OTP_LIMITS__EXEMPT_NETWORKS";
    assert!(!doctor(&[]).contains(name));
    let said = doctor(&[(name, "192.0.2.0/24")]);
    assert!(said.contains(&format!("risk  not counted per IP ({name}): 192.0.2.0/24.")), "{said}");
    assert!(!said.contains("OTP_HTTP__TRUSTED_PROXIES"), "{said}");
    let said = doctor(&[(name, "127.0.0.1")]);
    assert!(said.contains(&format!("note  {name} holds addresses of OTP_HTTP__TRUSTED_PROXIES")), "{said}");
    let said = doctor(&[(name, "10.0.0.0/8"), ("OTP_HTTP__TRUSTED_PROXIES", "")]);
    assert!(said.contains("a proxy that connects from there exempts everybody behind it"), "{said}");
}

#[test]
fn doctor_measures_the_hash_without_redis_a_relay_or_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [
        ("OTP_HASH__MEMORY_KIB", "64"),
        ("OTP_HASH__PASSES", "1"),
        ("OTP_HASH__THREADS", "2"),
        ("OTP_DANGEROUS__WEAK_HASH", "true"),
    ];
    let output = run(folder.path(), &settings, &["doctor", "--calibrate"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let said = text(&output.stdout);
    let rows: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("hash  ")).map(row).collect();
    let costs: Vec<_> = rows.iter().map(|row| (row.memory_kib, row.passes)).collect();
    assert_eq!(costs, [(64, 1), (47_104, 1), (19_456, 2), (12_288, 3), (9_216, 4), (7_168, 5)]);
    for row in &rows {
        assert_eq!(row.work_memory_kib, 2 * row.memory_kib, "{said}");
        let measured = (3.0 * row.all_threads).clamp(320.0, 10_000.0);
        // The rate is printed with one decimal place, and each thread's share is rounded down.
        assert!((measured - row.queue).abs() <= 3.0, "{said}");
        assert!(row.one_thread > 0.0, "{said}");
    }
    assert_eq!(said.matches("(in use)").count(), 1, "{said}");
    let fastest = rows.iter().skip(1).map(|row| row.all_threads).fold(0.0, f64::max);
    let set = |name: &str| -> u32 {
        let value = said.split(&format!("\n      {name}=")).nth(1).and_then(|rest| rest.lines().next());
        value.expect(&said).parse().expect("a number")
    };
    let advised = (set("OTP_HASH__MEMORY_KIB"), set("OTP_HASH__PASSES"));
    let advised = rows.iter().find(|row| (row.memory_kib, row.passes) == advised).expect("one of them");
    // Two rates can be equal as printed.
    assert!((advised.all_threads - fastest).abs() < 0.11, "{said}");
}

#[test]
fn doctor_measures_no_hash_of_settings_that_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &[("OTP_HASH__PASSES", "4")], &["doctor", "--calibrate"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(text(&output.stderr).contains("OTP_HASH__PASSES=5"), "{output:?}");
    let output = run(folder.path(), &[], &["doctor", "--calibrate", "--dns"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

/// One row of `otpd doctor --calibrate`.
struct Row {
    memory_kib: u32,
    passes: u32,
    one_thread: f64,
    all_threads: f64,
    queue: f64,
    work_memory_kib: u32,
}

fn row(line: &str) -> Row {
    let numbers: Vec<&str> = line
        .split(|c: char| !c.is_ascii_digit() && c != '.')
        .filter(|text| text.starts_with(|c: char| c.is_ascii_digit()))
        .collect();
    let [memory_kib, passes, one_thread, all_threads, "2", queue, work_memory_kib] = numbers[..] else {
        panic!("{line}")
    };
    let whole = |text: &str| text.parse().expect("a whole number");
    let decimal = |text: &str| text.parse().expect("a number");
    Row {
        memory_kib: whole(memory_kib),
        passes: whole(passes),
        one_thread: decimal(one_thread),
        all_threads: decimal(all_threads),
        queue: decimal(queue),
        work_memory_kib: whole(work_memory_kib),
    }
}

/// Returns the one failure that `otpd doctor` reports for such a relay.
async fn diagnosed(
    app: &TestApp,
    peer: SmtpPeerBuilder,
    fault: Fault,
    tls: &str,
    changes: &[(&str, &str)],
) -> String {
    let peer = peer.start().await;
    peer.set(fault);
    let folder = tempfile::tempdir().expect("a folder");
    let (port, ca) = (peer.port().to_string(), peer.ca_file().display().to_string());
    let mut settings: Vec<(&str, &str)> =
        app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    settings.extend([
        ("SMTP_SERVER", "localhost"),
        ("SMTP_PORT", &port),
        ("OTP_SMTP__CA_FILE", &ca),
        ("OTP_SMTP__TLS", tls),
        ("OTP_SMTP__AUTH", "password"),
        ("EMAIL_PASSWORD", "secret"),
    ]);
    settings.extend(changes);
    let output = run(folder.path(), &settings, &["doctor"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{fault:?}: {said}");
    said.split("FAIL  relay: ").nth(1).unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// A relay, its fault, `OTP_SMTP__TLS`, the beginning of the report, and part of the advice.
type Case = (SmtpPeerBuilder, Fault, &'static str, &'static str, &'static str);

async fn assert_diagnosed(cases: Vec<Case>) {
    let app = TestApp::spawn().await;
    for (peer, fault, tls, step, advice) in cases {
        let said = diagnosed(&app, peer, fault, tls, &[]).await;
        assert!(said.starts_with(step), "{step}: {said}");
        assert!(said.contains(advice), "{advice}: {said}");
        let has_no_login = fault == Fault::Offers("SIZE 1000");
        assert_eq!(said.contains("OTP_SMTP__AUTH=none"), has_no_login, "{said}");
    }
}

fn plain() -> SmtpPeerBuilder {
    SmtpPeer::builder().credentials("u", "p")
}

fn starttls() -> SmtpPeerBuilder {
    plain().starttls()
}

fn implicit() -> SmtpPeerBuilder {
    plain().implicit_tls()
}

#[tokio::test]
async fn doctor_names_the_step_before_tls_and_advises_on_that_step() {
    let implicit_instead = "OTP_SMTP__TLS=implicit";
    let (away, wait) = ("turns this machine away", "wait some minutes");
    let [refuses, busy] = ["554 5.7.1 No", "421 4.7.0 Busy"].map(|reply| Fault::Answers("GREETING", reply));
    let no_hello = Fault::Answers("EHLO", "550 5.7.1 No");
    let not_now = Fault::Answers("STARTTLS", "454 4.7.0 Not now");
    let none = "STARTTLS: the relay does not offer STARTTLS";
    assert_diagnosed(vec![
        (
            starttls(),
            Fault::CloseOnConnect,
            "starttls",
            "greeting: the connection was lost",
            implicit_instead,
        ),
        (implicit(), Fault::None, "starttls", "greeting: no answer in time", implicit_instead),
        (starttls(), refuses, "starttls", "greeting: refused with reply 554 5.7.1\n", away),
        (starttls(), busy, "starttls", "greeting: refused with reply 421 4.7.0\n", wait),
        (starttls(), no_hello, "starttls", "EHLO: refused with reply 550 5.7.1\n", away),
        (plain(), Fault::None, "starttls", none, "587"),
        (starttls(), not_now, "starttls", "STARTTLS: refused with reply 454 4.7.0\n", wait),
    ])
    .await;
    let app = TestApp::spawn().await;
    let nowhere = [("SMTP_SERVER", "no-such-host.invalid")];
    let said = diagnosed(&app, plain(), Fault::None, "starttls", &nowhere).await;
    assert!(said.starts_with("resolving the name: the name has no address"), "{said}");
    let said = diagnosed(&app, plain(), Fault::None, "starttls", &[("SMTP_PORT", "1")]).await;
    assert!(said.starts_with("connecting: connection refused") && said.contains("SMTP_PORT"), "{said}");
}

#[tokio::test]
async fn doctor_tells_an_old_tls_from_a_certificate_and_from_a_port_without_tls() {
    let failed = |why: &'static str| -> &'static str {
        Box::leak(format!("TLS handshake: TLS could not be established: the relay{why}").into_boxed_str())
    };
    let old = failed(" speaks neither TLS 1.2 nor TLS 1.3\n");
    let expired = starttls().certificate(Certificate::Expired);
    let another = starttls().certificate(Certificate::OfAnother);
    let other_name = failed("'s certificate is for another name\n");
    assert_diagnosed(vec![
        (starttls(), Fault::OldTls, "starttls", old, "RFC 8996"),
        (implicit(), Fault::OldTls, "implicit", old, "RFC 8996"),
        (starttls(), Fault::None, "implicit", failed(" does not answer in TLS\n"), "OTP_SMTP__TLS=starttls"),
        (expired, Fault::None, "starttls", failed("'s certificate has expired\n"), "renew"),
        (another, Fault::None, "starttls", other_name, "set SMTP_SERVER to the name"),
    ])
    .await;
}

#[tokio::test]
async fn doctor_tells_a_relay_that_wants_oauth_from_one_that_wants_another_password() {
    let lacks = "AUTH: the relay does not offer AUTH PLAIN or LOGIN";
    let answers = |reply| Fault::Answers("AUTH", reply);
    let (microsoft, google) = (answers("535 5.7.139 for u"), answers("534-5.7.9 App\r\n534 5.7.9 password"));
    let later = answers("454 4.7.0 Later");
    let oauth = "set OTP_SMTP__AUTH=oauth";
    assert_diagnosed(vec![
        (starttls(), Fault::Offers("AUTH XOAUTH2"), "starttls", lacks, oauth),
        (starttls(), Fault::Offers("AUTH OAUTHBEARER"), "starttls", lacks, oauth),
        (starttls(), Fault::Offers("AUTH CRAM-MD5"), "starttls", lacks, "turn on PLAIN or LOGIN"),
        (starttls(), Fault::Offers("SIZE 1000"), "starttls", lacks, "587 or 465"),
        (starttls(), microsoft, "starttls", "AUTH: refused with reply 535 5.7.139\n", "EMAIL_PASSWORD"),
        (starttls(), google, "starttls", "AUTH: refused with reply 534 5.7.9\n", "app password"),
        (starttls(), later, "starttls", "AUTH: refused with reply 454 4.7.0\n", "cannot check logins now"),
    ])
    .await;
}

#[tokio::test]
async fn doctor_tells_a_relay_that_wants_a_login_from_one_that_wants_another_sender() {
    let app = TestApp::spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings: Vec<(&str, &str)> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    for (at, reply, advice) in [
        ("MAIL", "530 5.7.0 Authentication required", "OTP_SMTP__TLS=starttls"),
        ("MAIL", "550 5.7.1 Not yours", "check EMAIL_SENDER"),
        ("MAIL", "553 5.1.8 Unknown", "check EMAIL_SENDER"),
        ("RCPT", "554 5.7.1 Relay access denied", "whether the login may send to it"),
        ("RCPT", "450 4.2.0 Greylisted", "greylists"),
        ("CONTENT", "554 5.7.60 Not allowed to send as this sender", "what the login may send as"),
        ("CONTENT", "554 5.7.1 Spam", "the relay refuses the email itself"),
        ("CONTENT", "454 4.7.0 Throttled", "OTP_LIMITS__RELAY_EMAILS_PER_DAY"),
    ] {
        app.smtp.set(Fault::Answers(at, reply));
        let said = text(&run(folder.path(), &settings, &["doctor", "--send-test", "me@example.com"]).stdout);
        let code: Vec<&str> = reply.split(' ').take(2).collect();
        assert!(said.contains(&format!("refused with reply {}\n", code.join(" "))), "{reply}: {said}");
        assert!(said.contains(advice), "{advice}: {said}");
    }
}

/// Returns what `otpd doctor` notes about Redis, up to the first explanation.
fn notes(app: &TestApp, more: &[(&str, &str)]) -> Vec<String> {
    let folder = tempfile::tempdir().expect("a folder");
    let own = app.settings().iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let settings: Vec<_> = own.chain(more.iter().copied()).collect();
    let said = text(&run(folder.path(), &settings, &["doctor"]).stdout);
    assert!(said.contains("ok    redis"), "{said}");
    let notes = said.lines().filter_map(|line| line.strip_prefix("note  redis: "));
    notes.map(|note| note.split([':', '(']).next().expect("a word").trim().to_owned()).collect()
}

#[tokio::test]
async fn doctor_says_how_redis_can_lose_what_it_has_written() {
    const EVERY_SECOND: &str = "Its append-only file is written to disk once a second";
    const WHEN_DECIDED: &str = "Its append-only file is written to disk when the system decides to";
    const ISOLATED: &str = "It has replicas, and takes writes while none is in reach";
    const UNACKNOWLEDGED: &str = "It has replicas, and otpd does not wait for them";
    const NO_FENCE: &str = "It has replicas, and the fence is off";
    let app = TestApp::builder().single_redis().spawn().await;
    let set = async |name, value| app.redis.configure(name, value).await;
    assert_eq!(notes(&app, &[]), ["It writes nothing to disk"]);
    set("save", "3600 1").await;
    assert_eq!(notes(&app, &[]), ["It writes snapshots only"]);
    set("appendonly", "yes").await;
    set("appendfsync", "everysec").await;
    assert_eq!(notes(&app, &[]), [EVERY_SECOND]);
    set("appendfsync", "no").await;
    assert_eq!(notes(&app, &[]), [WHEN_DECIDED]);
    set("appendfsync", "always").await;
    assert!(notes(&app, &[]).is_empty());

    let replica = RedisServer::single().await;
    replica.follow(&app.redis).await;
    assert_eq!(notes(&app, &[]), [ISOLATED, UNACKNOWLEDGED, NO_FENCE]);
    assert_eq!(notes(&app, &[("OTP_REDIS__WAIT_REPLICAS", "1")]), [ISOLATED, NO_FENCE]);
    assert_eq!(notes(&app, &[("OTP_REDIS__FENCE", "true")]), [ISOLATED, UNACKNOWLEDGED]);
    set("min-replicas-to-write", "1").await;
    assert_eq!(notes(&app, &[]), [UNACKNOWLEDGED, NO_FENCE]);
}

#[tokio::test]
async fn doctor_checks_the_token_and_the_login_apart() {
    let server = TokenServer::start();
    let app = TestApp::builder().oauth(&server, "XOAUTH2", &token(1)).spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings: Vec<(&str, &str)> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let said = || text(&run(folder.path(), &settings, &["doctor"]).stdout);
    let good = said();
    assert!(good.contains("ok    relay: 127.0.0.1 gives an access token, valid for 60 min\n"), "{good}");
    assert!(good.contains("ok    relay: answers, login accepted\n"), "{good}");

    app.smtp.accept("another");
    let login = said();
    assert!(login.contains("ok    relay: 127.0.0.1 gives an access token"), "{login}");
    assert!(login.contains("FAIL  relay: AUTH: refused with reply 535 5.7.8\n"), "{login}");
    assert!(login.contains("which must be the mailbox of the token"), "{login}");

    let description = "AADSTS7000222: PRIVATE of codes@sender.example";
    let refusal = json!({"error": "invalid_client", "error_description": description});
    server.set(TokenAnswer::Says(401, refusal.to_string()));
    let refused = said();
    let line = "FAIL  relay: getting an access token: the token endpoint refused: invalid_client \
                (AADSTS7000222)\n      the secret has expired";
    assert!(refused.contains(line), "{refused}");

    server.stop();
    let down = said();
    assert!(
        down.contains("FAIL  relay: getting an access token: the token endpoint does not answer"),
        "{down}"
    );
    assert!(down.contains("check that a firewall lets this machine connect"), "{down}");
    for said in [good, login, refused, down] {
        assert!(!said.contains("granted-token") && !said.contains("PRIVATE"), "{said}");
        assert!(!said.contains(CLIENT_SECRET), "{said}");
    }
}

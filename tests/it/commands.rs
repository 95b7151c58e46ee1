//! The commands: what they print, how they exit, and what they write.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use crate::support::app::{Process, SENDER, TestApp, command};
use crate::support::redis::RedisServer;
use crate::support::smtp::{Certificate, Fault, SmtpPeer, SmtpPeerBuilder};

fn run(folder: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    command(folder, &settings).args(arguments).output().expect("the binary runs")
}

fn text(octets: &[u8]) -> String {
    String::from_utf8(octets.to_vec()).expect("text")
}

#[test]
fn serve_with_nothing_set_lists_everything_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    for arguments in [&["serve"][..], &[]] {
        let output = run(folder.path(), &[], arguments);
        assert_eq!(output.status.code(), Some(2));
        let said = text(&output.stderr);
        for name in [
            "EMAIL_SENDER",
            "EMAIL_PASSWORD",
            "SMTP_SERVER",
            "REDIS_HOST",
            "OTP_SECRETS__PEPPERS",
            "OTP_SECRETS__INDEX_KEY",
        ] {
            assert!(
                said.contains(&format!("- {name}")) && said.contains(&format!("    {name}=")),
                "{name}: {said}"
            );
        }
        assert!(said.contains("otpd dev") && said.contains("otpd init"), "{said}");
    }
}

#[test]
fn an_unknown_setting_is_refused_with_the_nearest_known_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &[("OTP_CODES__DIGTS", "6")], &["dev"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("OTP_CODES__DIGTS") && said.contains("OTP_CODES__DIGITS"), "{said}");
}

#[test]
fn dev_listens_on_this_machine_only() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &[("OTP_HTTP__LISTEN", "0.0.0.0:0")], &["dev"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("OTP_HTTP__LISTEN=127.0.0.1"), "{output:?}");
}

#[tokio::test]
async fn a_busy_port_names_the_setting() {
    let dev = Process::dev().await;
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &[("OTP_HTTP__LISTEN", &dev.address().to_string())], &["dev"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("OTP_HTTP__LISTEN"), "{output:?}");
}

#[tokio::test]
async fn dev_answers_on_both_loopback_addresses() {
    let dev = Process::dev().await;
    let v6 = format!("[::1]:{}", dev.address().port());
    let reached = tokio::net::TcpStream::connect(&v6).await;
    // A machine without IPv6 has no [::1] to listen on.
    if tokio::net::TcpListener::bind("[::1]:0").await.is_ok() {
        reached.expect("a connection over IPv6");
    }
}

#[tokio::test]
async fn the_seeds_settings_and_inits_secrets_are_all_that_serve_needs() {
    let folder = tempfile::tempdir().expect("a folder");
    let redis = RedisServer::start().await;
    let smtp = SmtpPeer::builder().starttls().credentials(SENDER, "abcd efgh ijkl mnop").start().await;
    let init = run(folder.path(), &[], &["init"]);
    assert!(init.status.success(), "{init:?}");
    let path = folder.path().join(".env");
    assert_eq!(fs::metadata(&path).expect("a .env").permissions().mode() & 0o777, 0o600);
    let secrets: Vec<String> = fs::read_to_string(&path)
        .expect("text")
        .lines()
        .filter(|line| line.starts_with("OTP_SECRETS__"))
        .map(str::to_owned)
        .collect();
    assert_eq!(secrets.len(), 3, "{secrets:?}");
    for secret in &secrets {
        let value = secret.split_once('=').expect("a value").1;
        assert!(!text(&init.stdout).contains(value), "init prints no secret");
    }

    let (redis_port, smtp_port) = (redis.port().to_string(), smtp.port().to_string());
    let mut settings: BTreeMap<String, String> = [
        ("EMAIL_SENDER", SENDER),
        ("EMAIL_PASSWORD", "abcd efgh ijkl mnop"),
        ("SMTP_SERVER", "localhost"),
        ("SMTP_PORT", &smtp_port),
        ("REDIS_HOST", "localhost"),
        ("REDIS_PORT", &redis_port),
        ("REDIS_DB", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    settings.extend(secrets.iter().map(|line| {
        let (name, value) = line.split_once('=').expect("a value");
        (name.to_owned(), value.to_owned())
    }));
    // Not ours but the system's: which certificate authorities it trusts.
    settings.insert("SSL_CERT_FILE".to_owned(), smtp.ca_file().display().to_string());

    let app = Process::start("serve", &settings).await;
    assert_eq!(app.send_otp("a@example.com").await.body, r#"{"message":"OTP sent successfully"}"#);
    let mail = smtp.await_mail(1).await;
    assert!(mail.tls, "the mail came over TLS");
    assert_eq!(mail.user.as_deref(), Some(SENDER));
    let verified = app.verify_otp("a@example.com", &mail.code()).await;
    assert_eq!(verified.body, r#"{"message":"OTP verified successfully"}"#);
    assert!(verified.header("otp-proof").is_some(), "init wrote a proof key");
    assert_eq!(app.verify_otp("a@example.com", &mail.code()).await.status, 400);
}

#[tokio::test]
async fn a_redis_url_wins_over_host_and_port() {
    let app = TestApp::spawn().await;
    let mut settings = app.settings().clone();
    settings.insert("REDIS_PORT".to_owned(), "1".to_owned());
    settings.insert("REDIS_URL".to_owned(), app.redis.url());
    let other = Process::start("serve", &settings).await;
    assert_eq!(other.get("/readyz").await.status, 200);
}

#[test]
fn init_completes_a_file_and_then_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(".env");
    fs::write(&path, "# mine\nEMAIL_SENDER=me@example.com").expect("written");
    assert!(run(folder.path(), &[], &["init"]).status.success());
    let first = fs::read_to_string(&path).expect("text");
    assert!(first.starts_with("# mine\nEMAIL_SENDER=me@example.com\n"), "{first}");
    assert_eq!(first.matches("EMAIL_SENDER=").count(), 1, "{first}");
    assert!(run(folder.path(), &[], &["init"]).status.success());
    assert_eq!(fs::read_to_string(&path).expect("text"), first);
}

#[tokio::test]
async fn doctor_says_what_is_wrong_and_how_to_mend_it() {
    let app = TestApp::builder().tls().spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let doctor = |changes: &[(&str, &str)]| {
        let mut settings: Vec<(&str, &str)> =
            app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        settings.extend_from_slice(changes);
        let output = run(folder.path(), &settings, &["doctor"]);
        (output.status.code(), text(&output.stdout))
    };
    let (code, said) = doctor(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("ok    redis") && said.contains("ok    relay: answers, login accepted"), "{said}");
    assert!(app.smtp.mails().is_empty(), "a doctor sends nothing");

    let (code, said) = doctor(&[("EMAIL_PASSWORD", "wrong")]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("FAIL  relay: AUTH: refused with reply 535 5.7.8") && said.contains("EMAIL_PASSWORD"),
        "{said}"
    );

    let (code, said) = doctor(&[("SSL_CERT_FILE", "/dev/null")]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("FAIL  relay: the system's authorities (the package ca-certificates): no certificates"),
        "{said}"
    );
    let stranger = SmtpPeer::builder().start().await;
    let (code, said) = doctor(&[("SSL_CERT_FILE", &stranger.ca_file().display().to_string())]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("FAIL  relay: TLS handshake: TLS could not be established: the relay's certificate is from an unknown issuer"),
        "{said}"
    );

    let (code, said) = doctor(&[("REDIS_PORT", "1")]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("FAIL  redis") && said.contains("REDIS_PORT") && said.contains("ok    relay"),
        "{said}"
    );

    app.smtp.set(Fault::CloseOnConnect);
    let (code, said) = doctor(&[]);
    assert_eq!(code, Some(1));
    assert!(said.contains("FAIL  relay: greeting: the connection was lost"), "{said}");

    let (code, _) = doctor(&[("OTP_SECRETS__PEPPERS", "")]);
    assert_eq!(code, Some(2));
}

#[tokio::test]
async fn doctor_checks_the_whole_way_of_a_mail_and_sends_one_on_demand() {
    let second = SmtpPeer::builder().starttls().credentials("second", "its password").start().await;
    let app = TestApp::builder()
        .tls()
        .set("OTP_SMTP_FALLBACK__SERVER", "localhost")
        .set("OTP_SMTP_FALLBACK__PORT", &second.port().to_string())
        .set("OTP_SMTP_FALLBACK__USERNAME", "second")
        .set("OTP_SMTP_FALLBACK__PASSWORD", "its password")
        .set("OTP_SMTP_FALLBACK__CA_FILE", &second.ca_file().display().to_string())
        .set("OTP_MAIL__LOCALE", "fr")
        .spawn()
        .await;
    let folder = tempfile::tempdir().expect("a folder");
    let doctor = |changes: &[(&str, &str)], arguments: &[&str]| {
        let mut settings: Vec<(&str, &str)> =
            app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        settings.extend_from_slice(changes);
        let output = run(folder.path(), &settings, &[&["doctor"], arguments].concat());
        (output.status.code(), text(&output.stdout))
    };
    let (code, said) = doctor(&[], &["--send-test", "me@example.com"]);
    assert_eq!(code, Some(0), "{said}");
    for line in [
        "ok    relay: answers, login accepted",
        "ok    fallback relay: answers, login accepted",
        "ok    test mail: taken",
    ] {
        assert!(said.contains(line), "{line} in {said}");
    }
    let [mail] = app.smtp.mails().try_into().expect("one mail");
    assert_eq!(mail.to, ["me@example.com"]);
    assert!(mail.text().starts_with("Votre code"), "{}", mail.text());
    let guessed = app.verify_otp("me@example.com", &mail.code()).await;
    assert_eq!(guessed.message().1, "Invalid or expired OTP");

    let (code, said) =
        doctor(&[("OTP_SMTP_FALLBACK__PASSWORD", "wrong")], &["--send-test", "me@example.com"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("FAIL  fallback relay: AUTH: refused with reply 535"), "{said}");
    assert!(said.contains("check OTP_SMTP_FALLBACK__PASSWORD"), "{said}");
    assert!(said.contains("FAIL  test mail: not sent"), "{said}");
    app.smtp.set(Fault::RefuseRecipient);
    second.set(Fault::RefuseRecipient);
    let (code, said) = doctor(&[], &["--send-test", "me@example.com"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("FAIL  test mail: the mail was not handed over: RCPT TO: refused with reply 550"),
        "{said}"
    );
    assert_eq!(doctor(&[], &["--send-test", "nobody"]).0, Some(2));

    fs::write(folder.path().join("list"), "example.com\nnone\n").expect("written");
    fs::create_dir(folder.path().join("mails")).expect("a folder");
    fs::write(folder.path().join("mails/de.toml"), "lead = \"{{ nobody }}\"\n").expect("written");
    for (name, value, what) in [
        ("OTP_SMTP__CA_FILE", "/no/such/file", "FAIL  relay: /no/such/file: No such file"),
        ("OTP_SMTP__CA_FILE", "list", "FAIL  relay: list: no certificates of authorities in PEM form"),
        ("OTP_DOMAINS__BLOCK_FILE", "list", "FAIL  lists of domains: list: line 2 is neither"),
        ("OTP_DOMAINS__ALLOW_FILE", "none", "FAIL  lists of domains: none: No such file"),
        (
            "OTP_MAIL__TEMPLATES",
            "mails",
            "FAIL  words and layouts of mails: OTP_MAIL__TEMPLATES: de.toml: undefined value",
        ),
        (
            "OTP_MAIL__LOCALE",
            "fi",
            "FAIL  words and layouts of mails: there are no words of the language \"fi\"",
        ),
    ] {
        let (code, said) = doctor(&[(name, value)], &[]);
        assert_eq!(code, Some(1), "{name}={value}: {said}");
        assert!(said.contains("relay: "), "the others are looked at as well: {said}");
        assert!(said.contains(what), "{what} in {said}");
        let mut settings: Vec<(&str, &str)> =
            app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        settings.push((name, value));
        let output = run(folder.path(), &settings, &["serve"]);
        assert_eq!(output.status.code(), Some(1), "serve does not start either: {output:?}");
    }
}

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

/// What a doctor says of such a relay: its one failure.
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

#[tokio::test]
async fn doctor_names_the_step_that_failed_and_advises_on_that_step() {
    let app = TestApp::spawn().await;
    let plain = || SmtpPeer::builder().credentials("u", "p");
    let starttls = || plain().starttls();
    let implicit = || plain().implicit_tls();
    for (peer, fault, tls, step, advice) in [
        (
            starttls(),
            Fault::CloseOnConnect,
            "starttls",
            "greeting: the connection was lost",
            "OTP_SMTP__TLS=implicit",
        ),
        (
            starttls(),
            Fault::Answers("GREETING", "554 5.7.1 No"),
            "starttls",
            "greeting: refused with reply 554 5.7.1",
            "turns this machine away",
        ),
        (
            starttls(),
            Fault::Answers("GREETING", "421 4.7.0 Busy"),
            "starttls",
            "greeting: refused with reply 421 4.7.0",
            "wait some minutes",
        ),
        (
            starttls(),
            Fault::Answers("EHLO", "550 5.7.1 No"),
            "starttls",
            "EHLO: refused with reply 550 5.7.1",
            "turns this machine away",
        ),
        (plain(), Fault::None, "starttls", "STARTTLS: the relay does not offer STARTTLS", "587"),
        (
            starttls(),
            Fault::Answers("STARTTLS", "454 4.7.0 Not now"),
            "starttls",
            "STARTTLS: refused with reply 454 4.7.0",
            "wait some minutes",
        ),
        (implicit(), Fault::None, "starttls", "greeting: no answer in time", "OTP_SMTP__TLS=implicit"),
        (
            starttls(),
            Fault::None,
            "implicit",
            "TLS handshake: TLS could not be established: the relay does not answer in TLS",
            "OTP_SMTP__TLS=starttls",
        ),
        (
            starttls(),
            Fault::OldTls,
            "starttls",
            "TLS handshake: TLS could not be established: the relay speaks neither TLS 1.2",
            "RFC 8996",
        ),
        (
            implicit(),
            Fault::OldTls,
            "implicit",
            "TLS handshake: TLS could not be established: the relay speaks neither TLS 1.2",
            "RFC 8996",
        ),
        (
            starttls().certificate(Certificate::Expired),
            Fault::None,
            "starttls",
            "TLS handshake: TLS could not be established: the relay's certificate has expired",
            "renew",
        ),
        (
            starttls().certificate(Certificate::OfAnother),
            Fault::None,
            "starttls",
            "TLS handshake: TLS could not be established: the relay's certificate is for another name",
            "set SMTP_SERVER to the name",
        ),
        (
            starttls(),
            Fault::Offers("AUTH XOAUTH2"),
            "starttls",
            "AUTH: the relay does not offer AUTH PLAIN or LOGIN, but OAuth",
            "otpd does not speak yet",
        ),
        (
            starttls(),
            Fault::Offers("AUTH OAUTHBEARER"),
            "starttls",
            "AUTH: the relay does not offer AUTH PLAIN or LOGIN, but OAuth",
            "app password",
        ),
        (
            starttls(),
            Fault::Offers("AUTH CRAM-MD5"),
            "starttls",
            "AUTH: the relay does not offer AUTH PLAIN or LOGIN, but others",
            "turn on PLAIN or LOGIN",
        ),
        (
            starttls(),
            Fault::Offers("SIZE 1000"),
            "starttls",
            "AUTH: the relay does not offer AUTH PLAIN or LOGIN, nor any other",
            "OTP_SMTP__AUTH=none",
        ),
        (
            starttls(),
            Fault::Answers("AUTH", "535 5.7.139 for u"),
            "starttls",
            "AUTH: refused with reply 535 5.7.139\n",
            "EMAIL_PASSWORD",
        ),
        (
            starttls(),
            Fault::Answers("AUTH", "534-5.7.9 App\r\n534 5.7.9 password"),
            "starttls",
            "AUTH: refused with reply 534 5.7.9\n",
            "app password",
        ),
        (
            starttls(),
            Fault::Answers("AUTH", "454 4.7.0 Later"),
            "starttls",
            "AUTH: refused with reply 454 4.7.0\n",
            "cannot check logins now",
        ),
    ] {
        let said = diagnosed(&app, peer, fault, tls, &[]).await;
        assert!(said.starts_with(step), "{step}: {said}");
        assert!(said.contains(advice), "{advice}: {said}");
        assert!(fault == Fault::Offers("SIZE 1000") || !said.contains("OTP_SMTP__AUTH=none"), "{said}");
    }
    let said =
        diagnosed(&app, plain(), Fault::None, "starttls", &[("SMTP_SERVER", "no-such-host.invalid")]).await;
    assert!(said.starts_with("resolving the name: the name has no address"), "{said}");
    let said = diagnosed(&app, plain(), Fault::None, "starttls", &[("SMTP_PORT", "1")]).await;
    assert!(said.starts_with("connecting: connection refused") && said.contains("SMTP_PORT"), "{said}");
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
        ("CONTENT", "554 5.7.1 Spam", "the relay refuses the mail itself"),
        ("CONTENT", "454 4.7.0 Throttled", "OTP_LIMITS__RELAY_MAILS_PER_DAY"),
    ] {
        app.smtp.set(Fault::Answers(at, reply));
        let said = text(&run(folder.path(), &settings, &["doctor", "--send-test", "me@example.com"]).stdout);
        let code: Vec<&str> = reply.split(' ').take(2).collect();
        assert!(said.contains(&format!("refused with reply {}\n", code.join(" "))), "{reply}: {said}");
        assert!(said.contains(advice), "{advice}: {said}");
    }
}

#[tokio::test]
async fn doctor_says_what_the_limits_let_an_attacker_win() {
    let app = TestApp::limited().spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings: Vec<(&str, &str)> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let said = text(&run(folder.path(), &settings, &["doctor"]).stdout);
    assert!(said.contains("guesses at one address in a day: 50, a chance of 5.0e-5"), "{said}");
    assert!(said.contains("1.0e-4 by 1, 1.0e-1 by 1000, 1.0e0 by 10000 networks"), "{said}");
    assert!(said.contains("ok    redis: answers, takes writes and evicts nothing"), "{said}");
    assert!(said.contains("note  redis: it has no append-only file"), "{said}");
    app.redis.configure("maxmemory-policy", "allkeys-lru").await;
    let output = run(folder.path(), &settings, &["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stdout).contains("its maxmemory-policy must be noeviction"), "{output:?}");
}

#[test]
fn keygen_prints_secrets_that_serve_takes() {
    let folder = tempfile::tempdir().expect("a folder");
    let print = |arguments: &[&str]| text(&run(folder.path(), &[], arguments).stdout).trim_end().to_owned();
    assert!(print(&["keygen", "pepper", "--name", "k7"]).starts_with("k7:"));
    assert_eq!(print(&["keygen", "index-key"]).len(), 43);
    assert_ne!(print(&["keygen", "index-key"]), print(&["keygen", "index-key"]));
    assert!(print(&["keygen", "proof-key"]).starts_with("p1:"));
    let output = run(folder.path(), &[], &["keygen", "pepper", "--name", "K 7"]);
    assert_eq!(output.status.code(), Some(2));
}

//! The commands: what they print, their exit codes, and the files that they write.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;

use crate::support::app::{Process, SENDER, TestApp, command};
use crate::support::redis::RedisServer;
use crate::support::smtp::{Fault, SmtpPeer};

pub fn run(folder: &Path, settings: &[(&str, &str)], arguments: &[&str]) -> Output {
    let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    command(folder, &settings).args(arguments).output().expect("the binary runs")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
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
    for address in ["0.0.0.0:4711", "192.0.2.1:4711", "127.0.0.2:4711", "[::]:4711"] {
        let output = run(folder.path(), &[("OTP_HTTP__LISTEN", address)], &["dev"]);
        assert_eq!(output.status.code(), Some(2), "{address}");
        assert!(text(&output.stderr).contains("\n    OTP_HTTP__LISTEN=127.0.0.1:4711\n"), "{output:?}");
    }
}

#[tokio::test]
async fn a_setting_that_is_refused_is_exit_code_2_in_every_command() {
    let app = TestApp::builder().keyed().spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let run = |arguments: &[&str], changes: &[(&str, &str)]| {
        let mut settings: Vec<(&str, &str)> =
            app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        settings.retain(|(name, _)| !changes.iter().any(|(changed, _)| name == changed));
        settings.extend_from_slice(changes);
        run(folder.path(), &settings, arguments)
    };
    fs::write(folder.path().join("list"), "example.com\nnone\n").expect("written");
    fs::write(
        folder.path().join("dev.toml"),
        "[[tenants]]\nname = \"dev\"\nkeys = \"k9:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"\n",
    )
    .expect("written");
    // Wrong values, names and files, whichever part of the program detects them.
    for (name, value) in [
        ("OTP_CODES__DIGITS", "5"),
        ("OTP_NO__SUCH", "1"),
        ("OTP_DOMAINS__BLOCK_FILE", "list"),
        ("OTP_DOMAINS__ALLOW_FILE", "none"),
        ("OTP_MAIL__TEMPLATES", "none"),
        ("OTP_MAIL__LOCALE", "fi"),
    ] {
        for command in ["serve", "dev"] {
            let output = run(&[command], &[(name, value)]);
            assert_eq!(output.status.code(), Some(2), "{command} {name}: {output:?}");
            let said = text(&output.stderr);
            assert!(said.contains("otpd cannot start with these settings:\n- "), "{said}");
            assert!(said.contains(name), "{name}: {said}");
        }
    }
    for (arguments, changes) in [
        (&["serve"][..], ("OTP_HTTP__LISTEN", "192.0.2.1:4711")),
        (&["dev", "--config", "dev.toml"], ("OTP_TENANT__NAME", "other")),
        (&["dev", "--config", "none.toml"], ("OTP_TENANT__NAME", "other")),
        (&["doctor"], ("OTP_CODES__DIGITS", "5")),
        (&["doctor"], ("OTP_HTTP__LISTEN", "192.0.2.1:4711")),
    ] {
        let output = run(arguments, &[changes]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {changes:?}: {output:?}");
    }
}

#[tokio::test]
async fn everything_unusable_that_the_settings_name_is_reported_at_once_with_a_line_each() {
    let app = TestApp::builder().keyed().tls().spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let broken = [
        ("OTP_DOMAINS__ALLOW_FILE", "none"),
        ("OTP_DOMAINS__BLOCK_FILE", "none"),
        ("OTP_MAIL__TEMPLATES", "none"),
        ("OTP_SMTP__CA_FILE", "none"),
    ];
    let settings: Vec<(&str, &str)> =
        app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).chain(broken).collect();
    let output = run(folder.path(), &settings, &["serve"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    for (name, _) in broken {
        assert!(said.contains(&format!("- {name}: ")) && said.contains(&format!("\n    {name}=")), "{said}");
    }
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
    let redis = RedisServer::single().await;
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
    // Not a setting of otpd but of the system: the certificate authorities that it trusts.
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
async fn a_redis_url_overrides_host_and_port() {
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
async fn doctor_says_what_is_wrong_and_how_to_fix_it() {
    let app = TestApp::builder().tls().single_redis().spawn().await;
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
    assert_eq!(code, Some(2), "{said}");
    assert!(
        said.contains("FAIL  relay: OTP_SMTP__CA_FILE: the system's trust anchors")
            && said.contains("SSL_CERT_FILE"),
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
        said.contains(
            "FAIL  test mail: the relay did not confirm the email: RCPT TO: refused with reply 550"
        ),
        "{said}"
    );
    assert_eq!(doctor(&[], &["--send-test", "nobody"]).0, Some(2));

    fs::write(folder.path().join("list"), "example.com\nnone\n").expect("written");
    fs::create_dir(folder.path().join("mails")).expect("a folder");
    fs::write(folder.path().join("mails/de.toml"), "lead = \"{{ nobody }}\"\n").expect("written");
    for (name, value, what) in [
        ("OTP_SMTP__CA_FILE", "/no/such/file", "FAIL  relay: OTP_SMTP__CA_FILE: /no/such/file: No such file"),
        (
            "OTP_SMTP__CA_FILE",
            "list",
            "FAIL  relay: OTP_SMTP__CA_FILE: list: no trust anchors (certificates in PEM form)",
        ),
        (
            "OTP_DOMAINS__BLOCK_FILE",
            "list",
            "FAIL  lists of domains: OTP_DOMAINS__BLOCK_FILE: list: line 2 is neither",
        ),
        (
            "OTP_DOMAINS__ALLOW_FILE",
            "none",
            "FAIL  lists of domains: OTP_DOMAINS__ALLOW_FILE: none: No such file",
        ),
        (
            "OTP_MAIL__TEMPLATES",
            "mails",
            "FAIL  translations and layouts of emails: OTP_MAIL__TEMPLATES: de.toml: undefined value",
        ),
        (
            "OTP_MAIL__LOCALE",
            "fi",
            "FAIL  translations and layouts of emails: OTP_MAIL__LOCALE, or the tenant's locale: there is no translation for",
        ),
    ] {
        let (code, said) = doctor(&[(name, value)], &[]);
        assert_eq!(code, Some(2), "{name}={value}: {said}");
        assert!(said.contains("relay: "), "the others are looked at as well: {said}");
        assert!(said.contains(what), "{what} in {said}");
        let mut settings: Vec<(&str, &str)> =
            app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        settings.push((name, value));
        let output = run(folder.path(), &settings, &["serve"]);
        assert_eq!(output.status.code(), Some(2), "serve does not start either: {output:?}");
    }
}

#[tokio::test]
async fn doctor_reports_the_risk_that_the_limits_allow() {
    let app = TestApp::limited().spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings: Vec<(&str, &str)> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let said = text(&run(folder.path(), &settings, &["doctor"]).stdout);
    let with_overlap = "attempts at one address in a day: 50, each at up to two codes (OTP_CODES__OVERLAP), a chance of 1.0e-4";
    assert!(said.contains(with_overlap), "{said}");
    assert!(said.contains("2.0e-4 by 1, 2.0e-1 by 1000, 2.0e0 by 10000 networks"), "{said}");
    let without: Vec<_> = settings.iter().copied().chain([("OTP_CODES__OVERLAP", "0s")]).collect();
    let said_without = text(&run(folder.path(), &without, &["doctor"]).stdout);
    assert!(
        said_without.contains("attempts at one address in a day: 50, a chance of 5.0e-5"),
        "{said_without}"
    );
    assert!(said.contains("ok    redis: answers, takes writes and evicts nothing"), "{said}");
    assert!(said.contains("note  redis: It writes nothing to disk"), "{said}");
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

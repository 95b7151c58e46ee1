//! `otpd doctor --dns` and the check of recipients' domains, against a real name server.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::commands::{run, text};
use crate::support::app::{TestApp, eventually};
use crate::support::dns::{DnsServer, SilentDnsServer};

/// What `otpd doctor --dns` said, and its exit code.
struct Said {
    code: Option<i32>,
    text: String,
}

impl Said {
    /// Returns whether a line begins so and goes on with this.
    fn has(&self, line: &str, rest: &str) -> bool {
        self.text.lines().any(|other| other.starts_with(line) && other.contains(rest))
    }

    /// Fails unless a line begins so and goes on with this.
    fn assert_has(&self, line: &str, rest: &str) {
        assert!(self.has(line, rest), "{line} … {rest}: {}", self.text);
    }
}

/// A service whose doctor asks a name server.
struct Doctor {
    app: TestApp,
    servers: String,
}

impl Doctor {
    async fn asking(servers: String) -> Self {
        Self { app: TestApp::spawn().await, servers }
    }

    fn says_with(&self, domain: &str, settings: &[(&str, &str)], arguments: &[&str]) -> Said {
        let folder = tempfile::tempdir().expect("a folder");
        let sender = format!("codes@{domain}");
        let own = self.app.settings().iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let ours = [("EMAIL_SENDER", sender.as_str()), ("OTP_DNS__SERVERS", &self.servers)];
        let settings: Vec<_> = own.chain(ours).chain(settings.iter().copied()).collect();
        let output = run(folder.path(), &settings, &[&["doctor"], arguments].concat());
        Said { code: output.status.code(), text: text(&output.stdout) }
    }

    fn says(&self, domain: &str, arguments: &[&str]) -> Said {
        self.says_with(domain, &[], &[&["--dns"], arguments].concat())
    }
}

#[tokio::test]
async fn a_domain_with_everything_set_passes_with_its_look_ups_counted() {
    let server = DnsServer::start().await;
    let doctor = Doctor::asking(server.address()).await;
    let said = doctor.says("good.test", &["--dkim-selector", "k1"]);
    assert_eq!(said.code, Some(0), "{}", said.text);
    said.assert_has("ok    SPF of good.test: valid, 3 of 10 DNS look-ups", "");
    said.assert_has("ok    DKIM key k1._domainkey.good.test: RSA, 2048 bits", "");
    said.assert_has("ok    DMARC of good.test: p=reject at _dmarc.good.test", "");
    said.assert_has("ok    alignment of good.test", "by SPF and DKIM");
    said.assert_has("ok    MX of good.test: 1 host(s)", "");
    said.assert_has("ok    TLS to good.test: MTA-STS and TLS-RPT", "");
    assert!(!said.has("FAIL", "") && !said.has("note", "good.test"), "{}", said.text);
    // Its DMARC record applies to the domains below it.
    let below = doctor.says("sub.good.test", &[]);
    below.assert_has("ok    DMARC of sub.good.test: p=reject at _dmarc.good.test", "");
    // Nothing is asked of DNS without the option.
    assert!(!doctor.says_with("good.test", &[], &[]).text.contains("SPF"));
    let output = doctor.says_with("good.test", &[], &["--dkim-selector", "k1"]);
    assert_eq!(output.code, Some(2), "an option without --dns");
}

#[tokio::test]
async fn each_fault_of_an_spf_record_is_named_and_fails() {
    let server = DnsServer::start().await;
    let doctor = Doctor::asking(server.address()).await;
    for (domain, fault) in [
        ("nospf.test", "there is no SPF record, and no DKIM key was found"),
        ("twospf.test", "twospf.test has 2 SPF records"),
        ("eleven.test", "it takes 11 DNS look-ups"),
        ("everyone.test", "the record of everyone.test ends in +all"),
        ("loop.test", "loop.test includes itself"),
        ("void.test", "3 look-ups find nothing (no1.test, no2.test, no3.test)"),
        ("badspf.test", "\"ip4:192.0.2.256\" is not an IPv4 address"),
        ("emptyinclude.test", "nospf.test is included and has no SPF record"),
        ("brokeninclude.test", "broken.test could not be looked up: the name servers fail (SERVFAIL)"),
        ("broken.test", "broken.test could not be looked up: the name servers fail (SERVFAIL)"),
        ("elsewhere.example", "elsewhere.example could not be looked up: the name servers refuse"),
    ] {
        let said = doctor.says(domain, &[]);
        said.assert_has(&format!("FAIL  SPF of {domain}: "), fault);
        assert_eq!(said.code, Some(1), "{domain}");
    }
    let said = doctor.says("nospf.test", &[]);
    assert!(said.text.contains("Gmail and Yahoo refuse mail that neither SPF nor DKIM authenticates"));
    assert!(said.text.contains("\n      nospf.test. IN TXT \"v=spf1 ip4:ADDRESS ~all\"\n"), "{}", said.text);
    // With a key, the missing record is a hint; ten look-ups are allowed.
    let said = doctor.says("nospf.test", &["--dkim-selector", "k1"]);
    said.assert_has("note  SPF of nospf.test: there is no SPF record: Gmail, Yahoo and Microsoft", "");
    said.assert_has("ok    DKIM key k1._domainkey.nospf.test (a CNAME to k1._domainkey.good.test)", "");
    assert_eq!(said.code, Some(0), "{}", said.text);
    doctor.says("ten.test", &[]).assert_has("ok    SPF of ten.test: valid, 10 of 10", "");
}

#[tokio::test]
async fn keys_are_read_by_the_selectors_that_the_operator_names() {
    let server = DnsServer::start().await;
    let doctor = Doctor::asking(server.address()).await;
    for (selector, code, line, rest) in [
        ("good", 0, "ok    DKIM key", "2048 bits"),
        ("cname", 0, "ok    DKIM key", "(a CNAME to good._domainkey.dkim.test): RSA, 2048 bits"),
        ("weak", 0, "ok    DKIM key", "1024 bits; 2048 are recommended"),
        ("ed", 0, "ok    DKIM key", "ed25519; sign with RSA as well"),
        ("short", 1, "FAIL  DKIM key", "has 512 bits"),
        ("revoked", 1, "FAIL  DKIM key", "the key is revoked"),
        ("none", 1, "FAIL  DKIM key", "none._domainkey.dkim.test: there is no key"),
    ] {
        let said = doctor.says("dkim.test", &["--dkim-selector", selector]);
        said.assert_has(line, rest);
        assert_eq!(said.code, Some(code), "{selector}: {}", said.text);
    }
    let both = doctor.says("dkim.test", &["--dkim-selector", "good", "--dkim-selector", "short"]);
    both.assert_has("ok    DKIM key good", "");
    both.assert_has("FAIL  DKIM key short", "");
    doctor.says("dkim.test", &[]).assert_has("note  DKIM of dkim.test: the selector is not known", "--mail");
}

#[tokio::test]
async fn dmarc_records_and_alignment_are_checked() {
    let server = DnsServer::start().await;
    let doctor = Doctor::asking(server.address()).await;
    let missing = doctor.says("nodmarc.test", &[]);
    missing.assert_has("note  DMARC of nodmarc.test: there is no DMARC record", "5000");
    missing.assert_has(
        "      _dmarc.nodmarc.test. IN TXT \"v=DMARC1; p=none; rua=mailto:postmaster@nodmarc.test\"",
        "",
    );
    assert_eq!(missing.code, Some(0), "{}", missing.text);
    for (domain, fault) in [("twodmarc.test", "has 2 DMARC records"), ("baddmarc.test", "p= must be none")] {
        let said = doctor.says(domain, &[]);
        said.assert_has(&format!("FAIL  DMARC of {domain}"), fault);
        assert_eq!(said.code, Some(1), "{domain}");
    }
    // A test email that another domain sent and signed.
    let folder = tempfile::tempdir().expect("a folder");
    let mail = |from: &str, envelope: &str, signer: &str| {
        let path = folder.path().join("mail.eml");
        let signature = format!("DKIM-Signature: v=1; d={signer};\r\n s=k1; bh=; b=\r\n");
        let text =
            format!("Return-Path: <x@{envelope}>\r\n{signature}From: Codes <codes@{from}>\r\n\r\nBody\r\n");
        fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let said =
        doctor.says("misaligned.test", &["--mail", &mail("misaligned.test", "good.test", "good.test")]);
    said.assert_has("ok    SPF of good.test: valid", "");
    said.assert_has("ok    DKIM key k1._domainkey.good.test", "");
    said.assert_has("FAIL  alignment of misaligned.test (SPF strict, DKIM strict)", "p=reject asks");
    assert_eq!(said.code, Some(1));
    let said = doctor.says("good.test", &["--mail", &mail("good.test", "sub.good.test", "good.test")]);
    said.assert_has("ok    alignment of good.test (SPF relaxed, DKIM relaxed): by SPF and DKIM", "");
    assert_eq!(said.code, Some(0), "{}", said.text);
    let said = doctor.says("good.test", &["--mail", &mail("nospf.test", "good.test", "good.test")]);
    said.assert_has("FAIL  --mail: the email is from nospf.test", "");
}

#[tokio::test]
async fn bounces_need_a_host_that_takes_them() {
    let server = DnsServer::start().await;
    let doctor = Doctor::asking(server.address()).await;
    for (domain, code, line) in [
        ("nullmx.test", 1, "FAIL  MX of nullmx.test: the domain says that it takes no mail (null MX)"),
        ("nomail.test", 1, "FAIL  MX of nomail.test: there is none, and no address"),
        ("nomx.test", 0, "note  MX of nomx.test: there is none, so bounces go to the domain's own address"),
    ] {
        let said = doctor.says(domain, &[]);
        said.assert_has(line, "");
        assert_eq!(said.code, Some(code), "{}", said.text);
    }
}

#[tokio::test]
async fn the_address_of_a_relay_needs_a_name_that_leads_back() {
    let server = DnsServer::start().await;
    let doctor = Doctor::asking(server.address()).await;
    for (relay, line, rest) in [
        ("3ffe::1", "ok    PTR of the relay's address 3ffe::1: relay.good.test, and back", ""),
        ("3ffe::2", "note  PTR of the relay's address 3ffe::2: its name does not lead back", "Gmail"),
        ("3ffe::3", "note  PTR of the relay's address 3ffe::3: there is none", "Gmail"),
    ] {
        // An address of the former 6bone (RFC 3701). Nobody has it, so the relay itself fails.
        let settings = [("SMTP_SERVER", relay), ("OTP_SMTP__TLS", "starttls")];
        doctor.says_with("good.test", &settings, &["--dns"]).assert_has(line, rest);
    }
    assert!(!doctor.says("good.test", &[]).text.contains("PTR"), "a relay on this machine");
}

#[tokio::test]
async fn the_domains_of_tenants_are_checked_and_each_one_once() {
    let server = DnsServer::start().await;
    let doctor = Doctor::asking(server.address()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("otpd.toml");
    let tenant = |name: &str, key: u8, sender: &str| {
        let hash = crate::support::v1::hash(key);
        format!("[[tenants]]\nname = \"{name}\"\nkeys = \"{hash}\"\nsender = \"{sender}\"\n")
    };
    let tenants =
        [tenant("a", 1, "a@twospf.test"), tenant("b", 2, "b@good.test"), tenant("c", 3, "c@twospf.test")];
    fs::write(&config, tenants.concat()).expect("written");
    let said = doctor.says("good.test", &["--config", &config.display().to_string()]);
    assert_eq!(said.text.matches("SPF of good.test").count(), 1, "{}", said.text);
    assert_eq!(said.text.matches("SPF of twospf.test").count(), 1, "{}", said.text);
}

#[tokio::test]
async fn a_domain_needs_the_records_of_what_sends_from_it() {
    let server = DnsServer::start().await;
    let doctor = Doctor::asking(server.address()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("otpd.toml");
    let secret = format!("whsec_{}", "MDEy".repeat(8));
    let settings = [
        ("OTP_MAILGUN__API_KEY", "key"),
        ("OTP_MAILGUN__DOMAIN", "mg.test"),
        ("OTP_MAILGUN__URL", "http://127.0.0.1:1"),
        ("OTP_HOOK__URL", "http://127.0.0.1:1/"),
        ("OTP_HOOK__SECRET", &secret),
    ];
    let says = |tenants: &[(&str, &str)]| {
        let tenants = tenants.iter().zip(1_u8..).map(|((transport, sender), key)| {
            let hash = crate::support::v1::hash(key);
            format!(
                "[[tenants]]\nname = \"t{key}\"\nkeys = \"{hash}\"\ntransport = \"{transport}\"\n{sender}\n"
            )
        });
        fs::write(&config, tenants.collect::<String>()).expect("written");
        doctor.says_with("nospf.test", &settings, &["--dns", "--config", &config.display().to_string()])
    };
    let own = says(&[("mailgun", "sender = \"a@mailgun.test\""), ("hook", "sender = \"a@hook.test\"")]);
    own.assert_has("      nospf.test. IN TXT \"v=spf1 ip4:ADDRESS ~all\"", "");
    own.assert_has("      mailgun.test. IN TXT \"v=spf1 include:mailgun.org ~all\"", "");
    own.assert_has("note  SPF of hook.test: there is no SPF record; only the hook sends for the domain", "");
    // A tenant without a sender sends from the deployment's domain.
    let shared = says(&[("mailgun", ""), ("hook", "")]);
    shared.assert_has("      nospf.test. IN TXT \"v=spf1 ip4:ADDRESS include:mailgun.org ~all\"", "");
}

#[tokio::test]
async fn a_name_server_that_never_answers_is_a_fault_within_bounded_time() {
    let silent = SilentDnsServer::start();
    let doctor = Doctor::asking(silent.address()).await;
    let begun = Instant::now();
    let said = doctor.says("good.test", &[]);
    said.assert_has(
        "FAIL  SPF of good.test: good.test could not be looked up: the name servers do not answer",
        "",
    );
    assert_eq!(said.code, Some(1));
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// A service that checks the domains of recipients.
async fn checking(servers: &str, ip_sends: &str) -> TestApp {
    let app =
        TestApp::limited().keyed().set("OTP_DOMAINS__CHECK_MX", "true").set("OTP_DNS__SERVERS", servers);
    app.set("OTP_LIMITS__IP_SENDS", ip_sends).spawn().await
}

#[tokio::test]
async fn a_domain_that_takes_no_mail_is_refused_before_the_recipient_is_charged() {
    let server = DnsServer::start().await;
    let app = checking(&server.address(), "5/1h").await;
    let body = |domain: &str| json!({ "email": format!("a@{domain}"), "end_user_ip": "192.0.2.7" });
    for domain in ["nullmx.test", "nomail.test", "no-such-domain.test", "nullmx.test", "nomail.test"] {
        let answer = app.process.send_from("192.0.2.7", &format!("a@{domain}")).await;
        assert_eq!(answer.message(), (400, "Invalid email address".to_owned()), "{domain}");
        let answer = app.process.caller(1).create(&body(domain)).await;
        assert_eq!(answer.problem(), (422, "email_not_allowed".to_owned()), "{domain}");
    }
    // The IP was charged.
    assert_eq!(app.process.send_from("192.0.2.7", "a@good.test").await.status, 429);
    assert_eq!(app.process.caller(1).create(&body("good.test")).await.status, 429);
    assert!(app.smtp.mails().is_empty());
    // A failure of DNS allows the domain, and so does an address without MX.
    for domain in ["good.test", "nomx.test", "broken.test", "elsewhere.example"] {
        let answer = app.process.send_from("192.0.2.8", &format!("a@{domain}")).await;
        assert_eq!(answer.status, 200, "{domain}: {answer:?}");
    }
    assert_eq!(app.smtp.mails().len(), 4);
    let folder = tempfile::tempdir().expect("a folder");
    let settings: Vec<_> =
        app.settings().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let said = text(&run(folder.path(), &settings, &["doctor"]).stdout);
    assert!(said.contains("; each must take mail (OTP_DOMAINS__CHECK_MX)"), "{said}");
    let off = app.another("OTP_DOMAINS__CHECK_MX", "false").await;
    assert_eq!(off.send_from("192.0.2.9", "a@nullmx.test").await.status, 200, "the check is off");
    let id = off.caller(1).start("b@nullmx.test").await;
    let answer = app.process.caller(1).resend(&id).await;
    assert_eq!(answer.problem(), (422, "email_not_allowed".to_owned()), "a resend asks as well");
}

#[tokio::test]
async fn a_client_over_its_limit_causes_no_look_up() {
    let silent = SilentDnsServer::start();
    let app = checking(&silent.address(), "1/1h").await;
    let body = |email: &str| json!({ "email": email, "end_user_ip": "192.0.2.7" });
    assert_eq!(app.process.send_from("192.0.2.7", "a@asked.test").await.status, 200);
    assert!(silent.was_asked_about("asked"), "a client within its limit");
    assert_eq!(app.process.caller(1).create(&body("b@asked.test")).await.status, 201);
    assert!(silent.was_asked_about("asked"), "a client within its limit");
    assert_eq!(app.process.send_from("192.0.2.7", "a@limited.test").await.status, 429);
    assert_eq!(app.process.caller(1).create(&body("a@limited.test")).await.status, 429);
    assert!(!silent.was_asked_about("limited"));
}

#[tokio::test]
async fn a_reload_turns_the_check_on_and_off() {
    let server = DnsServer::start().await;
    let config = |is_on: bool| {
        let keys = crate::support::v1::hash(1);
        let server = server.address();
        format!("[tenant]\nkeys = \"{keys}\"\n[domains]\ncheck_mx = {is_on}\n[dns]\nservers = \"{server}\"\n")
    };
    let app = TestApp::builder().config(&config(false)).spawn().await;
    let status = async || app.send_otp("a@nullmx.test").await.status;
    assert_eq!(status().await, 200);
    app.reload(&config(true));
    eventually("the check is on", async || status().await == 400).await;
    app.reload(&config(false));
    eventually("the check is off", async || status().await == 200).await;
}

#[tokio::test]
async fn name_servers_that_do_not_answer_hold_a_send_up_for_one_second_at_most() {
    let silent = SilentDnsServer::start();
    let app = checking(&silent.address(), "1/1h").await;
    let begun = Instant::now();
    assert_eq!(app.process.send_from("192.0.2.7", "a@good.test").await.status, 200);
    let took = begun.elapsed();
    assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!(app.process.send_from("192.0.2.8", "a@nomx.test").await.status, 200);
    let log = app.process.whole_log().await;
    assert!(!log.contains("good.test"));
    assert_eq!(log.matches("a domain was not checked in DNS").count(), 1, "the first failure is logged");
}

//! The hook: what the operator's program gets, and where requests may go.

use std::io::{BufRead as _, BufReader, Lines};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use otpd::adapters::clock::SystemClock;
use otpd::ports::Clock as _;
use serde_json::json;
use standardwebhooks::Webhook;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use crate::commands::{run, text};
use crate::support::app::{Builder, Process, TestApp, eventually};
use crate::support::dialects::Dialect;
use crate::support::hook::{HookReceiver, SECRET};
use crate::support::host::Network;
use crate::support::http_sink::HttpSink;
use crate::support::redis::RedisServer;
use crate::support::smtp::SmtpPeer;
use crate::support::v1::hash;

const EMAIL: &str = "recipient@example.com";

/// Returns a service that sends by the hook at this URL.
fn hooked(url: &str) -> Builder {
    TestApp::builder()
        .keyed()
        .set("OTP_SENDER", "hook")
        .set("OTP_HOOK__URL", url)
        .set("OTP_HOOK__SECRET", SECRET)
}

#[tokio::test]
async fn a_code_is_posted_once_with_everything_that_a_gateway_needs() {
    let hook = HookReceiver::start().await;
    let app = hooked(&hook.url()).spawn().await;
    assert_eq!(app.send_otp(EMAIL).await.message(), (200, "OTP sent successfully".to_owned()));
    let body = json!({ "email": EMAIL, "purpose": "login", "locale": "de" });
    let created = app.caller(1).create(&body).await;
    assert_eq!(created.status, 201, "{created:?}");
    let created = created.json();

    let calls = hook.calls().clone();
    let [simple, v1] = calls.as_slice() else { panic!("{calls:?}") };
    for call in [simple, v1] {
        assert_eq!(call.headers["content-type"], "application/json");
        assert_eq!(call.headers["webhook-id"], call.body["id"].as_str().expect("an id"));
        assert_eq!(call.headers["user-agent"], concat!("otpd/", env!("CARGO_PKG_VERSION")));
        assert_eq!(call.body["to"], EMAIL);
        assert_eq!(call.body["brand"], "sender.example");
        let code = call.body["code"].as_str().expect("a code");
        assert_eq!(code.len(), 6);
        for part in ["text", "html"] {
            assert_eq!(call.body[part].as_str().expect("a text").matches(code).count(), 1, "{part}");
        }
        let mut members: Vec<_> = call.body.as_object().expect("an object").keys().cloned().collect();
        members.sort();
        let expected = [
            "brand",
            "code",
            "expires_at",
            "html",
            "id",
            "locale",
            "purpose",
            "reference",
            "subject",
            "tenant",
            "text",
            "to",
        ];
        assert_eq!(members, expected);
    }
    assert_eq!((&simple.body["tenant"], &simple.body["locale"]), (&json!("simple"), &json!("en")));
    assert_eq!((&simple.body["purpose"], &simple.body["reference"]), (&json!(null), &json!(null)));
    assert_eq!((&v1.body["tenant"], &v1.body["locale"]), (&json!("default"), &json!("de")));
    assert_eq!((&v1.body["purpose"], &v1.body["reference"]), (&json!("login"), &created["reference"]));
    let whole_seconds = |time: &serde_json::Value| time.as_str().expect("a time")[..19].to_owned();
    assert_eq!(whole_seconds(&v1.body["expires_at"]), whole_seconds(&created["expires_at"]));
    assert_ne!(simple.body["id"], v1.body["id"]);

    let id = created["id"].as_str().expect("an id");
    let checked = app.caller(1).check(id, v1.body["code"].as_str().expect("a code")).await;
    assert_eq!(checked.status, 200, "{checked:?}");
    assert_eq!(app.verify_otp(EMAIL, simple.body["code"].as_str().expect("a code")).await.status, 200);
    assert_eq!(app.smtp.mails().len(), 0, "nothing goes to the relay");
}

#[test]
fn a_signature_is_of_these_bytes_with_this_secret() {
    // What the receiver of these tests relies on.
    let webhook = Webhook::new(SECRET).expect("a secret");
    let other = Webhook::new("whsec_AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=").expect("a secret");
    let sign = |webhook: &Webhook, id: &str, body: &[u8]| webhook.sign(id, 1, body).expect("a signature");
    let signature = sign(&webhook, "a", b"{}");
    for other in [sign(&other, "a", b"{}"), sign(&webhook, "b", b"{}"), sign(&webhook, "a", b"[]")] {
        assert_ne!(signature, other);
    }
}

#[tokio::test]
async fn a_hook_that_hangs_costs_nobody_else() {
    let hook = HookReceiver::start().await;
    hook.delay(Duration::from_hours(1));
    let tenants = format!("[[tenants]]\nname = \"slow\"\nkeys = [\"{}\"]\ntransport = \"hook\"\n", hash(3));
    let app = hooked(&hook.url()).set("OTP_SENDER", "smtp").config(&tenants).spawn().await;
    let process = Arc::clone(&app.process);
    let mut hanging = JoinSet::new();
    for number in 0..100 {
        let process = Arc::clone(&process);
        hanging.spawn(async move {
            process.caller(3).create(&json!({ "email": format!("slow{number}@example.com") })).await
        });
    }
    // One request for each connection; the others wait for one.
    eventually("as many requests as connections", async || hook.calls().len() == 64).await;
    for number in 0..20 {
        let body = json!({ "email": format!("quick{number}@example.com") });
        let created = app.caller(1).create(&body).await;
        assert_eq!(created.status, 201, "{created:?}");
    }
    assert_eq!(hanging.try_join_next().map(|_| ()), None, "these still hang");
    while let Some(answer) = hanging.join_next().await {
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 502, "{answer:?}");
    }
    // Now the hook is known to be down: it gets one trial in 5 s, and so at most three in the 10 s
    // that a send may take.
    let asked = hook.calls().len();
    let mut later = JoinSet::new();
    for number in 0..20 {
        let process = Arc::clone(&process);
        later.spawn(async move {
            process.caller(3).create(&json!({ "email": format!("later{number}@example.com") })).await.status
        });
    }
    assert_eq!(later.join_all().await, [502; 20]);
    let trials = hook.calls().len() - asked;
    assert!(trials <= 3, "{trials} of 20");
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = HookReceiver::start().await;
    let hook = HookReceiver::start().await;
    hook.redirect_to(&elsewhere.url());
    let app = hooked(&hook.url()).spawn().await;
    assert_eq!(app.send_otp(EMAIL).await.status, 500);
    assert_eq!((hook.calls().len(), elsewhere.calls().len()), (1, 0));
    assert!(app.whole_log().await.contains("refused with status 307"));
}

#[tokio::test]
async fn a_503_is_repeated_only_if_it_says_when_and_the_time_is_bounded() {
    let hook = HookReceiver::start().await;
    let app = hooked(&hook.url()).spawn().await;
    let mut known = 0;
    // Sends a code; returns how often the hook was asked, and whether the code may have arrived.
    let mut send = async || {
        let created = app.caller(1).create(&json!({ "email": EMAIL })).await;
        assert_eq!(created.status, 502, "{created:?}");
        let before = std::mem::replace(&mut known, hook.calls().len());
        (known - before, created.json().get("id").is_some())
    };
    hook.answer_with(503);
    assert_eq!(send().await, (1, true), "unknown");
    for (status, retry_after, calls) in [
        (503, "0", 3),
        (503, "Fri, 31 Dec 1999 23:59:59 GMT", 3),
        (503, "-1", 3),
        (503, "18446744073709551615", 1),
        (429, "18446744073709551615", 1),
        (429, "-1", 3),
        (429, "Fri, 31 Dec 9999 23:59:59 GMT", 3),
    ] {
        hook.answer_later(status, retry_after);
        assert_eq!(send().await, (calls, false), "{status}, {retry_after}");
    }
    hook.answer_later(503, "1");
    let accepted = tokio::spawn({
        let process = Arc::clone(&app.process);
        async move { process.caller(1).create(&json!({ "email": "other@example.com" })).await.status }
    });
    eventually("the first request", async || hook.calls().len() > known).await;
    hook.answer_with(204);
    assert_eq!(accepted.await.expect("an answer"), 201);
    let calls = hook.calls().clone();
    let [first, second] = &calls[known..] else { panic!("{calls:?}") };
    assert_eq!(first.body, second.body, "the same code under the same id");
    assert!(!app.whole_log().await.contains("panicked"));
}

#[tokio::test]
async fn no_request_goes_to_an_address_that_is_not_public() {
    // The first three lead to this machine, where the listener would see a connection. The others
    // are no addresses of this machine: for them the log tells that none was tried.
    let listener = TcpListener::bind("[::]:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let config = |host: &str| format!("[hook]\nurl = \"https://{host}:{port}/codes\"\n");
    let builder = TestApp::builder().set("OTP_SENDER", "hook").set("OTP_HOOK__SECRET", SECRET);
    let hosts = [
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.0.1",
        "100.64.0.1",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::1]",
    ];
    let app = builder.config(&config(hosts[0])).spawn().await;
    for (reloads, host) in hosts.iter().enumerate() {
        let count = |log: &str, text: &str| log.matches(text).count();
        if reloads > 0 {
            app.reload(&config(host));
            eventually("a reload", async || count(&app.log(), "the settings were reloaded") == reloads).await;
        }
        assert_eq!(app.send_otp(EMAIL).await.status, 500, "{host}");
        let log = app.whole_log().await;
        assert_eq!(count(&log, "OTP_OUTBOUND__ALLOWED_NETWORKS"), reloads + 1, "{host}: {log}");
    }
    let connected = tokio::time::timeout(Duration::from_millis(1), listener.accept()).await;
    assert!(connected.is_err(), "{connected:?}");
}

/// A public address, which this machine has for the time of the test.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(11, 22, 33, 44);

/// Answers the first question for an IPv4 address with `first`, and all others with `then`. Returns
/// how many there were.
fn answer_dns(socket: UdpSocket, first: Ipv4Addr, then: Ipv4Addr) -> Arc<AtomicUsize> {
    let questions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&questions);
    tokio::spawn(async move {
        let mut packet = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut packet).await {
            // RFC 1035 section 4: the header of 12 bytes, then the name, its type and its class.
            let name_end = 12 + packet[12..length].iter().position(|byte| *byte == 0).expect("a name") + 1;
            let question = &packet[12..name_end + 4];
            let is_ipv4 = packet[name_end..name_end + 2] == [0, 1];
            let mut answer = packet[..2].to_vec();
            answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_ipv4), 0, 0, 0, 0]);
            answer.extend(question);
            if is_ipv4 {
                let number = count.fetch_add(1, Ordering::Relaxed);
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
                answer.extend(if number == 0 { first } else { then }.octets());
            }
            socket.send_to(&answer, client).await.expect("an answer");
        }
    });
    questions
}

/// The address of a name is the one that was checked: a name that changes its address (DNS
/// rebinding) leads nowhere.
#[tokio::test]
async fn a_name_whose_address_changes_to_a_private_one_is_not_connected_to() {
    let network = Network::create();
    let [host, ..] = network.hosts();
    network.add_address(PUBLIC);
    network.resolve_here();
    let dns = UdpSocket::bind((network.machine(), 53)).await.expect("the port of DNS");
    let questions = answer_dns(dns, PUBLIC, network.machine());
    let public = TcpListener::bind((PUBLIC, 0)).await.expect("a port");
    let port = public.local_addr().expect("an address").port();
    let private = TcpListener::bind((network.machine(), port)).await.expect("the same port");

    let redis = RedisServer::start_on(host.clone(), &["--protected-mode", "no"]).await;
    let mut settings = TestApp::settings_for(&SmtpPeer::builder().start().await, &[]);
    settings.extend(redis.settings().into_iter().map(|(name, value)| (name.to_owned(), value)));
    let url = format!("https://hook.example:{port}/codes");
    for (name, value) in [
        ("OTP_SENDER", "hook"),
        ("OTP_HOOK__URL", &url),
        ("OTP_HOOK__SECRET", SECRET),
        ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true"),
    ] {
        settings.insert(name.to_owned(), value.to_owned());
    }
    let otpd = Process::start_on(&host, "serve", &settings).await;
    let accepted = tokio::spawn(async move {
        let (stream, _) = public.accept().await.expect("a connection");
        drop(stream);
    });
    assert_eq!(otpd.send_otp("first@example.com").await.status, 500);
    accepted.await.expect("the first request goes to the public address");
    assert_eq!(otpd.send_otp("second@example.com").await.status, 500);
    assert_eq!(questions.load(Ordering::Relaxed), 2, "one question for each connection");
    assert!(otpd.whole_log().await.contains("OTP_OUTBOUND__ALLOWED_NETWORKS"));
    let connected = tokio::time::timeout(Duration::from_millis(1), private.accept()).await;
    assert!(connected.is_err(), "{connected:?}");
}

/// The example of examples/hook, as a process.
struct Example {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    port: String,
}

impl Example {
    /// Starts it with this value of `PHONES`, or without it.
    fn start(phones: Option<&str>) -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/hook/sms.py");
        let mut command = Command::new("python3");
        command.arg(path).env("HOOK_SECRET", SECRET).env("PORT", "0").stdout(Stdio::piped());
        command.envs(phones.map(|phones| ("PHONES", phones)));
        let mut child = command.spawn().expect("Python");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let first = lines.next().expect("a line").expect("text");
        let port = first.strip_prefix("listening on port ").expect("a port").to_owned();
        Self { child, lines, port }
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_example_sends_a_code_once_and_refuses_what_otpd_did_not_sign() {
    let mut example = Example::start(None);
    let url = format!("http://127.0.0.1:{}/", example.port);
    let app = hooked(&url).spawn().await;
    assert_eq!(app.send_otp(EMAIL).await.status, 200);
    let line = example.lines.next().expect("a line").expect("text");
    let rest = line.strip_prefix("to the phone of recipient@example.com: ").expect("the recipient");
    let (code, rest) = rest.split_once(' ').expect("a code");
    assert_eq!(rest, "is your code for sender.example");
    assert_eq!(app.verify_otp(EMAIL, code).await.status, 200);

    let body = r#"{"id":"a","to":"b@example.com","code":"123456","brand":"B"}"#;
    let now = SystemClock.now().duration_since(UNIX_EPOCH).expect("a time").as_secs();
    let now = i64::try_from(now).expect("a time");
    let post = async |time: i64, secret: &str, body: &str| {
        let webhook = Webhook::new(secret).expect("a secret");
        let signature = webhook.sign("a", time, body.as_bytes()).expect("a signature");
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let request = client.post(&url).header("webhook-id", "a").header("webhook-timestamp", time);
        let request = request.header("webhook-signature", signature).body(body.to_owned());
        request.send().await.expect("an answer").status().as_u16()
    };
    let other = "whsec_AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    assert_eq!(post(now, other, body).await, 401);
    assert_eq!(post(now - 600, SECRET, body).await, 401);
    assert_eq!(post(now, SECRET, body).await, 204);
    assert_eq!(post(now, SECRET, body).await, 204);
    drop(app);
    example.child.kill().expect("it runs");
    let printed: Vec<_> = example.lines.by_ref().map(|line| line.expect("text")).collect();
    assert_eq!(printed, ["to the phone of b@example.com: 123456 is your code for B"], "sent once");
}

#[tokio::test]
async fn the_example_refuses_an_address_without_a_number_and_its_code_is_dead() {
    let mut example = Example::start(Some(r#"{"known@example.com": "+49 30 901820"}"#));
    let app = hooked(&format!("http://127.0.0.1:{}/", example.port)).spawn().await;
    assert_eq!(app.send_otp(EMAIL).await.message(), (500, "Failed to send OTP".to_owned()));
    let created = app.caller(1).create(&json!({ "email": EMAIL })).await;
    // Without an id, which is that of a code that may have arrived.
    assert_eq!((created.status, created.json().get("id")), (502, None), "{created:?}");
    assert!(app.whole_log().await.contains("refused with status 400"));
    assert_eq!(app.send_otp("known@example.com").await.status, 200);
    let line = example.lines.next().expect("a line").expect("text");
    assert!(line.starts_with("to +49 30 901820: "), "{line}");
}

// `run` blocks its thread, and the receiver needs another.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_whether_the_hook_can_be_reached_and_what_to_do() {
    let hook = HookReceiver::start().await;
    let app = hooked(&hook.url()).spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let doctor = |url: &str, code: i32| {
        let mut settings: Vec<(&str, &str)> =
            app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        settings.push(("OTP_HOOK__URL", url));
        let output = run(folder.path(), &settings, &["doctor"]);
        let said = text(&output.stdout);
        assert_eq!(output.status.code(), Some(code), "{said}");
        said
    };
    // The receiver refuses HEAD, and still it answers.
    assert!(doctor(&hook.url(), 0).contains("ok    hook: http://127.0.0.1:"));
    let gone = HttpSink::gone(Dialect::Hook);
    for (url, reason, advice) in [
        (gone.url(), "connecting: connection refused", "check OTP_HOOK__URL"),
        ("https://10.0.0.1/".to_owned(), "not public", "OTP_OUTBOUND__ALLOWED_NETWORKS"),
        (hook.url().replace("http:", "https:"), "TLS", "OTP_OUTBOUND__CA_FILE"),
    ] {
        let said = doctor(&url, 1);
        let line = said.split("FAIL  hook: ").nth(1).unwrap_or_else(|| panic!("{said}"));
        assert!(line.contains(reason) && line.contains(advice), "{url}: {line}");
    }
    assert_eq!(hook.calls().len(), 0, "no code was sent");
}

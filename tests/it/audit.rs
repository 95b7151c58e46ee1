//! The audit log: each decision once, with hashes instead of addresses; and logs that nobody reads.

use std::process::Stdio;

use serde_json::{Value, json};

use crate::commands::{run, text};
use crate::support::app::{TestApp, command, eventually, read_to_end};

const EMAIL: &str = "quizzical+x@kestrel.example";
const CLIENT: &str = "198.51.100.237";

/// Stops the process, and returns event, outcome and policy of each line of its audit log.
async fn decisions(app: &TestApp) -> Vec<[String; 3]> {
    assert_eq!(app.stopped().await.code(), Some(0));
    let text = |line: &Value, name: &str| line[name].as_str().unwrap_or_default().to_owned();
    app.audited().iter().map(|line| ["event", "outcome", "policy"].map(|name| text(line, name))).collect()
}

#[tokio::test]
async fn one_verification_is_recorded_from_send_to_approval() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let created = caller.create(&json!({ "email": EMAIL, "end_user_ip": CLIENT })).await;
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(caller.check(&id, "000000").await.status, 422);
    assert_eq!(caller.check(&id, "no code").await.status, 422);
    assert_eq!(caller.resend(&id).await.status, 200);
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(caller.check(&id, &code).await.status, 200);
    assert_eq!(caller.check(&id, &code).await.status, 410);
    assert_eq!(caller.cancel(&id).await.status, 410);
    let recorded = decisions(&app).await;
    let expected = [
        ["send", "sent", ""],
        ["attempt", "wrong", ""],
        ["attempt", "wrong", ""],
        ["send", "sent", ""],
        ["attempt", "approved", ""],
        ["attempt", "closed", ""],
        ["cancel", "closed", ""],
    ];
    assert_eq!(recorded, expected);
    let lines = app.audited();
    let request = created.header("x-request-id").expect("a request id");
    assert_eq!(lines[0]["span"]["request.id"], request);
    for line in &lines {
        assert_eq!(line["tenant.name"], "default", "{line}");
        assert_eq!(line["span"]["key.label"], "k1", "{line}");
        assert_eq!(line["verification.hash"], lines[0]["verification.hash"], "{line}");
        assert!(line["timestamp"].is_string(), "{line}");
    }
    // The hash that `inspect` prints, wherever the recipient is known.
    let settings: Vec<_> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    let seen = text(&run(folder.path(), &settings, &["inspect", EMAIL, "--ip", CLIENT]).stdout);
    let hash_after = |name: &str| {
        let line = seen.lines().find_map(|line| line.strip_prefix(name)).expect("a line");
        line.split_whitespace().next().expect("a hash").to_owned()
    };
    let hash = hash_after("email ");
    for known in [0, 3, 4] {
        assert_eq!(lines[known]["email.hash"], hash.as_str(), "{known}");
    }
    assert_eq!(lines[0]["client.hash"], hash_after("client ").as_str());
}

#[tokio::test]
async fn each_refusal_names_its_policy_and_the_last_attempt_is_recorded() {
    let app = TestApp::limited().set("OTP_LIMITS__RELAY_EMAILS_PER_DAY", "1").spawn().await;
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 200);
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 503);
    for _ in 0..5 {
        assert_eq!(app.verify_from("198.51.100.1", EMAIL, "000000").await.status, 400);
    }
    assert_eq!(app.verify_from("198.51.100.1", EMAIL, "000000").await.status, 400);
    let recorded = decisions(&app).await;
    let wrong = ["attempt", "wrong", ""];
    let expected = [
        ["send", "sent", ""],
        ["send", "overloaded", "relay_emails_per_day"],
        wrong,
        wrong,
        wrong,
        wrong,
        ["attempt", "exhausted", ""],
        wrong,
    ];
    assert_eq!(recorded, expected);

    let app = TestApp::limited().keyed().set("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "2").spawn().await;
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 200);
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 429);
    assert_eq!(app.caller(9).show("AAAAAAAAAAAAAAAAAAAAAA").await.status, 401);
    for expected in [400, 400, 429] {
        assert_eq!(app.caller(1).post("/v1/verifications", "{}").await.status, expected);
    }
    let expected = [
        ["send", "sent", ""],
        ["send", "rate_limited", "email_sends"],
        ["authentication", "refused", ""],
        ["request", "rate_limited", "key"],
    ];
    assert_eq!(decisions(&app).await, expected);

    let app = TestApp::builder()
        .set("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "1")
        .set("OTP_LIMITS__IP_REQUESTS_BURST", "1")
        .spawn()
        .await;
    assert_eq!(app.get("/").await.status, 200);
    assert_eq!(app.get("/").await.status, 429);
    assert_eq!(decisions(&app).await, [["request", "rate_limited", "ip_requests"]]);
}

#[tokio::test]
async fn the_file_is_opened_again_at_sighup_and_takes_what_operators_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("audit.jsonl");
    let file = path.display().to_string();
    let app = TestApp::builder().set("OTP_AUDIT__OUTPUT", &file).spawn().await;
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(app.send_otp(EMAIL).await.status, 200);
    eventually("the send is written", async || read(&path).contains(r#""outcome":"sent""#)).await;
    let renamed = folder.path().join("audit.jsonl.1");
    std::fs::rename(&path, &renamed).expect("renamed");
    app.signal("HUP");
    eventually("the reload is in the new file", async || read(&path).contains(r#""outcome":"applied""#))
        .await;
    assert_eq!(read(&renamed).lines().count(), 1);
    let settings: Vec<_> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let unblocked = run(folder.path(), &settings, &["unblock", EMAIL]);
    assert_eq!(text(&unblocked.stdout).trim(), "1 ledger was emptied: the person can try again");
    assert!(read(&path).contains(r#""event":"unblock","outcome":"emptied""#), "{}", read(&path));
    // A file that cannot be opened stops a start, and leaves the old one at a reload.
    std::fs::remove_file(&path).expect("removed");
    std::fs::create_dir(&path).expect("a folder in its place");
    app.signal("HUP");
    app.logged("the old one is written").await;
    assert_eq!(app.send_otp(EMAIL).await.status, 200);
    let refused = run(folder.path(), &settings, &["serve"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("\n    OTP_AUDIT__OUTPUT=stdout"), "{}", text(&refused.stderr));
}

#[tokio::test]
async fn each_line_of_a_request_has_its_id_whatever_the_level() {
    for level in ["warn", "debug"] {
        let app = TestApp::builder().set("OTP_LOG__LEVEL", "").config("").spawn().await;
        app.reload(&format!("log.level = \"{level}\""));
        eventually("a reload", async || app.audited().iter().any(|line| line["event"] == "reload")).await;
        app.redis.stop();
        let refused = app.send_otp(EMAIL).await;
        assert_eq!(refused.status, 503);
        assert_eq!(app.stopped().await.code(), Some(0));
        let id = refused.header("x-request-id").expect("a request id");
        let lines: Vec<Value> =
            app.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let failed = lines.iter().find(|line| line["level"] == "WARN" && line["error"].is_string());
        let failed = failed.expect("a line");
        assert_eq!(failed["spans"][0]["request.id"], id, "{failed}");
        assert_eq!(app.audited()[1]["span"]["request.id"], id);
    }
}

#[tokio::test]
async fn logs_that_nobody_reads_hold_up_no_request() {
    let app = TestApp::spawn().await;
    let mut settings = app.settings().clone();
    settings.insert("OTP_HTTP__LISTEN".to_owned(), "127.0.0.1:0".to_owned());
    settings.insert("OTP_ADMIN__LISTEN".to_owned(), "127.0.0.1:0".to_owned());
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = command(folder.path(), &settings);
    let mut child = command
        .arg("serve")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // Reads until both addresses are known, and nothing after that.
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("standard error is piped"));
    let (mut admin, mut address) = (None, None);
    while address.is_none() {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut stderr, &mut line).expect("a line");
        let line: Value = serde_json::from_str(&line).expect("JSON");
        match line["message"].as_str() {
            Some("serving metrics") => admin = line["address"].as_str().map(str::to_owned),
            Some("listening") => address = line["address"].as_str().map(str::to_owned),
            _ => {}
        }
    }
    let (admin, address) = (admin.expect("an admin listener"), address.expect("an address"));
    let get = async |address: &str, path: &str| {
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes()).await.expect("sent");
        read_to_end(&mut stream).await
    };
    let lost = async || {
        let metrics = get(&admin, "/metrics").await;
        let line = metrics.lines().find(|line| line.starts_with(r#"otpd_log_lines_lost_total{log="log"}"#));
        line.expect("the metric").rsplit(' ').next().expect("a figure").parse::<u64>().expect("a number")
    };
    assert_eq!(lost().await, 0);
    // The queue and the pipe hold some thousand lines.
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let mut answered = 0;
    while lost().await == 0 {
        assert!(answered < 100_000, "{answered} lines are not lost and not read");
        for _ in 0..1000 {
            let answer = client.get(format!("http://{address}/livez")).send().await.expect("an answer");
            assert_eq!(answer.status(), 200);
            answered += 1;
        }
    }
    // It ends all the same, although the queue is full and both pipes are.
    let signal = std::process::Command::new("kill").arg(child.id().to_string()).status();
    assert!(signal.expect("kill runs").success());
    let child = std::cell::RefCell::new(child);
    eventually("it ends", async || child.borrow_mut().try_wait().expect("a process").is_some()).await;
}

#[tokio::test]
async fn a_pipe_is_no_file_for_the_audit_log_and_a_full_disk_is_reported_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let app = TestApp::builder().set("OTP_AUDIT__OUTPUT", "/dev/full").spawn().await;
    for _ in 0..3 {
        assert_eq!(app.send_otp(EMAIL).await.status, 200);
    }
    let lost =
        async || app.admin("/metrics").await.body.contains("otpd_log_lines_lost_total{log=\"audit\"} 3\n");
    eventually("all are counted", lost).await;
    let fault = "the audit log cannot be written";
    app.logged(fault).await;
    assert_eq!(app.log().matches(fault).count(), 1);
    let mut settings = app.settings().clone();
    settings.insert("OTP_AUDIT__OUTPUT".to_owned(), pipe.display().to_string());
    let settings: Vec<_> = settings.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    for command in [["serve"].as_slice(), &["doctor"]] {
        let output = run(folder.path(), &settings, command);
        let said = [text(&output.stdout), text(&output.stderr)].concat();
        assert!(said.contains("OTP_AUDIT__OUTPUT: the file cannot be opened"), "{command:?}: {said}");
        assert!(said.contains("\n    OTP_AUDIT__OUTPUT=stdout"), "{command:?}: {said}");
    }
}

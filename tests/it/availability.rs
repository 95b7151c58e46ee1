//! Behaviour under load: other clients are still served, and memory stays bounded.

use std::sync::Arc;

use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::support::app::{Answer, Process, TestApp, light_hash};

const HEAD: &str = "POST /send-otp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
/// MiB that a process may use in addition to the memory blocks of its hash threads.
const ALLOWANCE_MIB: u64 = 64;
/// MiB of that allowance that an idle release build uses. A debug build uses more, which says
/// nothing about requests.
const IDLE_MIB: u64 = 15;

#[tokio::test]
async fn two_thousand_idle_connections_leave_room_for_a_fresh_request() {
    // Each connection has two ends, one in the test and one in the process of otpd.
    rlimit::increase_nofile_limit(8192).expect("open files");
    let dev = Process::dev().await;
    let mut idle = Vec::new();
    for _ in 0..2000 {
        idle.push(dev.connect().await);
    }
    assert_eq!(dev.send_otp("a@example.com").await.status, 200);
    assert!(dev.peak_memory_kib() < ALLOWANCE_MIB * 1024, "{} KiB", dev.peak_memory_kib());
    drop(idle);
}

#[tokio::test]
async fn a_body_of_64_mib_is_refused_early_and_takes_no_memory() {
    let dev = Process::dev().await;
    dev.send_otp("a@example.com").await;
    let before = dev.peak_memory_kib();
    let declared = format!("{HEAD}Content-Length: {}\r\n\r\n{{", 64 << 20);
    for _ in 0..10 {
        assert!(dev.raw(declared.as_bytes()).await.starts_with("HTTP/1.1 413 "));
        let mut stream = dev.connect().await;
        stream.write_all(format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n").as_bytes()).await.expect("sent");
        let chunk = format!("10000\r\n{}\r\n", " ".repeat(1 << 16));
        let mut sent = 0;
        while sent < 64 << 20 && stream.write_all(chunk.as_bytes()).await.is_ok() {
            sent += chunk.len();
        }
        assert!(sent < 64 << 20, "it was cut off");
    }
    let grown = dev.peak_memory_kib() - before;
    println!("20 bodies of 64 MiB: peak memory grew by {grown} KiB");
    assert!(grown < 8 * 1024, "{grown} KiB");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_checks_at_once_stay_within_the_blocks_of_the_hash_threads() {
    let app = TestApp::builder()
        .set("OTP_HASH__MEMORY_KIB", "19456")
        .set("OTP_HASH__PASSES", "2")
        .set("OTP_HASH__THREADS", "2")
        // The smallest queue that is sized by measuring.
        .set("OTP_HASH__QUEUE", "320")
        .set("OTP_LOG__LEVEL", "info");
    let app = app.spawn().await;
    let idle = app.peak_memory_kib();
    let answers = checks_at_once(&app, 1000).await;
    assert!(answers.iter().all(|answer| [400, 503].contains(&answer.status)));
    let peak = app.peak_memory_kib();
    println!("1,000 checks at once: {idle} KiB idle, {peak} KiB at the peak");
    assert!(peak - idle < (ALLOWANCE_MIB - IDLE_MIB) * 1024, "{idle} KiB idle, {peak} KiB at the peak");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_checks_at_once_those_that_do_not_fit_get_a_retry_after() {
    let app = TestApp::builder()
        .set("OTP_HASH__MEMORY_KIB", "7168")
        .set("OTP_HASH__THREADS", "2")
        .set("OTP_HASH__QUEUE", "50")
        .spawn()
        .await;
    let answers = checks_at_once(&app, 1000).await;
    let count = |status| answers.iter().filter(|answer| answer.status == status).count();
    let (served, shed) = (count(400), count(503));
    assert_eq!(served + shed, 1000);
    assert!(served >= 52 && shed > 0, "{served} served, {shed} shed");
    let mut refused = answers.iter().filter(|answer| answer.status == 503);
    assert!(refused.all(|answer| answer.header("retry-after").is_some()));
}

async fn checks_at_once(app: &TestApp, calls: usize) -> Vec<Answer> {
    let mut checks = JoinSet::new();
    for number in 0..calls {
        let process = Arc::clone(&app.process);
        checks.spawn(async move { process.verify_otp(&format!("a{number}@example.com"), "123456").await });
    }
    checks.join_all().await
}

/// Sends this many emails at once, one per client; all must succeed. For figures, run `cargo bench
/// --bench overload`.
async fn assert_burst_served(app: &TestApp, burst: usize) {
    let mut sends = JoinSet::new();
    for number in 0..burst {
        let process = Arc::clone(&app.process);
        sends.spawn(async move {
            let client = format!("198.51.{}.{}", number / 250, number % 250);
            process.send_from(&client, &format!("a{number}@example.com")).await.status
        });
    }
    let statuses = sends.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), burst, "{statuses:?}");
    assert_eq!(app.smtp.mails().len(), burst);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_the_defaults_a_burst_of_sends_is_served_to_the_last() {
    let app = TestApp::defaults().set("OTP_LOG__LEVEL", "info").spawn().await;
    assert_burst_served(&app, 100).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_that_fits_into_the_least_queue_meets_no_other_bound() {
    // Fast hashes, even on a machine that runs other tests: the test shows that nothing else
    // rejects a request at the defaults.
    let app = light_hash().into_iter().fold(TestApp::defaults(), |app, (name, value)| app.set(&name, &value));
    let app = app.set("OTP_HASH__QUEUE", "320").set("OTP_LOG__LEVEL", "info").spawn().await;
    assert_burst_served(&app, 300).await;
}

#[tokio::test]
async fn at_the_defaults_the_queue_has_room_for_320_at_least() {
    let app = TestApp::defaults().set("OTP_LOG__LEVEL", "info").spawn().await;
    let log = app.log();
    let line = log.lines().find(|line| line.contains("hash threads started")).expect("a line in the log");
    let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
    let (places, threads) = (line["hash.queue"].as_u64(), line["hash.threads"].as_u64());
    assert!(places.expect("a number") >= 320 + threads.expect("a number"), "{line}");
}

#[tokio::test]
async fn load_shedding_limits_a_network_that_calls_too_often_and_spares_health() {
    let app = TestApp::limited()
        .set("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "1")
        .set("OTP_LIMITS__IP_REQUESTS_BURST", "3")
        .spawn()
        .await;
    for _ in 0..3 {
        assert_eq!(app.verify_from("192.0.2.1", "nobody", "1").await.status, 400);
    }
    let shed = app.verify_from("192.0.2.1", "nobody", "1").await;
    assert_eq!(shed.message(), (429, "Too many requests".to_owned()));
    assert_eq!(shed.header("retry-after"), Some("1"));
    assert_eq!(shed.header("ratelimit-policy"), Some("\"ip_requests\";q=3;w=3"));
    for _ in 0..10 {
        assert_eq!((app.get("/livez").await.status, app.get("/readyz").await.status), (200, 200));
    }
    let keys = app.redis.dump().await.into_iter().map(|(key, ..)| key);
    assert!(keys.into_iter().all(|key| key == b"otp:{ready}"), "no ledger was touched");
}

#[tokio::test]
async fn a_contact_for_holes_is_shown_where_it_is_set() {
    let app =
        TestApp::builder().set("OTP_HTTP__SECURITY_CONTACT", "mailto:security@example.com").spawn().await;
    let file = app.get("/.well-known/security.txt").await;
    assert_eq!((file.status, file.header("content-type")), (200, Some("text/plain; charset=utf-8")));
    let (contact, expires) = file.body.trim_end().split_once('\n').expect("two lines");
    assert_eq!(contact, "Contact: mailto:security@example.com");
    assert!(expires.starts_with("Expires: 20") && expires.ends_with('Z'), "{expires}");
    assert_eq!(TestApp::spawn().await.get("/.well-known/security.txt").await.status, 404);
}

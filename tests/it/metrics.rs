//! Metrics: what is counted, where it is served, and that Prometheus, the alert rules and the
//! dashboard can use it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::app::{Answer, Process, TestApp, eventually};
use crate::support::smtp::Fault;

const CLIENT: &str = "198.51.100.237";

/// Returns the value of a series, `0` if there is none.
fn value<'a>(metrics: &'a str, series: &str) -> &'a str {
    metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')).unwrap_or("0")
}

async fn scrape(process: &Process) -> String {
    let answer = process.admin("/metrics").await;
    assert_eq!(
        (answer.status, answer.header("content-type")),
        (200, Some("text/plain; version=0.0.4; charset=utf-8"))
    );
    answer.body
}

#[tokio::test]
async fn metrics_are_served_by_the_admin_listener_and_nothing_else_is() {
    let app = TestApp::spawn().await;
    assert_eq!(app.get("/metrics").await.status, 404);
    let statuses = |answers: [Answer; 3]| answers.map(|answer| answer.status);
    let elsewhere = [app.admin("/").await, app.admin("/livez").await, app.admin("/openapi.json").await];
    assert_eq!(statuses(elsewhere), [404; 3]);
    assert!(scrape(&app).await.contains("otpd_build_info{version="));
    let dev = Process::dev_with(&[("OTP_ADMIN__LISTEN", "off")]).await;
    let log = dev.whole_log().await;
    assert!(!log.contains("serving metrics"), "{log}");
}

#[tokio::test]
async fn what_happens_is_counted_once_by_tenant_and_outcome() {
    let app = TestApp::limited().keyed().spawn().await;
    let mail = "a@example.com";
    let code = app.smtp_code_from(CLIENT, mail).await;
    assert_eq!(app.verify_from(CLIENT, mail, "000000").await.status, 400);
    assert_eq!(app.verify_from(CLIENT, mail, "no code").await.status, 400);
    assert_eq!(app.verify_from(CLIENT, mail, &code).await.status, 200);
    app.smtp.set(Fault::RefuseRecipient);
    assert_eq!(app.send_from(CLIENT, "b@example.com").await.status, 500);
    app.smtp.set(Fault::None);
    assert_eq!(app.send_from(CLIENT, mail).await.status, 429);
    let body = json!({"email": "c@example.com", "purpose": "login"});
    for _ in 0..2 {
        assert_eq!(app.caller(1).create_under("k", &body).await.status, 201);
    }
    assert_eq!(app.caller(1).show("AAAAAAAAAAAAAAAAAAAAAA").await.status, 404);
    let metrics = scrape(&app).await;
    for (series, wanted) in [
        ("otpd_sends_total{tenant=\"simple\",outcome=\"sent\"}", "1"),
        ("otpd_sends_total{tenant=\"simple\",outcome=\"refused\"}", "1"),
        ("otpd_sends_total{tenant=\"simple\",outcome=\"rate_limited\"}", "1"),
        ("otpd_sends_total{tenant=\"default\",outcome=\"sent\"}", "1"),
        ("otpd_attempts_total{tenant=\"simple\",outcome=\"wrong\"}", "2"),
        ("otpd_attempts_total{tenant=\"simple\",outcome=\"approved\"}", "1"),
        ("otpd_rate_limited_total{policy=\"email_sends\"}", "1"),
        ("otpd_relay_attempts_total{relay=\"localhost\",outcome=\"accepted\",stage=\"message\"}", "2"),
        ("otpd_relay_attempts_total{relay=\"localhost\",outcome=\"refused\",stage=\"rcpt\"}", "1"),
        ("otpd_relay_breaker_open{relay=\"localhost\"}", "0"),
        ("otpd_hash_duration_seconds_count", "5"),
        ("otpd_hash_queue_length", "0"),
        ("otpd_redis_call_duration_seconds_count{call=\"approve\"}", "1"),
        ("otpd_redis_call_duration_seconds_count{call=\"charge_ip_and_take_attempt\"}", "2"),
        ("otpd_redis_connects_total", "2"),
        ("http_server_active_requests", "0"),
        (
            "http_server_request_duration_seconds_count{http_request_method=\"POST\",http_route=\"/send-otp\",http_response_status_code=\"200\"}",
            "1",
        ),
        (
            "http_server_request_duration_seconds_count{http_request_method=\"GET\",http_route=\"/v1/verifications/{id}\",http_response_status_code=\"404\"}",
            "1",
        ),
    ] {
        assert_eq!(value(&metrics, series), wanted, "{series} in {metrics}");
    }
    assert!(value(&metrics, "process_resident_memory_bytes").len() > 6, "{metrics}");
    assert_ne!(value(&metrics, "otpd_http_connections"), "0", "{metrics}");
}

#[tokio::test]
async fn the_document_of_the_metrics_has_each_of_them_and_no_other() {
    let app = TestApp::limited().keyed().spawn().await;
    let code = app.smtp_code_from(CLIENT, "a@example.com").await;
    app.verify_from(CLIENT, "a@example.com", &code).await;
    assert_eq!(app.send_from(CLIENT, "a@example.com").await.status, 429);
    app.redis.pause();
    assert_eq!(app.send_from(CLIENT, "b@example.com").await.status, 503);
    app.redis.resume();
    let metrics = scrape(&app).await;
    let types = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let mut served: BTreeSet<_> = types.map(str::to_owned).collect();
    // Only served with TLS, as `tls::a_certificate_that_expires_soon_…` sees.
    served.insert("otpd_tls_certificate_expiry_timestamp_seconds".to_owned());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let page = fs::read_to_string(page).expect("a file");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let prefixes = ["otpd_", "http_", "process_"];
    let named =
        rows.map(|(name, _)| name).filter(|name| prefixes.iter().any(|prefix| name.starts_with(prefix)));
    assert_eq!(named.map(str::to_owned).collect::<BTreeSet<_>>(), served);
    let alerts =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml"));
    for alert in alerts.expect("a file").lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(page.contains(&format!("| `{alert}` |")), "{alert}");
    }
}

#[tokio::test]
async fn a_reload_is_counted_and_a_refused_one_too() {
    let tenants =
        |more: &str| format!("[[tenants]]\nname = \"shop\"\nkeys = \"a:{}\"\n{more}", "A".repeat(43));
    let app = TestApp::builder().config(&tenants("")).spawn().await;
    let reloads = async |outcome: &str| {
        value(&scrape(&app).await, &format!("otpd_settings_reloads_total{{outcome=\"{outcome}\"}}"))
            .to_owned()
    };
    assert!(scrape(&app).await.contains("otpd_settings_reloads_total{outcome=\"refused\"} 0"));
    app.reload(&tenants("brand = \"Shop\""));
    eventually("it is applied", async || reloads("applied").await == "1").await;
    app.reload(&tenants("brand = 1.5.5"));
    eventually("it is refused", async || reloads("refused").await == "1").await;
}

#[tokio::test]
async fn no_label_names_a_person_or_a_request() {
    let app = TestApp::limited().keyed().spawn().await;
    let email = "quizzical@kestrel.example";
    let code = app.smtp_code_from(CLIENT, email).await;
    app.verify_from(CLIENT, email, &code).await;
    app.get("/kestrel/quizzical").await;
    let odd = app.request(reqwest::Method::from_bytes(b"KESTREL").expect("a method"), "/v1/verifications");
    app.answer(odd).await;
    let id = app.caller(1).start(email).await;
    app.caller(1).check(&id, "000000").await;
    let metrics = scrape(&app).await;
    for part in ["quizzical", "kestrel", "KESTREL", CLIENT, &code, &id] {
        assert!(!metrics.contains(part), "{part} in {metrics}");
    }
    let labels = |line: &str| -> Vec<String> {
        let inside =
            line.split_once('{').and_then(|(_, rest)| rest.split_once("} ")).map_or("", |(inside, _)| inside);
        inside.split("\",").filter_map(|pair| Some(pair.split_once('=')?.0.to_owned())).collect()
    };
    let names: BTreeSet<_> = metrics.lines().filter(|line| !line.starts_with('#')).flat_map(labels).collect();
    let wanted = [
        "call",
        "http_request_method",
        "http_response_status_code",
        "http_route",
        "le",
        "log",
        "outcome",
        "relay",
        "stage",
        "tenant",
        "version",
    ];
    assert_eq!(names, BTreeSet::from(wanted.map(str::to_owned)));
}

#[tokio::test]
async fn a_scraper_that_hangs_costs_no_request() {
    // If the two listeners shared their connections, four would be taken at once.
    let app = TestApp::builder().set("OTP_HTTP__MAX_CONNECTIONS", "4").spawn().await;
    let mut hanging = Vec::new();
    for _ in 0..100 {
        let mut stream = tokio::net::TcpStream::connect(app.admin_address()).await.expect("a connection");
        tokio::io::AsyncWriteExt::write_all(&mut stream, b"GET /metrics HTTP/1.1\r\nhost: x\r\n")
            .await
            .expect("written");
        hanging.push(stream);
    }
    for number in 0..20 {
        assert_eq!(app.send_otp(&format!("{number}@example.com")).await.status, 200);
    }
}

/// A Prometheus that scrapes a process each second. Killed when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(process: &Process) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let rules = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [\"{}\"]\nscrape_configs:\n\
             - job_name: otpd\n  static_configs: [{{targets: [\"{}\"]}}]\n",
            rules.display(),
            process.admin_address()
        );
        fs::write(folder.path().join("prometheus.yml"), config).expect("written");
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port")
            .port();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", folder.path().join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Debian's prometheus is installed");
        Self { child, port, _folder: folder }
    }

    async fn query(&self, query: &str) -> Option<Value> {
        let encoded = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let url = format!("http://127.0.0.1:{}/api/v1/query?query={encoded}", self.port);
        let answer = reqwest::get(url).await.ok()?;
        let answer: Value = answer.json().await.ok()?;
        assert_eq!(answer["status"], "success", "{query}: {answer}");
        Some(answer["data"]["result"].clone())
    }
}

/// Returns the queries of the dashboard, with its variables replaced.
fn dashboard_queries() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/grafana/otpd.json");
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).expect("a file")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().cloned().unwrap_or_default());
    let queries = targets.map(|target| target["expr"].as_str().expect("a query").to_owned());
    queries.map(|query| query.replace("$__rate_interval", "1m").replace("$job", "otpd")).collect()
}

#[tokio::test]
async fn each_query_of_the_dashboard_returns_data_from_a_run() {
    let app = TestApp::limited().set("OTP_LIMITS__IP_SENDS", "20/1h").spawn().await;
    let prometheus = Prometheus::start(&app);
    let mut number = 0;
    let mut exercise = async || {
        number += 1;
        let email = format!("{number}@example.com");
        if number % 3 == 0 {
            app.smtp.set(Fault::RefuseRecipient);
        }
        app.send_from(CLIENT, &email).await;
        app.smtp.set(Fault::None);
        app.verify_from(CLIENT, &email, "000000").await;
        if number == 2 {
            let email = "right@example.com";
            let code = app.smtp_code_from(CLIENT, email).await;
            assert_eq!(app.verify_from(CLIENT, email, &code).await.status, 200);
        }
        if number % 5 == 0 {
            app.redis.pause();
            app.send_from("192.0.2.9", "paused@example.com").await;
            app.redis.resume();
        }
    };
    for query in dashboard_queries() {
        let mut tries = 0;
        loop {
            exercise().await;
            let result = prometheus.query(&query).await;
            if result.as_ref().and_then(Value::as_array).is_some_and(|series| !series.is_empty()) {
                break;
            }
            tries += 1;
            assert!(tries < 60, "no data: {query}: {result:?}");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }
    let rules = prometheus.query("up{job=\"otpd\"}").await.expect("an answer");
    assert_eq!(rules[0]["value"][1], "1", "{rules}");
}

#[tokio::test]
async fn promtool_finds_no_fault_in_metrics_rules_and_their_tests() {
    let app = TestApp::limited().spawn().await;
    let code = app.smtp_code_from(CLIENT, "a@example.com").await;
    app.verify_from(CLIENT, "a@example.com", &code).await;
    let metrics = scrape(&app).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus");
    let promtool = |arguments: &[&str], input: &str| {
        let mut child = Command::new("promtool")
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Debian's prometheus is installed");
        std::io::Write::write_all(&mut child.stdin.take().expect("piped"), input.as_bytes())
            .expect("written");
        let output = child.wait_with_output().expect("it ends");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {said}");
        said
    };
    assert_eq!(promtool(&["check", "metrics"], &metrics), "");
    promtool(&["check", "rules", "alerts.yml"], "");
    promtool(&["test", "rules", "alerts.test.yml"], "");
    // Each alert has a test in which it fires.
    let rules = fs::read_to_string(folder.join("alerts.yml")).expect("a file");
    let tests = fs::read_to_string(folder.join("alerts.test.yml")).expect("a file");
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        let fires =
            tests.split("alertname: ").any(|test| test.starts_with(alert) && test.contains("exp_labels"));
        assert!(fires, "{alert} has no test");
    }
}

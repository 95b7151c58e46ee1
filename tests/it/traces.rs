//! Traces: what a collector receives, and collectors that do not answer.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{Span, Status};
use serde_json::json;
use tokio::net::TcpListener;

use crate::commands::{run, text};
use crate::support::app::{TestApp, eventually};
use crate::support::collector::{Collector, attribute};
use crate::support::v1::key;

const EMAIL: &str = "quizzical+x@kestrel.example";
const CLIENT: &str = "198.51.100.237";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn names(spans: &[Span]) -> Vec<&str> {
    spans.iter().map(|span| span.name.as_str()).collect()
}

async fn traced(collector: &Collector) -> TestApp {
    TestApp::builder().keyed().set("OTP_TRACES__ENDPOINT", &collector.endpoint()).spawn().await
}

/// Returns how many spans were lost.
async fn lost(app: &TestApp) -> u64 {
    let metrics = app.admin("/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("otpd_trace_spans_lost_total "));
    line.expect("the metric").parse().expect("a number")
}

#[tokio::test]
async fn one_send_is_a_trace_with_a_span_for_each_call() {
    let collector = Collector::start().await;
    let app = traced(&collector).await;
    let caller = app.caller(1);
    let body = json!({ "email": EMAIL, "end_user_ip": CLIENT }).to_string();
    let request = caller.request(reqwest::Method::POST, "/v1/verifications").body(body);
    let request = request.header("content-type", "application/json");
    let created = app.answer(request.header("traceparent", format!("00-{TRACE}-{PARENT}-01"))).await;
    assert_eq!(created.status, 201, "{created:?}");
    let server = collector.span("POST /v1/verifications").await;

    assert_eq!((hex(&server.trace_id), hex(&server.parent_span_id)), (TRACE.to_owned(), PARENT.to_owned()));
    assert_eq!(server.kind(), SpanKind::Server);
    let request = created.header("x-request-id").expect("a request id");
    for (name, value) in [
        ("http.request.method", "POST"),
        ("http.route", "/v1/verifications"),
        ("http.response.status_code", "201"),
        ("url.scheme", "http"),
        ("request.id", request),
        ("key.label", "k1"),
    ] {
        assert_eq!(attribute(&server.attributes, name).as_deref(), Some(value), "{name}");
    }
    let all = collector.spans();
    let of_the_send: Vec<_> = all.iter().filter(|span| hex(&span.trace_id) == TRACE).cloned().collect();
    let (email, relay) = (collector.span("send email").await, collector.span("relay").await);
    let mut found = names(&of_the_send);
    found.sort_unstable();
    let charge = "charge_ip_and_new_send";
    let calls = ["POST /v1/verifications", charge, "hash", "mark_accepted", "open", "relay"];
    assert_eq!(found, [&calls[..], &["send email"]].concat());
    for span in &of_the_send {
        let parent = if span.span_id == server.span_id {
            continue;
        } else if span.span_id == relay.span_id {
            &email
        } else {
            &server
        };
        assert_eq!(span.parent_span_id, parent.span_id, "{}", span.name);
        let within = parent.start_time_unix_nano..=parent.end_time_unix_nano;
        assert!(within.contains(&span.start_time_unix_nano), "{}", span.name);
        assert!(span.status.as_ref().is_none_or(|status| status.code() == StatusCode::Unset));
    }
    let open = collector.span("open").await;
    assert_eq!(open.kind(), SpanKind::Client);
    for (name, value) in
        [("db.system.name", "redis"), ("db.operation.name", "EVALSHA"), ("db.stored_procedure.name", "open")]
    {
        assert_eq!(attribute(&open.attributes, name).as_deref(), Some(value), "{name}");
    }
    for (name, value) in
        [("server.address", "localhost"), ("otpd.outcome", "accepted"), ("otpd.stage", "message")]
    {
        assert_eq!(attribute(&relay.attributes, name).as_deref(), Some(value), "{name}");
    }

    // The logs lead to the trace.
    let line = app.audited().into_iter().find(|line| line["event"] == "send").expect("a line");
    assert_eq!(line["span"]["trace.id"], TRACE);
    assert!(app.whole_log().await.contains(TRACE));
    assert_eq!(app.stopped().await.code(), Some(0));
    let received = collector.received();
    let resource = received[0].resource_spans[0].resource.as_ref().expect("a resource");
    assert_eq!(attribute(&resource.attributes, "service.name").as_deref(), Some("otpd"));
    let version = attribute(&resource.attributes, "service.version");
    assert_eq!(version.as_deref(), Some(env!("CARGO_PKG_VERSION")));
    drop(received);
}

#[tokio::test]
async fn no_span_has_what_is_personal_or_secret() {
    let collector = Collector::start().await;
    let app = traced(&collector).await;
    let caller = app.caller(1);
    let created = caller.create(&json!({ "email": EMAIL, "end_user_ip": CLIENT })).await;
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(caller.show(&id).await.status, 200);
    assert_eq!(caller.check(&id, &code).await.status, 200);
    let other = app.code_for("badger@kestrel.example").await;
    assert_eq!(app.verify_otp("badger@kestrel.example", &other).await.status, 200);
    assert_eq!(app.get("/v1/verifications/nightjar?email=badger@kestrel.example").await.status, 401);
    let headers = app.request(reqwest::Method::from_bytes(b"WOODCOCK").expect("a method"), "/nightjar");
    let headers = headers.header("tracestate", "rival=nightjar").header("user-agent", "nightjar");
    assert_eq!(app.answer(headers).await.status, 404);
    app.smtp.stop();
    assert_eq!(app.send_otp("warbler@kestrel.example").await.status, 500);
    assert_eq!(app.stopped().await.code(), Some(0));
    for span in collector.spans() {
        assert!(span.events.is_empty() && span.links.is_empty() && span.trace_state.is_empty(), "{span:?}");
        assert!(span.status.as_ref().is_none_or(|status| status.message.is_empty()), "{span:?}");
        let said = format!("{} {:?}", span.name, span.attributes);
        for secret in ["kestrel", CLIENT, "127.0.0.1", "nightjar", "WOODCOCK", &id, &key(1), &code, &other] {
            assert!(!said.contains(secret), "{secret} in {said}");
        }
    }
}

#[tokio::test]
async fn a_traceparent_that_names_no_parent_begins_a_new_trace() {
    let collector = Collector::start().await;
    let app = traced(&collector).await;
    let zeros = format!("00-{}-{PARENT}-01", "0".repeat(32));
    let upper = format!("00-{}-{PARENT}-01", TRACE.to_uppercase());
    let good = format!("00-{TRACE}-{PARENT}-01");
    let headers: [&[&str]; 6] = [&[], &["nonsense"], &[&zeros], &[&upper], &["\u{fc}"], &[&good, &good]];
    for parents in headers {
        let request = app.request(reqwest::Method::GET, "/v1/nothing");
        let request = parents.iter().fold(request, |request, parent| request.header("traceparent", *parent));
        assert_eq!(app.answer(request).await.status, 404, "{parents:?}");
    }
    // What the caller does not sample is not exported.
    let request = app.request(reqwest::Method::GET, "/v1/nothing");
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    assert_eq!(app.answer(request.header("traceparent", unsampled)).await.status, 404);
    assert_eq!(app.stopped().await.code(), Some(0));
    let spans = collector.spans();
    assert_eq!(names(&spans), vec!["GET"; headers.len()]);
    let traces: BTreeSet<_> = spans.iter().map(|span| hex(&span.trace_id)).collect();
    assert_eq!(traces.len(), headers.len());
    assert!(!traces.contains(TRACE));
    assert!(spans.iter().all(|span| span.parent_span_id.is_empty()));
}

#[tokio::test]
async fn calls_that_fail_are_marked_in_the_trace() {
    let collector = Collector::start().await;
    let app = traced(&collector).await;
    app.smtp.stop();
    assert_eq!(app.send_otp(EMAIL).await.status, 500);
    app.redis.stop();
    assert_eq!(app.get("/readyz").await.status, 503);
    for (name, error) in [
        ("POST /send-otp", "500"),
        ("send email", "refused"),
        ("relay", "refused"),
        ("GET /readyz", "503"),
        ("ready", "connection"),
    ] {
        let span = collector.span(name).await;
        let status = span.status.as_ref().map(Status::code);
        assert_eq!(status, Some(StatusCode::Error), "{name}");
        assert_eq!(attribute(&span.attributes, "error.type").as_deref(), Some(error), "{name}");
    }
    let relay = collector.span("relay").await;
    assert_eq!(attribute(&relay.attributes, "otpd.stage").as_deref(), Some("connect"));
}

#[tokio::test]
async fn a_collector_that_is_down_costs_its_spans_only() {
    let collector = Collector::start().await;
    let app = traced(&collector).await;
    collector.answer_with(500);
    let failed = || app.log().matches("the trace collector does not accept spans").count();
    eventually("a batch is lost", async || {
        assert_eq!(app.get("/livez").await.status, 200);
        failed() > 0 && lost(&app).await > 0
    })
    .await;
    collector.answer_with(200);
    eventually("spans are accepted again", async || {
        assert_eq!(app.get("/livez").await.status, 200);
        app.log().contains("the trace collector accepts spans again")
    })
    .await;
    assert_eq!(failed(), 1, "said once: {}", app.log());
    assert_eq!(names(&collector.spans())[0], "GET /livez");
}

#[tokio::test]
async fn a_collector_that_never_answers_holds_up_neither_requests_nor_the_end() {
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let app = TestApp::builder().set("OTP_TRACES__ENDPOINT", &endpoint).spawn().await;
    // The queue holds 2,048 spans.
    let mut answered = 0;
    while lost(&app).await == 0 {
        assert!(answered < 50_000, "{answered} spans are neither lost nor sent");
        for _ in 0..1000 {
            assert_eq!(app.get("/livez").await.status, 200);
            answered += 1;
        }
    }
    // An attempt to send takes five seconds, which the end does not wait for.
    let begun = Instant::now();
    assert_eq!(app.stopped().await.code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_collector_that_is_busy_gets_its_spans_later() {
    let collector = Collector::start().await;
    let app = traced(&collector).await;
    collector.answer_once_with(503);
    assert_eq!(app.get("/livez").await.status, 200);
    collector.span("GET /livez").await;
    assert_eq!(lost(&app).await, 0);
    let log = app.whole_log().await;
    assert!(!log.contains("the trace collector"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_says_whether_the_collector_accepts_spans() {
    let collector = Collector::start().await;
    let app = TestApp::spawn().await;
    let diagnosed = |endpoint: &str| {
        let mut settings = app.settings().clone();
        settings.insert("OTP_TRACES__ENDPOINT".to_owned(), endpoint.to_owned());
        let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let folder = tempfile::tempdir().expect("a folder");
        text(&run(folder.path(), &settings, &["doctor"]).stdout)
    };
    let said = diagnosed(&collector.endpoint());
    assert!(
        said.contains(&format!("ok    the trace collector: {}/v1/traces", collector.endpoint())),
        "{said}"
    );
    collector.answer_with(401);
    let said = diagnosed(&collector.endpoint());
    assert!(
        said.contains("FAIL  the trace collector") && said.contains("status 401: it requires a key"),
        "{said}"
    );
    let said = diagnosed("http://127.0.0.1:1");
    assert!(said.contains("FAIL  the trace collector") && said.contains("refused"), "{said}");
    assert!(said.contains("start it"), "{said}");
}

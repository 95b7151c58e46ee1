//! The page of `otpd dev` and its requests: who may use it, what is pushed to it, and what a reset
//! clears.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::app::{Process, TestApp, light_hash};

const TIMEOUT: Duration = Duration::from_secs(20);
const PATHS: [(Method, &str); 5] = [
    (Method::GET, "/dev"),
    (Method::GET, "/dev/mails"),
    (Method::GET, "/dev/mails/1/html"),
    (Method::GET, "/dev/events"),
    (Method::POST, "/dev/reset"),
];

fn not_found() -> (u16, String) {
    (404, "Not found".to_owned())
}

/// A stream of server-sent events, read as a browser reads it.
struct Events {
    stream: BufReader<TcpStream>,
    /// The received text that is not yet a complete event.
    text: String,
}

impl Events {
    async fn open(dev: &Process) -> Self {
        let mut stream = dev.connect().await;
        let port = dev.address().port();
        let head = format!("GET /dev/events HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut events = Self { stream: BufReader::new(stream), text: String::new() };
        assert_eq!(events.line().await, "HTTP/1.1 200 OK");
        let mut headers = Vec::new();
        loop {
            match events.line().await {
                line if line.is_empty() => break,
                line => headers.push(line.to_lowercase()),
            }
        }
        for header in ["content-type: text/event-stream", "cache-control: no-store"] {
            assert!(headers.iter().any(|other| other == header), "{header}: {headers:?}");
        }
        events
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(TIMEOUT, self.stream.read_line(&mut line)).await.expect("a line in time").expect("a line");
        line.trim_end().to_owned()
    }

    /// Returns the next event and its data, or `None` if the stream has ended properly.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(end) = self.text.find("\n\n") {
                let event: String = self.text.drain(..end + 2).collect();
                let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
                if let (Some(name), Some(data)) = (field("event: "), field("data: ")) {
                    return Some((name.to_owned(), serde_json::from_str(data).expect("JSON")));
                }
                continue;
            }
            let length = usize::from_str_radix(&self.line().await, 16).expect("the length of a chunk");
            let mut chunk = vec![0; length];
            self.stream.read_exact(&mut chunk).await.expect("a chunk");
            assert_eq!(self.line().await, "");
            if length == 0 {
                return None;
            }
            self.text += &String::from_utf8(chunk).expect("text");
        }
    }
}

fn addresses(mails: &Value) -> Vec<&str> {
    mails.as_array().expect("a list").iter().map(|mail| mail["to"].as_str().expect("a text")).collect()
}

#[tokio::test]
async fn a_mail_comes_by_itself_and_once_also_after_a_new_start_of_the_stream() {
    let dev = Process::dev().await;
    let mut events = Events::open(&dev).await;
    assert_eq!(events.next().await, Some(("mails".to_owned(), json!([]))));
    for address in ["a@example.com", "b@example.com"] {
        dev.send_otp(address).await;
        let (event, mail) = events.next().await.expect("an event");
        assert_eq!((event.as_str(), mail["to"].as_str()), ("mail", Some(address)));
        assert_eq!(mail["subject"], "Your code for dev.example");
    }
    drop(events);
    dev.send_otp("c@example.com").await;
    let mut again = Events::open(&dev).await;
    let (event, mails) = again.next().await.expect("an event");
    assert_eq!(event, "mails");
    assert_eq!(addresses(&mails), ["c@example.com", "b@example.com", "a@example.com"]);
    assert_eq!(mails[0]["number"], 3);
    dev.send_otp("d@example.com").await;
    let (event, mail) = again.next().await.expect("an event");
    assert_eq!((event.as_str(), mail["number"].as_u64()), ("mail", Some(4)));
}

#[tokio::test]
async fn a_fault_on_purpose_is_told_while_a_stream_is_open() {
    let settings: BTreeMap<_, _> = light_hash().into();
    let dev = Process::start("dev --fail send=100%", &settings).await;
    dev.send_otp("a@example.com").await;
    let mut events = Events::open(&dev).await;
    assert_eq!(events.next().await, Some(("mails".to_owned(), json!([]))));
    dev.send_otp("b@example.com").await;
    assert_eq!(events.next().await, Some(("fault".to_owned(), json!({ "fault": "send" }))));
    dev.terminate();
    assert_eq!(events.next().await, None, "one event for each fault");
}

#[tokio::test]
async fn an_open_stream_does_not_delay_the_end() {
    let dev = Process::dev().await;
    let mut streams = Vec::new();
    for _ in 0..3 {
        let mut events = Events::open(&dev).await;
        events.next().await.expect("an event");
        streams.push(events);
    }
    let begun = Instant::now();
    dev.terminate();
    for mut events in streams {
        assert_eq!(events.next().await, None);
    }
    assert!(dev.stopped().await.success());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert!(!dev.log().contains("did not end in time"), "{}", dev.log());
}

#[tokio::test]
async fn a_silent_stream_is_kept_alive_and_outlives_the_time_of_a_request() {
    let dev = Process::dev().await;
    let mut events = Events::open(&dev).await;
    events.next().await.expect("an event");
    let begun = Instant::now();
    // A comment, which is not an event: a chunk of 3 bytes.
    assert_eq!(events.line().await, "3");
    assert!(begun.elapsed() >= Duration::from_secs(14), "{:?}", begun.elapsed());
    for line in [":", "", ""] {
        assert_eq!(events.line().await, line);
    }
    dev.send_otp("a@example.com").await;
    let (event, mail) = events.next().await.expect("an event");
    assert_eq!((event.as_str(), mail["to"].as_str()), ("mail", Some("a@example.com")));
}

#[tokio::test]
async fn streams_are_bounded_and_a_closed_one_makes_room() {
    let dev = Process::dev().await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(Events::open(&dev).await);
    }
    // HEAD reserves a place as GET does, and frees it.
    let status = async || dev.answer(dev.request(Method::HEAD, "/dev/events")).await.status;
    assert_eq!(status().await, 503);
    drop(streams);
    // A closed stream is noticed only when the server writes to it.
    let begun = Instant::now();
    while status().await != 200 {
        dev.send_otp("a@example.com").await;
        assert!(begun.elapsed() < TIMEOUT, "no stream has ended");
    }
}

#[tokio::test]
async fn a_request_to_another_host_name_learns_the_address_to_open_and_nothing_else() {
    let mut settings: BTreeMap<_, _> = light_hash().into();
    settings.insert("OTP_HTTP__ALLOWED_ORIGINS".to_owned(), "https://listed.example".to_owned());
    let dev = Process::start("dev", &settings).await;
    dev.send_otp("a@example.com").await;
    let key = dev.printed("API key").await;
    for (method, path) in PATHS {
        for host in ["evil.example:5000", "localhost.evil.example", "127.0.0.1.x"] {
            let answer = dev.answer(dev.request(method.clone(), path).header("host", host)).await;
            let (status, message) = answer.message();
            assert_eq!(status, 421, "{method} {path} {host}");
            let address = format!("http://localhost:{}/dev", dev.address().port());
            assert!(message.contains(&address) && message.contains("otpd dev"), "{message}");
            assert!(!answer.body.contains("evil") && !answer.body.contains(&key), "{message}");
        }
    }
    // An origin that may call the API cannot read the API key from this page.
    let listed = dev.request(Method::GET, "/dev").header("origin", "https://listed.example");
    assert_eq!(dev.answer(listed).await.message(), not_found());
    let page = dev.get("/dev").await;
    assert!(page.body.contains(&key) && !page.body.contains("{{"));
    assert!(page.body.contains(&format!("http://{}/send-otp", dev.address())));
    assert_eq!(page.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn another_origin_neither_resets_nor_listens() {
    let dev = Process::dev().await;
    let host = format!("localhost:{}", dev.address().port());
    let own = format!("http://{host}");
    let sent = dev.send_otp("a@example.com").await;
    assert_eq!(sent.status, 200);
    for (name, value) in [
        ("origin", "http://evil.example"),
        ("origin", "null"),
        ("origin", "http://localhost:1"),
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
    ] {
        for (method, path) in [(Method::POST, "/dev/reset"), (Method::GET, "/dev/events")] {
            let request = dev.request(method, path).header("host", &host).header(name, value);
            assert_eq!(dev.answer(request).await.message(), not_found(), "{path} {name}: {value}");
        }
    }
    // The codes are still stored.
    let code = dev.captured_codes("a@example.com").await.remove(0);
    assert_eq!(dev.verify_otp("a@example.com", &code).await.status, 200);
    for headers in [vec![], vec![("origin", own.as_str()), ("sec-fetch-site", "same-origin")]] {
        let request = dev.request(Method::POST, "/dev/reset").header("host", &host);
        let request = headers.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        let answer = dev.answer(request).await;
        assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    }
}

#[tokio::test]
async fn a_reset_frees_waits_and_forgets_verifications_and_idempotency_keys() {
    let settings: BTreeMap<_, _> = light_hash().into();
    let dev = Process::start("dev --production-limits", &settings).await;
    let key = dev.printed("API key").await;
    let create = async || {
        let request = dev.request(Method::POST, "/v1/verifications").bearer_auth(&key);
        let request = request.header("idempotency-key", "k").header("content-type", "application/json");
        let answer = dev.answer(request.body(r#"{"email":"b@example.com"}"#)).await;
        let body: Value = serde_json::from_str(&answer.body).expect("JSON");
        (answer.status, body["id"].as_str().expect("an id").to_owned())
    };
    assert_eq!(dev.send_otp("a@example.com").await.status, 200);
    let (_, first) = create().await;
    assert_eq!(create().await, (201, first.clone()), "replayed");
    let refused = dev.send_otp("a@example.com").await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").expect("a wait").parse().expect("a number");
    assert!((50..=60).contains(&wait), "{wait}");
    let code = dev.captured_codes("a@example.com").await.remove(0);

    assert_eq!(dev.answer(dev.request(Method::POST, "/dev/reset")).await.status, 204);
    assert_eq!(dev.verify_otp("a@example.com", &code).await.status, 400, "the verification is forgotten");
    let show = dev.request(Method::GET, &format!("/v1/verifications/{first}")).bearer_auth(&key);
    assert_eq!(dev.answer(show).await.status, 404);
    assert_eq!(dev.send_otp("a@example.com").await.status, 200);
    let (status, second) = create().await;
    assert_eq!(status, 201);
    assert_ne!(second, first);
}

#[tokio::test]
async fn a_mail_has_its_headers_and_its_html_a_policy_of_its_own() {
    let mut settings: BTreeMap<_, _> = light_hash().into();
    settings.insert("OTP_MAIL__BRAND".to_owned(), "Söhne <b>&\"</b>".to_owned());
    let dev = Process::start("dev", &settings).await;
    dev.send_otp("a@example.com").await;
    let mails: Vec<Value> = serde_json::from_str(&dev.get("/dev/mails").await.body).expect("JSON");
    let names: Vec<_> = mails[0].as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(names, ["to", "from", "subject", "text", "html", "received_at", "headers"]);
    let headers: Vec<(String, String)> =
        serde_json::from_value(mails[0]["headers"].clone()).expect("names and values");
    let headers: BTreeMap<_, _> = headers.into_iter().collect();
    assert_eq!(headers["To"], "a@example.com");
    assert_eq!(headers["Auto-Submitted"], "auto-generated");
    assert!(headers["Message-ID"].ends_with("@dev.example>"), "{headers:?}");
    assert!(headers["Message-ID"].contains(&headers["X-Entity-Ref-ID"]), "{headers:?}");
    assert!(headers["Content-Type"].starts_with("multipart/alternative; boundary="), "{headers:?}");
    assert!(headers["Subject"].contains("=?utf-8?"), "as it is sent: {headers:?}");

    let html = dev.get("/dev/mails/1/html").await;
    assert_eq!(html.body, mails[0]["html"].as_str().expect("a text"));
    assert!(html.body.contains("&lt;b&gt;"), "{}", html.body);
    assert_eq!(html.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = html.header("content-security-policy").expect("a policy");
    assert!(policy.starts_with("default-src 'none'; style-src 'unsafe-inline';"), "{policy}");
    assert!(policy.ends_with("; sandbox"), "{policy}");
    for path in ["/dev/mails/2/html", "/dev/mails/0/html", "/dev/mails/x/html", "/dev/mails/1"] {
        assert_eq!(dev.get(path).await.message(), not_found(), "{path}");
    }
    let policy = dev.get("/dev").await.header("content-security-policy").expect("a policy").to_owned();
    assert!(!policy.contains("unsafe"), "{policy}");
}

#[tokio::test]
async fn serve_has_none_of_it() {
    let app = TestApp::builder().keyed().spawn().await;
    for (method, path) in PATHS {
        assert_eq!(app.answer(app.request(method.clone(), path)).await.message(), not_found(), "{path}");
    }
}

#[tokio::test]
async fn other_methods_are_refused_by_name() {
    let dev = Process::dev().await;
    for (path, allow, method) in [
        ("/dev", "GET, HEAD", Method::POST),
        ("/dev/events", "GET, HEAD", Method::POST),
        ("/dev/mails/1/html", "GET, HEAD", Method::DELETE),
        ("/dev/reset", "POST", Method::GET),
        ("/dev/reset", "POST", Method::HEAD),
    ] {
        let answer = dev.answer(dev.request(method.clone(), path)).await;
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allow)), "{method} {path}");
    }
    assert_eq!(dev.answer(dev.request(Method::HEAD, "/dev/events")).await.status, 200);
}

//! Limits of a request: its media type, size, time, route and method.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use reqwest::Method;
use tokio::io::AsyncWriteExt as _;

use crate::support::app::{Process, TestApp, light_hash, read_to_end};

const HEAD: &str =
    "POST /send-otp HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n";

fn said(status: u16, message: &str) -> (u16, String) {
    (status, message.to_owned())
}

#[tokio::test]
async fn a_body_must_be_json_by_its_own_word() {
    let dev = Process::dev().await;
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "application/x+json", "x", ""] {
        let request = dev.request(Method::POST, "/send-otp").header("content-type", media_type);
        let answer = dev.answer(request.body(r#"{"email":"a@example.com"}"#)).await;
        assert_eq!(answer.message(), said(415, "Unsupported media type"), "{media_type}");
    }
    let bare = dev.request(Method::POST, "/send-otp").body(r#"{"email":"a@example.com"}"#);
    assert_eq!(dev.answer(bare).await.message(), said(415, "Unsupported media type"));
    let packed = dev.request(Method::POST, "/send-otp").header("content-type", "application/json");
    let packed = packed.header("content-encoding", "gzip").body("x");
    let packed = dev.answer(packed).await;
    assert_eq!(packed.message(), said(415, "Unsupported media type"));
    assert_eq!(packed.header("accept-encoding"), Some("identity"));
}

#[tokio::test]
async fn parameters_of_the_media_type_and_a_byte_order_mark_have_no_effect() {
    let dev = Process::dev().await;
    for (number, media_type) in (1..).zip([
        "application/json; charset=utf-8",
        "application/json;charset=latin1",
        "APPLICATION/JSON; v=1",
    ]) {
        let request = dev.request(Method::POST, "/send-otp").header("content-type", media_type);
        let body = format!("\u{feff}{{\"email\":\"person{number}@example.com\"}}");
        assert_eq!(dev.answer(request.body(body)).await.status, 200, "{media_type}");
    }
}

#[tokio::test]
async fn eight_kib_are_the_most_of_a_body_also_in_chunks() {
    let dev = Process::dev().await;
    let body = |length: usize| {
        let filler = "x".repeat(length - r#"{"email":"a@example.com","x":""}"#.len());
        format!(r#"{{"email":"a@example.com","x":"{filler}"}}"#)
    };
    assert_eq!(dev.post("/send-otp", &body(8192)).await.status, 200);
    assert_eq!(dev.post("/send-otp", &body(8193)).await.message(), said(413, "Payload too large"));
    let mut chunked = format!("{HEAD}Transfer-Encoding: chunked\r\n\r\n");
    for chunk in body(8193).as_bytes().chunks(1000) {
        write!(chunked, "{:x}\r\n{}\r\n", chunk.len(), String::from_utf8_lossy(chunk))
            .expect("a string grows");
    }
    chunked += "0\r\n\r\n";
    let answer = dev.raw(chunked.as_bytes()).await;
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.ends_with(r#"{"message":"Payload too large"}"#),
        "{answer}"
    );
}

#[tokio::test]
async fn a_length_over_the_limit_is_refused_before_the_body_comes() {
    let dev = Process::dev().await;
    let answer = dev.raw(format!("{HEAD}Content-Length: 67108864\r\n\r\n").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn unknown_routes_and_methods_get_our_own_words() {
    let dev = Process::dev().await;
    for path in ["/nope", "/SEND-OTP", "/send-otp/x", "//send-otp", "/%00", "/docs/x"] {
        assert_eq!(dev.get(path).await.message(), said(404, "Not found"), "{path}");
    }
    for (path, allow, methods) in [
        ("/send-otp", "POST", vec!["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"]),
        ("/verify-otp", "POST", vec!["GET"]),
        ("/livez", "GET, HEAD", vec!["POST"]),
        ("/docs", "GET, HEAD", vec!["POST", "TRACE"]),
        ("/openapi.json", "GET, HEAD", vec!["DELETE"]),
        ("/dev/mails", "GET, HEAD", vec!["POST"]),
    ] {
        for method in methods {
            let method = Method::from_bytes(method.as_bytes()).expect("a method");
            let answer = dev.answer(dev.request(method.clone(), path)).await;
            assert_eq!(answer.message(), said(405, "Method not allowed"), "{method} {path}");
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
        }
    }
    let head = dev.answer(dev.request(Method::HEAD, "/send-otp")).await;
    assert_eq!((head.status, head.header("allow")), (405, Some("POST")));
}

#[tokio::test]
async fn every_answer_carries_the_same_guards() {
    let dev = Process::dev().await;
    for path in ["/livez", "/readyz", "/nope", "/send-otp", "/docs", "/openapi.json", "/openapi.yaml", "/dev"]
    {
        let answer = dev.get(path).await;
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        let id = answer.header("x-request-id").expect("a request id");
        assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        assert_eq!(answer.header("server"), None, "{path}");
    }
}

#[tokio::test]
async fn a_request_id_is_ours_and_is_logged() {
    let dev = Process::dev().await;
    let request = dev.request(Method::GET, "/livez").header("x-request-id", "chosen-by-the-caller");
    let answer = dev.answer(request).await;
    let id = answer.header("x-request-id").expect("a request id").to_owned();
    let begun = Instant::now();
    while !dev.log().contains(&id) {
        assert!(begun.elapsed() < Duration::from_secs(5), "{id} is not in the log: {}", dev.log());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!dev.log().contains("chosen-by-the-caller"));
}

#[tokio::test]
async fn a_slow_body_is_timed_out() {
    let dev = Process::dev().await;
    let mut stream = dev.connect().await;
    let begun = Instant::now();
    stream.write_all(format!("{HEAD}Content-Length: 100\r\n\r\n{{").as_bytes()).await.expect("sent");
    let answer = read_to_end(&mut stream).await;
    assert!(
        answer.starts_with("HTTP/1.1 408 ") && answer.ends_with(r#"{"message":"Request timeout"}"#),
        "{answer}"
    );
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_dripping_body_is_timed_out() {
    let dev = Process::dev().await;
    let (mut answers, mut drips) = dev.connect().await.into_split();
    let begun = Instant::now();
    let dripping = tokio::spawn(async move {
        drips.write_all(format!("{HEAD}Content-Length: 8000\r\n\r\n").as_bytes()).await.expect("sent");
        // One byte at a time, until the server closes the connection.
        while drips.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let mut answer = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut answers, &mut answer).await;
    assert!(answer.starts_with(b"HTTP/1.1 408 "), "{}", String::from_utf8_lossy(&answer));
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    dripping.abort();
}

#[tokio::test]
async fn a_slow_head_is_closed() {
    let dev = Process::dev().await;
    for start in ["", "POST /send-otp HT", "POST /send-otp HTTP/1.1\r\nHost: x\r\nX-Drip: "] {
        let mut stream = dev.connect().await;
        let begun = Instant::now();
        stream.write_all(start.as_bytes()).await.expect("sent");
        let answer = read_to_end(&mut stream).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(15), "{start:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn a_long_head_is_refused() {
    let dev = Process::dev().await;
    let head = format!("GET /livez HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    let answer = dev.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn bytes_that_are_not_http_harm_nobody() {
    let dev = Process::dev().await;
    for bytes in [
        b"\0\0\0\0\r\n\r\n".as_slice(),
        b"GET",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
    ] {
        let mut stream = dev.connect().await;
        stream.write_all(bytes).await.expect("sent");
        stream.shutdown().await.expect("closed for writing");
        assert!(!read_to_end(&mut stream).await.starts_with("HTTP/1.1 2"));
    }
    assert_eq!(dev.get("/livez").await.status, 200);
    assert!(!dev.whole_log().await.contains("panicked"));
}

#[tokio::test]
async fn a_listed_origin_is_granted_and_no_other() {
    let settings = light_hash().into_iter().chain([(
        "OTP_HTTP__ALLOWED_ORIGINS".to_owned(),
        "https://app.example,https://other.example:8443,capacitor://localhost".to_owned(),
    )]);
    let dev = Process::start("dev", &settings.collect()).await;
    for (origin, granted) in [
        ("https://app.example", true),
        ("https://other.example:8443", true),
        ("capacitor://localhost", true),
        ("https://localhost", false),
        ("https://app.example.evil.example", false),
        ("http://app.example", false),
        ("null", false),
    ] {
        let preflight = dev
            .request(Method::OPTIONS, "/send-otp")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "baggage,content-type,traceparent");
        let answer = dev.answer(preflight).await;
        assert_eq!(answer.header("access-control-allow-origin"), granted.then_some(origin), "{origin}");
        assert_eq!(answer.status, if granted { 204 } else { 405 }, "{origin}");
        let names = granted.then_some("baggage,content-type,traceparent");
        assert_eq!(answer.header("access-control-allow-headers"), names, "{origin}");
        let methods = granted.then_some("GET, POST, DELETE");
        assert_eq!(answer.header("access-control-allow-methods"), methods, "{origin}");
        assert_eq!(answer.header("access-control-max-age"), granted.then_some("600"), "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{origin}");
        let vary: Vec<_> = answer.headers.iter().filter(|(name, _)| name == "vary").collect();
        assert!(vary.iter().any(|(_, value)| value == "Origin"), "{vary:?}");
        assert_eq!(vary.iter().any(|(_, value)| value == "access-control-request-headers"), granted);
        let request = dev.request(Method::GET, "/livez").header("origin", origin);
        let answer = dev.answer(request).await;
        assert_eq!(answer.header("access-control-allow-origin"), granted.then_some(origin), "{origin}");
        assert_eq!(answer.header("vary"), Some("Origin"), "{origin}");
        assert_eq!(answer.header("access-control-allow-credentials"), None, "{origin}");
        let exposed = "Location, OTP-Proof, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id";
        assert_eq!(answer.header("access-control-expose-headers"), granted.then_some(exposed), "{origin}");
    }
}

#[tokio::test]
async fn the_simple_endpoints_can_be_off() {
    let app = TestApp::builder().set("OTP_SIMPLE__ACCESS", "off").spawn().await;
    assert_eq!(app.send_otp("a@example.com").await.message(), said(404, "Not found"));
    assert_eq!(app.verify_otp("a@example.com", "123456").await.message(), said(404, "Not found"));
    assert!(!app.get("/openapi.json").await.body.contains("/send-otp"));
    assert_eq!(app.get("/readyz").await.status, 200);
}

//! HTTP connections: idle ones, requests that are rejected while the client still writes, and
//! connections that make room for another client.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::app::{Process, TestApp};

const GET: &str = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
const TIMEOUT: Duration = Duration::from_secs(20);
const MIB: usize = 1 << 20;

/// Reads one answer with a body of known length and leaves the connection open.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().expect("a number")) {
                return text;
            }
        }
        let read = timeout(TIMEOUT, stream.read_buf(&mut bytes)).await.expect("an answer in time");
        assert_ne!(read.expect("an answer"), 0, "closed: {text}");
    }
}

async fn ask(stream: &mut TcpStream, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("sent");
    answer(stream).await
}

/// Returns whether the server closes the connection within this time without sending anything.
async fn is_closed(stream: &mut TcpStream, within: Duration) -> bool {
    match timeout(within, stream.read_u8()).await {
        Ok(Err(_)) => true,
        Ok(Ok(_)) => panic!("nothing was asked"),
        Err(_) => false,
    }
}

/// Writes a whole request before it reads anything, as simple clients do.
async fn write_then_read(address: SocketAddr, head: String, body: usize) -> String {
    let client = tokio::task::spawn_blocking(move || {
        let mut stream = std::net::TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(TIMEOUT)).expect("a time limit");
        stream.write_all(head.as_bytes()).expect("the head is taken");
        let chunk = vec![b' '; 64 * 1024];
        for _ in 0..body.div_ceil(chunk.len()) {
            stream.write_all(&chunk).expect("the body is taken");
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer without a reset");
        answer
    });
    client.await.expect("the client ends")
}

#[tokio::test]
async fn a_client_that_writes_all_of_a_refused_body_gets_its_answer() {
    let dev = Process::dev().await;
    for (line, more, status) in [
        ("POST /send-otp", "Content-Type: application/json", 413),
        ("POST /verify-otp", "Content-Type: application/json", 413),
        ("POST /send-otp", "Content-Type: application/json\r\nExpect: 100-continue", 413),
        ("POST /v1/verifications", "Content-Type: application/json", 401),
        ("POST /v1/verifications/x/check", "Content-Type: application/json", 401),
        ("POST /nope", "Content-Type: text/plain", 404),
        ("PUT /send-otp", "Content-Type: application/json", 405),
        ("GET /docs", "Content-Type: text/plain", 200),
        ("GET /livez", "Content-Type: text/plain", 200),
        ("DELETE /v1/verifications/x", "Content-Type: text/plain", 401),
    ] {
        let body = 10 * MIB;
        let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\n{more}\r\nContent-Length: {body}\r\n\r\n");
        let answer = write_then_read(dev.address(), head, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line}: {answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{line}: it says that it closes");
    }
}

#[tokio::test]
async fn a_body_in_chunks_that_is_refused_unread_gets_its_answer() {
    let dev = Process::dev().await;
    for (media_type, status) in [("text/plain", 415), ("application/json", 413)] {
        let head = format!(
            "POST /send-otp HTTP/1.1\r\nHost: localhost\r\nContent-Type: {media_type}\r\n\
             Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
            10 * MIB
        );
        let answer = write_then_read(dev.address(), head, 10 * MIB).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

#[tokio::test]
async fn a_client_that_is_shed_while_it_writes_gets_its_429() {
    let settings = [("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "1"), ("OTP_LIMITS__IP_REQUESTS_BURST", "1")];
    let app =
        settings.iter().fold(TestApp::limited(), |app, (name, value)| app.set(name, value)).spawn().await;
    app.verify_from("127.0.0.1", "nobody", "1").await;
    let head = format!(
        "POST /send-otp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        10 * MIB
    );
    let answer = write_then_read(app.address(), head, 10 * MIB).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after: "), "{answer}");
}

#[tokio::test]
async fn a_head_that_is_too_long_gets_its_answer_while_more_of_it_comes() {
    let dev = Process::dev().await;
    let head = "GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Long: ".to_owned();
    let answer = write_then_read(dev.address(), head, 10 * MIB).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_refused_without_it() {
    let dev = Process::dev().await;
    let answer = dev
        .raw(
            b"POST /send-otp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
              Content-Length: 9000\r\nExpect: 100-continue\r\n\r\n",
        )
        .await;
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("connection: close\r\n"), "{answer}");
}

#[tokio::test]
async fn after_a_short_body_was_refused_the_connection_goes_on() {
    let dev = Process::dev().await;
    let mut stream = dev.connect().await;
    let body = "{\"email\":\"a@example.com\"}";
    for (line, status) in [("POST /v1/verifications", 401), ("POST /nope", 404), ("PUT /send-otp", 405)] {
        let length = body.len();
        let request = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer = ask(&mut stream, &request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn a_short_body_that_comes_behind_its_refusal_leaves_the_connection_open() {
    let dev = Process::dev().await;
    let mut stream = dev.connect().await;
    let body = "{\"email\":\"a@example.com\"}";
    for (line, status) in [("POST /v1/verifications", 401), ("POST /nope", 404), ("GET /livez", 200)] {
        let head = format!("{line} HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).await.expect("sent");
        // Some clients write the head and the body separately.
        assert!(!is_closed(&mut stream, Duration::from_millis(200)).await);
        let answer = ask(&mut stream, body).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(!answer.contains("connection: close"), "{answer}");
    }
    assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200 "));
    // If the body does not come, the connection is closed, and the answer says so.
    let answer = ask(&mut stream, "POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 404 ") && answer.contains("connection: close\r\n"), "{answer}");
    assert!(is_closed(&mut stream, TIMEOUT).await);
}

#[tokio::test]
async fn an_empty_line_behind_a_request_begins_no_head() {
    let dev = Process::dev().await;
    let mut stream = dev.connect().await;
    ask(&mut stream, GET).await;
    stream.write_all(b"\r\n").await.expect("sent");
    assert!(!is_closed(&mut stream, Duration::from_secs(12)).await);
    assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn an_answer_that_is_still_being_read_is_not_cut_for_being_idle() {
    let dev = Process::dev_with(&[("OTP_HTTP__KEEP_ALIVE", "1s"), ("OTP_HTTP__MAX_CONNECTIONS", "1")]).await;
    let mut slow = dev.connect().await;
    // More than the system's buffers hold.
    let requests = "GET /docs HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(8);
    slow.write_all(requests.as_bytes()).await.expect("sent");
    let newcomer = dev.connect().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut total = 0;
    let mut chunk = vec![0; 1 << 16];
    let end = b"</html>";
    let mut pages = 0;
    let mut tail = Vec::new();
    while pages < 8 {
        let read = slow.read(&mut chunk).await.expect("read");
        assert!(read > 0, "cut after {total} bytes and {pages} pages");
        total += read;
        tail.extend_from_slice(&chunk[..read]);
        pages += tail.windows(end.len()).filter(|window| window == end).count();
        tail.drain(..tail.len().saturating_sub(end.len() - 1));
    }
    drop(newcomer);
}

#[tokio::test]
async fn with_more_clients_than_connections_each_is_answered() {
    let dev = Process::dev_with(&[("OTP_HTTP__MAX_CONNECTIONS", "8")]).await;
    let request = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..24 {
        let (address, request) = (dev.address(), request.clone());
        clients.spawn(async move {
            let mut stream = TcpStream::connect(address).await.expect("a connection");
            ask(&mut stream, &request).await
        });
    }
    for answer in clients.join_all().await {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn an_idle_connection_outlives_the_time_for_a_head() {
    let dev = Process::dev().await;
    let mut stream = dev.connect().await;
    ask(&mut stream, GET).await;
    assert!(!is_closed(&mut stream, Duration::from_secs(12)).await);
    assert!(ask(&mut stream, GET).await.starts_with("HTTP/1.1 200 "));
    // The time limit for a head starts with its first byte.
    stream.write_all(b"GET /livez HT").await.expect("sent");
    let begun = Instant::now();
    assert!(is_closed(&mut stream, TIMEOUT).await);
    assert!((9..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_the_time_of_the_setting() {
    let dev = Process::dev_with(&[("OTP_HTTP__KEEP_ALIVE", "2s")]).await;
    let mut stream = dev.connect().await;
    for _ in 0..2 {
        ask(&mut stream, GET).await;
        let begun = Instant::now();
        assert!(!is_closed(&mut stream, Duration::from_secs(1)).await, "{:?}", begun.elapsed());
    }
    ask(&mut stream, GET).await;
    let begun = Instant::now();
    assert!(is_closed(&mut stream, TIMEOUT).await);
    assert!((1..6).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn at_the_connection_limit_the_one_idle_for_longest_is_closed() {
    let dev = Process::dev_with(&[("OTP_HTTP__MAX_CONNECTIONS", "4")]).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = dev.connect().await;
        ask(&mut stream, GET).await;
        idle.push(stream);
        // A connection becomes idle a moment after its client has the answer; nothing shows when.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // The connection that was used last is closed last.
    ask(&mut idle[0], GET).await;
    let mut newcomer = dev.connect().await;
    assert!(ask(&mut newcomer, GET).await.starts_with("HTTP/1.1 200 "));
    assert!(is_closed(&mut idle[1], TIMEOUT).await);
    for stay in [0, 2, 3] {
        assert!(ask(&mut idle[stay], GET).await.starts_with("HTTP/1.1 200 "), "{stay}");
    }
}

#[tokio::test]
async fn a_request_under_way_is_never_closed_for_another_client() {
    let dev = Process::dev_with(&[("OTP_HTTP__MAX_CONNECTIONS", "2")]).await;
    let mut under_way = Vec::new();
    for start in [
        "GET /livez HTTP/1.1\r\n",
        "POST /send-otp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut stream = dev.connect().await;
        stream.write_all(start.as_bytes()).await.expect("sent");
        under_way.push(stream);
    }
    for stream in &mut under_way {
        assert!(!is_closed(stream, Duration::from_millis(500)).await);
    }
    let mut newcomer = dev.connect().await;
    newcomer.write_all(GET.as_bytes()).await.expect("sent");
    assert!(!is_closed(&mut newcomer, Duration::from_millis(500)).await, "it waits");
    let [head, body] = &mut under_way[..] else { panic!("two") };
    assert!(ask(head, "Host: localhost\r\n\r\n").await.starts_with("HTTP/1.1 200 "));
    // This connection is idle now, so it makes room.
    assert!(answer(&mut newcomer).await.starts_with("HTTP/1.1 200 "));
    assert!(is_closed(head, TIMEOUT).await);
    drop(newcomer);
    body.write_all(b"{}").await.expect("sent");
    assert!(answer(body).await.starts_with("HTTP/1.1 4"));
}

#[tokio::test]
async fn connections_that_linger_make_room_as_idle_ones_do() {
    let dev = Process::dev_with(&[("OTP_HTTP__MAX_CONNECTIONS", "2")]).await;
    let mut lingering = Vec::new();
    for _ in 0..2 {
        let mut stream = dev.connect().await;
        let refused =
            ask(&mut stream, "POST /nope HTTP/1.1\r\nHost: x\r\nContent-Length: 99999\r\n\r\n").await;
        assert!(refused.starts_with("HTTP/1.1 404 "), "{refused}");
        assert!(is_closed(&mut stream, TIMEOUT).await, "half-closed: it lingers");
        lingering.push(stream);
    }
    let begun = Instant::now();
    assert!(ask(&mut dev.connect().await, GET).await.starts_with("HTTP/1.1 200 "));
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn idle_connections_do_not_delay_the_end() {
    let dev = Process::dev().await;
    let mut idle = vec![dev.connect().await];
    for _ in 0..3 {
        let mut stream = dev.connect().await;
        ask(&mut stream, GET).await;
        idle.push(stream);
    }
    let begun = Instant::now();
    dev.terminate();
    assert!(dev.ended().await.success());
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for stream in &mut idle {
        assert!(is_closed(stream, TIMEOUT).await);
    }
}

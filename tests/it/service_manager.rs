//! The notifications that a service manager receives from `otpd serve` (`sd_notify(3)`).

use std::collections::HashSet;
use std::time::Duration;

use tokio::net::UnixDatagram;
use tokio::time::timeout;

use crate::support::app::TestApp;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Receives until a message has this line, and returns all lines of that message.
async fn receive(socket: &UnixDatagram, line: &str) -> HashSet<String> {
    let mut buffer = [0; 1024];
    loop {
        let received = timeout(TIMEOUT, socket.recv(&mut buffer)).await;
        let length = received.unwrap_or_else(|_| panic!("no {line}")).expect("a message");
        let message = String::from_utf8_lossy(&buffer[..length]);
        let found: HashSet<_> = message.lines().map(str::to_owned).collect();
        if found.contains(line) {
            return found;
        }
    }
}

#[tokio::test]
async fn a_service_manager_is_notified_of_the_start_for_the_watchdog_and_of_the_stop() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket");
    let path = path.display().to_string();
    let app = TestApp::builder().set("NOTIFY_SOCKET", &path).set("WATCHDOG_USEC", "200000");
    let app = app.set("OTP_HTTP__SHUTDOWN_DELAY", "5m").spawn().await;
    receive(&socket, "READY=1").await;
    assert_eq!(app.get("/livez").await.status, 200);
    for _ in 0..3 {
        receive(&socket, "WATCHDOG=1").await;
    }
    app.signal("TERM");
    let said = receive(&socket, "STOPPING=1").await;
    assert!(said.contains("EXTEND_TIMEOUT_USEC=340000000"), "{said:?}");
    // It is still alive while it drains.
    receive(&socket, "WATCHDOG=1").await;
    assert_eq!(app.stopped().await.code(), Some(0));
}

#[tokio::test]
async fn a_service_manager_that_does_not_read_stops_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let _socket = UnixDatagram::bind(&path).expect("a socket");
    let other = std::os::unix::net::UnixDatagram::unbound().expect("a socket");
    other.set_nonblocking(true).expect("set");
    // Until its queue is full.
    let mut sent = 0;
    while other.send_to(b"STATUS=", &path).is_ok() {
        sent += 1;
    }
    assert!(sent > 0);
    let app = TestApp::builder().set("NOTIFY_SOCKET", &path.display().to_string());
    let app = app.set("WATCHDOG_USEC", "200000").set("OTP_HTTP__SHUTDOWN_DELAY", "0s").spawn().await;
    app.code_for("person@example.com").await;
    assert_eq!(app.stopped().await.code(), Some(0));
}

//! Measures the throughput of sends over a relay that takes 100 ms per message. The relay's delay
//! should account for almost all of the time.
//!
//! Prints sends per second, and their ratio to the ideal for this number of callers and this delay.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::app::TestApp;
use crate::support::smtp::Fault;

/// Number of concurrent callers.
const CALLERS: u32 = 64;
/// Sends of each caller.
const SENDS: u32 = 100;
/// Time that the relay takes for each message.
const DELAY: Duration = Duration::from_millis(100);

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    for tls in [false, true] {
        let builder = TestApp::builder().set("OTP_HASH__QUEUE", "200").set("OTP_LOG__LEVEL", "info");
        let app = Arc::new(if tls { builder.tls() } else { builder }.spawn().await);
        app.smtp.set(Fault::Slow(DELAY));
        // The first round opens the connections.
        send(&app, 1).await;
        let before = cpu_ticks(app.id());
        let took = send(&app, SENDS).await;
        let cpu = Duration::from_millis(10 * (cpu_ticks(app.id()) - before)) / (CALLERS * SENDS);
        let rate = f64::from(CALLERS * SENDS) / took.as_secs_f64();
        let ideal = f64::from(CALLERS) / DELAY.as_secs_f64();
        let way = if tls { "STARTTLS and login" } else { "plaintext" };
        println!(
            "{CALLERS} callers, a relay that takes {DELAY:?}, {way}: {rate:.0} sends/s, {:.3} of {ideal:.0}",
            rate / ideal
        );
        let (connections, memory) = (app.smtp.connections(), app.peak_memory_kib());
        println!("    {cpu:.0?} of a core a send; {connections} connections made; {memory} KiB at most");
    }
}

/// Sends this many times over one connection for each caller, and returns the time taken.
async fn send(app: &Arc<TestApp>, sends: u32) -> Duration {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let app = Arc::clone(app);
        callers.spawn(async move {
            let mut stream = app.connect().await;
            for number in 0..sends {
                send_one(&mut stream, &format!("{caller}.{sends}.{number}@example.com")).await;
            }
        });
    }
    callers.join_all().await;
    begun.elapsed()
}

/// Sends one request and reads its answer, with as little work as possible: the service is
/// measured, not the client.
async fn send_one(stream: &mut TcpStream, email: &str) {
    let body = format!(r#"{{"email":"{email}"}}"#);
    let request = format!(
        "POST /send-otp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // The answer ends with its body, which is a JSON object.
    while !answer.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut answer).await.expect("an answer"), 0);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
}

/// Returns the CPU time of a process over all cores, in ticks of 10 ms.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields: Vec<&str> = fields.split(' ').collect();
    [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

//! A load driver that costs little CPU: one thread, connections that stay open, and requests that
//! are made before the clock runs.
//!
//! In a closed loop each connection sends its next request when it has the answer to the last. In
//! an open loop requests start at a fixed rate, and a latency counts from the intended start, so a
//! stalled server cannot hide that requests had to wait.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::usage::Usage;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_mins(1);

/// When requests start.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Each connection at once after the last answer, until all requests are sent.
    Closed,
    /// The same, for this time; the requests are sent again and again.
    ClosedFor(Duration),
    /// So many a second.
    Open(f64),
}

/// What the requests led to.
#[derive(Default)]
pub struct Outcome {
    pub elapsed: Duration,
    /// Microseconds, in ascending order.
    pub latencies: Vec<u32>,
    pub statuses: BTreeMap<u16, usize>,
    /// The bodies by the number of their request, if they were asked for.
    pub bodies: Vec<(usize, String)>,
    pub driver: Usage,
}

/// What the connections share.
struct Shared {
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    pace: Pace,
    keep_bodies: bool,
    begun: Instant,
    next: AtomicUsize,
    due: Semaphore,
}

/// Sends the requests over so many connections.
pub fn run(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    connections: usize,
    pace: Pace,
    keep_bodies: bool,
) -> Outcome {
    let drive = move || {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let before = Usage::of_this_thread();
        let mut outcome = runtime.block_on(drive(address, requests, connections.max(1), pace, keep_bodies));
        outcome.driver = Usage::of_this_thread() - before;
        outcome
    };
    let thread = std::thread::Builder::new().name("driver".to_owned()).spawn(drive).expect("a thread");
    thread.join().expect("the driver does not panic")
}

async fn drive(
    address: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
    connections: usize,
    pace: Pace,
    keep_bodies: bool,
) -> Outcome {
    let mut opened = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection { stream: connect(address).await, unread: Vec::with_capacity(4096) };
        // So that no connection is accepted while the clock runs.
        if matches!(pace, Pace::Open(_)) {
            connection.exchange(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n", false).await;
        }
        opened.push(connection);
    }
    let shared = Arc::new(Shared {
        address,
        requests,
        pace,
        keep_bodies,
        begun: Instant::now(),
        next: AtomicUsize::new(0),
        due: Semaphore::new(0),
    });
    let is_over = Arc::new(AtomicBool::new(false));
    if let Pace::Open(rate) = pace {
        let (shared, is_over) = (Arc::clone(&shared), Arc::clone(&is_over));
        std::thread::spawn(move || start_at_rate(&shared, rate, &is_over));
    }
    let mut workers = JoinSet::new();
    for connection in opened {
        workers.spawn(work(connection, Arc::clone(&shared)));
    }
    let mut outcome = Outcome::default();
    while let Some(part) = workers.join_next().await {
        let part = part.expect("no connection panics");
        outcome.latencies.extend(part.latencies);
        outcome.bodies.extend(part.bodies);
        for (status, count) in part.statuses {
            *outcome.statuses.entry(status).or_default() += count;
        }
    }
    outcome.elapsed = shared.begun.elapsed();
    is_over.store(true, Ordering::Relaxed);
    outcome.latencies.sort_unstable();
    outcome
}

/// Lets requests start when they are due. A thread sleeps more exactly than tokio's timer, which
/// counts milliseconds.
fn start_at_rate(shared: &Shared, rate: f64, is_over: &AtomicBool) {
    for number in 0..shared.requests.len() {
        let due = shared.begun + Duration::from_secs_f64(number as f64 / rate);
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait);
        }
        if is_over.load(Ordering::Relaxed) {
            return;
        }
        shared.due.add_permits(1);
    }
}

async fn work(mut connection: Connection, shared: Arc<Shared>) -> Outcome {
    let mut outcome = Outcome::default();
    loop {
        if matches!(shared.pace, Pace::Open(_)) {
            // The requests that are left wait for their permits, so every permit is taken.
            if shared.next.load(Ordering::Relaxed) >= shared.requests.len() {
                return outcome;
            }
            let Ok(permit) = shared.due.acquire().await else { return outcome };
            permit.forget();
        }
        let number = shared.next.fetch_add(1, Ordering::Relaxed);
        let started = match shared.pace {
            Pace::Closed | Pace::Open(_) if number >= shared.requests.len() => {
                shared.due.close();
                return outcome;
            }
            Pace::ClosedFor(time) if shared.begun.elapsed() >= time => return outcome,
            Pace::Closed | Pace::ClosedFor(_) => Instant::now(),
            Pace::Open(rate) => shared.begun + Duration::from_secs_f64(number as f64 / rate),
        };
        let request = &shared.requests[number % shared.requests.len()];
        let answer = connection.exchange(request, shared.keep_bodies).await;
        let latency = started.elapsed().as_micros().try_into().unwrap_or(u32::MAX);
        outcome.latencies.push(latency);
        *outcome.statuses.entry(answer.status).or_default() += 1;
        outcome.bodies.extend(answer.body.map(|body| (number, body)));
        if answer.closes {
            connection.stream = connect(shared.address).await;
            connection.unread.clear();
        }
        if matches!(shared.pace, Pace::Open(_)) && number + 1 == shared.requests.len() {
            shared.due.close();
        }
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    stream
}

struct Connection {
    stream: TcpStream,
    unread: Vec<u8>,
}

struct Answer {
    /// 0 if the connection was closed without an answer.
    status: u16,
    closes: bool,
    body: Option<String>,
}

impl Connection {
    async fn exchange(&mut self, request: &[u8], keep_body: bool) -> Answer {
        let exchange = async {
            if self.stream.write_all(request).await.is_err() {
                return None;
            }
            loop {
                if let Some((answer, length)) = parse(&self.unread, keep_body) {
                    self.unread.drain(..length);
                    return Some(answer);
                }
                if !self.stream.read_buf(&mut self.unread).await.is_ok_and(|read| read > 0) {
                    return None;
                }
            }
        };
        let answer = tokio::time::timeout(TIMEOUT, exchange).await.expect("an answer in time");
        answer.unwrap_or(Answer { status: 0, closes: true, body: None })
    }
}

/// Returns the answer and its length, if it is complete.
fn parse(text: &[u8], keep_body: bool) -> Option<(Answer, usize)> {
    let head = text.windows(4).position(|window| window == b"\r\n\r\n")?;
    let mut lines = text[..head].split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let status = std::str::from_utf8(lines.next()?.get(9..12)?).ok()?.parse().expect("a status");
    let mut length = 0;
    let mut closes = false;
    for line in lines {
        if let Some(value) = value_of(line, b"content-length:") {
            length = std::str::from_utf8(value).ok()?.parse().expect("a length");
        } else if let Some(value) = value_of(line, b"connection:") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    let body = text.get(head + 4..head + 4 + length)?;
    let body = keep_body.then(|| String::from_utf8_lossy(body).into_owned());
    Some((Answer { status, closes, body }, head + 4 + length))
}

fn value_of<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (found, value) = line.split_at_checked(name.len())?;
    found.eq_ignore_ascii_case(name).then(|| value.trim_ascii())
}

impl Outcome {
    /// Returns answers a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// Returns a percentile of the latencies in milliseconds.
    pub fn percentile(&self, percent: f64) -> f64 {
        let below = self.latencies.iter().enumerate();
        let share = |at: usize| at as f64 / self.latencies.len() as f64 * 100.0;
        let mut above = below.skip_while(|(at, _)| share(at + 1) < percent);
        above.next().map_or(0.0, |(_, micros)| f64::from(*micros) / 1e3)
    }

    /// Returns the number of answers with this status.
    pub fn count(&self, status: u16) -> usize {
        self.statuses.get(&status).copied().unwrap_or(0)
    }
}

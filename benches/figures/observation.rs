//! Measures what it costs to observe the service: the metrics of a request, and traces that are
//! off, sent to a collector, or sent to one that is down or never answers.
//!
//! Prints CPU time for each wrong code with the lightest hash, so that the ratios are the worst: a
//! default hash alone takes some 20 ms. The rounds of the processes alternate, so that other load
//! on the machine affects all alike.

use std::fs;
use std::time::{Duration, Instant};

use otpd::metrics::metrics;
use tokio::net::TcpListener;

use crate::support::app::TestApp;
use crate::support::collector::Collector;

/// Rounds of each process.
const ROUNDS: usize = 12;
/// Requests in one round.
const REQUESTS: usize = 1500;
/// Requests whose metrics are recorded to time them.
const RECORDED: u32 = 1_000_000;
/// Ticks per second of the CPU times in `/proc`, on every Linux of today.
const TICKS: u64 = 100;

/// A process and what was measured of it.
struct Observed {
    name: &'static str,
    app: TestApp,
    /// CPU time for each request, by round.
    costs: Vec<Duration>,
    slowest: Duration,
    idle_memory: u64,
}

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    let collector = Collector::start().await;
    // Connections stay in the backlog, and no request is read.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let silent_endpoint = format!("http://{}", silent.local_addr().expect("an address"));
    let mut all = Vec::new();
    for (name, endpoint) in [
        ("off", ""),
        ("accepted", &collector.endpoint()),
        ("down", "http://127.0.0.1:1"),
        ("never answers", &silent_endpoint),
    ] {
        all.push(observed(name, endpoint).await);
    }
    for round in 0..ROUNDS {
        for observed in &mut all {
            observed.round(round).await;
        }
    }
    let off = all[0].costs.clone();
    for observed in &all {
        let mut ratios: Vec<_> = observed
            .costs
            .iter()
            .zip(&off)
            .map(|(cost, off)| cost.as_secs_f64() / off.as_secs_f64())
            .collect();
        ratios.sort_unstable_by(f64::total_cmp);
        let lost = lost(&observed.app).await;
        println!(
            "traces {:<14} {:>6.1} us a request, {:.3} x off; slowest answer {:.0} ms; peak memory {:.1} MiB, {:.1} MiB before; {lost} spans lost",
            observed.name,
            micros(median(&observed.costs)),
            ratios[ratios.len() / 2],
            observed.slowest.as_secs_f64() * 1e3,
            mib(observed.app.peak_memory_kib()),
            mib(observed.idle_memory),
        );
    }
    let recorded = record();
    let request = median(&off);
    println!(
        "metrics of a request: {:.2} us, {:.2} % of its CPU time",
        micros(recorded),
        recorded.as_secs_f64() / request.as_secs_f64() * 100.0
    );
}

async fn observed(name: &'static str, endpoint: &str) -> Observed {
    let app = TestApp::defaults()
        .set("OTP_HASH__MEMORY_KIB", "64")
        .set("OTP_HASH__PASSES", "1")
        .set("OTP_DANGEROUS__WEAK_HASH", "true")
        .set("OTP_LOG__LEVEL", "info")
        .set("OTP_TRACES__ENDPOINT", endpoint)
        .spawn()
        .await;
    app.verify_from("192.0.2.1", "warm@example.com", "123456").await;
    let idle_memory = app.peak_memory_kib();
    Observed { name, app, costs: Vec::new(), slowest: Duration::ZERO, idle_memory }
}

impl Observed {
    async fn round(&mut self, round: usize) {
        let before = self.cpu_time();
        for number in 0..REQUESTS {
            // A client and a recipient of its own, so that no limit refuses it.
            let client = format!("10.{round}.{}.{}", number / 250, number % 250);
            let begun = Instant::now();
            let answer =
                self.app.verify_from(&client, &format!("a{round}-{number}@example.com"), "123456").await;
            self.slowest = self.slowest.max(begun.elapsed());
            assert_eq!(answer.status, 400, "{answer:?}");
        }
        let requests = u32::try_from(REQUESTS).expect("few requests");
        self.costs.push(self.cpu_time().saturating_sub(before) / requests);
    }

    /// Returns the CPU time of the process so far.
    fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.app.id())).expect("a process");
        let (_, fields) = stat.rsplit_once(')').expect("the name of the process");
        let ticks =
            fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("ticks"));
        Duration::from_millis(ticks.sum::<u64>() * 1000 / TICKS)
    }
}

/// Returns the time for the metrics of one wrong code.
fn record() -> Duration {
    let took = Duration::from_micros(300);
    let begun = Instant::now();
    for _ in 0..RECORDED {
        metrics().active_requests.inc();
        metrics().redis_call("charge", took, None);
        metrics().redis_call("take_attempt", took, None);
        metrics().hash_queue.inc();
        metrics().hash_queue.dec();
        metrics().hash_waited(took);
        metrics().hashed(took);
        metrics().attempt("simple", "wrong");
        metrics().request("POST", "/verify-otp", 400, took);
        metrics().active_requests.dec();
    }
    begun.elapsed() / RECORDED
}

async fn lost(app: &TestApp) -> String {
    let metrics = app.admin("/metrics").await.body;
    let line = metrics.lines().find_map(|line| line.strip_prefix("otpd_trace_spans_lost_total "));
    line.expect("the metric").to_owned()
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

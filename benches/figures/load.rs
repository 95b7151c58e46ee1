//! Measures what the release `otpd serve` takes for each kind of request: answers a second,
//! latencies, CPU time of the service and of its peers apart, context switches, memory.
//!
//! `cargo bench --bench figures load` prints all; names of scenarios after it, such as
//! `load -- send wrong`, only those; `-- --all` adds the matrix of concurrency and 10^6 open
//! verifications. docs/performance.md says what the figures are compared with.

mod counts;
mod driver;
mod flask;
mod hash;
mod overload;
mod relay;
mod rig;
mod scenario;
mod usage;

use std::time::Duration;

use self::driver::{Outcome, Pace};
use self::rig::{Rig, Spent};
use self::scenario::{ALL, Scenario};

/// Requests before those that are measured.
const WARM_UP: usize = 500;
/// Connections of the quick run, and of the matrix of `--all`.
const CONNECTIONS: usize = 16;
const MATRIX: [usize; 4] = [1, 16, 64, 512];
/// The share of the rate of the closed loop at which the open loop sends, and its connections.
const OPEN_SHARE: f64 = 0.5;
const OPEN_CONNECTIONS: usize = 256;
/// What a slow relay takes for each email.
const SLOW: Duration = Duration::from_millis(100);

const HEADING: &str = "\
| scenario | callers | requests/s | p50 ms | p99 | p99.9 | open loop, p50 | p99 | p99.9 \
| otpd, CPU us | Redis | driver | relay | switches | idle MB | peak MB |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// Runs the benchmark.
#[tokio::main(flavor = "current_thread")]
pub async fn run() {
    let arguments: Vec<String> = std::env::args().skip_while(|argument| argument != "load").skip(1).collect();
    let is_complete = std::env::args().any(|argument| argument == "--all");
    let named: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    for name in &named {
        let is_known = EXTRA.contains(&name.as_str()) || ALL.iter().any(|(_, known, ..)| known == name);
        assert!(is_known, "{name} is none of {:?} {EXTRA:?}", ALL.map(|(_, name, ..)| name));
    }
    let is_wanted = |name: &str| named.is_empty() || named.iter().any(|named| *named == name);
    println!("{}", machine());
    println!("{HEADING}");
    for (scenario, name, ..) in ALL {
        let connections: &[usize] = if is_complete { &MATRIX } else { &[CONNECTIONS] };
        for connections in connections.iter().filter(|_| is_wanted(name)) {
            measure(scenario, *connections).await;
        }
    }
    if is_wanted("slow-relay") {
        slow_relay().await;
    }
    if is_wanted("goodput") {
        overload::goodput().await;
    }
    if is_wanted("full-queue") {
        overload::full_queue().await;
    }
    if is_wanted("hash") {
        hash::run().await;
    }
    if is_wanted("counts") {
        counts::run(arguments.iter().any(|argument| argument == "--bound"));
    }
    if is_wanted("flask") {
        flask::run().await;
    }
    if is_complete && is_wanted("million") {
        million().await;
    }
}

/// What else can be named.
const EXTRA: [&str; 7] = ["slow-relay", "goodput", "full-queue", "hash", "counts", "flask", "million"];

async fn measure(scenario: Scenario, connections: usize) {
    let (name, status, count) = scenario.facts();
    // One caller takes as long for a quarter of the requests.
    let count = if connections == 1 { count / 4 } else { count };
    let rig = Rig::start(scenario.settings()).await;
    let idle = rig.memory_mb();
    let mut requests = scenario.requests(&rig, WARM_UP + count + count / 2);
    let open = requests.split_off(WARM_UP + count);
    let closed = requests.split_off(WARM_UP);
    rig.measure(requests, connections, Pace::Closed);
    usage::reset_peak(rig.id());
    let (outcome, spent) = rig.measure(closed, connections, Pace::Closed);
    let peak = rig.peak_mb();
    let rate = outcome.rate() * OPEN_SHARE;
    let (honest, _) = rig.measure(open, OPEN_CONNECTIONS.max(connections), Pace::Open(rate));
    for outcome in [&outcome, &honest] {
        let share = outcome.count(status) as f64 / outcome.latencies.len() as f64;
        assert!(share > 0.99, "{name}: {:?}", outcome.statuses);
    }
    println!("{} {idle:.1} | {peak:.1} |", row(name, connections, &outcome, &honest, spent));
}

fn row(name: &str, connections: usize, outcome: &Outcome, honest: &Outcome, spent: Spent) -> String {
    let count = outcome.latencies.len();
    let [p50, p99, p999] = percentiles(outcome);
    let [open50, open99, open999] = percentiles(honest);
    format!(
        "| {name} | {connections} | {:.0} | {p50:.2} | {p99:.2} | {p999:.2} | {open50:.2} | {open99:.2} \
         | {open999:.2} | {:.1} | {:.1} | {:.1} | {:.1} | {:.1} |",
        outcome.rate(),
        spent.service.micros_each(count),
        spent.redis.micros_each(count),
        outcome.driver.micros_each(count),
        spent.relay.micros_each(count),
        spent.service.switches as f64 / count as f64,
    )
}

fn percentiles(outcome: &Outcome) -> [f64; 3] {
    [50.0, 99.0, 99.9].map(|percent| outcome.percentile(percent))
}

/// Prints what becomes of sends if the relay takes its time.
async fn slow_relay() {
    const CALLERS: usize = 64;
    const SENDS: usize = 6_400;
    let rig = Rig::start(&[]).await;
    rig.relay.set_delay(SLOW);
    let mut requests = Scenario::Send.requests(&rig, WARM_UP + SENDS);
    let measured = requests.split_off(WARM_UP);
    rig.measure(requests, CALLERS, Pace::Closed);
    let (outcome, spent) = rig.measure(measured, CALLERS, Pace::Closed);
    assert_eq!(outcome.count(200), SENDS, "{:?}", outcome.statuses);
    println!(
        "send, {CALLERS} callers, a relay that takes {SLOW:?}: {:.0}/s of {:.0} possible, {:.0} us of otpd a send, \
         {} connections",
        outcome.rate(),
        CALLERS as f64 / SLOW.as_secs_f64(),
        spent.service.micros_each(SENDS),
        rig.relay.connections()
    );
}

/// Prints wrong checks a second with 10^6 open verifications against none.
async fn million() {
    const OPEN: usize = 1_000_000;
    let (_, _, count) = Scenario::Wrong.facts();
    let rig = Rig::start(&[]).await;
    let mut rates = Vec::new();
    for open in [0, OPEN] {
        let requests = Scenario::Wrong.requests(&rig, count);
        if open > 0 {
            copy_verification(&rig, open).await;
        }
        let (outcome, _) = rig.measure(requests, CONNECTIONS, Pace::Closed);
        rates.push(outcome.rate());
        rig.redis.flush_all().await;
    }
    println!(
        "wrong checks: {:.0}/s with no other verification, {:.0}/s with {OPEN} open: ratio {:.3}",
        rates[0],
        rates[1],
        rates[1] / rates[0]
    );
}

/// Copies a stored verification under so many other names.
async fn copy_verification(rig: &Rig, count: usize) {
    let script = "local cursor, found = '0', nil
        repeat
          local page = redis.call('SCAN', cursor, 'MATCH', 'otp:{s:*:simple:*', 'COUNT', 1000)
          cursor, found = page[1], page[2][1]
        until found or cursor == '0'
        for number = 1, tonumber(ARGV[1]) do
          redis.call('COPY', found, 'otp:{s:' .. number .. '}:simple:' .. number)
        end
        return redis.call('DBSIZE')";
    let mut connection = rig.redis.connection().await;
    let keys: usize =
        redis::cmd("EVAL").arg(script).arg(0).arg(count).query_async(&mut connection).await.expect("copies");
    assert!(keys > count, "{keys}");
}

/// Returns the processor and the number of its threads.
fn machine() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("an unknown processor", |(_, model)| model);
    let threads = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{threads} threads of {model}; CPU time in microseconds a request, memory in MB")
}

//! What is still served beyond the service's capacity: answers a second with 16 callers and with
//! 1,000 that repeat a 503 at once, and latencies of cheap requests while the hash queue is full.

use std::sync::Arc;
use std::time::Duration;

use super::driver::{self, Pace};
use super::rig::Rig;
use super::scenario::{Scenario, email, ip, send, verify};

const FEW: usize = 16;
const MANY: usize = 1_000;
const TIME: Duration = Duration::from_secs(5);
/// Places in the hash queue: the fewest that are measured at the start, and far fewer. Twice as
/// many checks, and as many sends, are processed at once.
const QUEUES: [&str; 2] = ["320", "32"];
/// Different requests, so that no ledger refuses one that should pass.
const REQUESTS: usize = 300_000;

/// Makes a request by number.
type Request = fn(usize) -> Vec<u8>;

/// Prints goodput: answers a second that are neither 503 nor 429.
pub async fn goodput() {
    let check = |number: usize| verify(&ip(number), &email(number), "000000");
    let send = |number: usize| send(&ip(number), &email(number));
    let kinds: [(&str, Request, u16); 2] = [("checks", check, 400), ("sends", send, 200)];
    let kinds = QUEUES.into_iter().flat_map(|queue| kinds.map(|kind| (queue, kind)));
    for (queue, (name, request, status)) in kinds {
        let [few, many] =
            [served(queue, request, status, FEW).await, served(queue, request, status, MANY).await];
        println!(
            "goodput, {name}, a queue of {queue}: {:.0}/s with {FEW} callers, {:.0}/s with {MANY} that repeat a 503 at once \
             ({:.0} x 503 a second): ratio {:.2}; peak {:.1} MB and {:.1} MB",
            few.goodput,
            many.goodput,
            many.refused,
            many.goodput / few.goodput,
            few.peak,
            many.peak
        );
    }
}

struct Served {
    goodput: f64,
    refused: f64,
    peak: f64,
}

async fn served(queue: &str, request: Request, status: u16, callers: usize) -> Served {
    let rig = Rig::start(&[("OTP_HASH__QUEUE", queue)]).await;
    let requests = (0..REQUESTS).map(request).collect();
    let (outcome, _) = rig.measure(requests, callers, Pace::ClosedFor(TIME));
    let seconds = outcome.elapsed.as_secs_f64();
    let rate = |status| outcome.count(status) as f64 / seconds;
    Served { goodput: rate(status), refused: rate(503), peak: rig.peak_mb() }
}

/// Prints latencies of malformed and limited requests at rest, and while all hash threads are busy
/// and their queue is full.
pub async fn full_queue() {
    /// As many checks as are processed at once with this queue.
    const CALLERS: usize = 100;
    const RATE: f64 = 200.0;
    const COUNT: usize = 1_000;
    let settings = [("OTP_HASH__MEMORY_KIB", "7168"), ("OTP_HASH__PASSES", "5"), ("OTP_HASH__QUEUE", "50")];
    let rig = Rig::start(&settings).await;
    for scenario in [Scenario::Malformed, Scenario::LimitedIp] {
        let address = rig.address;
        let requests = Arc::new(scenario.requests(&rig, COUNT));
        let probe = || {
            let probed = driver::run(rig.address, Arc::clone(&requests), 64, Pace::Open(RATE), false);
            probed.percentile(99.0)
        };
        let at_rest = probe();
        let checks: Vec<_> =
            (0..50_000).map(|number| verify(&ip(number), &email(number), "000000")).collect();
        let time = Duration::from_secs_f64(COUNT as f64 / RATE) + Duration::from_secs(2);
        let under_load = std::thread::scope(|scope| {
            let pace = Pace::ClosedFor(time);
            let load = scope.spawn(move || driver::run(address, Arc::new(checks), CALLERS, pace, false));
            // The queue fills while the first checks are hashed.
            std::thread::sleep(Duration::from_secs(1));
            let under_load = probe();
            load.join().expect("the driver does not panic");
            under_load
        });
        println!(
            "{}, p99 at {RATE}/s: {at_rest:.2} ms at rest, {under_load:.2} ms while the hash queue is full",
            scenario.facts().0
        );
    }
}

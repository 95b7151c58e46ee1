//! How many sends a second go through a relay that takes 100 ms for each: the time is the relay's, and the rest should
//! be next to nothing.
//!
//! Prints sends a second, and how near they are to what so many callers and so slow a relay allow.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a bench that cannot go on stops; what it finds it prints"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

#[path = "../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

use support::app::TestApp;
use support::smtp::Fault;

/// Who sends at once.
const CALLERS: u32 = 64;
/// What each of them sends.
const SENDS: u32 = 100;
/// What the relay takes for a mail.
const DELAY: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() {
    for tls in [false, true] {
        let builder = TestApp::builder().set("OTP_HASH__QUEUE", "200").set("OTP_LOG__LEVEL", "info");
        let app = Arc::new(if tls { builder.tls() } else { builder }.spawn().await);
        app.smtp.set(Fault::Slow(DELAY));
        // The first round makes the connections.
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

/// Each caller sends that often; gives how long it took.
async fn send(app: &Arc<TestApp>, sends: u32) -> Duration {
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let app = Arc::clone(app);
        callers.spawn(async move {
            for number in 0..sends {
                let answer = app.send_otp(&format!("{caller}.{sends}.{number}@example.com")).await;
                assert_eq!(answer.status, 200, "{answer:?}");
            }
        });
    }
    callers.join_all().await;
    begun.elapsed()
}

/// How long a process has had a core, of all cores, in ticks of 10 ms.
fn cpu_ticks(process: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    let fields: Vec<&str> = fields.split(' ').collect();
    [fields[11], fields[12]].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

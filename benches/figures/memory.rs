//! Measures whether memory grows: requests of every kind, with a relay that fails now and then.
//!
//! `OTPD_REQUESTS` is how many; `make nightly` sets it.

use crate::support::of_run;
use crate::support::traffic::Traffic;

const REQUESTS: u64 = 100_000;
/// The parts after which memory is printed.
const PARTS: u64 = 10;

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    let all = of_run("OTPD_REQUESTS").map_or(REQUESTS, |number| number.parse().expect("a number"));
    let traffic = Traffic::start().await;
    let mut figures = Vec::new();
    println!("resident memory after so many requests of all kinds:");
    for part in 1..=PARTS {
        traffic.run_until(all * part / PARTS).await;
        let kib = traffic.memory_kib();
        figures.push(kib);
        println!("  {:>9}  {:6.2} MiB", all * part / PARTS, kib as f64 / 1024.0);
    }
    let (early, late) = (figures[1] as f64, figures[figures.len() - 1] as f64);
    println!("  the end is {:.3} x that after a fifth", late / early);
}

//! Prints figures and ratios of the real `otpd`, and asserts nothing.
//!
//! `cargo bench` runs all benchmarks, and `cargo bench --bench figures overload` only that one.

#![expect(
    clippy::cast_precision_loss,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on stops; what it finds it prints"
)]
#![expect(unreachable_pub, reason = "nothing is exported; `pub` is what other files may use")]

mod capacity;
mod hook;
mod ledger_cost;
mod load;
mod memory;
mod observation;
mod overload;
mod redis_cost;
mod refusals;
mod relay;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;
mod two_codes;
mod wait_cost;

use std::env;

/// The benchmarks by name.
const BENCHMARKS: [(&str, fn()); 12] = [
    ("capacity", capacity::run),
    ("hook", hook::run),
    ("ledger_cost", ledger_cost::run),
    ("load", load::run),
    ("memory", memory::run),
    ("observation", observation::run),
    ("overload", overload::run),
    ("redis_cost", redis_cost::run),
    ("refusals", refusals::run),
    ("relay", relay::run),
    ("two_codes", two_codes::run),
    ("wait_cost", wait_cost::run),
];

fn main() {
    // Cargo adds options of its own.
    let mut named: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    // The names after `load` are those of its scenarios.
    if let Some(at) = named.iter().position(|name| name == "load") {
        named.truncate(at + 1);
    }
    for name in &named {
        let is_known = BENCHMARKS.iter().any(|(known, _)| known == name);
        assert!(is_known, "{name} is none of {:?}", BENCHMARKS.map(|(name, _)| name));
    }
    for (name, run) in BENCHMARKS {
        if named.is_empty() || named.iter().any(|named| named == name) {
            run();
        }
    }
}

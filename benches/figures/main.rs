//! Prints figures and ratios of the real `otpd`, and asserts nothing.
//!
//! `cargo bench` runs all benchmarks, and `cargo bench --bench figures overload` only that one.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that cannot go on stops; what it finds it prints"
)]
#![expect(unreachable_pub, reason = "nothing is exported; `pub` is what other files may use")]

mod overload;
mod redis_cost;
mod refusals;
mod relay;
#[path = "../../tests/it/support/mod.rs"]
#[expect(dead_code, reason = "the tests use the rest")]
mod support;

use std::env;

#[tokio::main]
async fn main() {
    // Cargo adds options of its own.
    let named: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let is_named = |name: &str| named.is_empty() || named.iter().any(|named| named == name);
    if is_named("overload") {
        overload::run().await;
    }
    if is_named("redis_cost") {
        redis_cost::run().await;
    }
    if is_named("refusals") {
        refusals::run().await;
    }
    if is_named("relay") {
        relay::run().await;
    }
}

//! Memory under requests of every kind, with a relay that fails now and then.
//!
//! The long form is `cargo bench --bench figures memory`, with two million requests in `make
//! nightly`.

use crate::support::traffic::Traffic;

const REQUESTS: u64 = 12_000;

#[tokio::test(flavor = "multi_thread")]
async fn memory_does_not_grow_with_requests() {
    let traffic = Traffic::start().await;
    traffic.run_until(REQUESTS / 2).await;
    let early = traffic.memory_kib();
    traffic.run_until(REQUESTS).await;
    let late = traffic.memory_kib();
    assert!(late * 100 <= early * 105, "{early} KiB, then {late} KiB");
}

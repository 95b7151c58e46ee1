//! Measures what a charge costs in Redis, by the size of its ledger: the time of the script, during
//! which Redis serves nobody else.

use otpd::domain::limit::Policy;
use otpd::domain::limits::{Action, Charge};
use otpd::domain::tenant::Tenant;

use crate::support::redis::RedisServer;
use crate::support::store::{self, Bench};

/// Sizes of ledgers.
const SIZES: [usize; 5] = [10, 100, 1_000, 10_000, 50_000];
/// The largest size of a ledger with partitions, whose charges take long.
const MOST_WITH_PARTITIONS: usize = 10_000;
/// Charges that are measured at each size.
const CHARGES: usize = 200;

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    let limits = store::limits(&[
        // An entry a millisecond: the first window holds less than half of a long ledger.
        (Policy::IpSends, "100000/20s 100000/24h"),
        (Policy::EmailSends, "100000/1h 100000/2h 100000/24h"),
        (Policy::IpEmailSends, "100000/1h 100000/24h"),
        (Policy::EmailSendsTotal, "100000/24h"),
    ]);
    let (v4, v6) = (store::network("192.0.2.1"), store::network("2001:db8::1"));
    let tenant = Tenant::Simple;
    let recipient = store::recipient(Tenant::Simple, "recipient@example.com");
    curve("an IPv4 address", &limits.ip_charge(Action::Send, &tenant, &v4)).await;
    curve("an IPv6 /64", &limits.ip_charge(Action::Send, &tenant, &v6)).await;
    curve("a recipient", &limits.send_charge(&recipient, Some(&v4.prefix48))).await;
}

async fn curve(name: &str, charge: &Charge<'_>) {
    let bench = Bench::redis().await;
    let mut first = None;
    let mut size = 0;
    let most = if charge.ledger.partition_bytes() == 0 { usize::MAX } else { MOST_WITH_PARTITIONS };
    for target in SIZES.into_iter().filter(|size| *size <= most) {
        while size + CHARGES / 2 < target {
            add(&bench, charge).await;
            size += 1;
        }
        reset(bench.server()).await;
        for _ in 0..CHARGES {
            add(&bench, charge).await;
        }
        size += CHARGES;
        let cost = script_micros(bench.server()).await;
        let base = *first.get_or_insert(cost);
        println!(
            "{name:16} about {target:6} entries: {cost:7.1} us a charge, {:.2} x the first",
            cost / base
        );
    }
}

async fn add(bench: &Bench, charge: &Charge<'_>) {
    bench.clock.step(1);
    bench.store.charge(charge).await.expect("Redis answers");
}

async fn reset(server: &RedisServer) {
    let mut connection = server.connection().await;
    redis::cmd("CONFIG").arg("RESETSTAT").exec_async(&mut connection).await.expect("an answer");
}

/// Returns the mean time of the scripts since the reset, in microseconds.
async fn script_micros(server: &RedisServer) -> f64 {
    let mut connection = server.connection().await;
    let stats: String =
        redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.expect("figures");
    let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_evalsha:")).expect("scripts ran");
    let figure = line.split(',').find_map(|figure| figure.strip_prefix("usec_per_call="));
    figure.expect("a figure").parse().expect("a number")
}

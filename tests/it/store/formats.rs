//! What is stored, byte for byte, as this release writes it, and as builds before the first release
//! wrote it. Both are read.
//!
//! A release that writes another format keeps these files of rows, reads them, and comes after a
//! release that reads the new one already (ARCHITECTURE.md, "What Redis stores").

use std::collections::BTreeMap;
use std::fmt::Write as _;

use otpd::domain::code_hash::DIGEST_BYTES;
use otpd::domain::delivery::{DeliveryRecord, DeliveryStatus};
use otpd::domain::idempotency::BeginOutcome;
use otpd::domain::limit::Policy;
use otpd::domain::limits::{Action, Charge, Limits};
use otpd::domain::tenant::Tenant;
use otpd::domain::verification::Status;
use otpd::domain::verification_id::{ID_BYTES, VerificationId};
use otpd::ports::ChargeOutcome;

use super::idempotency::request;
use super::{LIFE, OVERLAP, TICK};
use crate::support::redis::RedisServer;
use crate::support::store::{Bench, TakenAttempt, address, id, limits, network, provider_id, recipient};

/// Keys and values in hexadecimal digits.
const ROWS: &str = include_str!("../fixtures/rows_of_format_1.txt");
/// The same without emails that were accepted and codes that were replaced.
const ROWS_OF_FORMAT_0: &str = include_str!("../fixtures/rows_of_format_0.txt");

const EMAIL: &str = "person@example.com";

fn sends_limits() -> Limits {
    let policies = [Policy::EmailSends, Policy::EmailSendsTotal, Policy::IpSends, Policy::IpAttempts];
    limits(&policies.map(|policy| (policy, "3/1h")))
}

/// Returns a charge of each kind of ledger.
fn charges(limits: &Limits) -> [Charge<'_>; 3] {
    [
        limits.send_charge(&recipient(Tenant::Simple, EMAIL), None),
        limits.ip_charge(Action::Send, &Tenant::Simple, &network("192.0.2.1")),
        limits.ip_charge(Action::Attempt, &Tenant::Simple, &network("2001:db8::1")),
    ]
}

/// Writes a row of each kind.
async fn write(bench: &Bench) {
    bench.open(&address(EMAIL), 1).await;
    assert_eq!(bench.take_attempt(&address(EMAIL)).await, TakenAttempt::Compare(1));
    for number in 2..=5 {
        bench.open(&id(number), number.into()).await;
    }
    assert!(bench.approve(&id(3), 3, 1).await);
    bench.mark_failed(&id(4), 4).await;
    bench.open(&id(6), 6).await;
    bench.mark_accepted(&id(6), 6).await;
    bench.replace_code(&id(6), 7).await;
    bench.mark_accepted(&id(6), 7).await;
    assert_eq!(bench.cancel(&id(5)).await, Some(Status::Canceled));
    let limits = sends_limits();
    for charge in charges(&limits) {
        for _ in 0..2 {
            let charged = bench.store.charge(&charge).await.expect("an answer");
            assert!(matches!(charged, ChargeOutcome::Admitted { .. }));
        }
    }
    for number in [1, 2] {
        let begun = bench.idempotency.begin(&request(number, "a", 1)).await.expect("an answer");
        assert_eq!(begun, BeginOutcome::Begun);
    }
    let done = VerificationId::new([7; ID_BYTES]);
    bench.idempotency.complete(&request(2, "a", 1), &done).await.expect("an answer");
}

async fn rows(server: &RedisServer) -> String {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a string takes all");
            text
        })
    };
    let dump = server.dump().await;
    let rows: Vec<_> = dump.iter().map(|(key, value, _)| format!("{} {}", hex(key), hex(value))).collect();
    rows.join("\n") + "\n"
}

async fn restore(server: &RedisServer, rows: &str) {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
        digits.collect::<Result<_, _>>().expect("hexadecimal digits")
    };
    for (key, value) in rows.lines().filter_map(|line| line.split_once(' ')) {
        let mut set = redis::cmd("SET");
        set.arg(bytes(key)).arg(bytes(value)).arg("PX").arg(100_000);
        server.query::<()>(&set).await;
    }
}

#[tokio::test]
async fn this_release_writes_the_format_that_others_read() {
    let mut bench = Bench::redis().await;
    bench.rules.overlap = OVERLAP;
    write(&bench).await;
    let written = rows(bench.server()).await;
    assert!(written == ROWS, "the format changed:\n{written}");
}

#[tokio::test]
async fn this_release_reads_what_it_writes() {
    let bench = Bench::redis().await;
    restore(bench.server(), ROWS).await;
    bench.clock.forward(TICK);
    assert_eq!(bench.take_attempt(&id(6)).await, TakenAttempt::CompareBoth(7, 6));
    let view = bench.find(&id(6)).await.expect("it is stored");
    let at = bench.clock.millis() - 1;
    let provider_id = Some(provider_id(7));
    assert_eq!(view.delivery, DeliveryRecord { status: DeliveryStatus::Accepted, at, provider_id });
    reads_what_both_formats_have(&bench).await;
}

#[test]
fn no_record_is_larger_than_in_format_0() {
    let sizes = |rows: &str| -> BTreeMap<String, usize> {
        let rows = rows.lines().filter_map(|line| line.split_once(' '));
        rows.map(|(key, value)| (key.to_owned(), value.len() / 2)).collect()
    };
    let (now, before) = (sizes(ROWS), sizes(ROWS_OF_FORMAT_0));
    for (key, size) in &before {
        assert!(now[key] <= *size, "{key}: {} bytes instead of {size}", now[key]);
    }
    // A second code takes its digest, two times and the byte that says so; a provider's id takes
    // its length and a byte.
    let new: Vec<_> =
        now.iter().filter(|(key, _)| !before.contains_key(*key)).map(|(_, size)| *size).collect();
    let pending = before.values().max().expect("a row");
    assert_eq!(new, [pending + 1 + DIGEST_BYTES + 6 + 1 + "mail-7".len()]);
}

#[tokio::test]
async fn this_release_reads_format_0() {
    let bench = Bench::redis().await;
    restore(bench.server(), ROWS_OF_FORMAT_0).await;
    bench.clock.forward(TICK);
    let view = bench.find(&id(2)).await.expect("it is stored");
    assert_eq!(view.delivery, DeliveryRecord::unknown(bench.clock.millis() - 1));
    reads_what_both_formats_have(&bench).await;
}

async fn reads_what_both_formats_have(bench: &Bench) {
    assert_eq!(bench.take_attempt(&address(EMAIL)).await, TakenAttempt::Compare(1));
    for left in (0..3).rev() {
        assert_eq!(bench.take_attempt(&address(EMAIL)).await, TakenAttempt::Compare(1), "{left} left");
    }
    assert_eq!(bench.take_attempt(&address(EMAIL)).await, TakenAttempt::Closed(Status::Exhausted));
    assert!(bench.approve(&address(EMAIL), 1, 1).await);
    for (number, status) in
        [(2, Status::Pending), (3, Status::Approved), (4, Status::Failed), (5, Status::Canceled)]
    {
        let view = bench.find(&id(number)).await.expect("it is stored");
        assert_eq!(view.status, status, "{number}");
    }
    assert!(bench.approve(&id(3), 3, 1).await && !bench.approve(&id(3), 3, 2).await);
    let limits = sends_limits();
    for charge in charges(&limits) {
        let charged = bench.store.charge(&charge).await.expect("an answer");
        assert!(matches!(charged, ChargeOutcome::Admitted { .. }), "the third of three");
        let refused = bench.store.charge(&charge).await.expect("an answer");
        assert!(matches!(refused, ChargeOutcome::Refused(_)), "the fourth of three");
    }
    let begin =
        async |number, body| bench.idempotency.begin(&request(number, body, 2)).await.expect("an answer");
    assert_eq!(begin(1, "a").await, BeginOutcome::InProgress);
    assert_eq!(begin(2, "a").await, BeginOutcome::Done(VerificationId::new([7; ID_BYTES])));
    assert_eq!(begin(2, "b").await, BeginOutcome::Mismatch);
    bench.clock.forward(LIFE);
    let expired = bench.find(&id(2)).await.expect("it is stored for an hour");
    assert_eq!(expired.status, Status::Expired);
}

#[tokio::test]
async fn a_row_of_a_later_format_is_an_error_and_left_alone() {
    let bench = Bench::redis().await;
    write(&bench).await;
    let server = bench.server();
    for (key, mut value, _) in server.dump().await {
        let is_ledger = key.starts_with(b"otp:{n:") || key.ends_with(b":sends");
        if is_ledger {
            continue;
        }
        value[0] = value[0] % 0x10 + 0x20;
        let mut set = redis::cmd("SET");
        set.arg(key).arg(value).arg("PX").arg(100_000);
        server.query::<()>(&set).await;
    }
    let before = rows(server).await;
    let rules = &bench.rules;
    for store_key in [address(EMAIL), id(2), id(3), id(6)] {
        assert!(bench.store.find(&store_key, rules).await.is_err());
        assert!(bench.store.take_attempt(&store_key, rules, None).await.is_err());
        assert!(bench.store.cancel(&store_key, rules).await.is_err());
    }
    for number in [1, 2] {
        assert!(bench.idempotency.begin(&request(number, "a", 2)).await.is_err());
    }
    assert_eq!(rows(server).await, before);
}

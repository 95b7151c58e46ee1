//! `otpd doctor --calibrate`: how many hashes this machine computes, and which settings are
//! fastest.
//!
//! Must need no setting but those of the hash, and nothing over the network.

use std::num::NonZeroUsize;
use std::time::Duration;

use anyhow::Context as _;

use super::super::{Failure, print};
use crate::adapters::hasher::{HashRate, hash_rate};
use crate::config::{self, Sources};
use crate::domain::code_hash::{HashCost, HashQueue};

/// Time of one measurement. There are two for each parameter set.
const MEASURING: Duration = Duration::from_millis(200);

/// The figures of one cost.
struct Row {
    cost: HashCost,
    one_thread: HashRate,
    all_threads: HashRate,
}

/// Measures and prints.
pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let hash = config::hash(sources).map_err(Failure::Settings)?;
    let others = HashCost::owasp_sets().filter(|set| *set != hash.cost);
    let rows: Vec<_> = std::iter::once(hash.cost)
        .chain(others)
        .map(|cost| measured(cost, hash.threads))
        .collect::<anyhow::Result<_>>()?;
    print(report(&rows, hash.threads, hash.queue)).map_err(Failure::Other)
}

fn measured(cost: HashCost, threads: NonZeroUsize) -> anyhow::Result<Row> {
    let rate = |threads| {
        let what = || format!("measuring {threads} threads with {}", named(cost));
        hash_rate(cost, threads, MEASURING).with_context(what)
    };
    let one_thread = rate(NonZeroUsize::MIN)?;
    let all_threads = if threads == NonZeroUsize::MIN { one_thread } else { rate(threads)? };
    Ok(Row { cost, one_thread, all_threads })
}

/// Returns the lines to print. The first row is that of the settings in use.
fn report(rows: &[Row], threads: NonZeroUsize, queue: HashQueue) -> String {
    let mut lines: Vec<_> = rows.iter().map(|row| line(row, threads)).collect();
    let Some(in_use) = rows.first() else { return String::new() };
    if let Some(first) = lines.first_mut() {
        first.push_str(" (in use)");
    }
    if let HashQueue::Places(places) = queue {
        lines.push(format!("note  OTP_HASH__QUEUE={places} is used instead of the measured queue"));
    }
    let sets = rows.iter().filter(|row| HashCost::owasp_sets().any(|set| set == row.cost));
    let rate = |row: &Row| row.all_threads.per_second;
    lines.extend(sets.max_by(|a, b| rate(a).total_cmp(&rate(b))).map(|fastest| advice(fastest, in_use)));
    lines.join("\n")
}

fn line(row: &Row, threads: NonZeroUsize) -> String {
    let Row { cost, one_thread, all_threads } = row;
    format!(
        "hash  {}: {:.1}/s with one thread, {:.1}/s with all {threads}; queue {}; work memory {} KiB",
        named(*cost),
        one_thread.per_second,
        all_threads.per_second,
        all_threads.queue,
        u64::from(cost.memory_kib()) * threads.get() as u64,
    )
}

fn advice(fastest: &Row, in_use: &Row) -> String {
    if fastest.cost == in_use.cost {
        return "ok    the settings in use are the fastest here of OWASP's equally strong sets".to_owned();
    }
    let times = fastest.all_threads.per_second / in_use.all_threads.per_second;
    let (memory, passes) = (fastest.cost.memory_kib(), fastest.cost.passes());
    format!(
        "note  the fastest here of OWASP's equally strong sets is {}: {times:.2} times as many hashes as with the \
         settings in use\n      OTP_HASH__MEMORY_KIB={memory}\n      OTP_HASH__PASSES={passes}",
        named(fastest.cost)
    )
}

fn named(cost: HashCost) -> String {
    let passes = cost.passes();
    format!("{} KiB, {passes} {}", cost.memory_kib(), if passes == 1 { "pass" } else { "passes" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(memory_kib: u32, passes: u32, per_second: f64) -> Row {
        let rate = HashRate { per_second, queue: 320 };
        Row { cost: HashCost::new(memory_kib, passes).unwrap(), one_thread: rate, all_threads: rate }
    }

    fn reported(rows: &[Row]) -> String {
        report(rows, NonZeroUsize::new(3).unwrap(), HashQueue::Measured)
    }

    #[test]
    fn each_set_has_a_line_and_the_fastest_is_named_with_its_settings() {
        let said = reported(&[row(7168, 5, 100.0), row(19_456, 2, 150.04)]);
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(
            lines,
            [
                "hash  7168 KiB, 5 passes: 100.0/s with one thread, 100.0/s with all 3; queue 320; work memory \
                 21504 KiB (in use)",
                "hash  19456 KiB, 2 passes: 150.0/s with one thread, 150.0/s with all 3; queue 320; work memory \
                 58368 KiB",
                "note  the fastest here of OWASP's equally strong sets is 19456 KiB, 2 passes: 1.50 times as many \
                 hashes as with the settings in use",
                "      OTP_HASH__MEMORY_KIB=19456",
                "      OTP_HASH__PASSES=2",
            ]
        );
    }

    #[test]
    fn nothing_is_to_be_set_if_the_fastest_is_in_use() {
        let said = reported(&[row(7168, 5, 100.0), row(19_456, 2, 90.0)]);
        assert!(
            said.ends_with("\nok    the settings in use are the fastest here of OWASP's equally strong sets")
        );
        assert!(!said.contains("OTP_HASH__"), "{said}");
    }

    #[test]
    fn a_weak_hash_is_never_the_fastest_set() {
        let said = reported(&[row(64, 1, 9000.0), row(7168, 5, 100.0), row(47_104, 1, 50.0)]);
        assert!(said.contains("is 7168 KiB, 5 passes: 0.01 times as many"), "{said}");
    }

    #[test]
    fn a_queue_of_the_settings_is_named() {
        let queue = HashQueue::Places(NonZeroUsize::new(7).unwrap());
        let said = report(&[row(7168, 5, 100.0)], NonZeroUsize::MIN, queue);
        assert!(said.contains("\nnote  OTP_HASH__QUEUE=7 is used instead"), "{said}");
    }
}

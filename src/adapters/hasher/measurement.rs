//! What this machine can hash: the length of a measured queue, and the figures of `otpd doctor`.
//!
//! Must not decide what a hash costs.

use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use tokio::time::Instant;

use crate::domain::code::Code;
use crate::domain::code_hash::{AssociatedData, DIGEST_BYTES, HashCost, SALT_BYTES, Salt, WorkMemory};
use crate::domain::key_name::KeyName;
use crate::domain::pepper::{PEPPER_BYTES, Pepper};

/// Amount of work in a queue of measured length, as the time that a client can wait.
const QUEUE_TIME: Duration = Duration::from_secs(3);
/// Minimum and maximum length of a measured queue. A waiting request takes about 50 KiB, with its
/// connection.
const MEASURED: std::ops::RangeInclusive<usize> = 320..=10_000;
/// Time limit for the measurement. If a hash takes longer, the queue has its minimum length.
const MEASURING: Duration = Duration::from_millis(500);

/// What threads that hash at the same time compute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HashRate {
    /// Hashes a second of all threads.
    pub per_second: f64,
    /// Length of the queue that would be measured at this rate.
    pub queue: usize,
}

/// Lets threads hash at the same time for about `duration`, and at least once each.
///
/// # Errors
/// The system's error if a thread cannot be started, or that of a hash.
pub fn hash_rate(cost: HashCost, threads: NonZeroUsize, duration: Duration) -> io::Result<HashRate> {
    let times = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.get())
            .map(|_| thread::Builder::new().spawn_scoped(scope, || typical_time(cost, duration)))
            .collect::<io::Result<_>>()?;
        let panicked = |_| io::Error::other("a hash panicked");
        let times = threads.into_iter().map(|thread| thread.join().map_err(panicked)?);
        times.collect::<io::Result<Vec<_>>>()
    })?;
    let per_second = times.iter().map(|time| time.max(&Duration::from_nanos(1)).as_secs_f64().recip()).sum();
    Ok(HashRate { per_second, queue: length_for(&times) })
}

/// Returns the median time of the hashes that one thread computes in `duration`.
fn typical_time(cost: HashCost, duration: Duration) -> io::Result<Duration> {
    let failed = || io::Error::other("a hash failed");
    let mut work_memory = cost.work_memory();
    let end = Instant::now() + duration;
    // The first hash meets cold caches and new pages.
    let mut last = time(cost, &mut work_memory).ok_or_else(failed)?;
    let mut times = Vec::new();
    while Instant::now() + last < end {
        last = time(cost, &mut work_memory).ok_or_else(failed)?;
        times.push(last);
    }
    times.sort_unstable();
    Ok(times.get(times.len() / 2).copied().unwrap_or(last))
}

/// Returns the time of one hash, or `None` if it failed.
fn time(cost: HashCost, work_memory: &mut WorkMemory) -> Option<Duration> {
    let code = Code::parse("000000")?;
    let pepper = Pepper::new(KeyName::parse("measured")?, [0; PEPPER_BYTES]);
    let salt = Salt::new([0; SALT_BYTES]);
    let associated_data = AssociatedData::new([0; DIGEST_BYTES]);
    let begun = Instant::now();
    cost.digest(&code, &salt, &associated_data, &pepper, work_memory).ok()?;
    Some(begun.elapsed())
}

/// Returns the time of one hash while the other threads hash too, or `None` if it failed.
pub(super) fn time_a_hash(cost: HashCost, work_memory: &mut WorkMemory) -> Option<Duration> {
    // The first pass runs with cold caches and at a low clock rate. If it is slow enough to decide,
    // the full measurement is skipped.
    let estimate = time(cost.single_pass(), work_memory)?.saturating_mul(cost.passes());
    if estimate > MEASURING / 2 { Some(estimate) } else { time(cost, work_memory) }
}

/// Returns the measurements that arrived in time.
pub(super) fn times_of(measured: &mpsc::Receiver<Option<Duration>>) -> Vec<Duration> {
    let end = Instant::now() + MEASURING;
    let left = || end.saturating_duration_since(Instant::now());
    std::iter::from_fn(|| measured.recv_timeout(left()).ok()).flatten().collect()
}

/// Returns how many hashes the threads compute in [`QUEUE_TIME`], within [`MEASURED`].
pub(super) fn length_for(times: &[Duration]) -> usize {
    let hashes = times.iter().map(|time| QUEUE_TIME.as_nanos() / time.as_nanos().max(1));
    let hashes = usize::try_from(hashes.sum::<u128>()).unwrap_or(usize::MAX);
    hashes.clamp(*MEASURED.start(), *MEASURED.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measured_queue_holds_three_seconds_of_work_within_bounds() {
        let millis = |times: &[u64]| -> Vec<Duration> {
            times.iter().map(|time| Duration::from_millis(*time)).collect()
        };
        assert_eq!(length_for(&millis(&[10, 10])), 600, "3 s of two threads");
        assert_eq!(length_for(&millis(&[10, 5])), 900, "each thread by its own time");
        assert_eq!(length_for(&millis(&[100, 100])), 320, "never fewer");
        assert_eq!(length_for(&[]), 320, "what could not be measured in time");
        assert_eq!(length_for(&[Duration::from_micros(50)]), 10_000, "memory is bounded");
        assert_eq!(length_for(&[Duration::ZERO]), 10_000);
    }

    #[test]
    fn each_thread_hashes_and_the_queue_is_the_measured_one() {
        let threads = NonZeroUsize::new(2).unwrap();
        let rate = hash_rate(HashCost::new(64, 1).unwrap(), threads, Duration::from_millis(20)).unwrap();
        let queue = rate.per_second * QUEUE_TIME.as_secs_f64();
        let within = queue.clamp(320.0, 10_000.0);
        // Each thread's share is rounded down.
        let length = f64::from(u32::try_from(rate.queue).unwrap());
        assert!((within - 2.0..=within).contains(&length), "{rate:?}");
        let once = hash_rate(HashCost::new(64, 1).unwrap(), threads, Duration::ZERO).unwrap();
        assert!(once.per_second > 0.0, "a slow machine computes one hash all the same");
    }
}

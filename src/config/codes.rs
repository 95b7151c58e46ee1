//! Settings of codes: length, lifetime, attempts, and the cost of a hash.
//!
//! Enforces the safe minimum of each. Must not know how codes are generated or hashed.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::dangerous::Dangerous;
use super::reader::Reader;
use crate::domain::code::CodeLength;
use crate::domain::code_hash::{HashCost, HashQueue};
use crate::domain::verification::VerificationRules;

/// Range of a code's lifetime.
const LIFE: std::ops::RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_mins(10);
/// Range of the time for which a code stays good after it was replaced.
const OVERLAP: std::ops::RangeInclusive<Duration> = Duration::ZERO..=Duration::from_mins(5);
/// Largest number of attempts at one verification that is safe.
const MAX_SAFE_ATTEMPTS: u8 = 10;

/// Length of codes and the rules of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// How many digits a code has.
    pub length: CodeLength,
    /// Lifetime of a code, number of attempts, and how long a replaced code stays good.
    pub rules: VerificationRules,
}

/// Cost of a hash, and how many are computed at once.
#[derive(Debug, Clone, Copy)]
pub struct Hash {
    /// Memory and passes.
    pub cost: HashCost,
    /// Number of threads that compute hashes.
    pub threads: NonZeroUsize,
    /// Number of requests that may wait for these threads.
    pub queue: HashQueue,
}

/// Reads the section `codes` and `limits.attempts`.
pub(super) fn read(reader: &mut Reader<'_>, dangerous: Dangerous) -> Option<Codes> {
    let length = reader.parse("codes.digits", "a whole number from 6 to 10", |text| {
        text.parse().ok().and_then(CodeLength::new)
    });
    let life = reader.duration("codes.life", LIFE);
    let overlap = reader.duration("codes.overlap", OVERLAP);
    let attempts = match reader.number("limits.attempts", 1..=100) {
        Some(attempts) if attempts > MAX_SAFE_ATTEMPTS && !dangerous.weak_limits => {
            let what = "must be at most 10, or OTP_DANGEROUS__WEAK_LIMITS be true";
            reader.refuse("limits.attempts", what)
        }
        attempts => attempts,
    };
    let rules = VerificationRules { life: life?, attempts: attempts?, overlap: overlap? };
    Some(Codes { length: length?, rules })
}

/// Reads the section `hash`.
pub(super) fn read_hash(reader: &mut Reader<'_>, dangerous: Dangerous) -> Option<Hash> {
    let memory_kib = reader.number("hash.memory_kib", 8..=2 << 20);
    let passes = reader.number("hash.passes", 1..=1000);
    let threads = reader.number("hash.threads", 0..=64);
    let queue = reader.number("hash.queue", 0..=10_000);
    let cost = cost(reader, memory_kib?, passes?, dangerous)?;
    let threads = NonZeroUsize::new(threads?).unwrap_or_else(cores);
    let queue = NonZeroUsize::new(queue?).map_or(HashQueue::Measured, HashQueue::Places);
    Some(Hash { cost, threads, queue })
}

fn cost(reader: &mut Reader<'_>, memory_kib: u32, passes: u32, dangerous: Dangerous) -> Option<HashCost> {
    let cost = HashCost::new(memory_kib, passes);
    cost.filter(|cost| cost.meets_owasp() || dangerous.weak_hash).or_else(|| {
        let what = format!(
            "makes, at {memory_kib} KiB and {passes} passes, a hash weaker than each of OWASP's argon2id sets (such as 7168 \
             KiB and 5 passes, or 19456 KiB and 2): raise it, or set OTP_DANGEROUS__WEAK_HASH=true"
        );
        // If some number of passes makes up for the memory, the fault suggests more passes;
        // otherwise more memory.
        if let Some(least) = HashCost::owasp_passes(memory_kib) {
            let line = reader.line("hash.passes", &least.to_string());
            return reader.refuse_for("hash.passes", &what, &line);
        }
        let least = HashCost::owasp_memory_kib(passes);
        let line = reader.line("hash.memory_kib", &least.to_string());
        reader.refuse_for("hash.memory_kib", &what, &line)
    })
}

/// Returns the number of cores, or 1 if the system does not report it.
fn cores() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

//! Right codes a second with the default hash, against what the argon2 crate alone computes on as
//! many threads.

use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};

use super::driver::Pace;
use super::rig::Rig;
use super::scenario::Scenario;

const MEMORY_KIB: u32 = 7_168;
const PASSES: u32 = 5;
const CALLERS: usize = 64;
const CODES: usize = 800;
const TIME: Duration = Duration::from_secs(4);

/// Prints both rates and their ratio. The bare rate is measured before and after.
pub async fn run() {
    let settings = [("OTP_HASH__MEMORY_KIB", "7168"), ("OTP_HASH__PASSES", "5")];
    let rig = Rig::start(&settings).await;
    let requests = Scenario::Right.requests(&rig, CODES);
    let before = bare_rate();
    let (outcome, _) = rig.measure(requests, CALLERS, Pace::Closed);
    assert_eq!(outcome.count(200), CODES, "{:?}", outcome.statuses);
    let bare = f64::midpoint(before, bare_rate());
    println!(
        "right codes, default hash, {CALLERS} callers: {:.1}/s; the crate alone {bare:.1} hashes/s: ratio {:.3}",
        outcome.rate(),
        outcome.rate() / bare
    );
}

/// Returns how many hashes a second the crate computes on all threads of the machine.
fn bare_rate() -> f64 {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    let hashes: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(|| hash_until(begun + TIME))).collect();
        threads.into_iter().map(|thread| thread.join().expect("hashes")).sum()
    });
    hashes as f64 / begun.elapsed().as_secs_f64()
}

fn hash_until(end: Instant) -> usize {
    let params = Params::new(MEMORY_KIB, PASSES, 1, Some(32)).expect("parameters");
    let mut memory = vec![Block::default(); params.block_count()];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let mut digest = [0; 32];
    let mut hashes = 0;
    while Instant::now() < end {
        argon2
            .hash_password_into_with_memory(b"123456", &[7; 16], &mut digest, &mut memory[..])
            .expect("a hash");
        hashes += 1;
    }
    hashes
}

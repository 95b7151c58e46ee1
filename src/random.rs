//! The one home of randomness: the operating system's generator (SEC-02).
//!
//! Must not fall back on anything else: where the system has no randomness to give, nothing is done.

use rand::TryRng as _;
pub use rand::rngs::{SysError, SysRng};

/// `N` random octets.
///
/// # Errors
/// The system's own.
pub fn octets<const N: usize>() -> Result<[u8; N], SysError> {
    let mut octets = [0; N];
    SysRng.try_fill_bytes(&mut octets)?;
    Ok(octets)
}

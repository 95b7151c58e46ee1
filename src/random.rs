//! The only source of randomness: the operating system's generator.
//!
//! Must not fall back on another source. If the system cannot provide randomness, the operation
//! fails.

use rand::TryRng as _;
pub use rand::rngs::{SysError, SysRng};

/// Returns `N` random bytes.
///
/// # Errors
/// Returns the operating system's error if it cannot provide randomness.
pub fn bytes<const N: usize>() -> Result<[u8; N], SysError> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}

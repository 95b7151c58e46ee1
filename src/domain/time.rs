//! Moments on the store's clock. Must not read a clock.

use std::time::Duration;

/// A time on the store's clock, in milliseconds since the Unix epoch.
pub type Millis = u64;

/// When an entry was made, in milliseconds since the Unix epoch. Increased if necessary, so that it
/// identifies the entry within one log.
pub type EntryId = Millis;

/// Returns a duration in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

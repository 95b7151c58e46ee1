//! Times as text.

use std::time::{Duration, UNIX_EPOCH};

/// Formats seconds since the Unix epoch as a UTC time (RFC 3339).
pub(super) fn rfc3339(seconds: u64) -> String {
    // The library cannot format years after 9999.
    let last = 253_402_300_799;
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds.min(last))).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_written_in_utc() {
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(rfc3339(u64::MAX), "9999-12-31T23:59:59Z");
    }
}

//! Moments on the store's clock. Must not read a clock.

use std::time::{Duration, UNIX_EPOCH};

/// A time on the store's clock, in milliseconds since the Unix epoch.
pub type Millis = u64;

/// When an entry was made, in milliseconds since the Unix epoch. Increased if necessary, so that it
/// identifies the entry within one log.
pub type EntryId = Millis;

/// Parses a duration in whole seconds, minutes or hours: `300s`, `5m`, `1h`.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|number| (number, seconds)))?;
    parse_whole(number)?.checked_mul(seconds).map(Duration::from_secs)
}

/// Parses decimal digits only. `parse` alone would accept a sign.
#[must_use]
pub fn parse_whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// Returns a duration in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the date of a moment in UTC, such as `2027-01-31`.
#[must_use]
pub fn utc_date(at: Millis) -> String {
    // The library cannot format years after 9999.
    let at = Duration::from_millis(at.min(253_402_300_799_000));
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + at).to_string();
    time.split('T').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_take_seconds_minutes_and_hours() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs());
        assert_eq!([seconds("90s"), seconds("5m"), seconds("1h")], [Some(90), Some(300), Some(3600)]);
        for text in ["", "s", "5", "5d", "5 m", "-5s", "+5s", "1.5h", "5é", "5H", "18446744073709551615h"] {
            assert_eq!(seconds(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_date_is_that_of_utc() {
        assert_eq!(utc_date(1_700_000_000_000), "2023-11-14");
        assert_eq!(utc_date(Millis::MAX), "9999-12-31");
    }

    proptest! {
        #[test]
        fn any_text_is_a_duration_or_none(text in ".{0,12}") {
            let _ = parse_duration(&text);
        }
    }
}

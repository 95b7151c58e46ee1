//! The emails handed to the relay in the last day, counted by the hour.
//!
//! Deliberately approximate: an hour counts as long as any part of it is less than a day ago. No
//! security depends on it.

use super::time::Millis;

/// An hour in milliseconds.
const HOUR: Millis = 60 * 60 * 1000;
/// The current hour and the 24 hours before it.
const HOURS: usize = 25;

/// The emails of each of the last hours.
#[derive(Debug, Clone, Default)]
pub struct RelayDay {
    hour: u64,
    mails: [u32; HOURS],
}

impl RelayDay {
    /// Counts an email.
    pub fn count(&mut self, now: Millis) {
        *self = self.at(now);
        if let Some(newest) = self.mails.first_mut() {
            *newest = newest.saturating_add(1);
        }
    }

    /// Returns the number of emails in the last day.
    #[must_use]
    pub fn mails(&self, now: Millis) -> u32 {
        self.at(now).mails.iter().fold(0, |sum, mails| sum.saturating_add(*mails))
    }

    /// Returns the counts as of `now`, with past hours moved back. A clock that was set back moves
    /// nothing.
    fn at(&self, now: Millis) -> Self {
        let hour = self.hour.max(now / HOUR);
        let passed = usize::try_from(hour - self.hour).unwrap_or(HOURS).min(HOURS);
        let mut mails = [0; HOURS];
        mails.iter_mut().skip(passed).zip(self.mails).for_each(|(to, from)| *to = from);
        Self { hour, mails }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mails_count_for_a_day_and_no_more_than_an_hour_longer() {
        let mut day = RelayDay::default();
        let begin = 1_000 * HOUR + 1;
        day.count(begin);
        day.count(begin + 23 * HOUR);
        assert_eq!(day.mails(begin + 24 * HOUR), 2);
        assert_eq!(day.mails(begin + 25 * HOUR), 1);
        assert_eq!(day.mails(begin + 48 * HOUR), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_forgets_nothing() {
        let mut day = RelayDay::default();
        day.count(10 * HOUR);
        day.count(HOUR);
        assert_eq!(day.mails(HOUR), 2);
    }
}

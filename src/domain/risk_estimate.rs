//! The chance that guessing codes succeeds under the configured limits.
//!
//! It is an upper bound, computed from the settings alone. Must not depend on what has happened.

use std::time::Duration;

use super::code::CodeLength;
use super::limit::{DAY, Policy};
use super::limits::Limits;
use super::verification::VerificationRules;

/// The highest chance of a correct guess per address and day that limits may allow, as one in so
/// many.
const MIN_SAFE_ODDS: u64 = 10_000;
const TWENTY_FOUR_HOURS: Duration = Duration::from_hours(24);

/// The risk of guessed codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RiskEstimate {
    /// The most attempts at one email address that are compared in any 24 hours.
    pub attempts_per_day: u64,
    /// The most attempts that one IP can make in any 24 hours.
    pub ip_attempts_per_day: u64,
    /// How many codes one attempt is compared with at most.
    pub codes_per_attempt: u64,
    /// The number of possible codes.
    pub codes: u64,
}

impl RiskEstimate {
    /// Returns the risk of these settings. The attempts of any 24 hours are made at codes that were
    /// opened within one [`DAY`].
    #[must_use]
    pub fn of(limits: &Limits, rules: &VerificationRules, length: CodeLength) -> Self {
        let openings = limits.of(Policy::EmailSends).most_in(DAY);
        Self {
            attempts_per_day: openings.saturating_mul(rules.attempts.into()),
            ip_attempts_per_day: limits.of(Policy::IpAttempts).most_in(TWENTY_FOUR_HOURS),
            codes_per_attempt: if rules.overlap.is_zero() { 1 } else { 2 },
            codes: 10_u64.saturating_pow(length.digits().into()),
        }
    }

    /// Returns whether guessing at one address succeeds on at most one day in 10,000.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.hits(self.attempts_per_day).saturating_mul(MIN_SAFE_ODDS) <= self.codes
    }

    /// Returns the chance that guessing at one address succeeds in a day, 0 to 1.
    #[must_use]
    pub fn chance_per_day(&self) -> f64 {
        ratio(self.hits(self.attempts_per_day), self.codes).min(1.0)
    }

    /// Returns the expected number of successes a day if this many networks attack any addresses.
    #[must_use]
    pub fn hits_of_a_spray(&self, networks: u64) -> f64 {
        ratio(self.hits(self.ip_attempts_per_day).saturating_mul(networks), self.codes)
    }

    /// Returns how many of all codes so many attempts can be compared with.
    fn hits(&self, attempts: u64) -> u64 {
        attempts.saturating_mul(self.codes_per_attempt)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn risk(email_sends: &str, attempts: u8, digits: u8, overlap: u64) -> RiskEstimate {
        let limits = [(Policy::EmailSends, email_sends), (Policy::IpAttempts, "20/1h 100/24h")];
        let limits = limits.map(|(policy, limit)| (policy, limit.parse().unwrap())).into_iter().collect();
        let rules = VerificationRules {
            life: Duration::from_mins(5),
            attempts,
            overlap: Duration::from_secs(overlap),
        };
        RiskEstimate::of(&limits, &rules, CodeLength::new(digits).unwrap())
    }

    #[test]
    fn the_defaults_let_an_address_take_50_guesses_a_day() {
        for (overlap, chance, hits) in [(0, 5.0e-5, 0.1), (1, 1.0e-4, 0.2), (120, 1.0e-4, 0.2)] {
            let risk = risk("1/60s 5/1h 10/day", 5, 6, overlap);
            assert_eq!(risk.attempts_per_day, 50);
            assert!((risk.chance_per_day() - chance).abs() < 1e-12 && risk.is_safe());
            assert!((risk.hits_of_a_spray(1_000) - hits).abs() < 1e-9);
        }
    }

    #[test]
    fn one_guess_beyond_1_in_10_000_is_too_many() {
        assert!(risk("10/day", 10, 6, 0).is_safe());
        assert!(!risk("11/day", 10, 6, 0).is_safe());
        assert!(risk("11/day", 10, 7, 0).is_safe());
        assert!(risk("10/day", 5, 6, 1).is_safe());
        assert!(!risk("11/day", 5, 6, 1).is_safe());
        assert!(risk("11/day", 5, 7, 1).is_safe());
        // Without a `day` window the hourly windows add up: 25 of them touch a day.
        assert_eq!(risk("5/1h", 5, 6, 0).attempts_per_day, 5 * 25 * 5);
        assert!(!risk("5/1h", 5, 6, 0).is_safe());
    }
}

//! What the configured limits let an attacker win: the arithmetic of guessing.
//!
//! An upper bound, from the settings alone. Must not depend on what happens.

use std::time::Duration;

use super::code::CodeLength;
use super::limit::{DAY, Limits};
use super::verification::VerificationRules;

/// The chance per address and day above which limits are refused, as one in so many.
const MIN_SAFE_ODDS: u64 = 10_000;
const TWENTY_FOUR_HOURS: Duration = Duration::from_hours(24);

/// What can be won by guessing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RiskEstimate {
    /// The most attempts that are compared for one subject in any 24 hours.
    pub attempts_per_day: u64,
    /// The most that one network can make in any 24 hours.
    pub ip_attempts_per_day: u64,
    /// How many codes there are.
    pub codes: u64,
}

impl RiskEstimate {
    /// The risk of these settings. Guesses of 24 hours are made on codes that were opened in a [`DAY`].
    #[must_use]
    pub fn of(limits: &Limits, rules: &VerificationRules, length: CodeLength) -> Self {
        let openings = limits.sends.email.most_in(DAY);
        Self {
            attempts_per_day: openings.saturating_mul(rules.attempts.into()),
            ip_attempts_per_day: limits.ip_attempts.prefix64.most_in(TWENTY_FOUR_HOURS),
            codes: 10_u64.saturating_pow(length.digits().into()),
        }
    }

    /// Whether at most one day in 10,000 of a guessed-at address ends with a hit.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        self.attempts_per_day.saturating_mul(MIN_SAFE_ODDS) <= self.codes
    }

    /// The chance that one address is hit in a day, 0 to 1.
    #[must_use]
    pub fn chance_per_day(&self) -> f64 {
        ratio(self.attempts_per_day, self.codes).min(1.0)
    }

    /// The hits to be expected in a day where so many networks attempt at any addresses.
    #[must_use]
    pub fn hits_of_a_spray(&self, networks: u64) -> f64 {
        ratio(self.ip_attempts_per_day.saturating_mul(networks), self.codes)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people")]
fn ratio(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::limit::{IpLimit, RelayMails, SendLimits};

    fn risk(email_sends: &str, attempts: u8, digits: u8) -> RiskEstimate {
        let limit = |text: &str| text.parse().unwrap();
        let limits = Limits {
            ip_sends: IpLimit::new(limit("30/1h")),
            ip_attempts: IpLimit::new(limit("20/1h 100/24h")),
            sends: SendLimits::new(limit(email_sends), limit("4/day"), limit("30/day")),
            ip_email_attempts: limit("10/day"),
            relay_mails: RelayMails::Unlimited,
        };
        let rules = VerificationRules { life: Duration::from_mins(5), attempts };
        RiskEstimate::of(&limits, &rules, CodeLength::new(digits).unwrap())
    }

    #[test]
    fn the_defaults_let_an_address_take_50_guesses_a_day() {
        let risk = risk("1/60s 5/1h 10/day", 5, 6);
        assert_eq!(risk.attempts_per_day, 50);
        assert!((risk.chance_per_day() - 5.0e-5).abs() < 1e-12 && risk.is_safe());
        assert!((risk.hits_of_a_spray(1_000) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn one_guess_beyond_1_in_10_000_is_too_many() {
        assert!(risk("10/day", 10, 6).is_safe());
        assert!(!risk("11/day", 10, 6).is_safe());
        assert!(risk("11/day", 10, 7).is_safe());
        // Without a day's window the hours of a day add up: 25 windows touch it.
        assert_eq!(risk("5/1h", 5, 6).attempts_per_day, 5 * 25 * 5);
        assert!(!risk("5/1h", 5, 6).is_safe());
    }
}

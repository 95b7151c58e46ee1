//! Limits: how many entries are allowed in how long a time.
//!
//! An action is allowed if each window has room: fewer than `most` of the entries are younger than
//! `span`. If the clock was set back, entries in the future count as well. A refused action leaves
//! no entry. Must not count.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::time::{millis, parse_duration, parse_whole};
use super::verification::MAX_LIFETIME;

/// The longest time from the entry of a send until its code is live (step 4 to step 6 of a send).
pub const MAX_OPEN_DELAY: Duration = Duration::from_secs(10);
/// The length of a `day` in a limit: 24 hours, plus the longest lifetime of a verification, plus
/// the longest delay of an opening.
///
/// The last attempt at a code can be that much later than the entry of its send. With this length,
/// the attempts of any 24 hours are bounded by the openings of one `day`.
pub const DAY: Duration =
    Duration::from_secs(24 * 60 * 60 + MAX_LIFETIME.as_secs() + MAX_OPEN_DELAY.as_secs());

/// The longest window that can be set.
const MAX_WINDOW: Duration = Duration::from_hours(31 * 24);
/// The most entries of a window that can be set. A ledger with partitions is read as a whole, so
/// its size must be bounded: to five times as many, for an IPv6 /48.
const MAX_ENTRIES: u32 = 100_000;
/// The most windows of one limit.
const MAX_WINDOWS: usize = 4;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Policy {
    /// Sends of an IP at a tenant.
    IpSends,
    /// Attempts of an IP at a tenant.
    IpAttempts,
    /// Sends to an email address for a tenant.
    EmailSends,
    /// One client prefix's share of the sends to an email address.
    IpEmailSends,
    /// One client prefix's attempts at an email address.
    IpEmailAttempts,
    /// Sends to an email address for all tenants.
    EmailSendsTotal,
    /// Emails that the relay accepts, for all tenants. Clients do not see it.
    RelayEmails,
}

/// A maximum number of entries in a span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The most entries that it may hold.
    pub most: NonZeroU32,
    /// How long an entry counts.
    pub span: Duration,
}

/// The windows of a policy. All of them apply. Without any, the policy is unlimited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit(Vec<Window>);

/// A text that is not a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no limit: one to four windows such as 5/1h, 10/day or 1/60s, with spaces between")]
pub struct InvalidLimit;

impl Policy {
    /// All policies, in the order in which they are documented.
    pub const ALL: [Self; 7] = [
        Self::IpSends,
        Self::IpAttempts,
        Self::EmailSends,
        Self::IpEmailSends,
        Self::IpEmailAttempts,
        Self::EmailSendsTotal,
        Self::RelayEmails,
    ];

    /// Returns whether it may be unlimited.
    #[must_use]
    pub fn is_optional(self) -> bool {
        matches!(self, Self::RelayEmails)
    }

    /// Returns whether it counts what one IP does, whichever email address it concerns.
    #[must_use]
    pub fn is_per_ip(self) -> bool {
        matches!(self, Self::IpSends | Self::IpAttempts)
    }

    /// Returns the name of the policy and of its setting. Clients see it in `RateLimit`, except for
    /// `RelayEmails`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IpSends => "ip_sends",
            Self::IpAttempts => "ip_attempts",
            Self::EmailSends => "email_sends",
            Self::IpEmailSends => "ip_email_sends",
            Self::IpEmailAttempts => "ip_email_attempts",
            Self::EmailSendsTotal => "email_sends_total",
            Self::RelayEmails => "relay_emails_per_day",
        }
    }
}

impl Limit {
    /// The limit without any window.
    pub const UNLIMITED: Self = Self(Vec::new());

    /// Returns the windows, in the order in which they were written.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.0
    }

    /// Returns whether it has no window.
    #[must_use]
    pub fn is_unlimited(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the time that must pass between two entries. Zero if no window is limited to one
    /// entry.
    #[must_use]
    pub fn cooldown(&self) -> Duration {
        let single = self.0.iter().filter(|window| window.most == NonZeroU32::MIN);
        single.map(|window| window.span).max().unwrap_or_default()
    }

    /// Returns the longest time that an entry counts.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|window| window.span).max().unwrap_or_default()
    }

    /// Returns the most entries that any stretch of this length can hold. Each window bounds it by
    /// its maximum, times the number of spans that cover the stretch.
    #[must_use]
    pub fn most_in(&self, time: Duration) -> u64 {
        let bound = |window: &Window| {
            millis(time).div_ceil(millis(window.span).max(1)).saturating_mul(window.most.get().into())
        };
        self.0.iter().map(bound).min().unwrap_or(u64::MAX)
    }
}

impl FromStr for Limit {
    type Err = InvalidLimit;

    /// Parses windows such as `1/60s 5/1h 10/day`: 1 to 100,000 entries, 1 s to 31 days.
    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let windows: Vec<_> =
            text.split_ascii_whitespace().map(Window::from_str).collect::<Result<_, _>>()?;
        if windows.is_empty() || windows.len() > MAX_WINDOWS {
            return Err(InvalidLimit);
        }
        Ok(Self(windows))
    }
}

impl FromStr for Window {
    type Err = InvalidLimit;

    fn from_str(text: &str) -> Result<Self, InvalidLimit> {
        let (most, span) = text.split_once('/').ok_or(InvalidLimit)?;
        let most = parse_whole(most).filter(|most| *most <= u64::from(MAX_ENTRIES));
        let most = most.and_then(|most| NonZeroU32::new(u32::try_from(most).ok()?)).ok_or(InvalidLimit)?;
        let span = if span == "day" { Some(DAY) } else { parse_duration(span) }.ok_or(InvalidLimit)?;
        if span.is_zero() || span > MAX_WINDOW {
            return Err(InvalidLimit);
        }
        Ok(Self { most, span })
    }
}

impl fmt::Display for Limit {
    /// Writes the form that is parsed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, window) in self.0.iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            write!(f, "{space}{window}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.span.as_secs();
        match seconds {
            _ if self.span == DAY => write!(f, "{}/day", self.most),
            _ if seconds.is_multiple_of(3600) => write!(f, "{}/{}h", self.most, seconds / 3600),
            _ => write!(f, "{}/{seconds}s", self.most),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn limit(text: &str) -> Limit {
        text.parse().unwrap()
    }

    #[test]
    fn limits_read_back() {
        for text in ["1/60s 5/1h 10/day", "100/24h", "1/1s 2/61s 3/2h 4/day", "100000/744h"] {
            assert_eq!(limit(text).to_string(), text);
        }
        assert_eq!(limit("5/60m").to_string(), "5/1h");
        assert_eq!(limit("1/day").longest(), Duration::from_secs(24 * 3600 + 30 * 60 + 10));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for text in [
            "",
            " ",
            "5",
            "5/",
            "/1h",
            "5/h",
            "0/1h",
            "5/0s",
            "+5/1h",
            "5/+1h",
            "-1/1h",
            "5/1d",
            "5/1H",
            "5 / 1h",
            "100001/1h",
            "1/745h",
            "5/1h,10/day",
            "1/1s 1/2s 1/3s 1/4s 1/5s",
            "5/18446744073709551615h",
            "5/1h x",
        ] {
            assert_eq!(text.parse::<Limit>(), Err(InvalidLimit), "{text:?}");
        }
    }

    #[test]
    fn a_limit_bounds_any_stretch_of_time() {
        assert_eq!(limit("1/60s 5/1h 10/day").most_in(DAY), 10);
        assert_eq!(limit("100/24h").most_in(Duration::from_hours(24)), 100);
        assert_eq!(limit("100/24h").most_in(DAY), 200);
        assert_eq!(limit("1/60s 5/1h").cooldown(), Duration::from_mins(1));
        assert_eq!(limit("2/60s").cooldown(), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn any_text_is_a_limit_that_reads_back_or_none(text in "[0-9/smhday ]{0,20}|.{0,20}") {
            if let Ok(limit) = text.parse::<Limit>() {
                prop_assert_eq!(limit.to_string().parse::<Limit>(), Ok(limit));
            }
        }
    }
}

//! What is limited, and how: so many entries in so long a time.
//!
//! An action is admitted if, in each window, fewer entries than it may hold are later than the window is long
//! ago; entries in the future of a clock that was set back count. A refusal leaves no entry. Must not count.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::time::Duration;

use super::ledger::{LimitRule, PARTITION_BYTES};
use super::store_key::TENANT_BYTES;
use super::verification::{MAX_LIFETIME, millis};

/// The longest way from a send's entry to its code being live (step 4 to step 6 of a send).
pub const MAX_OPEN_DELAY: Duration = Duration::from_secs(10);
/// What a limit calls a day: 24 hours, the longest life of a verification and the slowest opening, so that
/// attempts made late on early openings stay inside what a day of 24 hours may hold.
pub const DAY: Duration =
    Duration::from_secs(24 * 60 * 60 + MAX_LIFETIME.as_secs() + MAX_OPEN_DELAY.as_secs());
/// How many networks of one /48 it takes to meet its wider limit.
pub const PREFIX48_FACTOR: u32 = 5;

/// The longest window that can be set.
const MAX_WINDOW: Duration = Duration::from_hours(31 * 24);
/// The most entries that a window can be set to hold: a ledger is read as a whole.
const MAX_ENTRIES: u32 = 100_000;
/// The most windows of one limit.
const MAX_WINDOWS: usize = 4;

/// What is counted; the names are those that callers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Sends of a network at a tenant.
    IpSends,
    /// Guesses of a network at a tenant.
    IpAttempts,
    /// Sends to a person for a tenant.
    EmailSends,
    /// One site's share of those.
    IpEmailSends,
    /// One site's attempts at a person.
    IpEmailAttempts,
    /// Sends to a person for all tenants.
    EmailSendsTotal,
}

/// No more than so many entries in so long a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Entries that it may hold.
    pub most: NonZeroU32,
    /// How long an entry stands in it.
    pub span: Duration,
}

/// The windows of a ledger; all of them hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit(Vec<Window>);

/// A text that is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no limit: one to four windows such as 5/1h, 10/day or 1/60s, with spaces between")]
pub struct InvalidLimit;

impl Policy {
    /// Whether it counts what one network does, whoever it does it to.
    #[must_use]
    pub fn is_per_ip(self) -> bool {
        matches!(self, Self::IpSends | Self::IpAttempts)
    }

    /// The name that callers see.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::IpSends => "ip_sends",
            Self::IpAttempts => "ip_attempts",
            Self::EmailSends => "email_sends",
            Self::IpEmailSends => "ip_email_sends",
            Self::IpEmailAttempts => "ip_email_attempts",
            Self::EmailSendsTotal => "email_sends_total",
        }
    }
}

impl Limit {
    /// Its windows, as they were written.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.0
    }

    /// The same windows with room for so many times the entries.
    #[must_use]
    pub fn times(&self, factor: u32) -> Self {
        let widen = |window: &Window| {
            let factor = NonZeroU32::new(factor).unwrap_or(NonZeroU32::MIN);
            Window { most: window.most.saturating_mul(factor), ..*window }
        };
        Self(self.0.iter().map(widen).collect())
    }

    /// The time that must pass between two entries; zero where no window holds one alone.
    #[must_use]
    pub fn cooldown(&self) -> Duration {
        let single = self.0.iter().filter(|window| window.most == NonZeroU32::MIN);
        single.map(|window| window.span).max().unwrap_or_default()
    }

    /// The longest time that an entry matters.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.iter().map(|window| window.span).max().unwrap_or_default()
    }

    /// The most entries that any stretch of so long a time can hold: each window covers it by as many of its
    /// spans as it takes.
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

    /// Reads windows such as `1/60s 5/1h 10/day`: entries from 1 to 100,000, times from 1 s to 31 days.
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
        let most = whole(most).filter(|most| *most <= u64::from(MAX_ENTRIES));
        let most = most.and_then(|most| NonZeroU32::new(u32::try_from(most).ok()?)).ok_or(InvalidLimit)?;
        let span = span_of(span).ok_or(InvalidLimit)?;
        if span.is_zero() || span > MAX_WINDOW {
            return Err(InvalidLimit);
        }
        Ok(Self { most, span })
    }
}

fn span_of(text: &str) -> Option<Duration> {
    if text == "day" {
        return Some(DAY);
    }
    let (number, seconds) = [("s", 1), ("m", 60), ("h", 3600)]
        .into_iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|number| (number, seconds)))?;
    whole(number)?.checked_mul(seconds).map(Duration::from_secs)
}

/// Decimal digits and nothing else: `parse` alone would take a sign.
fn whole(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

impl fmt::Display for Limit {
    /// The form that is read.
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

/// How a network is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IpLimit {
    /// An IPv4 address, or an IPv6 /64.
    pub prefix64: Limit,
    /// An IPv6 /48.
    pub prefix48: Limit,
}

/// Limits of sends to one email address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SendLimits {
    /// For one tenant.
    pub email: Limit,
    /// For one tenant, from one IPv4 address or IPv6 /48.
    pub ip_email: Limit,
    /// For all tenants.
    pub email_total: Limit,
    /// How long entries are kept: tenants share the log, and some may have longer windows than others.
    pub retention: Duration,
}

/// Every limit that the store keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sends of a network.
    pub ip_sends: IpLimit,
    /// Guesses of a network.
    pub ip_attempts: IpLimit,
    /// Sends to a person.
    pub sends: SendLimits,
    /// Guesses of one site at a recipient.
    pub ip_email_attempts: Limit,
    /// Mails that the relay takes.
    pub relay_mails: RelayMails,
}

/// How many mails the relay takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayMails {
    /// As many as there are.
    Unlimited,
    /// So many in a day.
    PerDay(NonZeroU32),
}

impl IpLimit {
    /// A limit of networks, and what follows from it for a site.
    #[must_use]
    pub fn new(network: Limit) -> Self {
        let prefix48 = network.times(PREFIX48_FACTOR);
        Self { prefix64: network, prefix48 }
    }

    /// The longest time that an entry matters to one of them.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.prefix64.longest().max(self.prefix48.longest())
    }
}

impl SendLimits {
    /// Returns the limits of one tenant alone.
    #[must_use]
    pub fn new(email: Limit, ip_email: Limit, email_total: Limit) -> Self {
        let retention = email.longest().max(ip_email.longest()).max(email_total.longest());
        Self { email, ip_email, email_total, retention }
    }

    /// Returns the rules over the log of sends to one email address, in the order in which callers see them. That for one
    /// IP's share applies only if the client is known.
    #[must_use]
    pub fn rules(&self, has_client: bool) -> Vec<LimitRule<'_>> {
        let rule = |policy, limit, partition_bytes| LimitRule { policy, limit, partition_bytes };
        let email = rule(Policy::EmailSends, &self.email, TENANT_BYTES);
        let ip_email = rule(Policy::IpEmailSends, &self.ip_email, PARTITION_BYTES);
        let email_total = rule(Policy::EmailSendsTotal, &self.email_total, 0);
        if has_client { vec![email, ip_email, email_total] } else { vec![email, email_total] }
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

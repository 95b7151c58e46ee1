//! Which faults `otpd dev` injects on purpose, and how often: `--fail`.
//!
//! Must not draw: it says which draws inject a fault.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use super::time::parse_whole;

/// The longest time that an email can be made to take: no hand-over takes longer.
const MAX_SLOW: Duration = Duration::from_secs(10);
/// What a list may contain, for errors.
const ALLOWED: &str = "allowed are send=N%, unknown=N%, slow=DURATION, limited=N% and unavailable=N%, separated by \
                       commas, with N from 0 to 100 and DURATION up to 10s, such as 2s or 500ms";

/// The faults to inject. The default has none.
///
/// Each fault is drawn on its own, in the order limited, unavailable, send, unknown. The first that
/// is drawn ends the request. So a share is that of the requests that the faults before it spared.
/// A resend meets `unavailable` twice: as it is looked up, and as its recipient is charged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultPlan {
    send: Percent,
    unknown: Percent,
    slow: Duration,
    limited: Percent,
    unavailable: Percent,
}

/// A fault that is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InjectedFault {
    /// The relay refuses the email.
    Send,
    /// It is unknown whether the relay accepted the email.
    Unknown,
    /// A limit is exceeded.
    Limited,
    /// The store does not answer.
    Unavailable,
}

/// A whole number of percent, from 0 to 100.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Percent(u8);

/// Why a text is not a list of faults.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum InvalidFaultPlan {
    /// It has an entry without a value, such as an empty one.
    #[error("\"{0}\" has no value; {ALLOWED}")]
    NoValue(String),
    /// It has an entry with an unknown name.
    #[error("there is no fault \"{0}\"; {ALLOWED}")]
    Name(String),
    /// It has two entries with the same name.
    #[error("{0} is given twice; {ALLOWED}")]
    Twice(&'static str),
    /// A share is not a whole number of percent.
    #[error("{0}: \"{1}\" is not a whole number of percent from 0 to 100, such as 30%; {ALLOWED}")]
    Percent(&'static str, String),
    /// A time is not a duration of at most ten seconds.
    #[error("slow: \"{0}\" is not a duration of at most 10s, such as 2s; {ALLOWED}")]
    Duration(String),
}

impl InjectedFault {
    /// All of them, in the order in which they are documented.
    const ALL: [Self; 4] = [Self::Send, Self::Unknown, Self::Limited, Self::Unavailable];

    /// Returns its name in a list.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Unknown => "unknown",
            Self::Limited => "limited",
            Self::Unavailable => "unavailable",
        }
    }
}

impl FaultPlan {
    /// Returns whether it injects no fault.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Returns how long each email takes before the relay answers.
    #[must_use]
    pub fn slow(&self) -> Duration {
        self.slow
    }

    /// Returns whether a draw from 0 to 99 injects the fault.
    #[must_use]
    pub fn is_hit(&self, fault: InjectedFault, draw: u8) -> bool {
        draw < self.share(fault).0
    }

    fn share(&self, fault: InjectedFault) -> Percent {
        match fault {
            InjectedFault::Send => self.send,
            InjectedFault::Unknown => self.unknown,
            InjectedFault::Limited => self.limited,
            InjectedFault::Unavailable => self.unavailable,
        }
    }

    fn share_mut(&mut self, fault: InjectedFault) -> &mut Percent {
        match fault {
            InjectedFault::Send => &mut self.send,
            InjectedFault::Unknown => &mut self.unknown,
            InjectedFault::Limited => &mut self.limited,
            InjectedFault::Unavailable => &mut self.unavailable,
        }
    }
}

/// Parses a list such as `send=30%,slow=2s`. Spaces around an entry, the case of a name, and a
/// missing `%` do not matter.
impl FromStr for FaultPlan {
    type Err = InvalidFaultPlan;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut plan = Self::default();
        let mut names: Vec<&'static str> = Vec::new();
        for entry in text.split(',').map(str::trim) {
            let (name, value) =
                entry.split_once('=').ok_or_else(|| InvalidFaultPlan::NoValue(entry.to_owned()))?;
            let (name, value) = (name.trim(), value.trim());
            let is_named = |fault: &InjectedFault| fault.name().eq_ignore_ascii_case(name);
            let name = if let Some(fault) = InjectedFault::ALL.into_iter().find(is_named) {
                let share = Percent::parse(value);
                *plan.share_mut(fault) =
                    share.ok_or_else(|| InvalidFaultPlan::Percent(fault.name(), value.to_owned()))?;
                fault.name()
            } else if name.eq_ignore_ascii_case(SLOW) {
                let duration = humantime::parse_duration(value).ok().filter(|time| *time <= MAX_SLOW);
                plan.slow = duration.ok_or_else(|| InvalidFaultPlan::Duration(value.to_owned()))?;
                SLOW
            } else {
                return Err(InvalidFaultPlan::Name(name.to_owned()));
            };
            if names.contains(&name) {
                return Err(InvalidFaultPlan::Twice(name));
            }
            names.push(name);
        }
        Ok(plan)
    }
}

/// Writes the faults that it injects as a list that can be parsed.
impl fmt::Display for FaultPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shares = InjectedFault::ALL.into_iter().filter(|fault| self.share(*fault).0 > 0);
        let shares = shares.map(|fault| format!("{}={}%", fault.name(), self.share(fault).0));
        let slow =
            (!self.slow.is_zero()).then(|| format!("{SLOW}={}", humantime::format_duration(self.slow)));
        f.write_str(&shares.chain(slow).collect::<Vec<_>>().join(", "))
    }
}

impl Percent {
    fn parse(text: &str) -> Option<Self> {
        let number = text.strip_suffix('%').map_or(text, str::trim_end);
        let number = parse_whole(number)?;
        u8::try_from(number).ok().filter(|number| *number <= 100).map(Self)
    }
}

/// The name of the fault that is not drawn.
const SLOW: &str = "slow";

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        text.parse().map(|plan: FaultPlan| plan.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_list_names_each_fault_once() {
        for (text, shown) in [
            ("send=30%,slow=2s", "send=30%, slow=2s"),
            ("unavailable=5%,limited=10%,unknown=1%", "unknown=1%, limited=10%, unavailable=5%"),
            (" SEND = 30 % , Slow=500ms ", "send=30%, slow=500ms"),
            ("send=100", "send=100%"),
            ("slow=10s", "slow=10s"),
            ("slow=1s 500ms", "slow=1s 500ms"),
            ("send=0%,slow=0s", ""),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(shown), "{text}");
        }
    }

    #[test]
    fn an_error_names_what_is_wrong_and_what_is_allowed() {
        for (text, named) in [
            ("", "\"\" has no value"),
            ("send", "\"send\" has no value"),
            ("send=30%,", "\"\" has no value"),
            ("sent=30%", "there is no fault \"sent\""),
            ("=30%", "there is no fault \"\""),
            ("send=101%", "send: \"101%\""),
            ("send=-1%", "send: \"-1%\""),
            ("limited=+1%", "limited: \"+1%\""),
            ("unknown=2.5%", "unknown: \"2.5%\""),
            ("unavailable=", "unavailable: \"\""),
            ("unavailable=%", "unavailable: \"%\""),
            ("send=256%", "send: \"256%\""),
            ("send=30%%", "send: \"30%%\""),
            ("slow=11s", "slow: \"11s\""),
            ("slow=10001ms", "slow: \"10001ms\""),
            ("slow=2", "slow: \"2\""),
            ("slow=30%", "slow: \"30%\""),
            ("send=1%,SEND=1%", "send is given twice"),
            ("slow=1s,send=1%,slow=1s", "slow is given twice"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with(named), "{text}: {error}");
            for allowed in ["send=N%", "unknown=N%", "slow=DURATION", "limited=N%", "unavailable=N%", "10s"] {
                assert!(error.contains(allowed), "{text}: {error}");
            }
        }
    }

    #[test]
    fn a_share_is_exactly_that_of_all_draws() {
        for share in [0, 1, 30, 99, 100] {
            let plan: FaultPlan = format!("limited={share}%").parse().unwrap();
            let hits = |fault| (0..100).filter(|draw| plan.is_hit(fault, *draw)).count();
            assert_eq!(hits(InjectedFault::Limited), share);
            assert_eq!(hits(InjectedFault::Unavailable), 0);
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_parsed(
            shares in prop::array::uniform4(0_u8..=100),
            slow in 0_u64..=10_000,
        ) {
            let [send, unknown, limited, unavailable] = shares.map(Percent);
            let slow = Duration::from_millis(slow);
            let plan = FaultPlan { send, unknown, slow, limited, unavailable };
            prop_assert_eq!(plan.to_string().parse().ok(), Some(plan).filter(|plan| !plan.is_empty()));
        }

        #[test]
        fn any_text_is_a_list_or_an_error(text in ".{0,24}") {
            let _ = text.parse::<FaultPlan>();
        }
    }
}

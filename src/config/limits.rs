//! Settings of the rate limits.
//!
//! Enforces the safe minimum of each. Must not count anything.

use std::num::NonZeroU32;
use std::time::Duration;

use super::codes::Codes;
use super::dangerous::Dangerous;
use super::defaults::Defaults;
use super::http::{self, Http};
use super::reader::Reader;
use crate::domain::code::CodeLength;
use crate::domain::exempt::ExemptNetworks;
use crate::domain::limit::{Limit, Policy};
use crate::domain::limits::Limits;
use crate::domain::risk_estimate::RiskEstimate;
use crate::domain::verification::VerificationRules;

/// Shortest safe time between two emails to one person.
const MIN_SAFE_COOLDOWN: Duration = Duration::from_secs(30);

/// Load shedding: rejects requests before any work. It protects capacity, not security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadShedding {
    /// Disabled.
    Off,
    /// Token bucket for each network.
    On {
        /// Refill rate, in requests per second.
        per_second: NonZeroU32,
        /// Size of the bucket, in requests.
        burst: NonZeroU32,
    },
}

/// The most entries of a window that counts sends to a recipient. Their ledger is walked as a
/// whole: a charge at so many entries takes less than twice as long as one at ten.
const MAX_SENDS_TO_RECIPIENT: NonZeroU32 = NonZeroU32::new(100).unwrap();

/// Reads the ledgers' limits from the section `limits`.
pub(super) fn read(reader: &mut Reader<'_>, codes: Option<&Codes>, dangerous: Dangerous) -> Option<Limits> {
    let limits = Policy::ALL.map(|policy| {
        let key = format!("limits.{}", policy.name());
        Some((policy, limit(reader, policy, &key, dangerous)?))
    });
    let limits = limits.into_iter().collect::<Option<Limits>>()?;
    if !dangerous.weak_limits {
        floors(reader, "limits.email_sends", &limits, codes?)?;
    }
    Some(limits)
}

/// Reads the limits that a tenant's section sets; the others are those of the deployment.
pub(super) fn read_own(reader: &mut Reader<'_>, section: &str, defaults: &Defaults<'_>) -> Option<Limits> {
    let dangerous = defaults.dangerous;
    let limits = Policy::ALL.map(|policy| {
        let key = format!("{section}.{}", policy.name());
        let default = || defaults.limits.map(|limits| limits.of(policy).clone());
        Some((policy, if reader.has(&key) { limit(reader, policy, &key, dangerous) } else { default() }?))
    });
    let limits = limits.into_iter().collect::<Option<Limits>>()?;
    let codes = defaults.codes;
    let key = format!("{section}.email_sends");
    if !dangerous.weak_limits && reader.has(&key) {
        floors(reader, &key, &limits, codes?)?;
    }
    Some(limits)
}

/// Reads the settings of load shedding from the section `limits`.
pub(super) fn read_load_shedding(reader: &mut Reader<'_>) -> Option<LoadShedding> {
    let per_second = reader.number("limits.ip_requests_per_second", 0..=1_000_000);
    let burst = reader.number("limits.ip_requests_burst", NonZeroU32::MIN..=NonZeroU32::MAX);
    let per_second = per_second?;
    let burst = burst?;
    Some(
        NonZeroU32::new(per_second)
            .map_or(LoadShedding::Off, |per_second| LoadShedding::On { per_second, burst }),
    )
}

/// Reads the networks that are exempt from per-IP limits.
pub(super) fn read_exempt(reader: &mut Reader<'_>, http: Option<&Http>) -> Option<ExemptNetworks> {
    let key = "limits.exempt_networks";
    let exempt = ExemptNetworks::new(reader.list_of(key, http::network)?);
    let trusted = http.map(|http| http.trusted_proxies.as_slice()).unwrap_or_default();
    if exempt.shared_with(trusted).next().is_some() {
        let what = "holds addresses of OTP_HTTP__TRUSTED_PROXIES: what comes from there without a usable header is not counted per IP";
        reader.warn(key, what);
    }
    Some(exempt)
}

fn limit(reader: &mut Reader<'_>, policy: Policy, key: &str, dangerous: Dangerous) -> Option<Limit> {
    let unlimited = if policy.is_optional() { "unlimited, or " } else { "" };
    let windows = match policy {
        Policy::RelayEmails => "a whole number from 1 to 100000",
        _ => {
            "one to four windows such as 5/1h, 10/day or 1/60s with spaces between: 1 to 100000, in 1s to 744h"
        }
    };
    let limit = reader.parse(key, &format!("{unlimited}{windows}"), |text| {
        match text.to_ascii_lowercase().as_str() {
            "unlimited" if policy.is_optional() => Some(Limit::UNLIMITED),
            most if policy == Policy::RelayEmails => format!("{most}/24h").parse().ok(),
            windows => windows.parse().ok(),
        }
    })?;
    let is_of_recipient =
        matches!(policy, Policy::EmailSends | Policy::IpEmailSends | Policy::EmailSendsTotal);
    let is_long = limit.windows().iter().any(|window| window.most > MAX_SENDS_TO_RECIPIENT);
    if is_of_recipient && is_long && !dangerous.weak_limits {
        let what = format!(
            "allows more than {MAX_SENDS_TO_RECIPIENT} emails to one address, and each of its sends takes the longer the \
             more there are, during which Redis serves nobody else: set at most {MAX_SENDS_TO_RECIPIENT} in a window, or \
             OTP_DANGEROUS__WEAK_LIMITS=true"
        );
        return reader.refuse(key, &what);
    }
    Some(limit)
}

/// Returns another setting, and its value, that makes these limits safe, or `None` if the default
/// limit of sends does.
fn cure(default: &str, limits: &Limits, codes: &Codes) -> Option<(&'static str, String)> {
    let is_safe = |limits: &Limits, rules: VerificationRules, length: CodeLength| {
        RiskEstimate::of(limits, &rules, length).is_safe()
    };
    let Codes { length, rules } = *codes;
    let default = default.parse().ok().map(|default| Limits::from_iter([(Policy::EmailSends, default)]));
    if default.is_some_and(|limits| is_safe(&limits, rules, length)) {
        return None;
    }
    let without_overlap = VerificationRules { overlap: Duration::ZERO, ..rules };
    if is_safe(limits, without_overlap, length) {
        return Some(("codes.overlap", "0s".to_owned()));
    }
    let longer =
        (length.digits()..).map_while(CodeLength::new).find(|length| is_safe(limits, rules, *length));
    longer.map(|length| ("codes.digits", length.digits().to_string()))
}

fn floors(reader: &mut Reader<'_>, key: &str, limits: &Limits, codes: &Codes) -> Option<()> {
    let risk = RiskEstimate::of(limits, &codes.rules, codes.length);
    let alternative = "or set OTP_DANGEROUS__WEAK_LIMITS=true";
    if !risk.is_safe() {
        let what = format!(
            "allows {} attempts at an address a day, which succeed with a chance of {:.1e}; at most 1.0e-4 is safe: lower \
             it or OTP_LIMITS__ATTEMPTS, raise OTP_CODES__DIGITS, set OTP_CODES__OVERLAP=0s, {alternative}",
            risk.attempts_per_day,
            risk.chance_per_day(),
        );
        return match cure(reader.example(key), limits, codes) {
            None => reader.refuse(key, &what),
            Some((other, value)) => {
                let line = reader.line(other, &value);
                reader.refuse_for(key, &what, &line)
            }
        };
    }
    if limits.of(Policy::EmailSends).cooldown() < MIN_SAFE_COOLDOWN {
        let what = format!("must leave 30 s between two emails, as 1/30s does, {alternative}");
        return reader.refuse(key, &what);
    }
    Some(())
}

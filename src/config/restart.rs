//! Which settings a reload replaces, and which of the others differ from those of the start.
//!
//! Must not keep or show a value: it compares hashes.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;

use super::names;
use super::source::Sources;

/// The settings that a reload replaces; a name that ends in a dot stands for its section.
const RELOADED: [&str; 27] = [
    "dns.",
    "domains.",
    "hook.",
    "limits.email_sends",
    "limits.email_sends_total",
    "limits.ip_attempts",
    "limits.ip_email_attempts",
    "limits.ip_email_sends",
    "limits.ip_sends",
    "limits.key_checks_per_minute",
    "limits.key_sends_per_minute",
    "limits.relay_emails_per_day",
    "log.level",
    "mail.",
    "mailgun.",
    "outbound.",
    "postmark.",
    "proof.issuer",
    "secrets.peppers",
    "resend.",
    "secrets.proof_keys",
    "ses.",
    "smtp.",
    "smtp_fallback.",
    "tenant.",
    "tenants.",
    "tls.",
];

/// The settings of the start that a reload does not replace.
#[derive(Debug)]
pub struct StartSettings {
    hashes: BTreeMap<String, u64>,
    hasher: RandomState,
}

impl StartSettings {
    /// Remembers the settings of the start.
    #[must_use]
    pub fn of(sources: &Sources) -> Self {
        let hasher = RandomState::new();
        Self { hashes: hashes(&hasher, sources), hasher }
    }

    /// Returns the names of the settings that differ now.
    #[must_use]
    pub fn changed(&self, sources: &Sources) -> Vec<String> {
        let now = hashes(&self.hasher, sources);
        now.iter()
            .filter(|(key, hash)| self.hashes.get(*key) != Some(hash))
            .map(|(key, _)| names::usual_name(key))
            .collect()
    }
}

fn hashes(hasher: &RandomState, sources: &Sources) -> BTreeMap<String, u64> {
    let kept = sources.values.iter().filter(|(key, _)| !is_reloaded(key));
    kept.map(|(key, value)| {
        let text = value.text.as_ref().map(|text| text.as_str());
        (key.clone(), hasher.hash_one(text))
    })
    .collect()
}

fn is_reloaded(key: &str) -> bool {
    RELOADED.iter().any(|name| if name.ends_with('.') { key.starts_with(name) } else { key == *name })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Texts;

    fn sources(more: &[(&str, &str)]) -> Sources {
        Sources::layered(Texts::enough_and(more), &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap()
    }

    #[test]
    fn what_a_reload_does_not_replace_is_named_if_it_differs() {
        let start = StartSettings::of(&sources(&[]));
        assert_eq!(start.changed(&sources(&[])), [""; 0]);
        let reloaded = [("OTP_LOG__LEVEL", "debug"), ("SMTP_PORT", "465"), ("OTP_LIMITS__IP_SENDS", "9/1h")];
        assert_eq!(start.changed(&sources(&reloaded)), [""; 0]);
        let kept =
            [("REDIS_PASSWORD", "x"), ("OTP_HTTP__DOCS", "off"), ("OTP_LIMITS__IP_REQUESTS_BURST", "9")];
        assert_eq!(
            start.changed(&sources(&kept)),
            ["OTP_HTTP__DOCS", "OTP_LIMITS__IP_REQUESTS_BURST", "REDIS_PASSWORD"]
        );
    }

    #[test]
    fn every_reloaded_name_is_one_of_a_setting() {
        let sources = sources(&[]);
        for name in RELOADED.iter().filter(|name| **name != "tenants.") {
            assert!(sources.values.keys().any(|key| key.starts_with(name)), "{name}");
        }
    }
}

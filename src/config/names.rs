//! Names of settings: `section.key` in TOML; `OTP_SECTION__KEY` and a few older names elsewhere.
//!
//! Knows every name, and finds the nearest one for an unknown name. Must not know values.

use std::collections::BTreeMap;

use super::foreign_names::{FOREIGN_NAMES, MEANT_NAMES, key_of};

/// Every setting with its default. A key that is not in this file is unknown.
pub(super) const DEFAULTS: &str = include_str!("../../otpd.default.toml");

/// Settings that have another name: from the Flask service that otpd replaces, because it is common
/// for Redis, or because it is short.
const OTHER_NAMES: [(&str, &str); 12] = [
    ("redis.url", "REDIS_URL"),
    ("redis.host", "REDIS_HOST"),
    ("redis.port", "REDIS_PORT"),
    ("redis.db", "REDIS_DB"),
    ("redis.username", "REDIS_USERNAME"),
    ("redis.password", "REDIS_PASSWORD"),
    ("redis.tls", "REDIS_TLS"),
    ("smtp.server", "SMTP_SERVER"),
    ("smtp.port", "SMTP_PORT"),
    ("smtp.sender", "EMAIL_SENDER"),
    ("smtp.password", "EMAIL_PASSWORD"),
    ("mail.transport", "OTP_SENDER"),
];

/// Settings that can also be read from a file, by a name that ends in `_FILE`.
const SECRETS: [&str; 20] = [
    "redis.url",
    "redis.password",
    "redis.sentinel_password",
    "smtp.password",
    "smtp.oauth_client_secret",
    "smtp.oauth_refresh_token",
    "smtp.oauth_service_account",
    "smtp_fallback.password",
    "smtp_fallback.oauth_client_secret",
    "smtp_fallback.oauth_refresh_token",
    "smtp_fallback.oauth_service_account",
    "resend.api_key",
    "postmark.token",
    "mailgun.api_key",
    "ses.secret_access_key",
    "hook.secret",
    "tenant.test_recipients",
    "secrets.peppers",
    "secrets.index_key",
    "secrets.proof_keys",
];

/// Example values of settings whose default is empty. The default is the example of all others.
const EXAMPLES: [(&str, &str); 64] = [
    ("http.allowed_origins", "https://app.example"),
    ("http.public_url", "https://example.org/otp"),
    ("http.security_contact", "mailto:security@example.com"),
    ("tls.cert_file", "/etc/otpd/tls/fullchain.pem"),
    ("tls.key_file", "/etc/otpd/tls/privkey.pem"),
    ("redis.url", "rediss://user:password@redis.example.com:6379/0"),
    ("redis.host", "localhost"),
    ("redis.username", "otpd"),
    ("redis.password", "<the password of Redis>"),
    ("redis.sentinel_username", "otpd"),
    ("redis.sentinel_password", "<the password of the sentinels>"),
    ("redis.ca_file", "/etc/otpd/redis/ca.pem"),
    ("redis.cert_file", "/etc/otpd/redis/client.pem"),
    ("redis.key_file", "/etc/otpd/redis/client-key.pem"),
    ("smtp.server", "smtp.example.com"),
    ("smtp.sender", "you@example.com"),
    ("smtp.password", "<the password at the relay; for Gmail an app password>"),
    ("smtp.username", "you@example.com"),
    ("smtp.oauth_token_url", "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token"),
    ("smtp.oauth_client_id", "<the id of the application>"),
    ("smtp.oauth_client_secret", "<the value of the application's secret>"),
    ("smtp.oauth_refresh_token", "<a refresh token of the mailbox>"),
    ("smtp.oauth_scope", "https://outlook.office365.com/.default"),
    ("smtp.oauth_service_account", "<the JSON key file of a service account>"),
    ("smtp.ca_file", "/etc/otpd/relay-ca.pem"),
    ("smtp_fallback.server", "smtp.example.net"),
    ("smtp_fallback.password", "<the password at the second relay>"),
    ("smtp_fallback.username", "you@example.com"),
    ("smtp_fallback.oauth_token_url", "https://login.microsoftonline.com/TENANT-ID/oauth2/v2.0/token"),
    ("smtp_fallback.oauth_client_id", "<the id of the application>"),
    ("smtp_fallback.oauth_client_secret", "<the value of the application's secret>"),
    ("smtp_fallback.oauth_refresh_token", "<a refresh token of the mailbox>"),
    ("smtp_fallback.oauth_scope", "https://outlook.office365.com/.default"),
    ("smtp_fallback.oauth_service_account", "<the JSON key file of a service account>"),
    ("smtp_fallback.ca_file", "/etc/otpd/fallback-ca.pem"),
    ("resend.api_key", "<an API key of Resend with the permission Sending access>"),
    ("resend.url", "https://api.resend.com"),
    ("postmark.token", "<the Server API token of Postmark>"),
    ("postmark.url", "https://api.postmarkapp.com"),
    ("mailgun.api_key", "<a sending key of the domain at Mailgun>"),
    ("mailgun.domain", "mg.example.com"),
    ("mailgun.url", "https://api.mailgun.net"),
    ("ses.region", "eu-central-1"),
    ("ses.access_key_id", "<the access key id of an IAM user>"),
    ("ses.secret_access_key", "<the secret access key of that IAM user>"),
    ("ses.url", "https://email.eu-central-1.amazonaws.com"),
    ("hook.url", "https://hook.example.com/otpd"),
    ("hook.secret", "<whsec_ and Base64, from: otpd keygen hook-secret>"),
    ("outbound.ca_file", "/etc/otpd/outbound-ca.pem"),
    ("mail.brand", "Example"),
    ("mail.templates", "/etc/otpd/mails"),
    ("domains.allow_file", "/etc/otpd/allowed-domains"),
    ("domains.block_file", "/etc/otpd/blocked-domains"),
    ("dns.servers", "192.0.2.53"),
    ("tenant.keys", "backend:<43 characters, from: otpd keygen api-key>"),
    ("tenant.sandbox_keys", "tests:<43 characters, from: otpd keygen api-key --sandbox>"),
    ("tenant.purposes", "login,signup"),
    ("tenant.test_domains", "review.example.com"),
    ("tenant.test_recipients", "<ADDRESS DATE HASH, from: otpd keygen test-code ADDRESS>"),
    ("traces.endpoint", "http://localhost:4318"),
    ("limits.exempt_networks", "192.0.2.0/24"),
    ("secrets.peppers", "k1:<43 characters, from: otpd keygen pepper>"),
    ("secrets.index_key", "<43 characters, from: otpd keygen index-key>"),
    ("secrets.proof_keys", "p1:<43 characters, from: otpd keygen proof-key>"),
];

/// Other defaults of `otpd dev`: several may run on one machine, and standard output is for a
/// person.
pub(super) const DEV_OUTPUTS: [(&str, &str); 2] = [("admin.listen", "off"), ("audit.output", "off")];

/// Defaults of the limits for `otpd dev`, so that nobody runs into them while trying it: one second
/// between two emails, and a thousand times the default of everything else.
pub(super) const DEV_DEFAULTS: [(&str, &str); 9] = [
    ("limits.ip_sends", "30000/1h 100000/24h"),
    ("limits.ip_attempts", "20000/1h 100000/24h"),
    ("limits.email_sends", "1/1s 5000/1h 10000/day"),
    ("limits.ip_email_sends", "3000/1h 4000/day"),
    ("limits.ip_email_attempts", "10000/day"),
    ("limits.email_sends_total", "30000/day"),
    ("limits.key_sends_per_minute", "600000"),
    ("limits.key_checks_per_minute", "1200000"),
    ("limits.ip_requests_per_second", "0"),
];

/// Keys that are allowed in `[[tenants]]`.
pub(super) const TENANT_KEYS: [&str; 16] = [
    "name",
    "brand",
    "locale",
    "sender",
    "transport",
    "keys",
    "sandbox_keys",
    "purposes",
    "test_domains",
    "test_recipients",
    "limits.ip_sends",
    "limits.ip_attempts",
    "limits.email_sends",
    "limits.ip_email_sends",
    "limits.key_sends_per_minute",
    "limits.key_checks_per_minute",
];

/// Returns whether a setting is a secret.
pub(super) fn is_secret(key: &str) -> bool {
    SECRETS.contains(&key_of_deployment(key))
}

/// Returns all settings that are secrets.
#[cfg(test)]
pub(super) fn secrets() -> impl Iterator<Item = &'static str> {
    SECRETS.into_iter()
}

/// How a layer spells names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// `section.key`
    Document,
    /// `OTP_SECTION__KEY`
    Environment,
}

/// The setting that a name means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Meaning {
    /// The setting, as `section.key`.
    pub key: String,
    /// Whether the value is the path of a file that holds the setting.
    pub is_path: bool,
}

/// Every known name.
pub(super) struct Names {
    document: BTreeMap<String, Meaning>,
    environment: BTreeMap<String, Meaning>,
}

impl Names {
    /// Returns the names of these settings.
    pub(super) fn of<'a>(keys: impl Iterator<Item = &'a str>) -> Self {
        let mut names = Self { document: BTreeMap::new(), environment: BTreeMap::new() };
        for key in keys {
            names.add(key, "", "");
            if is_secret(key) {
                names.add(key, "_file", "_FILE");
            }
        }
        names
    }

    fn add(&mut self, key: &str, document_suffix: &str, environment_suffix: &str) {
        let meaning = Meaning { key: key.to_owned(), is_path: !document_suffix.is_empty() };
        self.document.insert(format!("{key}{document_suffix}"), meaning.clone());
        for name in other_name(key).map(str::to_owned).into_iter().chain([formal_name(key)]) {
            self.environment.insert(format!("{name}{environment_suffix}"), meaning.clone());
        }
    }

    /// Returns the setting that a known name means.
    pub(super) fn meaning(&self, spelling: Spelling, name: &str) -> Option<&Meaning> {
        self.spelled(spelling).get(name)
    }

    /// Returns the likely correction of an unknown name: another spelling of it, the setting that
    /// other programs call so, or the most similar name, if it differs by at most [`MAX_TYPOS`].
    pub(super) fn meant(&self, spelling: Spelling, name: &str) -> Option<(&str, &Meaning)> {
        let known = self.spelled(spelling);
        let bare = bare(name);
        let key = [&self.environment, &self.document]
            .into_iter()
            .find_map(|names| names.iter().find(|(known, _)| self::bare(known) == bare))
            .map(|(_, meaning)| meaning.key.as_str())
            .or_else(|| key_of(&FOREIGN_NAMES, &bare))
            .or_else(|| key_of(&MEANT_NAMES, &bare));
        let found = key.and_then(|key| {
            let name = match spelling {
                Spelling::Document => key.to_owned(),
                Spelling::Environment => usual_name(key),
            };
            known.get_key_value(&name)
        });
        let similar = || {
            known
                .iter()
                .map(|pair| (strsim::damerau_levenshtein(pair.0, name), pair))
                .min_by_key(|(distance, _)| *distance)
                .filter(|(distance, _)| *distance <= MAX_TYPOS)
                .map(|(_, pair)| pair)
        };
        found.or_else(similar).map(|(known, meaning)| (known.as_str(), meaning))
    }

    /// Returns the likely correction of a tenant's unknown key.
    pub(super) fn meant_of_tenant<'a>(known: &[&'a str], name: &str) -> &'a str {
        let renamed = key_of(&MEANT_NAMES, &bare(name));
        let renamed = renamed.and_then(|key| known.iter().find(|known| **known == key));
        let nearest = || known.iter().min_by_key(|known| strsim::damerau_levenshtein(known, name));
        renamed.or_else(nearest).copied().unwrap_or_default()
    }

    fn spelled(&self, spelling: Spelling) -> &BTreeMap<String, Meaning> {
        match spelling {
            Spelling::Document => &self.document,
            Spelling::Environment => &self.environment,
        }
    }
}

/// Maximum edit distance between an unknown name and its correction.
const MAX_TYPOS: usize = 2;

/// Normalizes the spelling of a name: `http.listen`, `OTP_HTTP__LISTEN` and `OTP_HTTP_LISTEN`
/// become the same.
fn bare(name: &str) -> String {
    let name = name.to_ascii_uppercase().replace('.', "_").replace("__", "_");
    name.strip_prefix("OTP_").unwrap_or(&name).to_owned()
}

/// Returns the name that users know: the other name if the setting has one.
pub(super) fn usual_name(key: &str) -> String {
    other_name(key).map_or_else(|| formal_name(key), str::to_owned)
}

/// Returns `OTP_SECTION__KEY`.
fn formal_name(key: &str) -> String {
    format!("OTP_{}", key.replacen('.', "__", 1).to_uppercase())
}

fn other_name(key: &str) -> Option<&'static str> {
    OTHER_NAMES.iter().find(|(known, _)| *known == key).map(|(_, name)| *name)
}

/// Returns the setting for a name that ends in `_FILE`, if that setting is not a secret and so
/// cannot be read from a file.
pub(super) fn of_file(names: &Names, name: &str) -> Option<String> {
    let key = &names.meaning(Spelling::Environment, name.strip_suffix("_FILE")?)?.key;
    (!is_secret(key) && !is_claimed(name)).then(|| usual_name(key))
}

/// Returns an example value for a setting whose default is empty.
pub(super) fn example(key: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(known, _)| *known == key).map(|(_, example)| *example)
}

/// Returns whether a name can only be meant for otpd, so that an unknown one is a typing error.
pub(super) fn is_claimed(name: &str) -> bool {
    name.starts_with("OTP_")
}

/// Returns whether Docker links or Kubernetes set this variable because another service is called
/// `redis`, `smtp` or `otp…`: `REDIS_PORT=tcp://10.0.0.1:6379`, `OTP_SERVICE_HOST=10.0.0.1`.
pub(super) fn is_injected(name: &str, value: &str) -> bool {
    let is_endpoint = name.ends_with("_PORT") && ["tcp://", "udp://"].iter().any(|p| value.starts_with(p));
    let is_part = name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || ["_TCP", "_UDP"].iter().any(|protocol| name.contains("_PORT_") && name.contains(protocol));
    !name.contains("__") && (is_endpoint || is_part)
}

/// Returns the setting itself, or for one of `[[tenants]]` that of the deployment whose default and
/// example it shares.
pub(super) fn key_of_deployment(key: &str) -> &str {
    let of_one = key.strip_prefix("tenants.").and_then(|of_one| of_one.split_once('.'));
    let Some((_, key)) = of_one else { return key };
    match key {
        "name" => "tenant.name",
        "keys" => "tenant.keys",
        "sandbox_keys" => "tenant.sandbox_keys",
        "purposes" => "tenant.purposes",
        "test_domains" => "tenant.test_domains",
        "test_recipients" => "tenant.test_recipients",
        "brand" => "mail.brand",
        "locale" => "mail.locale",
        "sender" => "smtp.sender",
        "transport" => "mail.transport",
        limits => limits,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::foreign_names::of_foreign;

    fn names() -> Names {
        Names::of(["http.listen", "smtp.port", "smtp.password", "redis.url"].into_iter())
    }

    fn meaning(spelling: Spelling, name: &str) -> Option<(String, bool)> {
        names().meaning(spelling, name).map(|m| (m.key.clone(), m.is_path))
    }

    #[test]
    fn a_setting_has_its_formal_name_and_the_seeds() {
        use Spelling::Environment;
        for name in ["SMTP_PORT", "OTP_SMTP__PORT"] {
            assert_eq!(meaning(Environment, name), Some(("smtp.port".into(), false)));
        }
        assert_eq!(meaning(Environment, "smtp.port"), None);
        assert_eq!(meaning(Spelling::Document, "SMTP_PORT"), None);
        assert_eq!(usual_name("smtp.port"), "SMTP_PORT");
        assert_eq!(usual_name("http.max_connections"), "OTP_HTTP__MAX_CONNECTIONS");
    }

    #[test]
    fn only_secrets_have_files() {
        use Spelling::Environment;
        for name in ["EMAIL_PASSWORD_FILE", "OTP_SMTP__PASSWORD_FILE"] {
            assert_eq!(meaning(Environment, name), Some(("smtp.password".into(), true)));
        }
        assert_eq!(meaning(Spelling::Document, "redis.url_file"), Some(("redis.url".into(), true)));
        assert_eq!(meaning(Environment, "SMTP_PORT_FILE"), None);
    }

    #[test]
    fn the_name_that_was_meant_is_found_by_its_spelling_its_other_names_or_a_slip() {
        let defaults = crate::config::document::flatten(DEFAULTS).unwrap();
        let names = Names::of(defaults.iter().map(|(key, _)| key.as_str()));
        let meant = |spelling, name| names.meant(spelling, name).map(|(name, _)| name);
        for (typed, name) in [
            ("OTP_HTTP_LISTEN", "OTP_HTTP__LISTEN"),
            ("OTP_SMTP__PROT", "OTP_SMTP__PORT"),
            ("OTP_SMTP__HOST", "SMTP_SERVER"),
            ("OTP_SMTP__USER", "OTP_SMTP__USERNAME"),
            ("OTP_SMTP__PASS", "EMAIL_PASSWORD"),
            ("OTP_SMTP__FROM", "EMAIL_SENDER"),
            ("OTP_HTTP__PORT", "OTP_HTTP__LISTEN"),
            ("OTP_PORT", "OTP_HTTP__LISTEN"),
            ("OTP_HTTP__CORS", "OTP_HTTP__ALLOWED_ORIGINS"),
            ("OTP_REDIS__USER", "REDIS_USERNAME"),
            ("OTP_REDIS__PASS", "REDIS_PASSWORD"),
            ("OTP_PEPPER", "OTP_SECRETS__PEPPERS"),
            ("OTP_API_KEY", "OTP_TENANT__KEYS"),
            ("OTP_LIMITS__NETWORK_SENDS", "OTP_LIMITS__IP_SENDS"),
            ("OTP_LIMITS__NETWORK_GUESSES", "OTP_LIMITS__IP_ATTEMPTS"),
            ("OTP_LIMITS__SUBJECT_SENDS", "OTP_LIMITS__EMAIL_SENDS"),
            ("OTP_LIMITS__ADDRESS_SENDS", "OTP_LIMITS__EMAIL_SENDS_TOTAL"),
            ("OTP_LIMITS__SITE_SENDS", "OTP_LIMITS__IP_EMAIL_SENDS"),
            ("OTP_LIMITS__SITE_GUESSES", "OTP_LIMITS__IP_EMAIL_ATTEMPTS"),
            ("OTP_LIMITS__SHIELD_PER_SECOND", "OTP_LIMITS__IP_REQUESTS_PER_SECOND"),
            ("OTP_LIMITS__SHIELD_BURST", "OTP_LIMITS__IP_REQUESTS_BURST"),
            ("OTP_LIMITS__GUESSES", "OTP_LIMITS__ATTEMPTS"),
            ("OTP_LIMITS__RELAY_MAILS_PER_DAY", "OTP_LIMITS__RELAY_EMAILS_PER_DAY"),
        ] {
            assert_eq!(meant(Spelling::Environment, typed), Some(name), "{typed}");
        }
        for (typed, name) in [
            ("smpt.port", "smtp.port"),
            ("smtp.host", "smtp.server"),
            ("SMTP_SERVER", "smtp.server"),
            ("OTP_HTTP__LISTEN", "http.listen"),
            ("HTTP.LISTEN", "http.listen"),
            ("limits.subject_sends", "limits.email_sends"),
        ] {
            assert_eq!(meant(Spelling::Document, typed), Some(name), "{typed}");
        }
        assert_eq!(meant(Spelling::Environment, "OTP_NOTHING__LIKE_IT"), None);
    }

    #[test]
    fn a_foreign_name_stands_for_a_setting_and_is_none_itself() {
        let defaults = crate::config::document::flatten(DEFAULTS).unwrap();
        let ours = Names::of(defaults.iter().map(|(key, _)| key.as_str()));
        for (key, foreign) in FOREIGN_NAMES {
            assert!(ours.meaning(Spelling::Document, key).is_some(), "{key}");
            for name in foreign {
                assert!(ours.meaning(Spelling::Environment, name).is_none(), "{name}");
                assert!(!is_claimed(name), "{name}");
                assert_eq!(of_foreign(&format!("{name}_FILE")), Some(key));
            }
        }
        assert_eq!(of_foreign("PATH"), None);
    }

    #[test]
    fn what_orchestrators_inject_is_told_from_a_slip() {
        for (name, value) in [
            ("REDIS_PORT", "tcp://10.0.0.1:6379"),
            ("OTP_PORT", "udp://10.0.0.1:53"),
            ("OTP_SERVICE_HOST", "10.0.0.1"),
            ("OTP_API_SERVICE_PORT_HTTP", "80"),
            ("OTP_PORT_5000_TCP_ADDR", "10.0.0.1"),
        ] {
            assert!(is_injected(name, value), "{name}");
        }
        for (name, value) in
            [("REDIS_PORT", "6379"), ("OTP_SMTP_PORT", "25"), ("OTP_SMTP__PORT", "tcp://10.0.0.1:25")]
        {
            assert!(!is_injected(name, value), "{name}");
        }
    }
}

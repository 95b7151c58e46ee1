//! Settings of the tenants of the v1 API: one in the section `tenant`, any number as `[[tenants]]`
//! in the file of `--config`.
//!
//! A tenant inherits from the deployment what it does not set. Must not hold an API key: settings
//! contain only hashes.

use std::num::NonZeroU32;

use super::api_keys;
use super::defaults::Defaults;
use super::limits;
use super::mail::{self, Brand};
use super::reader::Reader;
use super::senders::{self, TransportKind};
use super::{smtp, test_recipients};
use crate::domain::api_key::{KeyHash, KeyKind};
use crate::domain::email_address::EmailAddress;
use crate::domain::key_name::KeyName;
use crate::domain::limits::Limits;
use crate::domain::locale::Locale;
use crate::domain::purpose::{Purpose, Purposes};
use crate::domain::tenant;
use crate::domain::test_recipients::TestRecipients;

/// A tenant.
#[derive(Debug, Clone)]
pub struct TenantSettings {
    /// Name.
    pub name: tenant::Tenant,
    /// Brand of its emails.
    pub brand: Brand,
    /// Language of its emails if none of the requested languages is available.
    pub locale: Locale,
    /// Sender of its emails, if not that of the deployment.
    pub sender: Option<EmailAddress>,
    /// The transports of its emails, if not those of the deployment, in the order in which they are
    /// tried.
    pub transports: Option<Vec<TransportKind>>,
    /// Active API keys, as labels and hashes.
    pub keys: Vec<(KeyName, KeyHash)>,
    /// Active sandbox keys, as labels and hashes.
    pub sandbox_keys: Vec<(KeyName, KeyHash)>,
    /// Purposes for which it may verify addresses.
    pub purposes: Purposes,
    /// Addresses whose codes are set, for reviewers and tests.
    pub test_recipients: TestRecipients,
    /// Its rate limits.
    pub limits: Limits,
    /// Requests per minute of one of its keys.
    pub rates: KeyRates,
}

/// Requests per minute of one API key. It protects capacity, not security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRates {
    /// Creations and resends.
    pub sends_per_minute: NonZeroU32,
    /// All other requests.
    pub checks_per_minute: NonZeroU32,
}

impl TenantSettings {
    /// Returns whether anybody can call for the tenant.
    fn has_keys(&self) -> bool {
        self.hashes().next().is_some()
    }

    /// Returns the hashes of all keys.
    fn hashes(&self) -> impl Iterator<Item = &KeyHash> {
        self.keys.iter().chain(&self.sandbox_keys).map(|(_, hash)| hash)
    }
}

/// Reads all tenants.
pub(super) fn read(
    reader: &mut Reader<'_>,
    defaults: Defaults<'_>,
    rates: Option<KeyRates>,
) -> Option<Vec<TenantSettings>> {
    let first = the_one(reader, defaults, rates);
    let others: Vec<_> =
        (1..=reader.tenants()).map(|number| one_of_many(reader, defaults, rates, number)).collect();
    let others: Option<Vec<TenantSettings>> = others.into_iter().collect();
    distinct(reader, [first?, others?].concat())
}

/// Reads the tenant of the section `tenant`; none if it has no keys.
fn the_one(
    reader: &mut Reader<'_>,
    defaults: Defaults<'_>,
    rates: Option<KeyRates>,
) -> Option<Vec<TenantSettings>> {
    let name = name(reader, "tenant.name");
    let live = api_keys::read(reader, "tenant.keys", KeyKind::Live);
    let sandbox = api_keys::read(reader, "tenant.sandbox_keys", KeyKind::Sandbox);
    let purposes = purposes(reader, "tenant.purposes");
    let test_recipients = test_recipients::read(reader, "tenant", &defaults);
    let tenant = TenantSettings {
        name: name?,
        brand: defaults.brand?.clone(),
        locale: defaults.locale?.clone(),
        sender: None,
        transports: None,
        keys: live?,
        sandbox_keys: sandbox?,
        purposes: purposes?,
        test_recipients: test_recipients?,
        limits: defaults.limits?.clone(),
        rates: rates?,
    };
    Some(if tenant.has_keys() { vec![tenant] } else { Vec::new() })
}

fn one_of_many(
    reader: &mut Reader<'_>,
    defaults: Defaults<'_>,
    rates: Option<KeyRates>,
    number: usize,
) -> Option<TenantSettings> {
    let own = |key: &str| format!("tenants.{number}.{key}");
    let name = if reader.has(&own("name")) {
        name(reader, &own("name"))
    } else {
        reader.refuse(&own("name"), "is missing: what the tenant is called")
    };
    let keys = own_keys(reader, own);
    let purposes =
        if reader.has(&own("purposes")) { purposes(reader, &own("purposes")) } else { Some(Purposes::Any) };
    let test_recipients = test_recipients::read(reader, &format!("tenants.{number}"), &defaults);
    let brand = if reader.has(&own("brand")) {
        mail::read_brand(reader, &own("brand"))
    } else {
        defaults.brand.cloned()
    };
    let locale = if reader.has(&own("locale")) {
        mail::read_locale(reader, &own("locale"))
    } else {
        defaults.locale.cloned()
    };
    let sender = if reader.has(&own("sender")) {
        let text = reader.text(&own("sender"));
        text.and_then(|text| smtp::parse_sender(reader, &own("sender"), &own("brand"), text)).map(Some)
    } else {
        Some(None)
    };
    let transports = if reader.has(&own("transport")) {
        senders::read_order(reader, &own("transport")).map(Some)
    } else {
        Some(None)
    };
    let limits = limits::read_own(reader, &own("limits"), &defaults);
    let rates = rates.and_then(|rates| own_rates(reader, &own("limits"), rates));
    let [live, sandbox] = keys?;
    Some(TenantSettings {
        name: name?,
        brand: brand?,
        locale: locale?,
        sender: sender?,
        transports: transports?,
        keys: live,
        sandbox_keys: sandbox,
        purposes: purposes?,
        test_recipients: test_recipients?,
        limits: limits?,
        rates: rates?,
    })
}

/// Reads the live keys of a tenant of the file, and its sandbox keys. One of them is enough.
fn own_keys(reader: &mut Reader<'_>, own: impl Fn(&str) -> String) -> Option<[Vec<(KeyName, KeyHash)>; 2]> {
    let mut read = |key: &str, kind| {
        if reader.has(&own(key)) { api_keys::read(reader, &own(key), kind) } else { Some(Vec::new()) }
    };
    let live = read("keys", KeyKind::Live);
    let sandbox = read("sandbox_keys", KeyKind::Sandbox);
    let keys = [live?, sandbox?];
    if keys.iter().all(Vec::is_empty) {
        return reader.refuse(&own("keys"), "is missing: nobody could call for this tenant");
    }
    Some(keys)
}

/// Refuses two tenants with the same name, and two keys with the same hash.
fn distinct(reader: &mut Reader<'_>, tenants: Vec<TenantSettings>) -> Option<Vec<TenantSettings>> {
    // Tenants of the file come last, after the one of the section `tenant` if there is one.
    let in_section = tenants.len().saturating_sub(reader.tenants());
    for (number, tenant) in tenants.iter().enumerate() {
        let before = tenants.get(..number).unwrap_or_default();
        let of_file = (number + 1).saturating_sub(in_section);
        let layer = if of_file == 0 { "tenant".to_owned() } else { format!("tenants.{of_file}") };
        if before.iter().any(|other| other.name == tenant.name) {
            let key = format!("{layer}.name");
            let name = tenant.name.name();
            let line = reader.line(&key, &free_name(name, &tenants));
            return reader.refuse_for(&key, &format!("{name:?} is the name of two tenants"), &line);
        }
        if before
            .iter()
            .any(|other| other.hashes().any(|other| tenant.hashes().any(|own| own.matches(other))))
        {
            let what =
                format!("two tenants share a key, one of them {:?}: each needs its own", tenant.name.name());
            return reader.refuse(&format!("{layer}.keys"), &what);
        }
        let is_live = |(_, hash): &(KeyName, KeyHash)| tenant.keys.iter().any(|(_, key)| key.matches(hash));
        if let Some(number) = tenant.sandbox_keys.iter().position(is_live) {
            let what = format!("entry {} is one of keys too: a key is either live or for tests", number + 1);
            return reader.refuse(&format!("{layer}.sandbox_keys"), &what);
        }
    }
    Some(tenants)
}

fn name(reader: &mut Reader<'_>, key: &str) -> Option<tenant::Tenant> {
    reader.parse(key, "1 to 32 characters of a-z 0-9 _ -, and not \"simple\"", tenant::Tenant::parse)
}

/// Returns a name similar to this one that no tenant has.
fn free_name(name: &str, tenants: &[TenantSettings]) -> String {
    let start: String = name.chars().take(28).collect();
    let is_free = |candidate: &String| tenants.iter().all(|tenant| tenant.name.name() != candidate);
    (2..=tenants.len() + 2).map(|number| format!("{start}-{number}")).find(is_free).unwrap_or(start)
}

fn purposes(reader: &mut Reader<'_>, key: &str) -> Option<Purposes> {
    let rule = "must be 1 to 64 characters of a-z 0-9 _ . -, the first a letter or a digit";
    let purposes = reader.list_of(key, |item| Purpose::parse(item).ok_or_else(|| rule.to_owned()))?;
    Some(if purposes.is_empty() { Purposes::Any } else { Purposes::Only(purposes) })
}

/// Reads the requests per minute of one key, from the section `limits`.
pub(super) fn read_rates(reader: &mut Reader<'_>) -> Option<KeyRates> {
    let sends_per_minute = rate(reader, "limits.key_sends_per_minute");
    let checks_per_minute = rate(reader, "limits.key_checks_per_minute");
    Some(KeyRates { sends_per_minute: sends_per_minute?, checks_per_minute: checks_per_minute? })
}

fn own_rates(reader: &mut Reader<'_>, section: &str, defaults: KeyRates) -> Option<KeyRates> {
    let mut own = |key: &str, default| {
        let key = format!("{section}.{key}");
        if reader.has(&key) { rate(reader, &key) } else { Some(default) }
    };
    let sends_per_minute = own("key_sends_per_minute", defaults.sends_per_minute);
    let checks_per_minute = own("key_checks_per_minute", defaults.checks_per_minute);
    Some(KeyRates { sends_per_minute: sends_per_minute?, checks_per_minute: checks_per_minute? })
}

fn rate(reader: &mut Reader<'_>, key: &str) -> Option<NonZeroU32> {
    let most = NonZeroU32::new(10_000_000).unwrap_or(NonZeroU32::MAX);
    reader.number(key, NonZeroU32::MIN..=most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Common, Faults, Sources, Texts};
    use crate::domain::api_key;
    use crate::domain::limit::Policy;

    const HASHES: [&str; 3] = [
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE",
        "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI",
    ];

    fn read(variables: &[(&str, &str)], config: &str) -> Result<Common, Faults> {
        let config = Some(("otpd.toml".into(), config.to_owned()));
        let texts = Texts { config, ..Texts::only(variables) };
        let sources = Sources::layered(texts, &|_| panic!("no file is named"))?;
        config::dev(&sources).map(|loaded| loaded.settings)
    }

    fn tenants(variables: &[(&str, &str)], config: &str) -> Vec<TenantSettings> {
        read(variables, config).unwrap_or_else(|faults| panic!("{faults}")).tenants
    }

    /// Returns the fault of settings that have exactly one.
    fn refused(variables: &[(&str, &str)], config: &str) -> String {
        let faults = read(variables, config).unwrap_err();
        assert_eq!(faults.iter().count(), 1, "{faults}");
        faults.to_string()
    }

    fn one(lines: &str) -> String {
        format!("[[tenants]]\nname = \"shop\"\nkeys = [\"a:{}\"]\n{lines}\n", HASHES[0])
    }

    #[test]
    fn the_environment_alone_sets_one_tenant() {
        assert!(tenants(&[], "").is_empty());
        let keys = format!("new:{},old:{}", HASHES[0], HASHES[1]);
        let all = [("OTP_TENANT__KEYS", keys.as_str()), ("OTP_TENANT__PURPOSES", "login, signup")];
        let [tenant] = tenants(&all, "").try_into().unwrap();
        assert_eq!(tenant.name.name(), "default");
        let labels: Vec<_> = tenant.keys.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["new", "old"]);
        assert!(matches!(tenant.purposes, Purposes::Only(purposes) if purposes.len() == 2));
        assert_eq!(tenant.rates.sends_per_minute.get(), 600);
    }

    #[test]
    fn an_api_key_where_its_hash_belongs_is_refused_with_the_line_that_has_the_hash() {
        let key = api_key::text(&[7; 32]);
        let hash = KeyHash::of(&key).unwrap();
        let keys = format!("old:{},new:{}", HASHES[0], *key);
        let said = refused(&[("OTP_TENANT__KEYS", &keys)], "");
        assert!(said.contains("entry 2 holds an API key"), "{said}");
        assert!(said.ends_with(&format!("\n    OTP_TENANT__KEYS=old:{},new:{hash}", HASHES[0])), "{said}");
        assert!(!said.contains(&*key), "the key is shown");
        let other = api_key::text(&[8; 32]);
        let line_of = |keys: &str| {
            let said = refused(&[("OTP_TENANT__KEYS", keys)], "");
            said.rsplit_once("OTP_TENANT__KEYS=").unwrap().1.to_owned()
        };
        for (keys, expected) in [
            (format!("{},{},{}", *key, *other, *key), 2),
            (format!("a:{},a:{}", *key, *other), 2),
            (format!("key1:{},{}", HASHES[0], *other), 2),
        ] {
            let line = line_of(&keys);
            assert_eq!(tenants(&[("OTP_TENANT__KEYS", &line)], "")[0].keys.len(), expected, "{line}");
        }
        for keys in [format!("{}:{}", *key, *other), format!("My Key:{}", *key), format!("{}:x", *key)] {
            let said = refused(&[("OTP_TENANT__KEYS", &keys)], "");
            assert!(said.contains("entry 1 has a label that is not"), "{said}");
            assert!(!said.contains(&*key) && !said.contains(&*other), "a key is shown");
        }
        assert_eq!(tenants(&[("OTP_TENANT__KEYS", &format!("old:{},new:{hash},", HASHES[0]))], "").len(), 1);
    }

    #[test]
    fn sandbox_keys_are_a_list_of_their_own_and_may_be_the_only_ones() {
        let keys = format!("tests:{}", HASHES[0]);
        let [tenant] = tenants(&[("OTP_TENANT__SANDBOX_KEYS", &keys)], "").try_into().unwrap();
        assert_eq!((tenant.keys.len(), tenant.sandbox_keys[0].0.as_str()), (0, "tests"));
        let both = one(&format!("sandbox_keys = [\"a:{}\"]", HASHES[1]));
        let [tenant] = tenants(&[], &both).try_into().unwrap();
        assert_eq!((tenant.keys.len(), tenant.sandbox_keys.len()), (1, 1));
        let only = one("").replace("keys =", "sandbox_keys =");
        let [tenant] = tenants(&[], &only).try_into().unwrap();
        assert_eq!((tenant.keys.len(), tenant.sandbox_keys.len()), (0, 1));
        let keyed = [("OTP_SIMPLE__ACCESS", "keyed"), ("OTP_TENANT__SANDBOX_KEYS", keys.as_str())];
        assert!(refused(&keyed, "").contains("nobody has an API key"), "that is, a live one");
    }

    #[test]
    fn a_key_is_either_live_or_for_tests() {
        let twice = one(&format!("sandbox_keys = [\"a:{}\", \"b:{}\"]", HASHES[1], HASHES[0]));
        let said = refused(&[], &twice);
        assert!(said.starts_with("- tenants.1.sandbox_keys: entry 2 is one of keys too"), "{said}");
        let first = [("OTP_TENANT__SANDBOX_KEYS", format!("a:{}", HASHES[0]))];
        let first = first.each_ref().map(|(name, value)| (*name, value.as_str()));
        assert!(refused(&first, &one("")).contains("two tenants share a key"));
        // An API key in the list of the other kind: the line leaves the others in place.
        let live = api_key::text(&[7; 32]);
        let sandbox = api_key::text_of(KeyKind::Sandbox, &[7; 32]);
        for (list, key, right) in [("KEYS", &sandbox, "SANDBOX_KEYS"), ("SANDBOX_KEYS", &live, "KEYS")] {
            let keys = format!("b:{},a:{}", HASHES[0], **key);
            let said = refused(&[(&format!("OTP_TENANT__{list}"), &keys)], "");
            let hash = KeyHash::of(key).unwrap();
            assert!(said.contains(&format!("add its hash, a:{hash}, to OTP_TENANT__{right}")), "{said}");
            assert!(said.ends_with(&format!("\n    OTP_TENANT__{list}=b:{}", HASHES[0])), "{said}");
            assert!(!said.contains(&***key), "the key is shown");
        }
        let own = refused(&[("OTP_TENANT__SANDBOX_KEYS", &format!("a:{}", *sandbox))], "");
        assert!(own.contains("entry 1 holds an API key") && !own.contains(&*sandbox), "{own}");
    }

    #[test]
    fn what_a_tenant_does_not_say_is_as_for_the_deployment() {
        let variables = [("OTP_MAIL__BRAND", "All"), ("OTP_LIMITS__IP_EMAIL_SENDS", "2/1h")];
        let own = "brand = \"Shop\"\nsender = \"a@shop.example\"\n[tenants.limits]\n\
                   email_sends = \"1/60s 3/700h\"\nkey_checks_per_minute = 7";
        let second = format!("\n[[tenants]]\nname = \"bank\"\nkeys = \"a:{}\"", HASHES[1]);
        let common = read(&variables, &(one(own) + &second)).unwrap();
        let [shop, bank] = <[TenantSettings; 2]>::try_from(common.tenants).unwrap();
        assert_eq!((shop.brand, bank.brand), (Brand::Name("Shop".into()), Brand::Name("All".into())));
        assert_eq!((shop.sender.unwrap().as_str(), bank.sender), ("a@shop.example", None));
        assert_eq!(shop.limits.of(Policy::EmailSends).to_string(), "1/60s 3/700h");
        assert_eq!(shop.limits.of(Policy::IpEmailSends).to_string(), "2/1h");
        assert_eq!((shop.rates.checks_per_minute.get(), bank.rates.checks_per_minute.get()), (7, 1200));
        // One log holds the sends of all tenants, so its retention is the longest window of any
        // tenant.
        let kept = std::time::Duration::from_hours(700);
        assert_eq!(
            [shop.limits, bank.limits, common.limits].map(|limits| limits.sends_retention()),
            [kept; 3]
        );
    }

    #[test]
    fn what_is_wrong_with_a_tenant_is_named_with_the_line_that_mends_it() {
        let said = refused(&[], &one("purpose = [\"login\"]"));
        assert!(
            said.starts_with("- tenants.1.purpose: is not a setting of a tenant (in otpd.toml)"),
            "{said}"
        );
        assert!(said.ends_with("purposes = \"login,signup\"  # in [[tenants]] number 1"), "{said}");
        let said = refused(&[], &one("limits = { attempts = 3 }"));
        assert!(said.contains("tenants.1.limits.attempts: is a setting of all tenants together"), "{said}");
        assert!(said.ends_with("attempts = 5  # in [limits]"), "{said}");
        let said = refused(&[], &one("[tenants.limits]\nip_sends = \"many\""));
        assert!(
            said.ends_with("ip_sends = \"30/1h 100/24h\"  # in [tenants.limits] of [[tenants]] number 1"),
            "{said}"
        );
        for (lines, name) in [
            ("brand = \"a\\nb\"", "tenants.1.brand"),
            ("sender = \"nobody\"", "tenants.1.sender"),
            ("locale = \"de DE\"", "tenants.1.locale"),
            ("purposes = [\"Log in\"]", "tenants.1.purposes"),
            ("purposes = [1]", "tenants.1.purposes"),
            ("limits = { ip_sends = \"many\" }", "tenants.1.limits.ip_sends"),
            ("limits = { key_sends_per_minute = 0 }", "tenants.1.limits.key_sends_per_minute"),
        ] {
            assert!(refused(&[], &one(lines)).starts_with(&format!("- {name}: ")), "{lines}");
        }
        for (config, what) in [
            (
                format!("[[tenants]]\nname = \"shop\"\nkeys = \"a:{}x\"", HASHES[0]),
                "tenants.1.keys: entry 1 has a hash",
            ),
            (
                format!("[[tenants]]\nname = \"shop\"\nkeys = \"{}\"", HASHES[0]),
                "tenants.1.keys: entry 1 has no label",
            ),
            (
                "[[tenants]]\nname = \"shop\"".to_owned(),
                "tenants.1.keys: is missing: nobody could call for this tenant\n    keys = \"backend:",
            ),
            (format!("[[tenants]]\nkeys = \"a:{}\"", HASHES[0]), "tenants.1.name: is missing"),
            (one("").replace("shop", "simple"), "tenants.1.name: must be"),
            (one("") + &one("").replace(HASHES[0], HASHES[1]), "\"shop\" is the name of two tenants"),
            (one("") + &one("").replace("shop", "bank"), "two tenants share a key"),
            (
                one("").replace(HASHES[0], &format!("{0},b:{0}", HASHES[0])),
                "tenants.1.keys: entry 2 has the hash of another",
            ),
            (
                one("").replace(HASHES[0], &format!("{},a:{}", HASHES[0], HASHES[1])),
                "tenants.1.keys: entry 2 has the label of another, \"a\"",
            ),
            ("tenants = 1".to_owned(), "tenants: is not a table of otpd"),
            ("[tenants]\nname = \"a\"".to_owned(), "tenants.name: is not a table of otpd"),
        ] {
            assert!(refused(&[], &config).contains(what), "{config}: {what}");
        }
        assert!(refused(&[("OTP_SIMPLE__ACCESS", "keyed")], "").contains("nobody has an API key"));
    }
}

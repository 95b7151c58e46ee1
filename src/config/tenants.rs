//! Settings of the tenants of the v1 API: one in the section `tenant`, any number as `[[tenants]]` in the file of
//! `--config`.
//!
//! What a tenant does not say is as it is for the deployment. Must not hold a key: the settings have their hashes.

use std::num::NonZeroU32;

use super::codes::Codes;
use super::dangerous::Dangerous;
use super::limits;
use super::mail::{self, Brand};
use super::reader::Reader;
use crate::domain::api_key::KeyHash;
use crate::domain::email_address::EmailAddress;
use crate::domain::key_name::KeyName;
use crate::domain::limit::Limits;
use crate::domain::purpose::{Purpose, Purposes};
use crate::domain::tenant;

/// What can be said in one of the `[[tenants]]`.
pub(super) const KEYS: [&str; 11] = [
    "name",
    "brand",
    "sender",
    "keys",
    "purposes",
    "limits.network_sends",
    "limits.network_guesses",
    "limits.subject_sends",
    "limits.site_sends",
    "limits.key_sends_per_minute",
    "limits.key_checks_per_minute",
];

/// The most keys of one tenant: two while one takes over from another, for a few programs.
const MOST_KEYS: usize = 16;

/// A tenant.
#[derive(Debug, Clone)]
pub struct Tenant {
    /// Its name.
    pub name: tenant::Tenant,
    /// What its mails call it.
    pub brand: Brand,
    /// Where its mails come from, where not from the deployment's sender.
    pub sender: Option<EmailAddress>,
    /// The keys that are active, by their labels.
    pub keys: Vec<(KeyName, KeyHash)>,
    /// What it may verify addresses for.
    pub purposes: Purposes,
    /// How often anything may be done for it.
    pub limits: Limits,
    /// What one of its keys may ask.
    pub rates: KeyRates,
}

/// What one key may ask in a minute: load shaping, no security counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyRates {
    /// Creations and resends.
    pub sends_per_minute: NonZeroU32,
    /// All else.
    pub checks_per_minute: NonZeroU32,
}

/// What the deployment says for all tenants.
#[derive(Clone, Copy)]
pub(super) struct Usual<'a> {
    pub codes: Option<&'a Codes>,
    pub limits: Option<&'a Limits>,
    pub brand: Option<&'a Brand>,
    pub dangerous: Dangerous,
}

/// The setting of the deployment that a tenant's is like.
pub(super) fn like(key: &str) -> &str {
    match key {
        "name" => "tenant.name",
        "keys" => "tenant.keys",
        "purposes" => "tenant.purposes",
        "brand" => "mail.brand",
        "sender" => "smtp.sender",
        limits => limits,
    }
}

/// Reads all tenants.
pub(super) fn read(
    reader: &mut Reader<'_>,
    usual: Usual<'_>,
    rates: Option<KeyRates>,
) -> Option<Vec<Tenant>> {
    let first = the_one(reader, usual, rates);
    let others: Vec<_> =
        (1..=reader.tenants()).map(|number| one_of_many(reader, usual, rates, number)).collect();
    let others: Option<Vec<Tenant>> = others.into_iter().collect();
    let tenants: Vec<Tenant> = first?.into_iter().chain(others?).collect();
    distinct(reader, tenants)
}

/// The tenant of the section `tenant`; none where it has no keys.
fn the_one(reader: &mut Reader<'_>, usual: Usual<'_>, rates: Option<KeyRates>) -> Option<Option<Tenant>> {
    let name = name(reader, "tenant.name");
    let keys = keys(reader, "tenant.keys");
    let purposes = purposes(reader, "tenant.purposes");
    let tenant = Tenant {
        name: name?,
        brand: usual.brand?.clone(),
        sender: None,
        keys: keys?,
        purposes: purposes?,
        limits: usual.limits?.clone(),
        rates: rates?,
    };
    Some(Some(tenant).filter(|tenant| !tenant.keys.is_empty()))
}

fn one_of_many(
    reader: &mut Reader<'_>,
    usual: Usual<'_>,
    rates: Option<KeyRates>,
    number: usize,
) -> Option<Tenant> {
    let own = |key: &str| format!("tenants.{number}.{key}");
    let name = if reader.has(&own("name")) {
        name(reader, &own("name"))
    } else {
        reader.refuse(&own("name"), "is missing: what the tenant is called")
    };
    let keys = if reader.has(&own("keys")) { keys(reader, &own("keys")) } else { Some(Vec::new()) };
    let keys = match keys {
        Some(keys) if keys.is_empty() => {
            reader.refuse(&own("keys"), "is missing: nobody could call for this tenant")
        }
        keys => keys,
    };
    let purposes =
        if reader.has(&own("purposes")) { purposes(reader, &own("purposes")) } else { Some(Purposes::Any) };
    let brand = if reader.has(&own("brand")) {
        mail::read_brand(reader, &own("brand"))
    } else {
        usual.brand.cloned()
    };
    let sender =
        if reader.has(&own("sender")) { sender(reader, &own("sender")).map(Some) } else { Some(None) };
    let limits = limits::read_own(reader, &own("limits"), &usual);
    let rates = rates.and_then(|usual| own_rates(reader, &own("limits"), usual));
    Some(Tenant {
        name: name?,
        brand: brand?,
        sender: sender?,
        keys: keys?,
        purposes: purposes?,
        limits: limits?,
        rates: rates?,
    })
}

/// No two tenants share a name, and no two keys a hash.
fn distinct(reader: &mut Reader<'_>, tenants: Vec<Tenant>) -> Option<Vec<Tenant>> {
    for (number, tenant) in tenants.iter().enumerate() {
        let before = tenants.get(..number).unwrap_or_default();
        if before.iter().any(|other| other.name == tenant.name) {
            return reader
                .refuse("tenant.name", &format!("{:?} is the name of two tenants", tenant.name.name()));
        }
        let keys = before.iter().flat_map(|other| &other.keys);
        let twice = keys.into_iter().any(|(_, other)| tenant.keys.iter().any(|(_, key)| key.matches(other)));
        if twice {
            let what =
                format!("two tenants share a key, one of them {:?}: each needs its own", tenant.name.name());
            return reader.refuse("tenant.keys", &what);
        }
    }
    Some(tenants)
}

fn name(reader: &mut Reader<'_>, key: &str) -> Option<tenant::Tenant> {
    reader.parse(key, "1 to 32 characters of a-z 0-9 _ -, and not \"simple\"", tenant::Tenant::parse)
}

fn keys(reader: &mut Reader<'_>, key: &str) -> Option<Vec<(KeyName, KeyHash)>> {
    let rule = "a label of 1 to 16 characters a-z 0-9 _ -, a colon, and the hash that `otpd keygen api-key` prints; at most 16, \
                each label and each key once";
    let keys = reader.list(key, rule, |item| {
        let (label, hash) = item.split_once(':')?;
        Some((KeyName::parse(label)?, KeyHash::parse(hash)?))
    })?;
    let clash = |(at, (label, hash)): (usize, &(KeyName, KeyHash))| {
        keys.iter().skip(at + 1).any(|(other, key)| other == label || key.matches(hash))
    };
    if keys.len() > MOST_KEYS || keys.iter().enumerate().any(clash) {
        return reader.refuse(key, &format!("must be a comma separated list, each {rule}"));
    }
    Some(keys)
}

fn purposes(reader: &mut Reader<'_>, key: &str) -> Option<Purposes> {
    let rule = "1 to 64 characters of a-z 0-9 _ . -, the first a letter or a digit";
    let purposes = reader.list(key, rule, Purpose::parse)?;
    Some(if purposes.is_empty() { Purposes::Any } else { Purposes::Only(purposes) })
}

fn sender(reader: &mut Reader<'_>, key: &str) -> Option<EmailAddress> {
    reader.parse(key, "an email address and nothing else", |text| EmailAddress::parse(text).ok())
}

/// Reads what one key may ask, from the section `limits`.
pub(super) fn read_rates(reader: &mut Reader<'_>) -> Option<KeyRates> {
    let sends_per_minute = rate(reader, "limits.key_sends_per_minute");
    let checks_per_minute = rate(reader, "limits.key_checks_per_minute");
    Some(KeyRates { sends_per_minute: sends_per_minute?, checks_per_minute: checks_per_minute? })
}

fn own_rates(reader: &mut Reader<'_>, section: &str, usual: KeyRates) -> Option<KeyRates> {
    let mut own = |key: &str, usual| {
        let key = format!("{section}.{key}");
        if reader.has(&key) { rate(reader, &key) } else { Some(usual) }
    };
    let sends_per_minute = own("key_sends_per_minute", usual.sends_per_minute);
    let checks_per_minute = own("key_checks_per_minute", usual.checks_per_minute);
    Some(KeyRates { sends_per_minute: sends_per_minute?, checks_per_minute: checks_per_minute? })
}

fn rate(reader: &mut Reader<'_>, key: &str) -> Option<NonZeroU32> {
    let most = NonZeroU32::new(10_000_000).unwrap_or(NonZeroU32::MAX);
    reader.number(key, NonZeroU32::MIN..=most)
}

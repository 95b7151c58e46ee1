//! Finds the DKIM keys of a domain: by the selectors that the operator or a test email names, and
//! by those that its providers usually have.

use super::dkim::{DkimKey, KeyFault};
use super::{Lookup, SenderDomain};
use crate::adapters::dns::{DnsRecord, LookupError, RecordKind};

/// The key record of a selector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FoundKey {
    /// The domain that signs with it.
    pub domain: String,
    /// The name of the record.
    pub name: String,
    /// Where a CNAME leads, if the name is one.
    pub cname: Option<String>,
    /// Whether somebody named the selector; otherwise it is a usual one of the provider.
    pub is_named: bool,
    /// The key, or why there is none.
    pub key: Result<DkimKey, MissingKey>,
}

/// Why a selector has no usable key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum MissingKey {
    /// There is no record.
    #[error("there is no key")]
    Absent,
    /// DNS failed.
    #[error("it could not be looked up: {0}")]
    Unresolved(LookupError),
    /// The record is there and cannot be used.
    #[error("{0}")]
    Unusable(KeyFault),
}

/// Looks the selectors up.
pub(super) async fn find(dns: &impl Lookup, domain: &SenderDomain<'_>) -> Vec<FoundKey> {
    let signatures = domain.mail.iter().flat_map(|mail| &mail.signatures);
    let signatures =
        signatures.map(|signature| (signature.selector.as_str(), signature.domain.as_str(), true));
    let named = domain.selectors.iter().map(|selector| (selector.as_str(), domain.name, true));
    let usual = domain.providers().flat_map(|provider| provider.selectors);
    let usual = usual.map(|selector| (*selector, domain.name, false));
    let mut found: Vec<FoundKey> = Vec::new();
    for (selector, signer, is_named) in signatures.chain(named).chain(usual) {
        let name = format!("{selector}._domainkey.{signer}");
        if found.iter().any(|key| key.name == name) {
            continue;
        }
        let key = look_up(dns, &name).await;
        let cname = match &key {
            Err(MissingKey::Absent) => None,
            _ => cname(dns, &name).await,
        };
        found.push(FoundKey { domain: signer.to_owned(), name, cname, is_named, key });
    }
    found
}

async fn look_up(dns: &impl Lookup, name: &str) -> Result<DkimKey, MissingKey> {
    let records = dns.lookup(RecordKind::Txt, name).await.map_err(|error| {
        if error.is_absent() { MissingKey::Absent } else { MissingKey::Unresolved(error) }
    })?;
    let texts: Vec<_> = records
        .iter()
        .filter_map(|record| match record {
            DnsRecord::Text(text) => Some(text.as_str()),
            _ => None,
        })
        .collect();
    // Receivers may take any of several records (RFC 6376 section 3.6.2.2), so that one key is
    // enough here.
    let parsed = texts.iter().map(|text| DkimKey::parse(text)).reduce(Result::or);
    parsed.unwrap_or(Err(KeyFault::NoRecord)).map_err(MissingKey::Unusable)
}

async fn cname(dns: &impl Lookup, name: &str) -> Option<String> {
    match dns.lookup(RecordKind::Cname, name).await.ok()?.into_iter().next() {
        Some(DnsRecord::Name(target)) => Some(target),
        _ => None,
    }
}

//! What SPF, DKIM and DMARC together mean for the emails of a domain.
//!
//! Must not look anything up.

use super::dkim_keys::{FoundKey, MissingKey};
use super::dmarc::{AlignmentMode, DmarcFault, DmarcPolicy, DmarcRecord};
use super::spf::Qualifier;
use super::spf_walk::{MAX_LOOKUPS, SpfFault, SpfSummary};
use super::{DnsFinding, SenderDomain, txt_line};
use crate::cli::doctor::provider::Envelope;

/// What every sender needs.
const OF_ALL_SENDERS: &str = "Gmail and Yahoo refuse mail that neither SPF nor DKIM authenticates";
/// What senders of many emails need.
const OF_BULK_SENDERS: &str =
    "Gmail, Yahoo and Microsoft require SPF, DKIM and DMARC of bulk senders (5000 emails a day and more)";

/// Returns the findings on SPF, DKIM, DMARC and alignment, in this order.
pub(super) fn findings(
    domain: &SenderDomain<'_>,
    spf: &Result<SpfSummary, SpfFault>,
    keys: &[FoundKey],
    dmarc: &Result<DmarcRecord, DmarcFault>,
) -> Vec<DnsFinding> {
    let mut findings = vec![spf_finding(domain, spf, keys)];
    findings.extend(spf_hints(domain, spf));
    findings.extend(dkim_findings(domain, keys));
    findings.push(dmarc_finding(domain, dmarc));
    findings.extend(dmarc.iter().map(|dmarc| alignment(domain, spf, keys, dmarc)));
    findings
}

fn has_key(keys: &[FoundKey]) -> bool {
    keys.iter().any(|key| key.key.is_ok())
}

fn spf_finding(
    domain: &SenderDomain<'_>,
    spf: &Result<SpfSummary, SpfFault>,
    keys: &[FoundKey],
) -> DnsFinding {
    let name = domain.envelope().unwrap_or(domain.name);
    let said = match spf {
        Ok(summary) => return includes(domain, name, summary, keys),
        Err(SpfFault::Missing) => format!("SPF of {name}: {}", SpfFault::Missing),
        Err(fault) => return DnsFinding::Fault(format!("SPF of {name}: {fault}{}", cure(fault))),
    };
    let record = txt_line(name, &first_record(domain));
    match domain.foreign_envelopes().next() {
        Some((provider, cure)) if domain.envelope().is_none() => DnsFinding::Hint(format!(
            "{said}; receivers check that of {provider}, which sends with an envelope sender of another domain.\n      \
             To align it, {cure}"
        )),
        _ if has_key(keys) => {
            DnsFinding::Hint(format!("{said}: {OF_BULK_SENDERS}. Add the record\n      {record}"))
        }
        _ => DnsFinding::Fault(format!(
            "{said}, and no DKIM key was found: {OF_ALL_SENDERS}. Add the record\n      {record}"
        )),
    }
}

/// Returns the finding on a valid record: whether it has the includes of the providers.
fn includes(domain: &SenderDomain<'_>, name: &str, summary: &SpfSummary, keys: &[FoundKey]) -> DnsFinding {
    let lookups = summary.lookups;
    let count = format!("SPF of {name}: valid, {lookups} of {MAX_LOOKUPS} DNS look-ups");
    let missing = missing_includes(domain, summary);
    let Some((provider, include)) = missing.first().filter(|_| name == domain.name) else {
        return DnsFinding::Pass(count);
    };
    let record = txt_line(name, &with_include(&summary.text, include));
    let said =
        format!("SPF of {name}: the record does not include {include}, so mail through {provider} fails SPF");
    let advice = format!("Replace it with\n      {record}");
    if has_key(keys) {
        DnsFinding::Hint(format!("{said}: {OF_BULK_SENDERS}. {advice}"))
    } else {
        DnsFinding::Fault(format!("{said}, and no DKIM key was found: {OF_ALL_SENDERS}. {advice}"))
    }
}

/// Returns the providers whose include the record lacks.
fn missing_includes(domain: &SenderDomain<'_>, summary: &SpfSummary) -> Vec<(&'static str, &'static str)> {
    let wanted = domain.providers().filter_map(|provider| match provider.envelope {
        Envelope::Sender(include) => Some((provider.name, include)),
        Envelope::Provider(_) => None,
    });
    wanted.filter(|(_, include)| !summary.includes.iter().any(|has| has == include)).collect()
}

/// Returns a record for a domain that has none.
fn first_record(domain: &SenderDomain<'_>) -> String {
    let terms =
        domain.relays.iter().filter_map(|relay| match relay.provider.map(|provider| provider.envelope) {
            Some(Envelope::Sender(include)) => Some(format!("include:{include} ")),
            Some(Envelope::Provider(_)) => None,
            None => Some(match relay.host.parse() {
                Ok(std::net::IpAddr::V4(address)) => format!("ip4:{address} "),
                Ok(std::net::IpAddr::V6(address)) => format!("ip6:{address} "),
                Err(_) => format!("a:{} ", relay.host),
            }),
        });
    format!("v=spf1 {}~all", terms.collect::<String>())
}

/// Returns the record with one more include, before what decides on all others.
fn with_include(text: &str, include: &str) -> String {
    let is_end = |word: &str| {
        let word = word.to_ascii_lowercase();
        word.trim_start_matches(['+', '-', '~', '?']) == "all" || word.starts_with("redirect=")
    };
    let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let at = words.iter().position(|word| is_end(word)).unwrap_or(words.len());
    let (before, after) = words.split_at(at);
    let include = format!("include:{include}");
    let end: &[&str] = if after.is_empty() { &["~all"] } else { after };
    [before, &[include.as_str()], end].concat().join(" ")
}

fn cure(fault: &SpfFault) -> &'static str {
    match fault {
        SpfFault::Several(..) => ". Receivers ignore both: merge them into one, with one v=spf1 and one all",
        SpfFault::Syntax(..) => ". Receivers ignore the whole record: correct it",
        SpfFault::IncludesNothing(_) => ". Receivers ignore the whole record: remove the include",
        SpfFault::Loop(_) => ". Receivers ignore the whole record: remove one of the includes",
        SpfFault::TooManyLookups(_) | SpfFault::TooManyVoidLookups(_) | SpfFault::TooManyHosts(_) => {
            ". Receivers ignore the whole record: remove the includes and hosts that no longer send, or \
             send from a subdomain with a record of its own"
        }
        SpfFault::AllowsAll(_) => ". Everybody can send as the domain: end it in ~all or -all",
        SpfFault::Unresolved(..) => {
            ". Receivers cannot check it either: correct the domain's name servers, or try again"
        }
        SpfFault::Missing => "",
    }
}

fn spf_hints(domain: &SenderDomain<'_>, spf: &Result<SpfSummary, SpfFault>) -> Vec<DnsFinding> {
    let Ok(summary) = spf else { return Vec::new() };
    let name = domain.envelope().unwrap_or(domain.name);
    let hint =
        |condition: bool, text: &str| condition.then(|| DnsFinding::Hint(format!("SPF of {name}: {text}")));
    let is_open = matches!(summary.all, None | Some(Qualifier::Neutral));
    let hints = [
        hint(is_open, "the record says nothing of other servers: end it in ~all or -all"),
        hint(summary.has_ptr, "ptr is slow and should not be used (RFC 7208 section 5.5)"),
        hint(summary.has_macros, "macros depend on the email and were counted, not followed"),
    ];
    hints.into_iter().flatten().collect()
}

fn dkim_findings(domain: &SenderDomain<'_>, keys: &[FoundKey]) -> Vec<DnsFinding> {
    let name = domain.name;
    let found = keys.iter().filter(|key| key.is_named || key.key != Err(MissingKey::Absent));
    let has_key = has_key(keys);
    let mut findings: Vec<_> = found.map(|key| key_finding(key, has_key)).collect();
    if findings.is_empty() {
        let place = domain.providers().next().map_or("the relay's documentation", |provider| provider.dkim);
        let looked: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
        let said = if looked.is_empty() {
            "the selector is not known".to_owned()
        } else {
            format!("there is no key at {}", looked.join(", "))
        };
        findings.push(DnsFinding::Hint(format!(
            "DKIM of {name}: {said}. Name yours with --dkim-selector NAME, or pass a received test email with --mail \
             FILE.\n      {OF_BULK_SENDERS}; the record to add is in {place}"
        )));
    }
    findings
}

fn key_finding(key: &FoundKey, has_other: bool) -> DnsFinding {
    let name = &key.name;
    let through = key.cname.as_ref().map_or(String::new(), |target| format!(" (a CNAME to {target})"));
    match &key.key {
        Ok(usable) => DnsFinding::Pass(format!("DKIM key {name}{through}: {}", usable.describe())),
        Err(reason) if key.is_named || !has_other => DnsFinding::Fault(format!(
            "DKIM key {name}{through}: {reason}. Add the record that the provider shows"
        )),
        Err(reason) => DnsFinding::Hint(format!("DKIM key {name}{through}: {reason}")),
    }
}

fn dmarc_finding(domain: &SenderDomain<'_>, dmarc: &Result<DmarcRecord, DmarcFault>) -> DnsFinding {
    let name = domain.name;
    let record =
        txt_line(&format!("_dmarc.{name}"), &format!("v=DMARC1; p=none; rua=mailto:postmaster@{name}"));
    match dmarc {
        Ok(dmarc) => {
            let reports = if dmarc.has_reports { "" } else { "; rua= would name an address for reports" };
            DnsFinding::Pass(format!("DMARC of {name}: p={} at {}{reports}", dmarc.policy.name(), dmarc.name))
        }
        Err(fault @ DmarcFault::Missing) => DnsFinding::Hint(format!(
            "DMARC of {name}: {fault}: {OF_BULK_SENDERS}. Add the record\n      {record}"
        )),
        Err(fault @ DmarcFault::Unresolved(..)) => DnsFinding::Fault(format!("DMARC of {name}: {fault}")),
        Err(fault) => DnsFinding::Fault(format!(
            "DMARC of {name}: {fault}. Receivers take it for none: {OF_BULK_SENDERS}. Replace it, such as with\n      \
             {record}"
        )),
    }
}

/// Returns whether emails pass DMARC: SPF or DKIM authenticates a domain that aligns with the
/// sender's.
fn alignment(
    domain: &SenderDomain<'_>,
    spf: &Result<SpfSummary, SpfFault>,
    keys: &[FoundKey],
    dmarc: &DmarcRecord,
) -> DnsFinding {
    let name = domain.name;
    let has_includes = spf.as_ref().is_ok_and(|summary| missing_includes(domain, summary).is_empty());
    let by_spf = domain.envelope().is_some_and(|envelope| {
        let is_valid = if envelope == name { has_includes } else { spf.is_ok() };
        is_valid && dmarc.spf.aligns(envelope, name)
    });
    let by_dkim = keys.iter().any(|key| key.key.is_ok() && dmarc.dkim.aligns(&key.domain, name));
    let modes = |mode| if mode == AlignmentMode::Strict { "strict" } else { "relaxed" };
    let said = format!("alignment of {name} (SPF {}, DKIM {})", modes(dmarc.spf), modes(dmarc.dkim));
    let neither = "neither SPF nor DKIM is valid for a domain that aligns with the sender's";
    let cure = "sign with DKIM as this domain (d=), or send with an envelope sender of it";
    match (by_spf, by_dkim) {
        (true, true) => DnsFinding::Pass(format!("{said}: by SPF and DKIM")),
        (true, false) => DnsFinding::Pass(format!("{said}: by SPF")),
        (false, true) => DnsFinding::Pass(format!("{said}: by DKIM")),
        (false, false) if keys.is_empty() => {
            DnsFinding::Hint(format!("{said}: not by SPF, and no DKIM selector is known"))
        }
        (false, false) if dmarc.policy == DmarcPolicy::None => {
            DnsFinding::Hint(format!("{said}: {neither}: {OF_BULK_SENDERS}, and that one aligns; {cure}"))
        }
        (false, false) => DnsFinding::Fault(format!(
            "{said}: {neither}, and p={} asks receivers not to deliver such mail: {cure}",
            dmarc.policy.name()
        )),
    }
}

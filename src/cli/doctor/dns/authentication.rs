//! What SPF, DKIM and DMARC together mean for the emails of a domain.
//!
//! Must not look anything up.

use std::net::IpAddr;

use super::dkim_keys::{FoundKey, MissingKey};
use super::dmarc::{AlignmentMode, DmarcFault, DmarcPolicy, DmarcRecord};
use super::spf::Qualifier;
use super::spf_walk::{MAX_LOOKUPS, SpfFault, SpfSummary};
use super::{DnsFinding, SenderDomain, txt_line};
use crate::cli::doctor::provider::EnvelopeDomain;
use crate::domain::public_address::is_public;

/// What every sender needs.
const OF_ALL_SENDERS: &str = "Gmail and Yahoo refuse mail that neither SPF nor DKIM authenticates";
/// What senders of many emails need.
const OF_BULK_SENDERS: &str = "Gmail, Yahoo and Microsoft require SPF, DKIM and DMARC of bulk senders (Gmail, Microsoft: 5000 emails a day)";

/// The term of a relay whose public address is not known.
const UNKNOWN_ADDRESS: &str = "ip4:ADDRESS";

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
    if domain.relays.is_empty() {
        return DnsFinding::Hint(format!(
            "{said}; only the hook sends for the domain, so the record to add is that of what the hook sends with"
        ));
    }
    let advice = first_record(domain, name).map_or_else(
        || "Add the record that the provider shows".to_owned(),
        |record| format!("Add the record\n      {record}"),
    );
    match domain.foreign_envelopes().next() {
        Some((provider, cure)) if domain.envelope().is_none() => DnsFinding::Hint(format!(
            "{said}; receivers check that of {provider}, which sends with an envelope sender of another domain.\n      \
             To align it, {cure}"
        )),
        _ if has_key(keys) => DnsFinding::Hint(format!("{said}: {OF_BULK_SENDERS}. {advice}")),
        _ => DnsFinding::Fault(format!("{said}, and no DKIM key was found: {OF_ALL_SENDERS}. {advice}")),
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
        EnvelopeDomain::Sender(include) => Some((provider.name, include)),
        EnvelopeDomain::Provider(_) => None,
    });
    wanted.filter(|(_, include)| !summary.includes.iter().any(|has| has == include)).collect()
}

/// Returns the line of a record for a domain that has none, if it is known who sends with an
/// envelope sender of it.
fn first_record(domain: &SenderDomain<'_>, name: &str) -> Option<String> {
    let terms =
        domain.relays.iter().filter_map(|relay| match relay.provider.map(|provider| provider.envelope) {
            Some(EnvelopeDomain::Sender(include)) => Some(format!("include:{include} ")),
            Some(EnvelopeDomain::Provider(_)) => None,
            None => Some(host_term(relay.host)),
        });
    let terms: String = terms.collect();
    if terms.is_empty() {
        return None;
    }
    let line = txt_line(name, &format!("v=spf1 {terms}~all"));
    Some(if terms.contains(UNKNOWN_ADDRESS) {
        format!("{line}\n      with the public address that the relay delivers from as ADDRESS")
    } else {
        line
    })
}

/// Returns the term that allows a relay: its name or public address.
fn host_term(host: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V4(address)) if is_public(address.into()) => format!("ip4:{address} "),
        Ok(IpAddr::V6(address)) if is_public(address.into()) => format!("ip6:{address} "),
        Err(_) if host.contains('.') => format!("a:{host} "),
        _ => format!("{UNKNOWN_ADDRESS} "),
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::dns::dkim::{DkimKey, KeyAlgorithm};
    use crate::cli::doctor::dns::{RelayHost, TestMail};
    use crate::cli::doctor::provider;

    /// Returns a summary of a record that leads to these domains.
    fn spf(text: &str, includes: &[&str]) -> SpfSummary {
        SpfSummary {
            text: text.to_owned(),
            lookups: 1,
            includes: includes.iter().map(|include| (*include).to_owned()).collect(),
            all: Some(Qualifier::SoftFail),
            has_macros: false,
            has_ptr: false,
        }
    }

    fn key(domain: &str, is_valid: bool) -> FoundKey {
        let usable = DkimKey { algorithm: KeyAlgorithm::Rsa(2048), is_test: false };
        FoundKey {
            domain: domain.to_owned(),
            name: format!("s._domainkey.{domain}"),
            cname: None,
            is_named: false,
            key: if is_valid { Ok(usable) } else { Err(MissingKey::Absent) },
        }
    }

    fn dmarc(policy: DmarcPolicy) -> DmarcRecord {
        let (dkim, spf) = (AlignmentMode::Relaxed, AlignmentMode::Relaxed);
        DmarcRecord { name: "_dmarc.a.test".to_owned(), policy, dkim, spf, has_reports: true }
    }

    /// Returns the lines about the domain a.test, whose emails go through this relay.
    fn said(
        host: &str,
        spf: &Result<SpfSummary, SpfFault>,
        keys: &[FoundKey],
        dmarc: &Result<DmarcRecord, DmarcFault>,
    ) -> String {
        let relays = [RelayHost { host, provider: provider::of(host) }];
        let domain = SenderDomain { name: "a.test", relays: &relays, selectors: &[], mail: None };
        let lines: Vec<_> = findings(&domain, spf, keys, dmarc).iter().map(DnsFinding::line).collect();
        lines.join("\n")
    }

    #[test]
    fn a_missing_record_is_given_with_what_the_relay_needs() {
        let record = |host| said(host, &Err(SpfFault::Missing), &[], &Err(DmarcFault::Missing));
        for (host, record_line) in [
            ("smtp.gmail.com", "a.test. IN TXT \"v=spf1 include:_spf.google.com ~all\""),
            ("smtp.office365.com", "a.test. IN TXT \"v=spf1 include:spf.protection.outlook.com ~all\""),
            ("relay.example.com", "a.test. IN TXT \"v=spf1 a:relay.example.com ~all\""),
            ("192.0.1.7", "a.test. IN TXT \"v=spf1 ip4:192.0.1.7 ~all\""),
            ("localhost", "a.test. IN TXT \"v=spf1 ip4:ADDRESS ~all\""),
            ("127.0.0.1", "a.test. IN TXT \"v=spf1 ip4:ADDRESS ~all\""),
        ] {
            let said = record(host);
            assert!(
                said.starts_with("FAIL  SPF of a.test: there is no SPF record, and no DKIM key"),
                "{said}"
            );
            assert!(said.contains(record_line), "{host}: {said}");
        }
        // Receivers check the record of another domain.
        for host in ["email-smtp.us-east-1.amazonaws.com", "smtp.postmarkapp.com", "smtp.resend.com"] {
            assert!(record(host).starts_with("note  SPF of a.test: there is no SPF record; receivers check"));
        }
    }

    #[test]
    fn the_include_of_the_provider_is_added_to_the_record_before_its_end() {
        let lacking = |text| Ok(spf(text, &["b.test"]));
        let with = |text, keys: &[FoundKey]| {
            said("smtp.gmail.com", &lacking(text), keys, &Ok(dmarc(DmarcPolicy::None)))
        };
        let text = with("v=spf1 include:b.test -all", &[]);
        assert!(
            text.starts_with("FAIL  SPF of a.test: the record does not include _spf.google.com"),
            "{text}"
        );
        assert!(text.contains("\"v=spf1 include:b.test include:_spf.google.com -all\""), "{text}");
        assert!(
            with("v=spf1 redirect=b.test", &[])
                .contains("\"v=spf1 include:_spf.google.com redirect=b.test\"")
        );
        assert!(with("v=spf1 a", &[]).contains("\"v=spf1 a include:_spf.google.com ~all\""));
        assert!(with("v=spf1 -all", &[key("a.test", true)]).starts_with("note  SPF of a.test"));
        let has = Ok(spf("v=spf1 redirect=_spf.google.com", &["_spf.google.com"]));
        assert!(
            said("smtp.gmail.com", &has, &[], &Ok(dmarc(DmarcPolicy::None)))
                .starts_with("ok    SPF of a.test")
        );
    }

    #[test]
    fn alignment_fails_only_if_the_policy_keeps_mail_from_arriving() {
        let aligned = |host, spf: &Result<_, _>, keys: &[FoundKey], policy| {
            let said = said(host, spf, keys, &Ok(dmarc(policy)));
            let line = said.lines().find(|line| line.contains("alignment")).expect("a line");
            (line[..4].trim().to_owned(), line.rsplit(": ").next().unwrap_or_default().to_owned())
        };
        let reject = DmarcPolicy::Reject;
        let valid = Ok(spf("v=spf1 -all", &[]));
        let none = Err(SpfFault::Missing);
        let found = [key("a.test", true)];
        let absent = [key("a.test", false)];
        let ses = "email-smtp.us-east-1.amazonaws.com";
        let of = |result: (String, String)| result.0;
        assert_eq!(aligned("relay.test", &valid, &found, reject), ("ok".into(), "by SPF and DKIM".into()));
        assert_eq!(aligned("relay.test", &valid, &absent, reject), ("ok".into(), "by SPF".into()));
        assert_eq!(aligned("relay.test", &none, &found, reject), ("ok".into(), "by DKIM".into()));
        assert_eq!(aligned(ses, &valid, &found, reject), ("ok".into(), "by DKIM".into()));
        assert_eq!(of(aligned("relay.test", &none, &absent, reject)), "FAIL");
        assert_eq!(of(aligned("relay.test", &none, &absent, DmarcPolicy::Quarantine)), "FAIL");
        assert_eq!(of(aligned("relay.test", &none, &absent, DmarcPolicy::None)), "note");
        // SPF is valid for a domain of SES, and no selector is known.
        assert_eq!(of(aligned(ses, &valid, &[], reject)), "note");
        // The include is missing, so mail through the provider fails SPF.
        assert_eq!(of(aligned("smtp.gmail.com", &valid, &absent, reject)), "FAIL");
        assert_eq!(of(aligned("relay.test", &valid, &[key("b.test", true)], reject)), "ok");
    }

    #[test]
    fn the_envelope_of_a_test_email_decides_which_record_counts() {
        let relays = [RelayHost { host: "smtp.resend.com", provider: provider::of("smtp.resend.com") }];
        let mail = TestMail { envelope: Some("send.a.test".to_owned()), ..TestMail::default() };
        let domain = SenderDomain { name: "a.test", relays: &relays, selectors: &[], mail: Some(&mail) };
        let valid = Ok(spf("v=spf1 include:amazonses.com ~all", &["amazonses.com"]));
        let lines: Vec<_> = findings(&domain, &valid, &[], &Ok(dmarc(DmarcPolicy::Reject)));
        assert!(lines[0].line().starts_with("ok    SPF of send.a.test: valid"), "{lines:?}");
        assert!(lines.last().expect("a line").line().ends_with("by SPF"), "{lines:?}");
        // Nobody is known who would be in its record.
        let lines = findings(&domain, &Err(SpfFault::Missing), &[], &Err(DmarcFault::Missing));
        let line = lines[0].line();
        assert!(line.starts_with("FAIL  SPF of send.a.test: there is no SPF record"), "{line}");
        assert!(line.ends_with("Add the record that the provider shows"), "{line}");
    }

    #[test]
    fn a_missing_record_of_a_domain_that_only_the_hook_sends_for_is_no_fault() {
        let domain = SenderDomain { name: "a.test", relays: &[], selectors: &[], mail: None };
        for keys in [&[][..], &[key("a.test", true)]] {
            let lines = findings(&domain, &Err(SpfFault::Missing), keys, &Err(DmarcFault::Missing));
            let line = lines[0].line();
            assert!(line.starts_with("note  SPF of a.test: there is no SPF record; only the hook"), "{line}");
            assert!(!line.contains("v=spf1"), "{line}");
        }
    }
}

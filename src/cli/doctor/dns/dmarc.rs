//! DMARC records (RFC 7489): their syntax, where they are, and which domains align.

use thiserror::Error;

use super::Lookup;
use super::tags::Tags;
use crate::adapters::dns::{DnsRecord, RecordKind};

/// What receivers shall do with mail that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum DmarcPolicy {
    /// Deliver it.
    None,
    /// Put it among the spam.
    Quarantine,
    /// Refuse it.
    Reject,
}

/// How similar two domains must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AlignmentMode {
    /// Both have the same organizational domain.
    Relaxed,
    /// They are the same.
    Strict,
}

/// The record that applies to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DmarcRecord {
    /// The name that has it: `_dmarc.` and the domain, or its organizational domain.
    pub name: String,
    /// The policy for the domain: `sp` if the record is that of its organizational domain.
    pub policy: DmarcPolicy,
    /// How similar the domain of DKIM must be.
    pub dkim: AlignmentMode,
    /// How similar the domain of SPF must be.
    pub spf: AlignmentMode,
    /// Whether it names an address for reports.
    pub has_reports: bool,
}

/// Why no record applies.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum DmarcFault {
    /// There is none.
    #[error("there is no DMARC record")]
    Missing,
    /// There is more than one, and receivers ignore all.
    #[error("{0} has {1} DMARC records, and may have one (RFC 7489 section 6.6.3)")]
    Several(String, usize),
    /// The record is wrong.
    #[error("the record of {0} is not valid: {1}")]
    Syntax(String, &'static str),
    /// DNS failed.
    #[error("{0} could not be looked up: {1}")]
    Unresolved(String, String),
}

/// Returns the organizational domain: the public suffix and one label before it.
pub(super) fn organizational(domain: &str) -> &str {
    psl::domain_str(domain).unwrap_or(domain)
}

impl AlignmentMode {
    /// Returns whether a domain aligns with that of the sender.
    pub(super) fn aligns(self, domain: &str, sender: &str) -> bool {
        match self {
            Self::Strict => domain == sender,
            Self::Relaxed => organizational(domain) == organizational(sender),
        }
    }
}

/// Finds the record that applies to a domain.
pub(super) async fn find(dns: &impl Lookup, domain: &str) -> Result<DmarcRecord, DmarcFault> {
    let own = format!("_dmarc.{domain}");
    if let Some(text) = text_of(dns, &own).await? {
        return parse(&own, &text, "p");
    }
    let organization = organizational(domain);
    let theirs = format!("_dmarc.{organization}");
    match text_of(dns, &theirs).await? {
        Some(text) if organization != domain => parse(&theirs, &text, "sp"),
        _ => Err(DmarcFault::Missing),
    }
}

/// Returns the record of a name, if there is one. Other texts are ignored.
async fn text_of(dns: &impl Lookup, name: &str) -> Result<Option<String>, DmarcFault> {
    let records = match dns.lookup(RecordKind::Txt, name).await {
        Ok(records) => records,
        Err(error) if error.is_absent() => return Ok(None),
        Err(error) => return Err(DmarcFault::Unresolved(name.to_owned(), error.to_string())),
    };
    let texts = records.into_iter().filter_map(|record| match record {
        DnsRecord::Text(text) if is_dmarc(&text) => Some(text),
        _ => None,
    });
    let mut texts: Vec<_> = texts.collect();
    match texts.len() {
        0 | 1 => Ok(texts.pop()),
        count => Err(DmarcFault::Several(name.to_owned(), count)),
    }
}

/// Returns whether a text begins with the version, which must be the first tag.
fn is_dmarc(text: &str) -> bool {
    let first = text.split(';').next().and_then(|tag| tag.split_once('='));
    first.is_some_and(|(name, version)| name.trim() == "v" && version.trim() == "DMARC1")
}

/// Parses a record; `tag` is the one that holds the policy, `p` if it is missing.
fn parse(name: &str, text: &str, tag: &str) -> Result<DmarcRecord, DmarcFault> {
    let wrong = |what| DmarcFault::Syntax(name.to_owned(), what);
    let tags = Tags::parse(text).ok_or_else(|| wrong("it is not a list of tags, each once: name=value;"))?;
    let reports = match (tags.value("rua"), tags.value("ruf")) {
        (None, None) => None,
        (rua, ruf) => Some([rua, ruf].into_iter().flatten().all(are_uris)),
    };
    if reports == Some(false) {
        return Err(wrong("rua= and ruf= take URIs such as mailto:dmarc@example.com, comma-separated"));
    }
    let policy = |tag: &str| tags.value(tag).map(|value| policy(value).ok_or(tag == "p"));
    let own = match policy("p") {
        Some(Ok(policy)) => policy,
        // A record that only asks for reports is one of p=none (RFC 7489 section 6.6.3).
        None | Some(Err(_)) if tags.value("rua").is_some() && tags.value("p").is_none() => DmarcPolicy::None,
        None => return Err(wrong("p= is missing")),
        Some(Err(_)) => return Err(wrong("p= must be none, quarantine or reject")),
    };
    let of_subdomains = match policy("sp") {
        Some(Err(_)) => return Err(wrong("sp= must be none, quarantine or reject")),
        Some(Ok(policy)) => policy,
        None => own,
    };
    let mode = |tag: &str| match tags.value(tag).map(str::to_ascii_lowercase).as_deref() {
        None | Some("r") => Some(AlignmentMode::Relaxed),
        Some("s") => Some(AlignmentMode::Strict),
        Some(_) => None,
    };
    let is_percentage = |text: &str| text.parse::<u8>().is_ok_and(|percent| percent <= 100);
    if !tags.value("pct").is_none_or(is_percentage) {
        return Err(wrong("pct= must be a number from 0 to 100"));
    }
    Ok(DmarcRecord {
        name: name.to_owned(),
        policy: if tag == "sp" { of_subdomains } else { own },
        dkim: mode("adkim").ok_or_else(|| wrong("adkim= must be r or s"))?,
        spf: mode("aspf").ok_or_else(|| wrong("aspf= must be r or s"))?,
        has_reports: tags.value("rua").is_some(),
    })
}

fn policy(text: &str) -> Option<DmarcPolicy> {
    match text.to_ascii_lowercase().as_str() {
        "none" => Some(DmarcPolicy::None),
        "quarantine" => Some(DmarcPolicy::Quarantine),
        "reject" => Some(DmarcPolicy::Reject),
        _ => None,
    }
}

/// Returns whether a list has URIs only. Those of mail need an address.
fn are_uris(list: &str) -> bool {
    list.split(',').all(|uri| match uri.trim().split_once(':') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("mailto") => {
            let address = rest.split(['!', '?']).next().unwrap_or_default();
            address.split_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'))
        }
        Some((scheme, rest)) => {
            scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
                && !rest.is_empty()
        }
        None => false,
    })
}

impl DmarcPolicy {
    /// Returns its name in a record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::dns::tests::Zone;

    async fn dmarc(texts: &[(&str, &str)]) -> Result<DmarcRecord, DmarcFault> {
        find(&Zone::of_texts(texts), "mail.a.test").await
    }

    #[tokio::test]
    async fn the_record_of_the_domain_wins_over_that_of_its_organization() {
        let organization = ("_dmarc.a.test", "v=DMARC1; p=reject; sp=quarantine; adkim=s");
        let found = dmarc(&[organization]).await.unwrap();
        assert_eq!((found.name.as_str(), found.policy), ("_dmarc.a.test", DmarcPolicy::Quarantine));
        assert_eq!((found.dkim, found.spf), (AlignmentMode::Strict, AlignmentMode::Relaxed));
        let own = ("_dmarc.mail.a.test", "v=DMARC1; p=none; sp=reject; rua=mailto:d@a.test!10m");
        let found = dmarc(&[organization, own]).await.unwrap();
        assert_eq!((found.policy, found.has_reports), (DmarcPolicy::None, true));
        assert_eq!(
            dmarc(&[("_dmarc.a.test", "v=DMARC1; p=reject")]).await.unwrap().policy,
            DmarcPolicy::Reject
        );
        assert_eq!(dmarc(&[("_dmarc.test", "v=DMARC1; p=reject")]).await, Err(DmarcFault::Missing));
    }

    #[tokio::test]
    async fn other_texts_are_ignored_and_two_records_are_none() {
        let name = "_dmarc.mail.a.test";
        assert_eq!(
            dmarc(&[(name, "v=spf1 -all"), (name, "p=none; v=DMARC1")]).await,
            Err(DmarcFault::Missing)
        );
        assert!(dmarc(&[(name, "verification=1"), (name, "v=DMARC1; p=none")]).await.is_ok());
        let two = [(name, "v=DMARC1; p=none"), (name, "v=DMARC1; p=reject")];
        assert_eq!(dmarc(&two).await, Err(DmarcFault::Several(name.into(), 2)));
        let failing = Zone::of_texts(&[]).failing(name);
        assert!(matches!(find(&failing, "mail.a.test").await, Err(DmarcFault::Unresolved(..))));
    }

    #[tokio::test]
    async fn a_wrong_record_says_what_is_wrong() {
        for (record, what) in [
            ("v=DMARC1", "p= is missing"),
            ("v=DMARC1; p=block", "p= must be"),
            ("v=DMARC1; p=none; sp=x", "sp= must be"),
            ("v=DMARC1; p=none; adkim=x", "adkim= must be"),
            ("v=DMARC1; p=none; aspf=relaxed", "aspf= must be"),
            ("v=DMARC1; p=none; pct=101", "pct= must be"),
            ("v=DMARC1; p=none; rua=d@a.test", "take URIs"),
            ("v=DMARC1; p=none; rua=mailto:d", "take URIs"),
            ("v=DMARC1; p=none; p=reject", "each once"),
            ("v=DMARC1; p=none reject", "p= must be"),
        ] {
            let said = dmarc(&[("_dmarc.mail.a.test", record)]).await.unwrap_err().to_string();
            assert!(said.contains(what), "{record}: {said}");
        }
        let reports_only = dmarc(&[("_dmarc.mail.a.test", "v=DMARC1; rua=mailto:d@a.test")]).await;
        assert_eq!(reports_only.unwrap().policy, DmarcPolicy::None);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_record_or_not(text in "v=DMARC1;\\PC{0,80}") {
            let _ = parse("_dmarc.a.test", &text, "p");
        }
    }

    #[test]
    fn relaxed_alignment_is_of_organizational_domains() {
        let relaxed = |domain, sender| AlignmentMode::Relaxed.aligns(domain, sender);
        assert!(relaxed("a.example.com", "b.example.com") && relaxed("example.co.uk", "x.example.co.uk"));
        assert!(!relaxed("a.co.uk", "b.co.uk") && !relaxed("example.com", "example.net"));
        assert!(AlignmentMode::Strict.aligns("example.com", "example.com"));
        assert!(!AlignmentMode::Strict.aligns("a.example.com", "example.com"));
        assert_eq!(organizational("com"), "com");
    }
}

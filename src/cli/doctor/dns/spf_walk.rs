//! Follows the SPF record of a domain through its includes, and counts what an evaluation looks up
//! (RFC 7208 section 4.6.4).
//!
//! Counts the worst case: a server that no mechanism matches before the last.

use thiserror::Error;

use super::Lookup;
use super::spf::{Qualifier, SpfRecord, Term, has_macros, is_spf};
use crate::adapters::dns::{DnsRecord, LookupError, RecordKind};

/// The most terms that ask DNS.
pub(super) const MAX_LOOKUPS: usize = 10;
/// The most look-ups that find nothing.
pub(super) const MAX_VOID_LOOKUPS: usize = 2;
/// Where counting ends.
const END_OF_COUNT: usize = 4 * MAX_LOOKUPS;
/// The most hosts that one `mx` may lead to.
const MAX_HOSTS: usize = 10;

/// What a valid record leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SpfSummary {
    /// The text of the domain's own record.
    pub text: String,
    /// The number of terms that ask DNS.
    pub lookups: usize,
    /// The domains that its includes and redirects lead to, the nearest ones first.
    pub includes: Vec<String>,
    /// What it says of all other servers.
    pub all: Option<Qualifier>,
    /// Whether a term has macros, which are not expanded here.
    pub has_macros: bool,
    /// Whether a record uses `ptr`, which should not be used (RFC 7208 section 5.5).
    pub has_ptr: bool,
}

/// What receivers make of a domain without a valid record: `none`, `permerror` or `temperror`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(super) enum SpfFault {
    /// There is no record.
    #[error("there is no SPF record")]
    Missing,
    /// There is more than one record.
    #[error("{0} has {1} SPF records, and may have one (RFC 7208 section 3.2)")]
    Several(String, usize),
    /// A term is wrong.
    #[error("the record of {0} is not valid: {1}")]
    Syntax(String, String),
    /// An include or redirect leads to a domain without a record.
    #[error("{0} is included and has no SPF record (RFC 7208 section 5.2)")]
    IncludesNothing(String),
    /// An include leads back to itself.
    #[error("{0} includes itself")]
    Loop(String),
    /// Too many terms ask DNS.
    #[error("it takes {0} DNS look-ups, and may take {MAX_LOOKUPS} (RFC 7208 section 4.6.4)")]
    TooManyLookups(usize),
    /// Too many look-ups find nothing.
    #[error(
        "{} look-ups find nothing ({}), and {MAX_VOID_LOOKUPS} may (RFC 7208 section 4.6.4)",
        .0.len(), .0.join(", ")
    )]
    TooManyVoidLookups(Vec<String>),
    /// One `mx` leads to too many hosts.
    #[error("the mx of {0} leads to more than {MAX_HOSTS} hosts (RFC 7208 section 4.6.4)")]
    TooManyHosts(String),
    /// Everybody may send.
    #[error("the record of {0} ends in +all, which allows every server on the internet")]
    AllowsAll(String),
    /// DNS failed.
    #[error("{0} could not be looked up: {1}")]
    Unresolved(String, String),
}

/// A domain whose record is still to be read.
struct Visit {
    domain: String,
    /// The domains that led to it, and itself.
    path: Vec<String>,
    /// Whether its `all` is that of the domain: it is the domain's own record, or a redirect.
    decides: bool,
}

/// Reads the record of a domain and those that it leads to.
pub(super) async fn walk(dns: &impl Lookup, domain: &str) -> Result<SpfSummary, SpfFault> {
    let text = record(dns, domain).await?.ok_or(SpfFault::Missing)?;
    let mut summary =
        SpfSummary { text, lookups: 0, includes: Vec::new(), all: None, has_macros: false, has_ptr: false };
    let mut void = Vec::new();
    let mut open = vec![Visit { domain: domain.to_owned(), path: vec![domain.to_owned()], decides: true }];
    while let Some(visit) = open.pop() {
        let found = if visit.path.len() == 1 {
            Some(summary.text.clone())
        } else {
            record(dns, &visit.domain).await?
        };
        let found = found.ok_or_else(|| SpfFault::IncludesNothing(visit.domain.clone()))?;
        let parsed = SpfRecord::parse(&found);
        let parsed = parsed.map_err(|reason| SpfFault::Syntax(visit.domain.clone(), reason))?;
        let next = follow(dns, &visit, &parsed, &mut summary, &mut void).await?;
        open.extend(next.into_iter().rev());
    }
    if summary.lookups > MAX_LOOKUPS {
        return Err(SpfFault::TooManyLookups(summary.lookups));
    }
    if void.len() > MAX_VOID_LOOKUPS {
        return Err(SpfFault::TooManyVoidLookups(void));
    }
    Ok(summary)
}

/// Counts the terms of one record and returns the records to read next.
async fn follow(
    dns: &impl Lookup,
    visit: &Visit,
    record: &SpfRecord,
    summary: &mut SpfSummary,
    void: &mut Vec<String>,
) -> Result<Vec<Visit>, SpfFault> {
    let mut next = Vec::new();
    for term in &record.terms {
        if summary.lookups >= END_OF_COUNT {
            break;
        }
        summary.lookups += usize::from(term.is_counted());
        match term {
            Term::All(Qualifier::Pass) => return Err(SpfFault::AllowsAll(visit.domain.clone())),
            Term::All(qualifier) if visit.decides => summary.all = Some(*qualifier),
            Term::Ptr => summary.has_ptr = true,
            Term::Include(domain) | Term::Redirect(domain) | Term::Exists(domain) if has_macros(domain) => {
                summary.has_macros = true;
            }
            Term::A(Some(domain)) | Term::Mx(Some(domain)) if has_macros(domain) => summary.has_macros = true,
            Term::Include(domain) | Term::Redirect(domain) => {
                if visit.path.contains(domain) {
                    return Err(SpfFault::Loop(domain.clone()));
                }
                summary.includes.push(domain.clone());
                let path = visit.path.iter().chain([domain]).cloned().collect();
                let decides = visit.decides && matches!(term, Term::Redirect(_));
                next.push(Visit { domain: domain.clone(), path, decides });
            }
            Term::A(domain) => {
                let domain = domain.as_ref().unwrap_or(&visit.domain);
                if !has_address(dns, domain).await? {
                    void.push(domain.clone());
                }
            }
            Term::Mx(domain) => match hosts(dns, domain.as_ref().unwrap_or(&visit.domain)).await? {
                0 => void.push(domain.as_ref().unwrap_or(&visit.domain).clone()),
                count if count > MAX_HOSTS => return Err(SpfFault::TooManyHosts(visit.domain.clone())),
                _ => {}
            },
            Term::Exists(domain) => {
                if absent(dns.lookup(RecordKind::A, domain).await, domain)?.is_none() {
                    void.push(domain.clone());
                }
            }
            Term::All(_) | Term::Ip | Term::Modifier => {}
        }
    }
    Ok(next)
}

/// Returns the domain's record, if it has one.
async fn record(dns: &impl Lookup, domain: &str) -> Result<Option<String>, SpfFault> {
    let texts = absent(dns.lookup(RecordKind::Txt, domain).await, domain)?.unwrap_or_default();
    let texts = texts.into_iter().filter_map(|record| match record {
        DnsRecord::Text(text) if is_spf(&text) => Some(text),
        _ => None,
    });
    let mut texts: Vec<_> = texts.collect();
    match texts.len() {
        0 | 1 => Ok(texts.pop()),
        count => Err(SpfFault::Several(domain.to_owned(), count)),
    }
}

async fn has_address(dns: &impl Lookup, domain: &str) -> Result<bool, SpfFault> {
    for kind in [RecordKind::A, RecordKind::Aaaa] {
        if absent(dns.lookup(kind, domain).await, domain)?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Returns the number of hosts that take mail for a domain.
async fn hosts(dns: &impl Lookup, domain: &str) -> Result<usize, SpfFault> {
    Ok(absent(dns.lookup(RecordKind::Mx, domain).await, domain)?.map_or(0, |hosts| hosts.len()))
}

/// Turns "no such record" into `None`, and a failure into a fault.
fn absent(
    answer: Result<Vec<DnsRecord>, LookupError>,
    domain: &str,
) -> Result<Option<Vec<DnsRecord>>, SpfFault> {
    match answer {
        Ok(records) => Ok(Some(records)),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(SpfFault::Unresolved(domain.to_owned(), error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::dns::tests::Zone;

    async fn spf(texts: &[(&str, &str)]) -> Result<SpfSummary, SpfFault> {
        walk(&Zone::of_texts(texts), "a.test").await
    }

    #[tokio::test]
    async fn includes_and_redirects_are_followed_and_their_look_ups_counted() {
        let summary = spf(&[
            ("a.test", "v=spf1 include:b.test ip4:192.0.2.1 redirect=c.test"),
            ("b.test", "v=spf1 include:d.test exists:%{i}.x.test -all"),
            ("c.test", "v=spf1 ~all"),
            ("d.test", "v=spf1 ptr ?all"),
        ]);
        let summary = summary.await.unwrap();
        assert_eq!(summary.lookups, 5);
        assert_eq!(summary.includes, ["b.test", "c.test", "d.test"]);
        assert_eq!(summary.all, Some(Qualifier::SoftFail), "that of the redirect");
        assert!(summary.has_macros && summary.has_ptr);
    }

    #[tokio::test]
    async fn a_domain_has_exactly_one_record() {
        assert_eq!(spf(&[]).await, Err(SpfFault::Missing));
        assert_eq!(spf(&[("a.test", "v=spf10 -all")]).await, Err(SpfFault::Missing));
        let two = [("a.test", "v=spf1 -all"), ("a.test", "v=spf1 ~all")];
        assert_eq!(spf(&two).await, Err(SpfFault::Several("a.test".into(), 2)));
        let includes = [("a.test", "v=spf1 include:b.test -all")];
        assert_eq!(spf(&includes).await, Err(SpfFault::IncludesNothing("b.test".into())));
        let deep = [("a.test", "v=spf1 include:b.test -all"), ("b.test", "v=spf1 ip4:1")];
        assert!(matches!(spf(&deep).await, Err(SpfFault::Syntax(domain, _)) if domain == "b.test"));
    }

    #[tokio::test]
    async fn the_eleventh_look_up_and_the_third_void_one_are_too_many() {
        let terms = |count: usize| format!("v=spf1 {} -all", "exists:%{i}.b.test ".repeat(count).trim_end());
        assert_eq!(spf(&[("a.test", &terms(10))]).await.unwrap().lookups, 10);
        assert_eq!(spf(&[("a.test", &terms(11))]).await, Err(SpfFault::TooManyLookups(11)));
        assert_eq!(spf(&[("a.test", &terms(1000))]).await, Err(SpfFault::TooManyLookups(END_OF_COUNT)));
        assert!(spf(&[("a.test", "v=spf1 a:x.test mx:y.test -all")]).await.is_ok());
        let void = spf(&[("a.test", "v=spf1 a:x.test mx:y.test exists:z.test -all")]).await;
        assert_eq!(
            void,
            Err(SpfFault::TooManyVoidLookups(["x.test", "y.test", "z.test"].map(String::from).to_vec()))
        );
    }

    #[tokio::test]
    async fn loops_and_records_that_allow_everybody_are_faults_wherever_they_are() {
        let texts = [("a.test", "v=spf1 include:b.test -all"), ("b.test", "v=spf1 include:a.test -all")];
        assert_eq!(spf(&texts).await, Err(SpfFault::Loop("a.test".into())));
        for texts in [
            [("a.test", "v=spf1 include:b.test -all"), ("b.test", "v=spf1 +all")],
            [("a.test", "v=spf1 ip4:192.0.2.1 redirect=b.test"), ("b.test", "v=spf1 a all")],
        ] {
            assert_eq!(spf(&texts).await, Err(SpfFault::AllowsAll("b.test".into())));
        }
        // The same include twice is no loop.
        let twice = [("a.test", "v=spf1 include:b.test include:b.test -all"), ("b.test", "v=spf1 -all")];
        assert_eq!(spf(&twice).await.unwrap().lookups, 2);
    }

    #[tokio::test]
    async fn a_failure_of_dns_is_not_taken_for_a_missing_record() {
        let zone = Zone::of_texts(&[("a.test", "v=spf1 include:b.test -all")]).failing("b.test");
        assert!(
            matches!(walk(&zone, "a.test").await, Err(SpfFault::Unresolved(domain, _)) if domain == "b.test")
        );
    }
}

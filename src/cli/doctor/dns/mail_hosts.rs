//! Whether bounces to the sender's domain can be delivered, and how they are protected.

use super::{DnsFinding, Lookup, txt_line};
use crate::adapters::dns::{DnsRecord, LookupError, RecordKind, is_null_mx};

/// Checks the MX records, MTA-STS (RFC 8461) and TLS-RPT (RFC 8460) of a domain.
pub(super) async fn check(dns: &impl Lookup, domain: &str) -> Vec<DnsFinding> {
    let (hosts, transport) = tokio::join!(hosts(dns, domain), transport(dns, domain));
    [Some(hosts), transport].into_iter().flatten().collect()
}

async fn hosts(dns: &impl Lookup, domain: &str) -> DnsFinding {
    let unresolved =
        |error: &LookupError| DnsFinding::Hint(format!("MX of {domain}: could not be looked up: {error}"));
    match dns.lookup(RecordKind::Mx, domain).await {
        Ok(hosts) if is_null_mx(&hosts) => {
            return DnsFinding::Fault(format!(
                "MX of {domain}: the domain says that it takes no mail (null MX), and receivers refuse mail from a \
                 domain that takes none (RFC 7505 section 4.2).\n      Remove that record, or send from another domain"
            ));
        }
        Ok(hosts) => {
            return DnsFinding::Pass(format!("MX of {domain}: {} host(s) take bounces", hosts.len()));
        }
        Err(error) if error.is_absent() => {}
        Err(error) => return unresolved(&error),
    }
    for kind in [RecordKind::A, RecordKind::Aaaa] {
        match dns.lookup(kind, domain).await {
            Ok(_) => {
                return DnsFinding::Hint(format!(
                    "MX of {domain}: there is none, so bounces go to the domain's own address. If no mail server is \
                     there, add one, such as\n      {domain}. IN MX 10 mail.{domain}."
                ));
            }
            Err(error) if error.is_absent() => {}
            Err(error) => return unresolved(&error),
        }
    }
    DnsFinding::Fault(format!(
        "MX of {domain}: there is none, and no address: bounces cannot return, and many receivers refuse mail from \
         such a domain. Add one, such as\n      {domain}. IN MX 10 mail.{domain}."
    ))
}

/// Returns what protects mail to the domain, if it could be looked up.
async fn transport(dns: &impl Lookup, domain: &str) -> Option<DnsFinding> {
    let has_sts = has(dns, &format!("_mta-sts.{domain}"), "v=STSv1").await?;
    let name = format!("_smtp._tls.{domain}");
    let has_reports = has(dns, &name, "v=TLSRPTv1").await?;
    let record = txt_line(&name, &format!("v=TLSRPTv1; rua=mailto:postmaster@{domain}"));
    Some(match (has_sts, has_reports) {
        (true, true) => DnsFinding::Pass(format!("TLS to {domain}: MTA-STS and TLS-RPT")),
        (true, false) => {
            DnsFinding::Hint(format!("TLS to {domain}: MTA-STS without reports. Add\n      {record}"))
        }
        (false, _) => DnsFinding::Hint(format!(
            "TLS to {domain}: no MTA-STS (RFC 8461), which protects mail to the domain, not from it"
        )),
    })
}

/// Returns whether a name has a text of this version, or `None` if DNS failed.
async fn has(dns: &impl Lookup, name: &str, version: &str) -> Option<bool> {
    let is_it = |record: &DnsRecord| matches!(record, DnsRecord::Text(text) if text.starts_with(version));
    match dns.lookup(RecordKind::Txt, name).await {
        Ok(records) => Some(records.iter().any(is_it)),
        Err(error) => error.is_absent().then_some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::doctor::dns::tests::Zone;

    #[tokio::test]
    async fn protection_of_mail_to_the_domain_is_a_hint() {
        let line = async |zone: &Zone| transport(zone, "a.test").await.map(|finding| finding.line());
        let sts = [("_mta-sts.a.test", "v=STSv1; id=1")];
        let none = line(&Zone::of_texts(&[])).await;
        assert!(none.is_some_and(|line| line.starts_with("note  TLS to a.test: no MTA-STS")));
        let alone = line(&Zone::of_texts(&sts)).await;
        assert!(alone.is_some_and(|line| line.contains("_smtp._tls.a.test. IN TXT \"v=TLSRPTv1;")));
        let reports = [sts[0], ("_smtp._tls.a.test", "v=TLSRPTv1; rua=mailto:a@a.test")];
        assert!(line(&Zone::of_texts(&reports)).await.is_some_and(|line| line.starts_with("ok    TLS")));
        assert_eq!(line(&Zone::of_texts(&sts).failing("_smtp._tls.a.test")).await, None);
    }
}

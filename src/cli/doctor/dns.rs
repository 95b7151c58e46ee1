//! `otpd doctor --dns`: whether the DNS records of the senders' domains help their emails to
//! arrive.
//!
//! A finding is a fault only if it keeps emails from arriving; docs/dns.md lists which are. Must
//! only look up records.

mod authentication;
mod dkim;
mod dkim_keys;
mod dmarc;
mod mail_hosts;
mod relay_address;
mod spf;
mod spf_walk;
mod tags;
mod test_mail;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::iter;
use std::path::PathBuf;

use clap::Args;

use self::test_mail::TestMail;
use super::provider::{self, EnvelopeDomain, Provider};
use crate::adapters::dns::{DnsRecord, DnsResolver, LookupError, RecordKind};
use crate::config::Settings;
use crate::config::senders::TransportKind;

/// The most look-ups for one domain.
const MAX_LOOKUPS: usize = 150;
/// The most bytes of one string in a TXT record (RFC 1035 section 3.3.14).
const MAX_STRING: usize = 255;

/// What to check in DNS.
#[derive(Debug, Args)]
pub(super) struct DnsOptions {
    /// Also check the DNS records of the senders' domains: SPF, DKIM, DMARC, MX
    #[arg(long)]
    pub dns: bool,
    /// Look for the DKIM key with this selector; may be repeated
    #[arg(long, value_name = "NAME", requires = "dns", value_parser = selector)]
    dkim_selector: Vec<String>,
    /// Take the signing domain, its selector and the bounce address from the file of a received
    /// test email
    #[arg(long, value_name = "FILE", requires = "dns")]
    mail: Option<PathBuf>,
}

/// A result to print.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum DnsFinding {
    /// All is well.
    Pass(String),
    /// What would be better.
    Hint(String),
    /// What keeps emails from arriving.
    Fault(String),
}

/// A relay, as a domain's records see it.
#[derive(Debug, Clone, Copy)]
struct RelayHost<'a> {
    host: &'a str,
    provider: Option<&'static Provider>,
}

/// The domain of a sender, with what is known of the way of its emails.
#[derive(Debug)]
struct SenderDomain<'a> {
    name: &'a str,
    /// None if only the hook sends from it.
    relays: &'a [RelayHost<'a>],
    selectors: &'a [String],
    mail: Option<&'a TestMail>,
}

/// Looks up records.
trait Lookup {
    /// Returns the records of a name; there is at least one.
    async fn lookup(&self, kind: RecordKind, name: &str) -> Result<Vec<DnsRecord>, LookupError>;
}

/// A resolver with a limit.
struct LimitedLookup<'a> {
    resolver: &'a DnsResolver,
    left: Cell<usize>,
}

impl Lookup for LimitedLookup<'_> {
    async fn lookup(&self, kind: RecordKind, name: &str) -> Result<Vec<DnsRecord>, LookupError> {
        let left = self.left.get().checked_sub(1);
        let left = left.ok_or(LookupError::Temporary("the records lead to too many look-ups"))?;
        self.left.set(left);
        self.resolver.lookup(kind, name).await
    }
}

impl DnsFinding {
    /// Returns whether it keeps emails from arriving.
    pub(super) fn is_fault(&self) -> bool {
        matches!(self, Self::Fault(_))
    }

    /// Returns the line to print.
    pub(super) fn line(&self) -> String {
        match self {
            Self::Pass(text) => format!("ok    {text}"),
            Self::Hint(text) => format!("note  {text}"),
            Self::Fault(text) => format!("FAIL  {text}"),
        }
    }
}

impl SenderDomain<'_> {
    /// Returns the domain whose SPF record receivers check, if it is known.
    fn envelope(&self) -> Option<&str> {
        match self.mail.and_then(|mail| mail.envelope.as_deref()) {
            Some(envelope) => Some(envelope),
            None if self.foreign_envelopes().next().is_some() => None,
            None => Some(self.name),
        }
    }

    /// Returns the providers that send with an envelope sender of another domain.
    fn foreign_envelopes(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.providers().filter_map(|provider| match provider.envelope {
            EnvelopeDomain::Provider(cure) => Some((provider.name, cure)),
            EnvelopeDomain::Sender(_) => None,
        })
    }

    fn providers(&self) -> impl Iterator<Item = &'static Provider> {
        self.relays.iter().filter_map(|relay| relay.provider)
    }
}

/// Checks the domain of each sender once, and the addresses of the relays.
pub(super) async fn check(settings: &Settings, options: &DnsOptions) -> Vec<DnsFinding> {
    if !options.dns {
        return Vec::new();
    }
    let fault = |error: anyhow::Error| vec![DnsFinding::Fault(format!("DNS: {error:#}"))];
    let resolver = match DnsResolver::new(&settings.common.name_servers) {
        Ok(resolver) => resolver,
        Err(error) => return fault(anyhow::Error::from(error).context("set OTP_DNS__SERVERS")),
    };
    let mail = match options.mail.as_deref().map(test_mail::read).transpose() {
        Ok(mail) => mail,
        Err(error) => return fault(error.context("--mail")),
    };
    let domains = domains(settings);
    let mut findings = Vec::new();
    if let Some(mail) = mail.as_ref().filter(|mail| domains.iter().all(|(name, _)| *name != mail.from)) {
        let from = &mail.from;
        findings.push(DnsFinding::Fault(format!(
            "--mail: the email is from {from}, and no sender has that domain"
        )));
    }
    let limited = || LimitedLookup { resolver: &resolver, left: Cell::new(MAX_LOOKUPS) };
    for (name, transports) in domains {
        let relays: Vec<_> = transports.into_iter().flat_map(|kind| relays(settings, kind)).collect();
        let mail = mail.as_ref().filter(|mail| mail.from == name);
        let domain = SenderDomain { name, relays: &relays, selectors: &options.dkim_selector, mail };
        findings.extend(check_domain(&limited(), &domain).await);
    }
    for relay in relays(settings, TransportKind::Smtp).iter().filter(|relay| relay.provider.is_none()) {
        findings.extend(relay_address::check(&limited(), relay.host).await);
    }
    findings
}

/// Returns the relays of a transport. A provider that is used by HTTP has that of its SMTP service:
/// the records of the sender's domain are the same.
fn relays(settings: &Settings, transport: TransportKind) -> Vec<RelayHost<'_>> {
    let hosts = match transport {
        TransportKind::Smtp => settings.smtp.relays.iter().map(|relay| relay.server.as_str()).collect(),
        TransportKind::Resend => vec!["smtp.resend.com"],
        TransportKind::Postmark => vec!["smtp.postmarkapp.com"],
        TransportKind::Mailgun => vec!["smtp.mailgun.org"],
        TransportKind::Ses => vec!["email-smtp.us-east-1.amazonaws.com"],
        TransportKind::Hook => Vec::new(),
    };
    hosts.into_iter().map(|host| RelayHost { host, provider: provider::of(host) }).collect()
}

/// Parses a selector: labels of a domain name (RFC 6376 section 3.1).
fn selector(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_".contains(&b);
        (1..=63).contains(&label.len()) && label.bytes().all(is_plain)
    };
    if text.split('.').all(is_label) { Ok(text.to_owned()) } else { Err("it is not a selector".to_owned()) }
}

/// Returns the domains of the senders, each once, with the transports of the deployment and the
/// tenants that send from it.
fn domains(settings: &Settings) -> Vec<(&str, BTreeSet<TransportKind>)> {
    let sender = &settings.smtp.sender;
    let order = &settings.senders.order;
    let tenants = settings.common.tenants.iter().map(|tenant| {
        (tenant.sender.as_ref().unwrap_or(sender), tenant.transports.as_ref().unwrap_or(order))
    });
    let mut domains: Vec<(&str, BTreeSet<TransportKind>)> = Vec::new();
    for (sender, order) in iter::once((sender, order)).chain(tenants) {
        match domains.iter_mut().find(|(name, _)| *name == sender.domain()) {
            Some((_, transports)) => transports.extend(order),
            None => domains.push((sender.domain(), order.iter().copied().collect())),
        }
    }
    domains
}

async fn check_domain(dns: &impl Lookup, domain: &SenderDomain<'_>) -> Vec<DnsFinding> {
    let envelope = domain.envelope().unwrap_or(domain.name);
    let (spf, keys, dmarc, hosts) = tokio::join!(
        spf_walk::walk(dns, envelope),
        dkim_keys::find(dns, domain),
        dmarc::find(dns, domain.name),
        mail_hosts::check(dns, domain.name)
    );
    let mut findings = authentication::findings(domain, &spf, &keys, &dmarc);
    findings.extend(hosts);
    findings
}

/// Writes a TXT record as a line of a zone file. What a terminal might act on is escaped.
fn txt_line(name: &str, text: &str) -> String {
    let escaped = |byte: &u8| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(*byte)),
        b' '..=b'~' => char::from(*byte).to_string(),
        byte => format!("\\{byte:03}"),
    };
    let strings = text.as_bytes().chunks(MAX_STRING);
    let strings =
        strings.map(|part| format!("\"{}\"", part.iter().map(escaped).collect::<Vec<_>>().concat()));
    format!("{name}. IN TXT {}", strings.collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Records that a test sets.
    #[derive(Default)]
    pub(super) struct Zone {
        records: BTreeMap<(RecordKind, String), Vec<DnsRecord>>,
        failing: Vec<String>,
    }

    impl Zone {
        pub(super) fn of_texts(texts: &[(&str, &str)]) -> Self {
            let with = |zone: Self, (name, text): &(&str, &str)| {
                zone.with(RecordKind::Txt, name, DnsRecord::Text((*text).to_owned()))
            };
            texts.iter().fold(Self::default(), with)
        }

        pub(super) fn with(mut self, kind: RecordKind, name: &str, record: DnsRecord) -> Self {
            self.records.entry((kind, name.to_owned())).or_default().push(record);
            self
        }

        pub(super) fn failing(mut self, name: &str) -> Self {
            self.failing.push(name.to_owned());
            self
        }
    }

    impl Lookup for Zone {
        async fn lookup(&self, kind: RecordKind, name: &str) -> Result<Vec<DnsRecord>, LookupError> {
            if self.failing.iter().any(|failing| failing == name) {
                return Err(LookupError::Temporary("SERVFAIL"));
            }
            let is_known = self.records.keys().any(|(_, known)| known == name);
            let absent = if is_known { LookupError::NoRecord } else { LookupError::NoName };
            self.records.get(&(kind, name.to_owned())).cloned().ok_or(absent)
        }
    }

    #[test]
    fn a_selector_is_part_of_a_domain_name() {
        for text in ["selector1", "s1", "a.b", "k-1_x"] {
            assert_eq!(selector(text).unwrap(), text);
        }
        for text in ["", ".", "a..b", "a b", "\x1b[31m", "é", &"a".repeat(64)] {
            assert!(selector(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_written_in_strings_of_at_most_255_characters() {
        assert_eq!(txt_line("a.test", "v=spf1 -all"), "a.test. IN TXT \"v=spf1 -all\"");
        let long = "x".repeat(256);
        assert_eq!(txt_line("a.test", &long), format!("a.test. IN TXT \"{}\" \"x\"", "x".repeat(255)));
        assert_eq!(txt_line("a.test", "a\"b\\\u{1b}é"), "a.test. IN TXT \"a\\\"b\\\\\\027\\195\\169\"");
    }
}

//! Settings that `otpd serve` and `otpd dev` both need.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::dangerous::Dangerous;
use super::reader::{self, Reader};
use super::{admin, audit, codes, defaults, dns, domains, http, limits, log, mail, secrets, tenants, traces};
use crate::domain::exempt::ExemptNetworks;
use crate::domain::limits::Limits;
use crate::domain::locale::Locale;
use crate::domain::simple_access::SimpleAccess;

/// What `otpd serve` and `otpd dev` both need.
#[derive(Debug, Clone)]
pub struct Common {
    /// The listener, and which origins may call it from a browser.
    pub http: http::Http,
    /// Where metrics are served.
    pub admin: admin::AdminListener,
    /// Who may call the two simple endpoints.
    pub simple: SimpleAccess,
    /// The name of the service in emails.
    pub brand: mail::Brand,
    /// The language of an email if none of the requested languages is available.
    pub locale: Locale,
    /// Folder with translations and layouts of emails.
    pub templates: Option<PathBuf>,
    /// Files with the domains that otpd may, or must not, send emails to.
    pub domains: domains::DomainFiles,
    /// Whether otpd checks in DNS that a domain takes mail before it sends a code there.
    pub check_mx: bool,
    /// The name servers to ask; none: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// The `iss` of proofs.
    pub issuer: String,
    /// The keys that sign proofs.
    pub proof_keys: secrets::ProofKeys,
    /// Length of codes and the rules of a verification.
    pub codes: codes::Codes,
    /// The rate limits.
    pub limits: Limits,
    /// Networks whose clients are exempt from per-IP limits.
    pub exempt: ExemptNetworks,
    /// Whether limits below the safe minimum are allowed (`dangerous.weak_limits`).
    pub weak_limits: bool,
    /// Requests per minute of one API key, unless its tenant sets its own.
    pub key_rates: tenants::KeyRates,
    /// Tenants, which call the v1 API.
    pub tenants: Vec<tenants::TenantSettings>,
    /// Load shedding.
    pub load_shedding: limits::LoadShedding,
    /// Cost of a hash, and how many are computed at once.
    pub hash: codes::Hash,
    /// Level and format of the log.
    pub log: log::LogSettings,
    /// Where the audit log is written.
    pub audit: audit::AuditOutput,
    /// Where traces are sent.
    pub traces: traces::TraceExport,
}

/// Reads the sections that both commands need.
pub(super) fn read(reader: &mut Reader<'_>, dangerous: Dangerous) -> Option<Common> {
    let http = http::read(reader);
    let admin = admin::read(reader, dangerous);
    let simple = http::read_simple(reader);
    let brand = mail::read_brand(reader, "mail.brand");
    let locale = mail::read_locale(reader, "mail.locale");
    let templates = reader.path("mail.templates");
    let domains = domains::read(reader);
    let check_mx = reader.flag("domains.check_mx");
    let name_servers = dns::read_servers(reader);
    let issuer = mail::read_issuer(reader);
    let proof_keys = secrets::read_proof_keys(reader);
    let codes = codes::read(reader, dangerous);
    let limits = limits::read(reader, codes.as_ref(), dangerous);
    let hash = codes::read_hash(reader, dangerous);
    let defaults = defaults::Defaults {
        codes: codes.as_ref(),
        limits: limits.as_ref(),
        brand: brand.as_ref(),
        locale: locale.as_ref(),
        hash: hash.as_ref(),
        dangerous,
    };
    let key_rates = tenants::read_rates(reader);
    let tenants = tenants::read(reader, defaults, key_rates);
    refuse_keyed_without_keys(reader, simple, tenants.as_deref());
    let load_shedding = limits::read_load_shedding(reader);
    let exempt = limits::read_exempt(reader, http.as_ref());
    let log = log::read(reader);
    let audit = audit::read(reader);
    let traces = traces::read(reader);
    let mut common = Common {
        http: http?,
        admin: admin?,
        simple: simple?,
        brand: brand?,
        locale: locale?,
        templates: reader::named(templates?),
        domains: domains?,
        check_mx: check_mx?,
        name_servers: name_servers?,
        issuer: issuer?,
        proof_keys: proof_keys?,
        codes: codes?,
        limits: limits?,
        weak_limits: dangerous.weak_limits,
        key_rates: key_rates?,
        tenants: tenants?,
        load_shedding: load_shedding?,
        exempt: exempt?,
        hash: hash?,
        log: log?,
        audit: audit?,
        traces: traces?,
    };
    common.keep_sends_for_all();
    Some(common)
}

/// Refuses keyed simple endpoints if nobody has a key for them, which a sandbox key is not.
fn refuse_keyed_without_keys(
    reader: &mut Reader<'_>,
    simple: Option<SimpleAccess>,
    tenants: Option<&[tenants::TenantSettings]>,
) {
    let has_live_key = |tenant: &tenants::TenantSettings| !tenant.keys.is_empty();
    if simple == Some(SimpleAccess::Keyed) && tenants.is_some_and(|tenants| !tenants.iter().any(has_live_key))
    {
        let what = "cannot be keyed while nobody has an API key: set OTP_TENANT__KEYS, or [[tenants]] in the file of --config";
        let line = reader.line("tenant.keys", "backend:<43 characters, from: otpd keygen api-key>");
        reader.refuse_for::<()>("simple.access", what, &line);
    }
}

impl Common {
    /// Sets one retention for sends, because the sends of all tenants share one ledger per email
    /// address: the longest that any tenant needs.
    fn keep_sends_for_all(&mut self) {
        let all = self
            .tenants
            .iter()
            .map(|tenant| tenant.limits.sends_retention())
            .chain([self.limits.sends_retention()]);
        let longest = all.max().unwrap_or_default();
        self.keep_sends_for(longest);
    }

    /// Sets how long sends to an email address are stored, for every tenant.
    pub fn keep_sends_for(&mut self, retention: Duration) {
        self.limits.set_sends_retention(retention);
        for tenant in &mut self.tenants {
            tenant.limits.set_sends_retention(retention);
        }
    }
}

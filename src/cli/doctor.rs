//! `otpd doctor`: checks what `otpd serve` needs, and says how to fix what is wrong.
//!
//! Must change nothing, and send nothing except the requested test email.

mod calibration;
mod cure;
mod dns;
mod http;
mod provider;
mod redis;
mod relay;
mod test_recipients;
mod token;

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::{io, iter};

use clap::Args;

use super::{BAD_SETTINGS, Failure, block_on, print};
use crate::adapters::clock::SystemClock;
use crate::app;
use crate::config::admin::AdminListener;
use crate::config::audit::AuditOutput;
use crate::config::traces::TraceExport;
use crate::config::{self, Common, Settings, Sources};
use crate::domain::email_address::EmailAddress;
use crate::domain::risk_estimate::RiskEstimate;
use crate::ports::Clock as _;
use crate::telemetry::{self, CollectorError};

/// The result of a check: a line to print.
type Finding = Result<String, String>;

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Also send a test email to this address; its code cannot be used
    #[arg(long, value_name = "ADDRESS", value_parser = EmailAddress::parse)]
    send_test: Option<EmailAddress>,
    /// Only measure how many hashes this machine computes, and say which settings are fastest on it
    #[arg(long, conflicts_with_all = ["send_test", "dns"])]
    calibrate: bool,
    #[command(flatten)]
    dns: dns::DnsOptions,
}

/// Runs all checks and prints the results; the exit code says whether all of them passed.
pub(super) fn run(doctor: &Doctor, sources: Result<Sources, Failure>) -> Result<ExitCode, Failure> {
    if doctor.calibrate {
        return calibration::run(&sources?).map(|()| ExitCode::SUCCESS);
    }
    let loaded = sources.and_then(|sources| config::serve(&sources).map_err(Failure::Settings))?;
    let mut lines = vec!["ok    settings".to_owned()];
    lines.extend(loaded.warnings.iter().map(|warning| format!("note  {warning}")));
    lines.push(callers(&loaded.settings.common));
    lines.push(proxies(&loaded.settings.common));
    lines.push(risk(&loaded.settings.common));
    lines.extend(exempt(&loaded.settings.common));
    lines.extend(test_recipients::lines(&loaded.settings.common, SystemClock.now()));
    // Runs all checks even if some fail, so that one run is enough.
    let settings = &loaded.settings;
    let (checks, records) = block_on(async {
        let (redis, relays, collector, records) = tokio::join!(
            redis::check(settings),
            relay::check(settings, doctor.send_test.as_ref()),
            check_collector(&settings.common),
            dns::check(settings, &doctor.dns)
        );
        let checks = [
            vec![redis, check_domains(&settings.common)],
            relays,
            check_files(settings),
            check_address(&settings.common),
            collector,
        ]
        .concat();
        Ok((checks, records))
    })?;
    lines.extend(checks.iter().map(|check| match check {
        Ok(line) => format!("ok    {line}"),
        Err(line) => format!("FAIL  {line}"),
    }));
    lines.extend(records.iter().map(dns::DnsFinding::line));
    print(lines.join("\n")).map_err(Failure::Other)?;
    let are_usable = app::unusable(settings).is_empty() && check_address(&settings.common).is_empty();
    let have_passed = checks.iter().all(Result::is_ok) && !records.iter().any(dns::DnsFinding::is_fault);
    Ok(match (have_passed, are_usable) {
        (true, _) => ExitCode::SUCCESS,
        (false, true) => ExitCode::FAILURE,
        // The exit code that every command uses for settings that are not usable.
        (false, false) => ExitCode::from(BAD_SETTINGS),
    })
}

/// Checks the certificate of the listener and the file of the audit log, if there are any.
fn check_files(settings: &Settings) -> Vec<Result<String, String>> {
    let certificate =
        app::certificate(settings.tls.files()).map_err(|error| format!("{error:#}")).transpose();
    let certificate = certificate.map(|certificate| {
        certificate.and_then(|certificate| match app::validity_fault(certificate.validity()) {
            None => Ok("the certificate of OTP_TLS__CERT_FILE".to_owned()),
            Some(fault) => Err(format!("OTP_TLS__CERT_FILE: {fault}: renew it, and send SIGHUP")),
        })
    });
    let audit = match &settings.common.audit {
        AuditOutput::File(path) => Some(match telemetry::check(path) {
            Ok(()) => Ok(format!("the audit log, or the folder for it: {}", path.display())),
            Err(error) => Err(format!(
                "OTP_AUDIT__OUTPUT: the file cannot be opened: {error}\n    OTP_AUDIT__OUTPUT=stdout"
            )),
        }),
        AuditOutput::Off | AuditOutput::Stdout => None,
    };
    certificate.into_iter().chain(audit).collect()
}

/// Checks that the trace collector accepts an empty batch, if there is one.
async fn check_collector(common: &Common) -> Vec<Result<String, String>> {
    let TraceExport::To(url) = &common.traces else { return Vec::new() };
    vec![match telemetry::check_collector(url).await {
        Ok(()) => Ok(format!("the trace collector: {url}")),
        Err(error) => {
            let cure = match error {
                CollectorError::TrustAnchors => "",
                CollectorError::Status(401 | 403) => ": it requires a key, in OTEL_EXPORTER_OTLP_HEADERS",
                CollectorError::Status(_) => ": see its log, or correct OTP_TRACES__ENDPOINT",
                _ => ": start it, or correct OTP_TRACES__ENDPOINT",
            };
            Err(format!("the trace collector {url}: {error}{cure}"))
        }
    }]
}

/// Reports who may call the v1 API.
fn callers(common: &Common) -> String {
    let tenants: Vec<_> = common
        .tenants
        .iter()
        .map(|tenant| {
            let sandbox = match tenant.sandbox_keys.len() {
                0 => String::new(),
                several => format!(", and {several} for tests"),
            };
            format!("{} ({}{sandbox})", tenant.name.name(), tenant.keys.len())
        })
        .collect();
    if tenants.is_empty() {
        return "note  no tenant has an API key (OTP_TENANT__KEYS): nobody can call the v1 API".to_owned();
    }
    format!("ok    tenants, and how many API keys each has: {}", tenants.join(", "))
}

/// Reports which proxies are trusted.
fn proxies(common: &Common) -> String {
    let http = &common.http;
    if http.trusted_proxies.is_empty() {
        return "note  no proxy is trusted (OTP_HTTP__TRUSTED_PROXIES): everybody behind a proxy or a backend counts as one \
                client"
            .to_owned();
    }
    let networks: Vec<_> = http.trusted_proxies.iter().map(ToString::to_string).collect();
    format!(
        "ok    trusted proxies: {}; they name the client in {} (OTP_HTTP__FORWARDED_HEADER), and one that sends no such \
         header counts as the client itself",
        networks.join(", "),
        http.forwarded_header.name()
    )
}

/// Reports an attacker's chances under the configured limits.
fn risk(common: &Common) -> String {
    let of = |limits| RiskEstimate::of(limits, &common.codes.rules, common.codes.length);
    let risk = of(&common.limits);
    let tenants = common.tenants.iter().map(|tenant| (tenant.name.name(), of(&tenant.limits)));
    let others: Vec<String> = tenants
        .filter(|(_, of_tenant)| of_tenant.attempts_per_day != risk.attempts_per_day)
        .map(|(name, of_tenant)| {
            let attempts = of_tenant.attempts_per_day;
            let chance = of_tenant.chance_per_day();
            format!("\nrisk  at tenant {name}: {attempts}, a chance of {chance:.1e}")
        })
        .collect();
    let others = others.concat();
    let spray = |networks: u64| format!("{:.1e} by {networks}", risk.hits_of_a_spray(networks));
    format!(
        "risk  attempts at one address in a day: {}{}, a chance of {:.1e} (one year of it: {:.1e})\n\
         risk  expected right attempts in a day of attempts at any addresses: {} networks{others}",
        risk.attempts_per_day,
        if risk.codes_per_attempt > 1 { ", each at up to two codes (OTP_CODES__OVERLAP)" } else { "" },
        risk.chance_per_day(),
        1.0 - (1.0 - risk.chance_per_day()).powi(365),
        [1, 1_000, 10_000].map(spray).join(", "),
    )
}

/// Reports the risk of exempt networks.
fn exempt(common: &Common) -> Option<String> {
    (!common.exempt.is_empty()).then(|| {
        let proxy = if common.http.trusted_proxies.is_empty() {
            "; OTP_HTTP__TRUSTED_PROXIES is empty, so a proxy that connects from there exempts everybody behind it"
        } else {
            ""
        };
        format!(
            "risk  not counted per IP (OTP_LIMITS__EXEMPT_NETWORKS): {}. A client there can request codes for any number of \
             addresses, and try codes at any number of them; per address the limits above apply{proxy}",
            common.exempt
        )
    })
}

/// Fails if this machine does not have an address to listen on. Does not try the port, because
/// otpd may be running.
fn check_address(common: &Common) -> Vec<Result<String, String>> {
    let admin = match common.admin {
        AdminListener::On(address) => Some(("OTP_ADMIN__LISTEN", address)),
        AdminListener::Off => None,
    };
    let is_missing = |error: &io::Error| error.kind() == io::ErrorKind::AddrNotAvailable;
    let listeners = iter::once(("OTP_HTTP__LISTEN", common.http.listen)).chain(admin);
    let complaint = |(setting, address): (&str, SocketAddr)| {
        let error = TcpListener::bind((address.ip(), 0)).err();
        error
            .filter(is_missing)
            .map(|_| Err(format!("{setting}: this machine has no address {}", address.ip())))
    };
    listeners.filter_map(complaint).collect()
}

/// Reports how many domains otpd sends emails to, and whether it checks them in DNS.
fn check_domains(common: &Common) -> Result<String, String> {
    let recipients = app::recipients(common).map_err(|error| format!("lists of domains: {error:#}"))?;
    let allowed = recipients.allowed.map_or("all".to_owned(), |domains| domains.len().to_string());
    app::mail_domains(common).map_err(|error| format!("{error:#}"))?;
    let check = if common.check_mx { "; each must take mail (OTP_DOMAINS__CHECK_MX)" } else { "" };
    Ok(format!("domains that are mailed to: {allowed}; blocked: {}{check}", recipients.blocked.len()))
}

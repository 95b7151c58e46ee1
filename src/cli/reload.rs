//! Reloading the settings: at SIGHUP while the service runs, and as a trial by `otpd reload
//! --check`.
//!
//! Must not apply settings in part: whatever a start would refuse, a reload refuses as a whole.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::Signal;
use tracing::Level;

use super::{Failure, print};
use crate::adapters::clock::SystemClock;
use crate::app::{Replaceable, Replacement};
use crate::audit::AuditEvent;
use crate::config::audit::AuditOutput;
use crate::config::codes::Codes;
use crate::config::restart::StartSettings;
use crate::config::tenants::TenantSettings;
use crate::config::{self, Settings, Sources};
use crate::metrics::metrics;
use crate::ports::Clock as _;
use crate::telemetry::{self, TelemetryHandle};

/// `otpd reload`.
#[derive(Debug, Args)]
pub(super) struct Reload {
    /// Check the settings as a reload would, without applying them (SIGHUP applies them)
    #[arg(long, required = true)]
    check: bool,
}

/// What reloads a running service.
pub(super) struct Reloader {
    /// The file of `--config`.
    config: Option<PathBuf>,
    start: Start,
    replaceable: Replaceable,
    telemetry: TelemetryHandle,
}

/// What does not change before the next start.
#[derive(Debug)]
struct Start {
    settings: StartSettings,
    /// What the minimum of the limits depends on.
    codes: Codes,
    sends_retention: Duration,
    /// The work memory of a hash thread.
    hash_memory_kib: u32,
    has_tls: bool,
}

/// Settings that can be applied.
struct ReloadedSettings {
    replacement: Replacement,
    level: Level,
    /// The names of settings that have changed, but are not reloaded.
    restart_required: Vec<String>,
}

impl Reloader {
    pub(super) fn new(
        config: Option<&Path>,
        (sources, settings): (&Sources, &Settings),
        replaceable: Replaceable,
        telemetry: TelemetryHandle,
    ) -> Self {
        let common = &settings.common;
        let start = Start {
            settings: StartSettings::of(sources),
            codes: common.codes,
            sends_retention: common.limits.sends_retention(),
            hash_memory_kib: common.hash.cost.memory_kib(),
            has_tls: settings.tls.files().is_some(),
        };
        Self { config: config.map(Path::to_owned), start, replaceable, telemetry }
    }

    /// Reloads at each SIGHUP.
    pub(super) async fn run(self, mut hangup: Signal) {
        let reloader = Arc::new(self);
        while hangup.recv().await.is_some() {
            // Runs on a blocking thread, because a long list takes time and a stop signal must be
            // handled meanwhile.
            let reloader = Arc::clone(&reloader);
            let outcome = tokio::task::spawn_blocking(move || reloader.reload()).await;
            let outcome = match outcome.unwrap_or_else(|panic| Err(panic.to_string())) {
                Ok(()) => "applied",
                Err(why) => {
                    tracing::error!(why, "the settings were not reloaded; the previous settings stay in use");
                    "refused"
                }
            };
            metrics().reload(outcome == "applied");
            AuditEvent { event: "reload", outcome, ..AuditEvent::default() }.record();
        }
        std::future::pending::<()>().await;
    }

    fn reload(&self) -> Result<(), String> {
        if let Err(error) = self.telemetry.reopen() {
            tracing::error!(%error, "the file of the audit log cannot be opened again; the old one is written");
        }
        let ReloadedSettings { replacement, level, restart_required } = self.load()?;
        let (tenants, keys) = replacement.count();
        self.replaceable.replace(replacement);
        self.telemetry.set_level(level);
        tracing::info!(tenants, keys, "the settings were reloaded");
        if !restart_required.is_empty() {
            let names = restart_required.join(", ");
            tracing::warn!(names, "these settings have changed, which takes effect at the next start");
        }
        Ok(())
    }

    fn load(&self) -> Result<ReloadedSettings, String> {
        let sources =
            Sources::read(self.config.as_deref(), SystemClock.now()).map_err(|faults| faults.to_string())?;
        let loaded = config::serve(&sources).map_err(|faults| faults.to_string())?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut settings = loaded.settings;
        let common = &settings.common;
        // What is reloaded was read under the protections of the settings as they are now.
        let changed = self.start.settings.changed(&sources);
        if let Some(name) = changed.iter().find(|name| name.starts_with("OTP_DANGEROUS__")) {
            return Err(format!("{name} has changed: that takes a restart"));
        }
        // The minimum limits were checked against these settings, and the process continues with
        // those from its start.
        if common.codes != self.start.codes {
            let which = "OTP_CODES__… or OTP_LIMITS__ATTEMPTS";
            return Err(format!("{which} has changed, which limits depend on: that takes a restart"));
        }
        // The sends of all tenants share one ledger per email address, whose entries were stored
        // for the retention from the start.
        let retention = self.start.sends_retention;
        if common.limits.sends_retention() > retention {
            return Err("a limit on sends to an email address (email_sends, ip_email_sends or email_sends_total) has a longer window than at the start: that takes a restart".to_owned());
        }
        // The hash threads keep the work memory of the start.
        let memory_kib = self.start.hash_memory_kib;
        let needs_more = |tenant: &TenantSettings| {
            tenant.test_recipients.iter().any(|recipient| recipient.code.cost().memory_kib() > memory_kib)
        };
        if common.tenants.iter().any(needs_more) {
            return Err(
                "a test recipient has a hash that needs the new OTP_HASH__MEMORY_KIB: that takes a restart"
                    .to_owned(),
            );
        }
        settings.common.keep_sends_for(retention);
        let replacement = Replacement::build(&settings).map_err(|errors| listed(&errors))?;
        let mut restart_required = changed;
        if settings.tls.files().is_some() != self.start.has_tls {
            restart_required.push(config::name("tls.cert_file"));
        }
        Ok(ReloadedSettings { replacement, level: settings.common.log.level, restart_required })
    }
}

fn listed(errors: &[anyhow::Error]) -> String {
    errors.iter().map(|error| format!("{error:#}")).collect::<Vec<_>>().join("\n")
}

/// Checks the settings and prints what a reload would put in use.
pub(super) fn check(sources: Result<Sources, Failure>) -> Result<(), Failure> {
    let loaded = config::serve(&sources?).map_err(Failure::Settings)?;
    let replacement = Replacement::build(&loaded.settings).map_err(Failure::Unusable)?;
    let (tenants, keys) = replacement.count();
    let mut text = String::from(
        "a reload would succeed, unless OTP_CODES__…, OTP_LIMITS__ATTEMPTS, OTP_DANGEROUS__… or the longest \
         window of sends to an email address differ from those of the start",
    );
    for warning in &loaded.warnings {
        // Writing to a string does not fail.
        let _ = write!(text, "\nwarning      {warning}");
    }
    if let AuditOutput::File(path) = &loaded.settings.common.audit
        && let Err(error) = telemetry::check(path)
    {
        let _ = write!(text, "\nwarning      OTP_AUDIT__OUTPUT: the file cannot be opened: {error}");
    }
    if let Some(fault) = replacement.certificate_fault() {
        let _ = write!(text, "\nwarning      OTP_TLS__CERT_FILE: {fault}");
    }
    let peppers = &loaded.settings.secrets.peppers;
    let proof_keys = loaded.settings.common.proof_keys.names();
    let proof_keys = if proof_keys.is_empty() { "none".to_owned() } else { proof_keys.join(", ") };
    let _ = write!(
        text,
        "\npeppers      {}\nproof keys   {proof_keys}\ntenants      {tenants}\nAPI keys     {keys}\nlog level    {}",
        peppers.names().join(", "),
        loaded.settings.common.log.level.as_str().to_lowercase()
    );
    print(text).map_err(Failure::Other)
}

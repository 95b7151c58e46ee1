//! Reloading the settings: at SIGHUP while the service runs, and as a trial by `otpd reload
//! --check`.
//!
//! Must not apply settings in part: whatever a start would refuse, a reload refuses as a whole.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use tokio::signal::unix::Signal;
use tracing::Level;

use super::{Failure, print};
use crate::app::{Replaceable, Replacement};
use crate::audit::AuditEvent;
use crate::config::audit::AuditOutput;
use crate::config::codes::Codes;
use crate::config::restart::StartSettings;
use crate::config::{self, Settings, Sources};
use crate::metrics::metrics;
use crate::telemetry::{self, Telemetry};

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
    telemetry: Telemetry,
}

/// What does not change before the next start.
#[derive(Debug)]
struct Start {
    settings: StartSettings,
    /// What the minimum of the limits depends on.
    codes: Codes,
    weak_limits: bool,
    sends_retention: Duration,
    has_tls: bool,
}

/// Settings that can be applied.
struct ReloadedSettings {
    replacement: Replacement,
    level: Level,
    /// Settings that differ, but are not reloaded.
    kept: Vec<String>,
}

impl Reloader {
    pub(super) fn new(
        config: Option<&Path>,
        (sources, settings): (&Sources, &Settings),
        replaceable: Replaceable,
        telemetry: Telemetry,
    ) -> Self {
        let common = &settings.common;
        let start = Start {
            settings: StartSettings::of(sources),
            codes: common.codes,
            weak_limits: common.weak_limits,
            sends_retention: common.limits.sends_retention(),
            has_tls: settings.tls.files().is_some(),
        };
        Self { config: config.map(Path::to_owned), start, replaceable, telemetry }
    }

    /// Reloads at each SIGHUP.
    pub(super) async fn run(self, mut hangup: Signal) {
        let mut this = self;
        while hangup.recv().await.is_some() {
            // Runs on a blocking thread, because a long list takes time and a stop signal must be
            // handled meanwhile.
            let reloading = tokio::task::spawn_blocking(move || {
                this.reload();
                this
            });
            this = match reloading.await {
                Ok(this) => this,
                // It panicked, which is logged.
                Err(_) => break,
            };
        }
        std::future::pending::<()>().await;
    }

    fn reload(&self) {
        if let Err(error) = self.telemetry.reopen() {
            tracing::error!(%error, "the file of the audit log cannot be opened again; the old one is written");
        }
        let outcome = self.load();
        let is_applied = outcome.is_ok();
        match outcome {
            Ok(ReloadedSettings { replacement, level, kept }) => {
                let (tenants, keys) = replacement.count();
                self.replaceable.replace(replacement);
                self.telemetry.set_level(level);
                tracing::info!(tenants, keys, "the settings were reloaded");
                if !kept.is_empty() {
                    let names = kept.join(", ");
                    tracing::warn!(
                        names,
                        "these settings have changed, which takes effect at the next start"
                    );
                }
            }
            Err(why) => tracing::error!(why, "the settings were not reloaded, and those before stay in use"),
        }
        metrics().reload(is_applied);
        let outcome = if is_applied { "applied" } else { "refused" };
        AuditEvent { event: "reload", outcome, ..AuditEvent::default() }.record();
    }

    fn load(&self) -> Result<ReloadedSettings, String> {
        let sources = Sources::read(self.config.as_deref()).map_err(|faults| faults.to_string())?;
        let loaded = config::serve(&sources).map_err(|faults| faults.to_string())?;
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
        let mut settings = loaded.settings;
        let common = &settings.common;
        // The minimum limits were checked against these settings, and the process continues with
        // those from its start.
        if (common.codes, common.weak_limits) != (self.start.codes, self.start.weak_limits) {
            let which = "OTP_CODES__…, OTP_LIMITS__ATTEMPTS or OTP_DANGEROUS__WEAK_LIMITS";
            return Err(format!("{which} has changed, which limits depend on: that takes a restart"));
        }
        // The sends of all tenants share one ledger per email address, whose entries were stored
        // for the retention from the start.
        let retention = self.start.sends_retention;
        if common.limits.sends_retention() > retention {
            return Err("a limit on sends to an email address (email_sends, ip_email_sends or email_sends_total) has a longer window than any before: that takes a restart".to_owned());
        }
        settings.common.keep_sends_for(retention);
        let replacement = Replacement::build(&settings).map_err(|errors| listed(&errors))?;
        let mut kept = self.start.settings.changed(&sources);
        if settings.tls.files().is_some() != self.start.has_tls {
            kept.push(config::name("tls.cert_file"));
        }
        Ok(ReloadedSettings { replacement, level: settings.common.log.level, kept })
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
        "a reload would succeed, unless OTP_CODES__…, OTP_LIMITS__ATTEMPTS, OTP_DANGEROUS__WEAK_LIMITS or the longest \
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

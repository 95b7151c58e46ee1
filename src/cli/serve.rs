//! `otpd serve`: runs the service in production, with Redis and an SMTP relay.

use anyhow::Context as _;

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, HTTP_LISTEN, announce, block_on, listen, listen_admin, stop_signal};
use crate::api::TenantKeys;
use crate::app::{self, App, Replaceable};
use crate::config::{self, Settings, Sources};
use crate::domain::domain_policy::DomainPolicy;
use crate::metrics::metrics;

/// Serves until SIGTERM or SIGINT. SIGHUP reloads the tenants, their keys and the lists of domains.
pub(super) fn run(config: Option<&Path>) -> Result<(), Failure> {
    let sources = Sources::read(config).map_err(Failure::Settings)?;
    let loaded = config::serve(&sources).map_err(Failure::Settings)?;
    let settings = announce(loaded, |settings| settings.common.log);
    block_on(async {
        // Installed first, because an unhandled SIGHUP ends the process.
        let hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be heard")?;
        let address = settings.common.http.listen;
        let app = App::production(&settings).await?;
        let listener = listen(HTTP_LISTEN, address).await?;
        let admin = listen_admin(settings.common.admin).await?;
        let address = listener.local_addr().context("the listener has no address")?;
        tracing::info!(%address, "listening");
        let replaceable = app.replaceable();
        tokio::select! {
            () = app.run(vec![listener], admin, stop_signal()) => {}
            () = reload(hangup, config, &settings, &replaceable) => {}
        }
        Ok(())
    })
}

/// Reloads the settings at each SIGHUP, and replaces tenants and lists of domains. Settings with a
/// fault change nothing.
async fn reload(mut hangup: Signal, config: Option<&Path>, first: &Settings, replaceable: &Replaceable) {
    while hangup.recv().await.is_some() {
        // Runs on a blocking thread, because a long list takes time and a stop signal must be
        // handled meanwhile.
        let config = config.map(Path::to_owned);
        let first = first.clone();
        let reading = tokio::task::spawn_blocking(move || read_again(config.as_deref(), &first));
        match reading.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok((tenants, recipients)) => {
                replaceable.replace(&tenants, recipients);
                metrics().reload(true);
                tracing::info!(
                    tenants = tenants.len(),
                    "the tenants, their keys and the lists of domains were read again"
                );
            }
            Err(why) => {
                metrics().reload(false);
                tracing::error!(why, "the tenants, their keys and the lists of domains stay as they were");
            }
        }
    }
    std::future::pending::<()>().await;
}

fn read_again(config: Option<&Path>, first: &Settings) -> Result<(Vec<TenantKeys>, DomainPolicy), String> {
    let loaded = Sources::read(config).and_then(|sources| config::serve(&sources));
    let loaded = loaded.map_err(|faults| faults.to_string())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let mut settings = loaded.settings;
    let retention = first.common.limits.sends_retention();
    // The minimum limits were checked against these settings, and the process continues with those
    // from its start.
    let [before, now] = [&first.common, &settings.common].map(|common| (common.codes, common.weak_limits));
    if before != now {
        let which = "OTP_CODES__…, OTP_LIMITS__ATTEMPTS or OTP_DANGEROUS__WEAK_LIMITS";
        return Err(format!("{which} has changed, which limits depend on: that takes a restart"));
    }
    // The sends of all tenants share one ledger per email address, and the simple endpoints
    // continue with the retention from the start.
    if settings.common.limits.sends_retention() > retention {
        return Err("a limit on sends to an email address (email_sends, ip_email_sends or email_sends_total) has a longer window than any before: that takes a restart".to_owned());
    }
    settings.common.keep_sends_for(retention);
    // Refuses whatever a start would refuse. Templates are checked but not reloaded.
    let recipients = app::composer(&settings.common).and_then(|_| app::recipients(&settings.common));
    let recipients = recipients.map_err(|error| format!("{error:#}"))?;
    Ok((app::tenants(&settings.common, &settings.smtp.sender), recipients))
}

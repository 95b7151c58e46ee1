//! `otpd serve`: production, with Redis and a relay.

use anyhow::Context as _;

use std::path::Path;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Failure, announce, block_on, listen, stop_signal};
use crate::api::TenantKeys;
use crate::app::{self, App, Replaceable};
use crate::config::{self, Settings, Sources};
use crate::domain::domain_policy::DomainPolicy;

/// Serves until it is told to stop. SIGHUP reads the tenants, their keys and the lists of domains anew.
pub fn run(config: Option<&Path>) -> Result<(), Failure> {
    let sources = Sources::read(config).map_err(Failure::Settings)?;
    let loaded = config::serve(&sources).map_err(Failure::Settings)?;
    let settings = announce(loaded, |settings| settings.common.log);
    block_on(async {
        // Before anything else: unheard, it would end the process.
        let hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be heard")?;
        let address = settings.common.http.listen;
        let app = App::production(&settings).await?;
        let listener = listen(address).await?;
        let address = listener.local_addr().context("the listener has no address")?;
        tracing::info!(%address, "listening");
        let replaceable = app.replaceable();
        tokio::select! {
            () = app.run(vec![listener], stop_signal()) => {}
            () = reload(hangup, config, &settings, &replaceable) => {}
        }
        Ok(())
    })
}

/// At each SIGHUP reads the settings anew and puts their tenants and lists in the place of those before. Settings with a fault
/// change nothing.
async fn reload(mut hangup: Signal, config: Option<&Path>, first: &Settings, replaceable: &Replaceable) {
    while hangup.recv().await.is_some() {
        // Off the loop: a long list takes its time, and a signal to stop must be heard.
        let (config, first) = (config.map(Path::to_owned), first.clone());
        let reading = tokio::task::spawn_blocking(move || read_anew(config.as_deref(), &first));
        match reading.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok((tenants, recipients)) => {
                replaceable.replace(&tenants, recipients);
                tracing::info!(
                    tenants = tenants.len(),
                    "the tenants, their keys and the lists of domains were read anew"
                );
            }
            Err(why) => {
                tracing::error!(why, "the tenants, their keys and the lists of domains stay as they were");
            }
        }
    }
    std::future::pending::<()>().await;
}

fn read_anew(config: Option<&Path>, first: &Settings) -> Result<(Vec<TenantKeys>, DomainPolicy), String> {
    let loaded = Sources::read(config).and_then(|sources| config::serve(&sources));
    let loaded = loaded.map_err(|faults| faults.to_string())?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let (mut settings, retention) = (loaded.settings, first.common.limits.sends.retention);
    // The floors were held against these, and the process goes on with those that it began with.
    let [before, now] = [&first.common, &settings.common].map(|common| (common.codes, common.weak_limits));
    if before != now {
        let which = "OTP_CODES__…, OTP_LIMITS__ATTEMPTS or OTP_DANGEROUS__WEAK_LIMITS";
        return Err(format!("{which} has changed, which limits depend on: that takes a restart"));
    }
    // All keep the sends of a person in one log, and the simple endpoints go on as they began.
    if settings.common.limits.sends.retention > retention {
        return Err("a limit has a longer window than any before: that takes a restart".to_owned());
    }
    settings.common.keep_sends_for(retention);
    // What a start would refuse is refused here as well; templates are not read anew.
    let recipients = app::composer(&settings.common).and_then(|_| app::recipients(&settings.common));
    let recipients = recipients.map_err(|error| format!("{error:#}"))?;
    Ok((app::tenants(&settings.common, &settings.smtp.sender), recipients))
}

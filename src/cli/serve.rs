//! `otpd serve`: runs the service in production, with Redis and an SMTP relay.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::reload::Reloader;
use super::{
    Failure, HTTP_LISTEN, StopSignal, StopSignals, announce, block_on, listen, listen_admin, service_manager,
};
use crate::adapters::clock::SystemClock;
use crate::api::Draining;
use crate::app::App;
use crate::config::{self, Sources};
use crate::ports::Clock as _;

/// Serves until SIGTERM or SIGINT. SIGHUP reloads the settings.
pub(super) fn run(config: Option<&Path>) -> Result<(), Failure> {
    let sources = Sources::read(config, SystemClock.now()).map_err(Failure::Settings)?;
    let loaded = config::serve(&sources).map_err(Failure::Settings)?;
    let (settings, telemetry) = announce(loaded, |settings| &settings.common)?;
    block_on(async {
        // Installed first, because an unhandled SIGHUP ends the process.
        let hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be heard")?;
        let mut stop = StopSignals::new()?;
        let http = &settings.common.http;
        let (address, delay) = (http.listen, http.shutdown_delay);
        let app = App::production(&settings)?;
        let listener = listen(HTTP_LISTEN, address).await?;
        let admin = listen_admin(settings.common.admin).await?;
        let address = listener.local_addr().context("the listener has no address")?;
        tracing::info!(%address, "listening");
        service_manager::ready();
        let reloader = Reloader::new(config, (&sources, &settings), app.replaceable(), telemetry.handle());
        tokio::select! {
            () = app.run(vec![listener], admin, async |draining| drain(draining, delay, &mut stop).await) => {}
            () = reloader.run(hangup) => {}
            () = service_manager::watch() => {}
        }
        Ok(())
    })
}

/// Waits for a signal. After SIGTERM, waits for the delay, while load balancers learn from
/// `/readyz` that requests should go elsewhere; a second signal ends it.
async fn drain(draining: &Draining, delay: Duration, stop: &mut StopSignals) {
    let delay = if stop.next().await == StopSignal::Interrupt { Duration::ZERO } else { delay };
    service_manager::stopping(delay);
    if delay.is_zero() {
        return;
    }
    draining.begin();
    tracing::info!(delay_s = delay.as_secs(), "stopping after a delay: /readyz answers 503");
    // Elapsed, or ended by a signal.
    let _ = timeout(delay, stop.next()).await;
}

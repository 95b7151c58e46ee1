//! `otpd serve`: runs the service in production, with Redis and an SMTP relay.

use std::path::Path;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::reload::Reloader;
use super::{Failure, HTTP_LISTEN, announce, block_on, listen, listen_admin, stop_signal};
use crate::app::App;
use crate::config::{self, Sources};

/// Serves until SIGTERM or SIGINT. SIGHUP reloads the settings.
pub(super) fn run(config: Option<&Path>) -> Result<(), Failure> {
    let sources = Sources::read(config).map_err(Failure::Settings)?;
    let loaded = config::serve(&sources).map_err(Failure::Settings)?;
    let (settings, telemetry) = announce(loaded, |settings| &settings.common)?;
    block_on(async {
        // Installed first, because an unhandled SIGHUP ends the process.
        let hangup = signal(SignalKind::hangup()).context("SIGHUP cannot be heard")?;
        let address = settings.common.http.listen;
        let app = App::production(&settings).await?;
        let listener = listen(HTTP_LISTEN, address).await?;
        let admin = listen_admin(settings.common.admin).await?;
        let address = listener.local_addr().context("the listener has no address")?;
        tracing::info!(%address, "listening");
        let reloader = Reloader::new(config, (&sources, &settings), app.replaceable(), telemetry.handle());
        tokio::select! {
            () = app.run(vec![listener], admin, stop_signal()) => {}
            () = reloader.run(hangup) => {}
        }
        Ok(())
    })
}

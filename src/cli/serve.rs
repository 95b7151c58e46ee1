//! `otpd serve`: production, with Redis and a relay.

use anyhow::Context as _;

use super::{Failure, announce, block_on, stop_signal};
use crate::app::App;
use crate::config::{self, Sources};
use crate::server;

/// Serves until it is told to stop.
pub fn run(sources: &Sources) -> Result<(), Failure> {
    let loaded = config::serve(sources).map_err(Failure::Settings)?;
    let settings = announce(loaded, |settings| settings.common.log);
    block_on(async {
        let address = settings.common.http.listen;
        let listener = server::listen(address)
            .await
            .with_context(|| format!("cannot listen on {address}; OTP_HTTP__LISTEN sets another address"))?;
        let app = App::production(&settings).await?;
        tracing::info!(address = %listener.local_addr()?, "listening");
        app.run(vec![listener], stop_signal()).await;
        Ok(())
    })
}

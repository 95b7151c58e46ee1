//! `otpd dev`: runs the service without any settings, for this machine only.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Context as _;
use tokio::net::TcpListener;

use super::{
    Failure, HTTP_LISTEN, StopSignals, announce, block_on, cannot_listen, listen, listen_admin, print,
};
use crate::app::App;
use crate::config::http::Docs;
use crate::config::{self, Sources};
use crate::server;

/// Serves until SIGTERM or SIGINT.
pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let loaded = config::dev(sources).map_err(Failure::Settings)?;
    let (common, _telemetry) = announce(loaded, |common| common)?;
    block_on(async {
        let mut stop = StopSignals::new()?;
        let (app, key) = App::development(&common)?;
        let listeners = loopback(common.http.listen.port()).await?;
        let admin = listen_admin(common.admin).await?;
        let port = port(listeners.first().context("no listener")?)?;
        tracing::info!(address = %SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "listening");
        print(format!(
            "otpd dev: emails are captured, nothing is stored.\n\
             \x20 try it        http://localhost:{port}/dev\n\
             {}\
             \x20 API key       {}\n\
             \x20 send a code   curl -H 'Content-Type: application/json' \
             -d '{{\"email\":\"you@example.com\"}}' http://localhost:{port}/send-otp\n\
             \x20 read it       curl 'http://localhost:{port}/dev/mails?to=you@example.com'",
            if common.http.docs == Docs::On {
                format!("\x20 Swagger UI    http://localhost:{port}/docs\n")
            } else {
                String::new()
            },
            *key
        ))?;
        app.run(listeners, admin, async |_| _ = stop.next().await).await;
        Ok(())
    })
}

/// Listens on both loopback addresses with the same port, because `localhost` may resolve to
/// either.
async fn loopback(requested: u16) -> Result<Vec<TcpListener>, Failure> {
    let v4 = listen(HTTP_LISTEN, (Ipv4Addr::LOCALHOST, requested).into()).await?;
    let address = SocketAddr::from((Ipv6Addr::LOCALHOST, port(&v4)?));
    match server::listen(address).await {
        Ok(v6) => Ok(vec![v4, v6]),
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            Err(cannot_listen(HTTP_LISTEN, address, error))
        }
        // A machine without IPv6 uses IPv4 alone.
        Err(_) => Ok(vec![v4]),
    }
}

fn port(listener: &TcpListener) -> anyhow::Result<u16> {
    Ok(listener.local_addr().context("the listener has no address")?.port())
}

//! `otpd dev`: the main job without any settings, for this machine only.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, ensure};
use tokio::net::TcpListener;

use super::{Failure, announce, block_on, print, stop_signal};
use crate::app::App;
use crate::config::http::Docs;
use crate::config::{self, Sources};
use crate::server;

/// Serves until it is told to stop.
pub fn run(sources: &Sources) -> Result<(), Failure> {
    let loaded = config::dev(sources).map_err(Failure::Settings)?;
    let common = announce(loaded, |common| common.log);
    block_on(async {
        let listeners = loopback(common.http.listen).await?;
        let (app, key) = App::development(&common)?;
        let port = listeners.first().context("no listener")?.local_addr()?.port();
        tracing::info!(address = %SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "listening");
        print(format!(
            "otpd dev: mails are captured, nothing is kept.\n\
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
        app.run(listeners, stop_signal()).await;
        Ok(())
    })
}

/// Listens on both loopback addresses, on the port of the settings: `localhost` may mean either.
async fn loopback(address: SocketAddr) -> anyhow::Result<Vec<TcpListener>> {
    ensure!(
        [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()].contains(&address.ip()),
        "otpd dev shows codes to whoever asks, so it listens on this machine only; \
         set OTP_HTTP__LISTEN=127.0.0.1:{}",
        address.port()
    );
    let busy =
        |port| format!("cannot listen on port {port}; OTP_HTTP__LISTEN=127.0.0.1:5050 sets another one");
    let v4 = server::listen((Ipv4Addr::LOCALHOST, address.port()).into())
        .await
        .with_context(|| busy(address.port()))?;
    let port = v4.local_addr()?.port();
    match server::listen((Ipv6Addr::LOCALHOST, port).into()).await {
        Ok(v6) => Ok(vec![v4, v6]),
        // A machine without IPv6 is served by IPv4 alone.
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error).with_context(|| busy(port)),
        Err(_) => Ok(vec![v4]),
    }
}

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
use crate::domain::fault_plan::FaultPlan;
use crate::server;

/// The options of `otpd dev`.
#[derive(Debug, clap::Args)]
pub(super) struct DevOptions {
    /// Use the rate limits of `otpd serve` instead of the relaxed ones
    #[arg(long)]
    production_limits: bool,
    /// Inject faults on purpose: send=N%,unknown=N%,slow=DURATION,limited=N%,unavailable=N%
    ///
    /// A comma-separated list of: send=N% (the relay refuses that share of emails), unknown=N%
    /// (whether the relay accepted the email is unknown, and it may arrive), slow=DURATION (each
    /// email takes that long, at most 10s), limited=N% (429), unavailable=N% (503).
    #[arg(long, value_name = "LIST")]
    fail: Option<FaultPlan>,
}

impl DevOptions {
    /// Serves until SIGTERM or SIGINT.
    pub(super) fn run(self, sources: Sources) -> Result<(), Failure> {
        let sources = sources.for_dev();
        let sources = if self.production_limits { sources } else { sources.with_limits_of_dev() };
        let loaded = config::dev(&sources).map_err(Failure::Settings)?;
        let (common, _telemetry) = announce(loaded, |common| common)?;
        block_on(async {
            let mut stop = StopSignals::new()?;
            let plan = self.fail.unwrap_or_default();
            let (app, key) = App::development(&common, plan)?;
            let listeners = loopback(common.http.listen.port()).await?;
            let admin = listen_admin(common.admin).await?;
            let port = port(listeners.first().context("no listener")?)?;
            tracing::info!(address = %SocketAddr::from((Ipv4Addr::LOCALHOST, port)), "listening");
            print(greeting(port, &key, common.http.docs, &plan))?;
            app.run(listeners, admin, async |_| _ = stop.next().await).await;
            Ok(())
        })
    }
}

/// Returns what is printed at the start.
fn greeting(port: u16, key: &str, docs: Docs, plan: &FaultPlan) -> String {
    let docs = match docs {
        Docs::On => format!("\x20 Swagger UI    http://localhost:{port}/docs\n"),
        Docs::Off => String::new(),
    };
    let faults =
        if plan.is_empty() { String::new() } else { format!("\x20 faults        {plan}, on purpose\n") };
    format!(
        "otpd dev: emails are captured, nothing is stored.\n\
         \x20 try it        http://localhost:{port}/dev\n\
         {docs}\
         {faults}\
         \x20 API key       {key}\n\
         \x20 send a code   curl -H 'Content-Type: application/json' \
         -d '{{\"email\":\"you@example.com\"}}' http://localhost:{port}/send-otp\n\
         \x20 read it       curl 'http://localhost:{port}/dev/mails?to=you@example.com'"
    )
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

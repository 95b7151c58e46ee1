//! `otpd healthcheck`: asks the listener of the service on this machine.
//!
//! Must need nothing but the address of the listener, and must end with 0 or 1: containers reserve
//! the other exit codes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use rustls::crypto::ring;
use ureq::Agent;
use ureq::tls::TlsConfig;

use super::Failure;
use crate::config::{self, Sources};

/// Time limit of the whole call.
const TIMEOUT: Duration = Duration::from_secs(5);
/// The most that is shown of a response, in bytes.
const MAX_RESPONSE: u64 = 4096;

/// `otpd healthcheck`.
#[derive(Debug, Args)]
pub(super) struct Healthcheck {
    /// Also ask whether Redis and the other things that requests need are there (/readyz)
    #[arg(long)]
    ready: bool,
}

/// Succeeds if the service answers 200.
///
/// # Errors
/// Says what it answered, or why it did not.
pub(super) fn run(command: &Healthcheck, sources: Result<Sources, Failure>) -> anyhow::Result<()> {
    let faults = |failure| match failure {
        Failure::Settings(faults) => anyhow::anyhow!("{faults}"),
        Failure::Unusable(_) | Failure::Other(_) => anyhow::anyhow!("the settings cannot be read"),
    };
    let listener =
        config::listener(&sources.map_err(faults)?).map_err(|faults| anyhow::anyhow!("{faults}"))?;
    let path = if command.ready { "/readyz" } else { "/livez" };
    let scheme = if listener.has_tls { "https" } else { "http" };
    let mut outcome = Err(anyhow::anyhow!("no address"));
    for address in reachable(listener.address) {
        let url = format!("{scheme}://{address}{path}");
        outcome = agent().get(&url).call().map_err(reason).with_context(|| {
            format!(
                "{url} does not answer; is otpd running, with this OTP_HTTP__LISTEN and OTP_TLS__CERT_FILE?"
            )
        });
        if outcome.is_ok() {
            break;
        }
    }
    let mut response = outcome?;
    if response.status() != 200 {
        let body = response.body_mut().with_config().limit(MAX_RESPONSE).read_to_string();
        let body = body.unwrap_or_else(|_| "not a response of otpd".to_owned());
        let hint = if command.ready { "; 'otpd doctor' says what is missing" } else { "" };
        bail!("{path} answered {}: {}{hint}", response.status().as_u16(), body.trim());
    }
    Ok(())
}

fn reason(error: ureq::Error) -> anyhow::Error {
    match error {
        ureq::Error::Io(error) => error.into(),
        ureq::Error::Timeout(_) => anyhow::anyhow!("no answer within {} s", TIMEOUT.as_secs()),
        _ => anyhow::anyhow!("what is there does not speak HTTP, or HTTPS"),
    }
}

/// Returns the addresses of this machine on which a listener on `address` may be reached. Without
/// IPv6, a listener on `[::]` is reached over IPv4.
fn reachable(address: SocketAddr) -> Vec<SocketAddr> {
    let ips: &[IpAddr] = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => &[IpAddr::V4(Ipv4Addr::LOCALHOST)],
        IpAddr::V6(ip) if ip.is_unspecified() => {
            &[IpAddr::V6(Ipv6Addr::LOCALHOST), IpAddr::V4(Ipv4Addr::LOCALHOST)]
        }
        ip => &[ip],
    };
    ips.iter().map(|ip| SocketAddr::new(*ip, address.port())).collect()
}

/// Returns a client. The certificate of the listener names its public host, not this address, and
/// nothing is sent that needs protection: it is not verified.
fn agent() -> Agent {
    let tls = TlsConfig::builder()
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .disable_verification(true);
    let config = Agent::config_builder()
        .timeout_global(Some(TIMEOUT))
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .tls_config(tls.build());
    config.build().new_agent()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_addresses_is_reached_on_loopback() {
        for (address, expected) in [
            ("0.0.0.0:5000", &["127.0.0.1:5000"][..]),
            ("[::]:5000", &["[::1]:5000", "127.0.0.1:5000"]),
            ("192.0.2.1:80", &["192.0.2.1:80"]),
            ("[2001:db8::1]:80", &["[2001:db8::1]:80"]),
        ] {
            let reachable = reachable(address.parse().unwrap());
            assert_eq!(reachable.iter().map(SocketAddr::to_string).collect::<Vec<_>>(), expected);
        }
    }
}

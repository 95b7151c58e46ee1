//! Connects to a host, if its address is one that otpd may connect to.
//!
//! The address is checked here and nowhere else, so that no way around the check exists: neither an
//! IP address in the URL nor a name that resolves to another address the next time.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::Uri;
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tokio::net::{TcpStream, lookup_host};
use tower_service::Service;

use super::error::{HttpCause, HttpError, HttpStage};
use crate::adapters::tcp;
use crate::domain::host::Host;
use crate::domain::public_address::is_public;

/// Connects to the hosts of URLs.
#[derive(Clone)]
pub(super) struct Connector {
    allowed: Arc<[IpNet]>,
}

impl Connector {
    /// Creates a connector; `allowed` are networks that are allowed though they are not public.
    pub(super) fn new(allowed: Vec<IpNet>) -> Self {
        Self { allowed: allowed.into() }
    }

    /// Connects to the first reachable address that is allowed.
    async fn connect(self, uri: Uri) -> Result<TokioIo<TcpStream>, HttpError> {
        let no_host = || HttpError::new(HttpStage::Resolve, HttpCause::NoSuchHost);
        let host = uri.host().and_then(Host::parse).ok_or_else(no_host)?;
        let usual = if uri.scheme_str() == Some("http") { 80 } else { 443 };
        let port = uri.port_u16().unwrap_or(usual);
        let addresses: Vec<SocketAddr> = match &host {
            Host::Address(address) => vec![(*address, port).into()],
            Host::Name(name) => lookup_host((name.as_str(), port)).await.map_err(|_| no_host())?.collect(),
        };
        if addresses.is_empty() {
            return Err(no_host());
        }
        let allowed = addresses.into_iter().filter(|address| self.allows(&host, address.ip()));
        let connected = tcp::connect(allowed).await;
        connected.map(TokioIo::new).map_err(|error| match error.map(|error| error.kind()) {
            None => HttpError::new(HttpStage::Connect, HttpCause::NotAllowed),
            Some(io::ErrorKind::TimedOut) => HttpError::timeout(HttpStage::Connect),
            Some(kind) => HttpError::new(HttpStage::Connect, HttpCause::Unreachable(kind)),
        })
    }

    /// Returns whether otpd may connect to this address of the host. If the URL names this machine,
    /// to this machine only.
    fn allows(&self, host: &Host, address: IpAddr) -> bool {
        let address = address.to_canonical();
        if names_this_machine(host) {
            return address.is_loopback();
        }
        is_public(address) || self.allowed.iter().any(|network| network.contains(&address))
    }
}

/// Returns whether a URL with this host is meant for this machine. An IPv6 address that stands for
/// an IPv4 address is not how one writes that.
fn names_this_machine(host: &Host) -> bool {
    match host {
        Host::Name(_) => host.is_loopback(),
        Host::Address(address) => address.is_loopback(),
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = HttpError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, HttpError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), HttpError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(self.clone().connect(uri))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_without_an_address_is_told_from_a_host_that_cannot_be_reached() {
        // A label has 63 bytes at most (RFC 1035 section 2.3.4), so no name server is asked.
        let uri = format!("https://{}.example/", "a".repeat(64)).parse().unwrap();
        let error = Connector::new(Vec::new()).connect(uri).await.unwrap_err();
        assert_eq!(error.stage(), HttpStage::Resolve);
        assert!(matches!(error.cause(), HttpCause::NoSuchHost), "{error:?}");
    }
}

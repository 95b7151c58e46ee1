//! Connects to a relay by DNS, TCP and TLS.
//!
//! Must not accept a certificate that the trust anchors do not vouch for, or of another name.

use std::fmt;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::{Cause, SendError};
use super::stage::Stage;
use crate::adapters::tcp;

/// Trust anchors that a relay's certificate is verified against.
pub enum TrustAnchors {
    /// The trust anchors of this machine.
    System,
    /// These certificates, in PEM form, and no others.
    These(Vec<u8>),
}

/// TLS 1.2 or 1.3 to one relay, with verification of its certificate and name.
#[derive(Clone)]
pub struct Security {
    connector: TlsConnector,
    name: ServerName<'static>,
}

/// Why TLS could not be configured.
#[derive(Debug, Error)]
pub enum NoSecurity {
    /// There are no trust anchors.
    #[error("no trust anchors (certificates in PEM form)")]
    NoCertificates,
    /// A certificate is not usable as a trust anchor.
    #[error("a certificate cannot be used")]
    Certificate(#[source] rustls::Error),
    /// The host name cannot be in a certificate.
    #[error("no certificate can be for that host")]
    Name,
    /// The TLS library reported this error.
    #[error("TLS cannot be set up")]
    Library(#[source] rustls::Error),
}

impl TrustAnchors {
    /// Returns the certificates.
    ///
    /// # Errors
    /// [`NoSecurity`] says what is wrong.
    pub fn certificates(&self) -> Result<RootCertStore, NoSecurity> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::System => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
            Self::These(pem) => {
                for certificate in CertificateDer::pem_slice_iter(pem) {
                    let certificate = certificate.map_err(|_| NoSecurity::NoCertificates)?;
                    roots.add(certificate).map_err(NoSecurity::Certificate)?;
                }
            }
        }
        if roots.is_empty() {
            return Err(NoSecurity::NoCertificates);
        }
        Ok(roots)
    }

    /// Returns the TLS configuration of a client.
    ///
    /// # Errors
    /// [`NoSecurity`] says what is wrong.
    pub fn client_config(&self) -> Result<ClientConfig, NoSecurity> {
        let roots = self.certificates()?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().map_err(NoSecurity::Library)?;
        Ok(config.with_root_certificates(roots).with_no_client_auth())
    }

    /// Returns the TLS configuration for a host.
    ///
    /// # Errors
    /// [`NoSecurity`] says what is wrong.
    pub fn tls_config(&self, host: &str) -> Result<Security, NoSecurity> {
        let config = self.client_config()?;
        let name = ServerName::try_from(host.to_owned()).map_err(|_| NoSecurity::Name)?;
        Ok(Security { connector: TlsConnector::from(Arc::new(config)), name })
    }
}

impl Security {
    /// Starts TLS on a connection.
    ///
    /// # Errors
    /// [`SendError`] if the relay does not speak TLS or its certificate is not valid.
    pub async fn wrap(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, SendError> {
        let secured = self.connector.connect(self.name.clone(), stream).await;
        secured.map_err(|error| SendError::from_io(Stage::Tls, &error))
    }
}

/// Connects to the first reachable address of the relay.
pub(super) async fn reach(host: &str, port: u16) -> Result<TcpStream, SendError> {
    let no_address = || SendError { stage: Stage::Resolve, cause: Cause::NoSuchHost };
    let addresses = lookup_host((host, port)).await.map_err(|_| no_address())?;
    let connected = tcp::connect(addresses).await;
    connected
        .map_err(|error| error.map_or_else(no_address, |error| SendError::from_io(Stage::Connect, &error)))
}

impl fmt::Debug for Security {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Security").field("name", &self.name).finish_non_exhaustive()
    }
}

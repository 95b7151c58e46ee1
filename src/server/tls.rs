//! TLS 1.2 and 1.3 on a listener, with a certificate that can be replaced.
//!
//! A connection keeps the certificate of its handshake. Must not read files.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::crypto::ring::{self, sign};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use x509_cert::der::Decode as _;
use zeroize::Zeroize as _;

/// The only protocol that is served (RFC 7301).
const ALPN_HTTP_1_1: &[u8] = b"http/1.1";

/// A certificate with its intermediates and its private key.
#[derive(Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    validity: RangeInclusive<SystemTime>,
}

/// Why a certificate cannot be used.
#[derive(Debug, Error)]
pub enum CertificateError {
    /// The file of the certificate has no `CERTIFICATE` block, or one that cannot be decoded.
    #[error("there is no certificate in PEM form, or one of several is broken")]
    NoCertificate,
    /// The file of the key has no usable block.
    #[error(
        "there is no private key in PEM form, or it is encrypted, which `openssl pkey -in KEY -out NEW` undoes"
    )]
    NoKey,
    /// The first certificate is not one of X.509 version 3.
    #[error("the first certificate is not one of X.509 version 3")]
    Broken,
    /// The key is of an unknown kind, or too short.
    #[error(
        "the private key is of a kind or a size that is not supported: P-256, P-384, Ed25519 and RSA from 2048 bits are"
    )]
    UnsupportedKey,
    /// The key is that of another certificate.
    #[error("the private key is not that of the first certificate")]
    Mismatch,
}

/// The TLS of a listener. Clones share the certificate.
#[derive(Clone)]
pub struct ServerTls {
    acceptor: TlsAcceptor,
    current: Arc<Current>,
}

/// The certificate for new connections.
#[derive(Debug)]
struct Current(RwLock<Arc<Certificate>>);

impl Certificate {
    /// Reads a certificate with its intermediates, and its private key, from PEM texts.
    ///
    /// # Errors
    /// Returns a [`CertificateError`] if they cannot be used together.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|_| CertificateError::NoCertificate)?;
        let mut private = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let signing = sign::any_supported_type(&private);
        private.zeroize();
        let signing = signing.map_err(|_| CertificateError::UnsupportedKey)?;
        let first = chain.first().ok_or(CertificateError::NoCertificate)?;
        let parsed = x509_cert::Certificate::from_der(first).map_err(|_| CertificateError::Broken)?;
        let validity = parsed.tbs_certificate().validity();
        let validity = validity.not_before.to_system_time()..=validity.not_after.to_system_time();
        let key = CertifiedKey::new(chain, signing);
        match key.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(rustls::Error::InconsistentKeys(_)) => return Err(CertificateError::Mismatch),
            Err(_) => return Err(CertificateError::Broken),
        }
        Ok(Self { key: Arc::new(key), validity })
    }
}

impl Certificate {
    /// Returns the time in which it is valid.
    #[must_use]
    pub fn validity(&self) -> &RangeInclusive<SystemTime> {
        &self.validity
    }
}

impl ServerTls {
    /// Creates the TLS of a listener.
    ///
    /// # Errors
    /// Returns the library's error if it supports no safe version.
    pub fn new(certificate: Certificate) -> Result<Self, rustls::Error> {
        let current = Arc::new(Current(RwLock::new(Arc::new(certificate))));
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&current) as _);
        config.alpn_protocols = vec![ALPN_HTTP_1_1.to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), current })
    }

    /// Replaces the certificate for new connections.
    pub fn replace(&self, certificate: Certificate) {
        *self.current.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certificate);
    }

    /// Returns the time in which the certificate is valid.
    #[must_use]
    pub fn validity(&self) -> RangeInclusive<SystemTime> {
        self.current.get().validity.clone()
    }

    /// Performs the handshake.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
    ) -> std::io::Result<TlsStream<S>> {
        self.acceptor.accept(stream).await
    }
}

impl Current {
    fn get(&self) -> Arc<Certificate> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.get().key))
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls").finish_non_exhaustive()
    }
}

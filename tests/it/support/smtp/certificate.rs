//! A throw-away certificate authority and the certificate that it issues to one peer. The keys
//! never leave the process. Only a client that was given the authority's certificate trusts them.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{ServerConfig, crypto::ring, pki_types::PrivateKeyDer},
};

/// The certificate that a peer presents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// A valid one for `localhost` and 127.0.0.1.
    Good,
    /// An expired one.
    Expired,
    /// One for another name.
    OfAnother,
}

/// Returns a TLS acceptor for `localhost` and 127.0.0.1, and the PEM of the authority that issued
/// its certificate.
pub(super) fn issue(certificate: Certificate) -> (TlsAcceptor, String) {
    let (issuer, ca_pem) = authority();
    let names = match certificate {
        Certificate::OfAnother => vec!["other.example".to_owned()],
        Certificate::Good | Certificate::Expired => vec!["localhost".to_owned(), "127.0.0.1".to_owned()],
    };
    let mut params = CertificateParams::new(names).expect("the names are valid");
    if certificate == Certificate::Expired {
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    }
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().expect("the system has randomness");
    let leaf = params.signed_by(&key, &issuer).expect("the parameters can be signed");
    let private_key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring supports them")
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], private_key)
        .expect("the key belongs to the certificate");
    (TlsAcceptor::from(Arc::new(config)), ca_pem)
}

fn authority() -> (Issuer<'static, KeyPair>, String) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "otpd test authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().expect("the system has randomness");
    let pem = params.self_signed(&key).expect("the parameters can be signed").pem();
    (Issuer::new(params, key), pem)
}

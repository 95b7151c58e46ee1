//! Settings of TLS at the listener.
//!
//! Must not read the files.

use std::path::PathBuf;

use super::names;
use super::reader::{Reader, named};

const CERT_FILE: &str = "tls.cert_file";
const KEY_FILE: &str = "tls.key_file";

/// The files of the certificate that the listener presents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate and its intermediates, in PEM form.
    pub certificate: PathBuf,
    /// The private key, in PEM form.
    pub key: PathBuf,
}

/// What the listener speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsListener {
    /// Plain HTTP.
    Off,
    /// HTTPS, with this certificate.
    On(TlsFiles),
}

impl TlsListener {
    /// Returns the files of the certificate, if there is one.
    #[must_use]
    pub fn files(&self) -> Option<&TlsFiles> {
        match self {
            Self::Off => None,
            Self::On(files) => Some(files),
        }
    }
}

/// Reads the section `tls`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<TlsListener> {
    let certificate = reader.path(CERT_FILE).map(named);
    let key = reader.path(KEY_FILE).map(named);
    match (certificate?, key?) {
        (Some(certificate), Some(key)) => Some(TlsListener::On(TlsFiles { certificate, key })),
        (None, None) => Some(TlsListener::Off),
        (Some(_), None) => missing(reader, KEY_FILE, CERT_FILE),
        (None, Some(_)) => missing(reader, CERT_FILE, KEY_FILE),
    }
}

/// Refuses one of two files that is missing beside the other.
pub(super) fn missing<T>(reader: &mut Reader<'_>, key: &str, other: &str) -> Option<T> {
    let what = format!("is missing: {} is set, and TLS needs both", names::usual_name(other));
    reader.refuse(key, &what)
}

//! The certificate of the listener: its files, and a warning before it expires.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::files::{cured, read, shown};
use crate::adapters::clock::SystemClock;
use crate::config::tls::TlsFiles;
use crate::metrics::metrics;
use crate::ports::Clock as _;
use crate::server::{Certificate, CertificateError, ServerTls};

/// How long before its end a certificate is warned of.
const WARNING_TIME: Duration = Duration::from_hours(30 * 24);
const CHECK_INTERVAL: Duration = Duration::from_hours(24);

/// Loads the certificate of the settings, if TLS is on.
///
/// # Errors
/// Returns an error that names the setting whose file cannot be used.
pub fn certificate(files: Option<&TlsFiles>) -> anyhow::Result<Option<Certificate>> {
    files.map(|files| load(files, "tls").map(|pem| pem.certificate)).transpose()
}

/// A certificate, and the texts of its files.
pub(super) struct LoadedCertificate {
    pub certificate: Certificate,
    pub chain: Vec<u8>,
    pub key: Zeroizing<Vec<u8>>,
}

/// Loads a certificate and its key, which settings of this section name.
pub(super) fn load(files: &TlsFiles, section: &str) -> anyhow::Result<LoadedCertificate> {
    let cert_file = format!("{section}.cert_file");
    let key_file = format!("{section}.key_file");
    let chain = read(&files.certificate).map_err(|error| cured(&error, &cert_file))?;
    let key = Zeroizing::new(read(&files.key).map_err(|error| cured(&error, &key_file))?);
    let certificate = Certificate::from_pem(&chain, &key).map_err(|error| {
        let (setting, path) = match error {
            CertificateError::NoCertificate | CertificateError::Broken => (cert_file, &files.certificate),
            CertificateError::NoKey | CertificateError::UnsupportedKey | CertificateError::Mismatch => {
                (key_file, &files.key)
            }
        };
        cured(&anyhow::Error::from(error).context(shown(path)), &setting)
    })?;
    Ok(LoadedCertificate { certificate, chain, key })
}

/// Reports each day whether the certificate is valid.
pub(super) async fn watch(tls: ServerTls) {
    loop {
        tokio::time::sleep(CHECK_INTERVAL).await;
        report(&tls);
    }
}

/// Reports when the certificate expires, and logs what is wrong with that.
pub(super) fn report(tls: &ServerTls) {
    let validity = tls.validity();
    metrics().set_certificate_expiry(*validity.end());
    if let Some(fault) = validity_fault(&validity) {
        tracing::warn!("OTP_TLS__CERT_FILE: {fault}");
    }
}

/// Returns what is wrong with the dates of a certificate now, or will be soon.
#[must_use]
pub fn validity_fault(validity: &RangeInclusive<SystemTime>) -> Option<String> {
    let now = SystemClock.now();
    let (begin, end) = validity.clone().into_inner();
    let date = humantime::format_rfc3339_seconds;
    if now < begin {
        return Some(format!("the certificate is not valid before {}", date(begin)));
    }
    match end.duration_since(now) {
        Err(_) => Some(format!("the certificate expired at {}", date(end))),
        Ok(left) if left < WARNING_TIME => {
            Some(format!("the certificate expires in {} days, at {}", left.as_secs() / 86400, date(end)))
        }
        Ok(_) => None,
    }
}

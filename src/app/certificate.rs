//! The certificate of the listener: its files, and a warning before it expires.

use std::time::Duration;

use anyhow::Context as _;

use super::files::{cured, read, shown};
use crate::adapters::clock::SystemClock;
use crate::config::tls::TlsFiles;
use crate::metrics::metrics;
use crate::ports::Clock as _;
use crate::server::{Certificate, ServerTls};

/// How long before its end a certificate is warned of.
const WARNING_TIME: Duration = Duration::from_hours(30 * 24);
const CHECK_INTERVAL: Duration = Duration::from_hours(24);

/// Loads the certificate of the settings, if TLS is on.
pub(super) fn certificate(files: Option<&TlsFiles>) -> anyhow::Result<Option<Certificate>> {
    let Some(TlsFiles { certificate, key }) = files else { return Ok(None) };
    let chain = read(certificate).map_err(|error| cured(&error, "tls.cert_file"))?;
    let key_text = read(key).map_err(|error| cured(&error, "tls.key_file"))?;
    let loaded = Certificate::from_pem(&chain, &key_text)
        .with_context(|| format!("{} and {}", shown(certificate), shown(key)));
    loaded.map(Some).map_err(|error| cured(&error, "tls.cert_file"))
}

/// Reports at once, and then each day, when the certificate expires.
pub(super) async fn watch(tls: ServerTls) {
    loop {
        report(&tls);
        tokio::time::sleep(CHECK_INTERVAL).await;
    }
}

/// Reports when the certificate expires, and warns if that is soon.
pub(super) fn report(tls: &ServerTls) {
    let expires_at = tls.expires_at();
    metrics().set_certificate_expiry(expires_at);
    let left = expires_at.duration_since(SystemClock.now()).unwrap_or_default();
    if left < WARNING_TIME {
        let expires_at = humantime::format_rfc3339_seconds(expires_at);
        let days = left.as_secs() / 86400;
        tracing::warn!(%expires_at, days, "the certificate of OTP_TLS__CERT_FILE expires soon or has expired");
    }
}

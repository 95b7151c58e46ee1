//! The parts of a running service that a reload of the settings replaces.

use std::slice;
use std::sync::{Arc, Mutex, PoisonError};

use super::certificate::{certificate, report, validity_fault};
use super::mails::{all_or, composer, mail_domains, recipients, unusable};
use super::senders::{mailer, transport_names};
use super::tenants::{create_series, sender, tenants};
use crate::api;
use crate::config::secrets::ProofKeys;
use crate::config::{Common, Settings};
use crate::domain::proof::ProofKey;
use crate::domain::purpose::Purposes;
use crate::domain::tenant::Tenant;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::test_recipients::TestRecipients;
use crate::metrics::metrics;
use crate::server;
use crate::service::{self, Service};

/// New parts, built from settings and the files that these name.
pub struct Replacement {
    pub(super) tenants: Vec<api::TenantKeys>,
    pub(super) service: service::ReloadableDependencies,
    pub(super) certificate: Option<server::Certificate>,
    /// The hosts of the relays.
    pub(super) relays: Vec<String>,
}

/// The parts of a running service that can be replaced.
pub struct Replaceable {
    pub(super) keys: api::Keys,
    pub(super) service: Service,
    pub(super) tls: Option<server::ServerTls>,
    pub(super) relays: Mutex<Vec<String>>,
}

impl Replacement {
    /// Builds the parts. Reads files, so it must not run on an async thread.
    ///
    /// # Errors
    /// Returns an error for everything that the settings name and that is missing or broken.
    pub fn build(settings: &Settings) -> Result<Self, Vec<anyhow::Error>> {
        Self::try_build(settings).map_err(|first| all_or(first, unusable(settings)))
    }

    fn try_build(settings: &Settings) -> anyhow::Result<Self> {
        let composer = composer(&settings.common)?;
        Ok(Self {
            relays: transport_names(settings),
            certificate: certificate(settings.tls.files())?,
            tenants: tenants(&settings.common, &settings.smtp.sender),
            service: service::ReloadableDependencies {
                peppers: settings.secrets.peppers.clone(),
                proof_keys: proof_keys(&settings.common),
                issuer: settings.common.issuer.clone(),
                recipients: recipients(&settings.common)?,
                mail_domains: mail_domains(&settings.common)?,
                simple: TenantProfile {
                    tenant: Tenant::Simple,
                    sender: sender(settings),
                    purposes: Purposes::Any,
                    limits: settings.common.limits.clone(),
                    test_recipients: TestRecipients::default(),
                    sandbox_key: None,
                },
                // Last, because it resets the gauges of circuit breakers.
                mailer: Arc::new(mailer(settings, composer)?),
            },
        })
    }

    /// Returns what is wrong with the dates of the certificate, if TLS is on.
    #[must_use]
    pub fn certificate_fault(&self) -> Option<String> {
        self.certificate.as_ref().and_then(|certificate| validity_fault(certificate.validity()))
    }

    /// Returns the number of tenants, and that of their API keys.
    #[must_use]
    pub fn count(&self) -> (usize, usize) {
        let tenants = self.tenants.iter().filter(|tenant| !tenant.profile.is_sandbox()).count();
        (tenants, self.tenants.iter().map(|tenant| tenant.keys.len()).sum())
    }
}

impl Replaceable {
    /// Replaces the parts. Requests in progress continue with those that they began with.
    pub fn replace(&self, replacement: Replacement) {
        create_series(&replacement.tenants);
        self.keys.replace(&replacement.tenants);
        self.service.replace(replacement.service);
        let mut relays = self.relays.lock().unwrap_or_else(PoisonError::into_inner);
        for removed in relays.iter().filter(|relay| !replacement.relays.contains(relay)) {
            metrics().remove_relay_breaker(removed);
        }
        *relays = replacement.relays;
        if let (Some(tls), Some(certificate)) = (&self.tls, replacement.certificate) {
            tls.replace(certificate);
            report(tls);
        }
    }
}

/// Returns the keys that sign proofs, the current one first.
pub(super) fn proof_keys(common: &Common) -> Vec<ProofKey> {
    match &common.proof_keys {
        ProofKeys::None => Vec::new(),
        ProofKeys::Keys { current, older } => [slice::from_ref(current), older].concat(),
    }
}

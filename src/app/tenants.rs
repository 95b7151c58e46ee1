//! Tenants and senders, from the settings to what the API and the emails need.

use std::sync::Arc;

use crate::api;
use crate::config::{Common, Settings, tenants};
use crate::domain::email_address::EmailAddress;
use crate::domain::sender::Sender;
use crate::domain::tenant_profile::TenantProfile;
use crate::metrics::metrics;

/// Returns the tenants of the settings. A tenant that names no sender gets `usual_sender`.
#[must_use]
pub fn tenants(common: &Common, usual_sender: &EmailAddress) -> Vec<api::TenantKeys> {
    common.tenants.iter().flat_map(|tenant| tenant_keys(tenant, usual_sender)).collect()
}

/// Returns the live keys of a tenant, then each of its sandbox keys with a profile of its own.
pub(super) fn tenant_keys(
    tenant: &tenants::TenantSettings,
    usual_sender: &EmailAddress,
) -> Vec<api::TenantKeys> {
    let address = tenant.sender.as_ref().unwrap_or(usual_sender).clone();
    let profile = TenantProfile {
        tenant: tenant.name.clone(),
        sender: Sender {
            brand: tenant.brand.name(&address).to_owned(),
            address,
            locale: tenant.locale.clone(),
        },
        purposes: tenant.purposes.clone(),
        limits: tenant.limits.clone(),
        test_recipients: tenant.test_recipients.clone(),
        sandbox_key: None,
    };
    let with = |profile, keys| api::TenantKeys {
        profile: Arc::new(profile),
        keys,
        sends_per_minute: tenant.rates.sends_per_minute,
        checks_per_minute: tenant.rates.checks_per_minute,
    };
    let sandbox = tenant
        .sandbox_keys
        .iter()
        .map(|(label, hash)| with(profile.sandbox(*hash), vec![(label.clone(), *hash)]));
    let live = with(profile.clone(), tenant.keys.clone());
    [live].into_iter().chain(sandbox).collect()
}

/// Returns the default sender, for tenants that name none.
#[must_use]
pub fn sender(settings: &Settings) -> Sender {
    let address = settings.smtp.sender.clone();
    let brand = settings.common.brand.name(&address).to_owned();
    Sender { brand, address, locale: settings.common.locale.clone() }
}

/// Creates the metrics of these tenants.
pub(super) fn create_series(tenants: &[api::TenantKeys]) {
    for tenant in tenants {
        metrics().tenant(tenant.profile.tenant.name());
        metrics().test_sends(tenant.profile.tenant.name()).inc_by(0);
    }
    // Each tenant has a live profile, even without live keys.
    let profiles = tenants.iter().map(|tenant| &tenant.profile).filter(|profile| !profile.is_sandbox());
    let counts = profiles.map(|profile| (profile.tenant.name(), profile.test_recipients.iter().count()));
    metrics().set_test_recipients(counts);
}

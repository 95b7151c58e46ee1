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
    common.tenants.iter().map(|tenant| tenant_keys(tenant, usual_sender)).collect()
}

pub(super) fn tenant_keys(tenant: &tenants::TenantSettings, usual_sender: &EmailAddress) -> api::TenantKeys {
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
    };
    api::TenantKeys {
        profile: Arc::new(profile),
        keys: tenant.keys.clone(),
        sends_per_minute: tenant.rates.sends_per_minute,
        checks_per_minute: tenant.rates.checks_per_minute,
    }
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
    }
}

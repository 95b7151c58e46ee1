//! Step 7 of a send: the email is handed over. For a test there is none, or it is captured.
//!
//! Must not hand over an email of a test.

use super::Dependencies;
use super::error::{ServiceError, log};
use super::test_mails::capture;
use crate::domain::code_hash::CodeId;
use crate::domain::delivery::{DeliveryRecord, DeliveryStatus};
use crate::domain::provider_id::ProviderId;
use crate::domain::store_key::StoreKey;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::time::millis;
use crate::domain::verification_id::VerificationId;
use crate::ports::{CodeMail, Delivery, Live};

/// Hands the email over and counts it towards the daily limit of the relay, or captures that of a
/// sandbox key. That of a test recipient is dropped: nobody knows its code.
pub(super) async fn deliver(
    deps: &Dependencies,
    profile: &TenantProfile,
    is_test: bool,
    id: Option<&VerificationId>,
    mail: &CodeMail,
) -> Result<Delivery, ServiceError> {
    if let Some(key) = &profile.sandbox_key {
        return capture(deps, key, id, mail).await;
    }
    if is_test {
        return Ok(Delivery::Accepted { provider_id: None });
    }
    let delivery = deps.reloadable.mailer.deliver(mail).await;
    if let Some(charge) = deps.reloadable.simple.limits.relay_email_charge()
        && !matches!(delivery, Delivery::Refused(_))
        && let Err(error) = deps.store.charge(&charge.of_what_happened()).await
    {
        log(&error, "an email was not counted towards the daily limit of the relay");
    }
    Ok(delivery)
}

/// Records that an email was accepted, where it can be shown. If this fails, its delivery stays
/// unknown to those who ask later.
pub(super) async fn record_acceptance(
    deps: &Dependencies,
    store_key: &StoreKey,
    code: &CodeId,
    provider_id: Option<ProviderId>,
    live: &Live,
) -> DeliveryRecord {
    let recorded = match store_key {
        StoreKey::Address { .. } => None,
        StoreKey::Id(_) => {
            let recorded = deps.store.mark_accepted(store_key, code, provider_id.as_ref()).await;
            recorded.unwrap_or_else(|error| {
                log(&error, "the delivery of an email was not recorded");
                None
            })
        }
    };
    let at = recorded.unwrap_or(live.expires_at.saturating_sub(millis(live.valid_for)));
    DeliveryRecord { status: DeliveryStatus::Accepted, at, provider_id }
}

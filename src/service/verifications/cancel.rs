//! Cancels a verification. Its code stops working, and what was charged for it is not refunded.

use thiserror::Error;

use crate::audit::AuditEvent;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::verification::Status;
use crate::domain::verification_id::VerificationId;
use crate::service::Dependencies;
use crate::service::error::ServiceError;

/// Why nothing was canceled.
#[derive(Debug, Error)]
pub enum CancelError {
    /// The tenant has no verification with that id.
    #[error("there is no such verification")]
    Unknown,
    /// It has another final status.
    #[error("the verification is over")]
    Closed(Status),
    /// Whether it is canceled is unknown.
    #[error(transparent)]
    Service(ServiceError),
}

pub(in crate::service) async fn cancel(
    deps: &Dependencies,
    profile: &TenantProfile,
    id: &VerificationId,
) -> Result<(), CancelError> {
    let store_key = deps.index_key.id_key(&profile.tenant, id);
    let outcome = match deps.store.cancel(&store_key, &deps.rules).await {
        Ok(None) => Err(CancelError::Unknown),
        Ok(Some(Status::Canceled)) => {
            tracing::info!(tenant.name = profile.tenant.name(), "a verification was canceled");
            Ok(())
        }
        Ok(Some(status)) => Err(CancelError::Closed(status)),
        Err(error) => Err(error.into()),
    };
    let event = AuditEvent {
        event: "cancel",
        outcome: outcome.as_ref().err().map_or("canceled", CancelError::outcome),
        tenant: Some(profile.tenant.name()),
        verification: store_key.id(),
        test: profile.is_sandbox().then_some(true),
        ..AuditEvent::default()
    };
    event.record();
    outcome
}

impl CancelError {
    /// Returns the name of the outcome, for the audit log.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Unknown => "not_found",
            Self::Closed(_) => "closed",
            Self::Service(error) => error.outcome(),
        }
    }
}

impl<E: Into<ServiceError>> From<E> for CancelError {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

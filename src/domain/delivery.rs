//! What is known of the email of a verification's newest code.
//!
//! Must not say whether the email reached the person: only what the relay or the provider answered.

use super::provider_id::ProviderId;
use super::time::Millis;

/// What the relay or the provider answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryStatus {
    /// Nothing yet, or the connection ended before the answer.
    Unknown,
    /// It accepted the email.
    Accepted,
    /// It refused the email.
    Refused,
}

/// The delivery of an email, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// What was answered.
    pub status: DeliveryStatus,
    /// When that was recorded; if it is unknown, when the code was stored. Never before the opening
    /// of the verification.
    pub at: Millis,
    /// The provider's id of the email, if it accepted the email and gave one.
    pub provider_id: Option<ProviderId>,
}

impl DeliveryRecord {
    /// Returns the record of an email that is about to be sent.
    #[must_use]
    pub fn unknown(at: Millis) -> Self {
        Self { status: DeliveryStatus::Unknown, at, provider_id: None }
    }
}

//! The delivery of an email, as the v1 API shows it.

use poem_openapi::{Enum, Object};
use serde::Serialize;

use crate::api::timestamp::rfc3339;
use crate::domain::delivery::{DeliveryRecord, DeliveryStatus};

/// What is known of the newest email of a verification. It does not say whether the email reached
/// the person's inbox.
#[derive(Serialize, Object)]
#[oai(rename = "Delivery")]
pub(super) struct DeliveryBody {
    /// What the mail relay or provider answered.
    status: DeliveryAnswer,
    /// When that was recorded; if it is `unknown`, when the code was generated.
    at: String,
}

/// What the mail relay or provider answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Enum)]
#[oai(rename = "DeliveryStatus", rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
enum DeliveryAnswer {
    /// It accepted the email, and is responsible for it from then on.
    Accepted,
    /// It refused the email.
    Refused,
    /// It has not answered yet, or the connection was lost before its answer: the email may arrive.
    Unknown,
}

impl From<DeliveryRecord> for DeliveryBody {
    fn from(record: DeliveryRecord) -> Self {
        let status = match record.status {
            DeliveryStatus::Accepted => DeliveryAnswer::Accepted,
            DeliveryStatus::Refused => DeliveryAnswer::Refused,
            DeliveryStatus::Unknown => DeliveryAnswer::Unknown,
        };
        Self { status, at: rfc3339(record.at / 1000) }
    }
}

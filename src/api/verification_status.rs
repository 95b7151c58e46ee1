//! The status of a verification, as the v1 API shows it.

use poem_openapi::Enum;
use serde::Serialize;

use crate::domain::verification::Status;

/// The status of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Enum)]
#[oai(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum VerificationStatus {
    /// A code can still be submitted.
    Pending,
    /// The email address was verified.
    Approved,
    /// The code expired.
    Expired,
    /// No attempts remain.
    Exhausted,
    /// The tenant canceled the verification.
    Canceled,
    /// The mail relay rejected the email.
    Failed,
}

impl From<Status> for VerificationStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Pending => Self::Pending,
            Status::Approved => Self::Approved,
            Status::Expired => Self::Expired,
            Status::Exhausted => Self::Exhausted,
            Status::Canceled => Self::Canceled,
            Status::Failed => Self::Failed,
        }
    }
}

//! The problems of the v1 API for the outcomes of use cases.

use super::{Problem, ProblemCode, VerificationId};
use crate::api::problem::Extensions;
use crate::domain::verification::Status;
use crate::service::{
    CancelError, CheckError, CreateError, ResendError, ServiceError, ShowError, StartError,
};

/// The detail if the email may still arrive.
const MAY_ARRIVE: &str = "The mail relay did not confirm the email, which may still arrive.";
/// The detail for an idempotency key whose verification is no longer stored.
const FORGOTTEN: &str =
    "The verification that this Idempotency-Key created ended more than an hour ago and is no longer stored.";

impl Problem {
    /// Creates the problem for a verification that has ended.
    fn closed(status: Status) -> Self {
        Self::with(ProblemCode::VerificationClosed, Extensions::Closed(status.into()))
    }

    /// Creates the problem for a verification whose email may still arrive.
    fn may_arrive(id: &VerificationId) -> Self {
        Self::with_detail(ProblemCode::DeliveryFailed, MAY_ARRIVE.to_owned())
            .and(Extensions::Id(id.to_string()))
    }
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        Self::new(match error {
            ServiceError::Overloaded => ProblemCode::Overloaded,
            ServiceError::Unavailable => ProblemCode::Unavailable,
            ServiceError::Fault => ProblemCode::InternalError,
        })
    }
}

impl From<StartError> for Problem {
    fn from(error: StartError) -> Self {
        match error {
            StartError::NotAllowed => Self::new(ProblemCode::EmailNotAllowed),
            StartError::Limited(limit_state) => Self::limited(&limit_state),
            StartError::Refused => Self::new(ProblemCode::DeliveryFailed),
            StartError::OutcomeUnknown => {
                Self::with_detail(ProblemCode::DeliveryFailed, MAY_ARRIVE.to_owned())
            }
            StartError::Service(error) => error.into(),
        }
    }
}

impl From<CreateError> for Problem {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::Send(error) => error.into(),
            CreateError::OutcomeUnknown(id) => Self::may_arrive(&id),
            CreateError::InProgress => Self::new(ProblemCode::IdempotencyInProgress),
            CreateError::Mismatch => Self::new(ProblemCode::IdempotencyMismatch),
            CreateError::Forgotten => {
                Self::with_detail(ProblemCode::VerificationNotFound, FORGOTTEN.to_owned())
            }
        }
    }
}

impl From<ResendError> for Problem {
    fn from(error: ResendError) -> Self {
        match error {
            ResendError::Unknown => Self::new(ProblemCode::VerificationNotFound),
            ResendError::Closed(status) => Self::closed(status),
            ResendError::OutcomeUnknown(id) => Self::may_arrive(&id),
            ResendError::Send(error) => error.into(),
        }
    }
}

impl From<CheckError> for Problem {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Invalid { left } => Self::with(ProblemCode::InvalidCode, Extensions::Attempts(left)),
            CheckError::Exhausted => Self::with(ProblemCode::InvalidCode, Extensions::Attempts(0)),
            CheckError::Unknown => Self::new(ProblemCode::VerificationNotFound),
            CheckError::Closed(status) => Self::closed(status),
            CheckError::Limited(limit_state) => Self::limited(&limit_state),
            CheckError::Service(error) => error.into(),
        }
    }
}

impl From<ShowError> for Problem {
    fn from(error: ShowError) -> Self {
        match error {
            ShowError::Unknown => Self::new(ProblemCode::VerificationNotFound),
            ShowError::Service(error) => error.into(),
        }
    }
}

impl From<CancelError> for Problem {
    fn from(error: CancelError) -> Self {
        match error {
            CancelError::Unknown => Self::new(ProblemCode::VerificationNotFound),
            CancelError::Closed(status) => Self::closed(status),
            CancelError::Service(error) => error.into(),
        }
    }
}

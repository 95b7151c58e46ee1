//! Parses the replies of the scripts. A malformed reply is an error, never an outcome.

use std::time::Duration;

use redis::Value;

use crate::domain::code_hash::{CodeHash, SALT_BYTES, Salt};
use crate::domain::details::EncryptedDetails;
use crate::domain::verification::{Status, View};
use crate::ports::{Live, OpenOutcome, StoreError};

pub(super) fn opened(answer: &Value) -> Result<OpenOutcome, StoreError> {
    match answer {
        Value::BulkString(name) if name == b"late" => Ok(OpenOutcome::Late),
        Value::Array(parts) => match parts.as_slice() {
            [valid_for, expires_at, attempts] => Ok(OpenOutcome::Live(Live {
                valid_for: Duration::from_millis(number(valid_for)?),
                expires_at: number(expires_at)?,
                attempts: count(attempts)?,
            })),
            _ => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

pub(super) fn number(answer: &Value) -> Result<u64, StoreError> {
    match answer {
        Value::Int(number) => u64::try_from(*number).map_err(StoreError::new),
        _ => Err(unexpected()),
    }
}

/// Parses a number of attempts.
pub(super) fn count(answer: &Value) -> Result<u8, StoreError> {
    number(answer)?.try_into().map_err(StoreError::new)
}

/// Parses a time, or `None` if it is 0.
pub(super) fn moment(answer: &Value) -> Result<Option<u64>, StoreError> {
    number(answer).map(|moment| Some(moment).filter(|moment| *moment > 0))
}

pub(super) fn encrypted(answer: &Value) -> Result<EncryptedDetails, StoreError> {
    match answer {
        Value::BulkString(bytes) => Ok(EncryptedDetails::from_bytes(bytes.clone())),
        _ => Err(unexpected()),
    }
}

pub(super) fn view(parts: &[Value]) -> Result<View, StoreError> {
    let [status, attempts, expires_at, approved_at, seen_at, about] = parts else { return Err(unexpected()) };
    Ok(View {
        status: self::status(status)?,
        attempts: count(attempts)?,
        expires_at: number(expires_at)?,
        approved_at: moment(approved_at)?,
        seen_at: number(seen_at)?,
        encrypted: encrypted(about)?,
    })
}

pub(super) fn status(answer: &Value) -> Result<Status, StoreError> {
    match answer {
        Value::BulkString(name) => match name.as_slice() {
            b"pending" => Ok(Status::Pending),
            b"approved" => Ok(Status::Approved),
            b"expired" => Ok(Status::Expired),
            b"exhausted" => Ok(Status::Exhausted),
            b"canceled" => Ok(Status::Canceled),
            b"failed" => Ok(Status::Failed),
            _ => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

pub(super) fn hash(parts: &[Value]) -> Result<CodeHash, StoreError> {
    let [Value::BulkString(salt), Value::BulkString(hash)] = parts else { return Err(unexpected()) };
    let salt: [u8; SALT_BYTES] = salt.as_slice().try_into().map_err(StoreError::new)?;
    CodeHash::from_bytes(Salt::new(salt), hash).ok_or_else(unexpected)
}

pub(super) fn unexpected() -> StoreError {
    StoreError::new("a script gave an answer of another form")
}

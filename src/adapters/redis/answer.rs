//! Parses the replies of the scripts. A malformed reply is an error, never an outcome.

use std::time::Duration;

use redis::Value;

use crate::domain::code_hash::{CodeHash, CodeId, CodeSalt, SALT_BYTES, Salt};
use crate::domain::delivery::{DeliveryRecord, DeliveryStatus};
use crate::domain::details::EncryptedDetails;
use crate::domain::key_name::KeyName;
use crate::domain::live_codes::LiveCodes;
use crate::domain::provider_id::ProviderId;
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
    let [status, attempts, expires_at, approved_at, seen_at, about, delivery, at, provider_id, salt @ ..] =
        parts
    else {
        return Err(unexpected());
    };
    Ok(View {
        status: self::status(status)?,
        attempts: count(attempts)?,
        expires_at: number(expires_at)?,
        approved_at: moment(approved_at)?,
        seen_at: number(seen_at)?,
        encrypted: encrypted(about)?,
        code_salt: code_salt(salt)?,
        delivery: self::delivery(delivery, at, provider_id)?,
    })
}

fn delivery(status: &Value, at: &Value, provider_id: &Value) -> Result<DeliveryRecord, StoreError> {
    let (Value::BulkString(status), Value::BulkString(id)) = (status, provider_id) else {
        return Err(unexpected());
    };
    let status = match status.as_slice() {
        b"unknown" => DeliveryStatus::Unknown,
        b"accepted" => DeliveryStatus::Accepted,
        b"refused" => DeliveryStatus::Refused,
        _ => return Err(unexpected()),
    };
    let provider_id = str::from_utf8(id).ok().and_then(ProviderId::parse);
    if provider_id.is_none() && !id.is_empty() {
        return Err(unexpected());
    }
    Ok(DeliveryRecord { status, at: number(at)?, provider_id })
}

/// Parses a salt and the name of a pepper, if a script returned them.
pub(super) fn code_salt(parts: &[Value]) -> Result<Option<CodeSalt>, StoreError> {
    match parts {
        [] => Ok(None),
        [Value::BulkString(salt), Value::BulkString(kid)] => {
            let kid = str::from_utf8(kid).ok().and_then(KeyName::parse).ok_or_else(unexpected)?;
            Ok(Some(CodeSalt { salt: self::salt(salt)?, kid }))
        }
        _ => Err(unexpected()),
    }
}

fn salt(bytes: &[u8]) -> Result<Salt, StoreError> {
    let salt: [u8; SALT_BYTES] = bytes.try_into().map_err(StoreError::new)?;
    Ok(Salt::new(salt))
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

/// Parses the codes that an attempt is compared with.
pub(super) fn codes(parts: &[Value]) -> Result<LiveCodes, StoreError> {
    let [Value::BulkString(salt), Value::BulkString(hash), Value::BulkString(earlier)] = parts else {
        return Err(unexpected());
    };
    let newest = CodeHash::from_bytes(self::salt(salt)?, hash).ok_or_else(unexpected)?;
    let earlier = match earlier.as_slice() {
        [] => None,
        digest => Some(CodeId::new(digest.try_into().map_err(StoreError::new)?)),
    };
    Ok(LiveCodes { newest, earlier })
}

pub(super) fn unexpected() -> StoreError {
    StoreError::new("a script gave an answer of another form")
}

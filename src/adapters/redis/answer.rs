//! What the scripts answer, read. Whatever has another form than ours is an error, never an outcome.

use std::time::Duration;

use redis::Value;

use crate::domain::code_hash::{CodeHash, SALT_OCTETS, Salt};
use crate::domain::verification::Status;
use crate::ports::{Opened, StoreError};

pub(super) fn opened(answer: &Value) -> Result<Opened, StoreError> {
    match answer {
        Value::BulkString(name) if name == b"late" => Ok(Opened::Late),
        answer => Ok(Opened::Live { valid_for: Duration::from_millis(number(answer)?) }),
    }
}

pub(super) fn number(answer: &Value) -> Result<u64, StoreError> {
    match answer {
        Value::Int(number) => u64::try_from(*number).map_err(StoreError::new),
        _ => Err(unexpected()),
    }
}

pub(super) fn status(answer: &Value) -> Result<Status, StoreError> {
    match answer {
        Value::BulkString(name) => match name.as_slice() {
            b"approved" => Ok(Status::Approved),
            b"expired" => Ok(Status::Expired),
            b"exhausted" => Ok(Status::Exhausted),
            b"failed" => Ok(Status::Failed),
            _ => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

pub(super) fn hash(parts: &[Value]) -> Result<CodeHash, StoreError> {
    let [Value::BulkString(salt), Value::BulkString(hash)] = parts else { return Err(unexpected()) };
    let salt: [u8; SALT_OCTETS] = salt.as_slice().try_into().map_err(StoreError::new)?;
    CodeHash::from_bytes(Salt::new(salt), hash).ok_or_else(unexpected)
}

pub(super) fn unexpected() -> StoreError {
    StoreError::new("a script gave an answer of another form")
}

//! Checks that Redis answers, accepts writes and evicts nothing.
//!
//! Must change nothing except the key of the check.

use std::error::Error;

use redis::{ErrorKind, RedisError};

use crate::adapters::redis::Weakness;
use crate::app;
use crate::config::Settings;
use crate::ports::{Store as _, StoreError};

/// Checks the configured Redis. The line says what was found, or what failed and how to fix it.
pub(super) async fn check(settings: &Settings) -> Result<String, String> {
    let store = app::store(settings).map_err(|error| format!("redis: {error:#}"))?;
    store.ready().await.map_err(|error| report(&error))?;
    let weaknesses = store.weaknesses().await.map_err(|error| report(&error))?;
    let mut lines = vec!["redis: answers, takes writes and evicts nothing".to_owned()];
    lines.extend(weaknesses.into_iter().map(|weakness| format!("note  redis: {}", sentence(weakness))));
    Ok(lines.join("\n"))
}

fn report(error: &StoreError) -> String {
    let mut causes: Vec<&(dyn Error + 'static)> = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    let of_redis = causes.iter().find_map(|cause| cause.downcast_ref::<RedisError>());
    // Only the last cause, because the others repeat it.
    let what = causes.last().map_or_else(|| error.to_string(), ToString::to_string);
    match of_redis.map(advice) {
        Some(advice) => format!("redis: {what}\n      {advice}"),
        // Errors of our own checks already say what to do.
        None => format!("redis: {what}"),
    }
}

/// Returns the sentence of SECURITY.md ("Known limitations") that applies.
fn sentence(weakness: Weakness) -> &'static str {
    match weakness {
        Weakness::NoPersistence => {
            "It writes nothing to disk: a restart resets all limits. No code survives it."
        }
        Weakness::SnapshotsOnly => {
            "It writes snapshots only: a restart brings back the last one, with codes that were used since, \
             and resets what was counted since. appendonly yes prevents that."
        }
        Weakness::EverySecond => {
            "Its append-only file is written to disk once a second (appendfsync everysec): a power failure \
             can lose the last second of what was counted, and make a code that was used in it valid again."
        }
        Weakness::NeverSynced => {
            "Its append-only file is written to disk when the system decides to (appendfsync no): a power \
             failure can lose half a minute of what was counted, and make codes that were used in it valid again."
        }
        Weakness::UnknownSync => {
            "How often its append-only file is written to disk cannot be seen without the permission for CONFIG \
             GET: unless appendfsync is always, a power failure can lose the last writes."
        }
        Weakness::IsolatedWrites => {
            "It has replicas, and takes writes while none is in reach (min-replicas-to-write 0): what a \
             primary counts after it is cut off is lost when a replica takes over."
        }
        Weakness::Unacknowledged => {
            "It has replicas, and otpd does not wait for them (OTP_REDIS__WAIT_REPLICAS=0): when one takes over, the \
             newest entries of the limits can be lost."
        }
        Weakness::NoFence => {
            "It has replicas, and the fence is off (OTP_REDIS__FENCE): when one takes over, a code that was just \
             used can be valid again, and attempts that were just taken can be given back."
        }
    }
}

/// The advice if a command is not allowed, by itself or in a script.
const PERMISSIONS: &str = "allow the user of REDIS_USERNAME (or REDIS_URL) the commands EVALSHA, EVAL, INFO, WAIT, TIME, GET, \
                           GETRANGE, STRLEN, SET, APPEND, PEXPIRE and DEL on the keys otp:*";

fn advice(error: &RedisError) -> &'static str {
    match (error.code(), error.kind()) {
        (Some("NOAUTH" | "WRONGPASS"), _) | (_, ErrorKind::AuthenticationFailed) => {
            "set REDIS_PASSWORD, and REDIS_USERNAME for a user of an ACL, or put both into REDIS_URL \
             (rediss://user:password@host:port/db)"
        }
        (Some("NOPERM"), _) => PERMISSIONS,
        _ if error.to_string().contains("can't run this command") => PERMISSIONS,
        (Some("READONLY"), _) => {
            "it is a replica: set REDIS_HOST and REDIS_PORT, or REDIS_URL, to the primary"
        }
        (Some("MISCONF"), _) => "it cannot save to its disk, and so takes no writes: its log says why",
        (Some("OOM"), _) => "its memory is full: raise its maxmemory",
        _ if error.is_timeout() || error.is_io_error() => {
            "check that it runs and that REDIS_HOST and REDIS_PORT, or REDIS_URL, are its address; if its port speaks TLS, set \
             REDIS_TLS=true (or rediss:// in REDIS_URL), and if not, do not"
        }
        _ => {
            "check that it is a Redis of version 7 or later, and that REDIS_DB (or the number in REDIS_URL) is a database of it"
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn each_sentence_stands_in_the_security_document() {
        let document = include_str!("../../../SECURITY.md").split_whitespace().collect::<Vec<_>>().join(" ");
        for weakness in Weakness::ALL {
            assert!(document.contains(sentence(weakness)), "{}", sentence(weakness));
        }
    }

    #[test]
    fn the_advice_is_on_what_redis_said() {
        for (error, setting) in [
            (RedisError::from((ErrorKind::AuthenticationFailed, "x")), "REDIS_PASSWORD"),
            (io::Error::from(io::ErrorKind::ConnectionRefused).into(), "REDIS_HOST"),
            (io::Error::from(io::ErrorKind::TimedOut).into(), "REDIS_TLS=true"),
        ] {
            let said = report(&StoreError::new(error));
            assert!(said.contains(setting), "{said}");
        }
        let said = report(&StoreError::new("its maxmemory-policy must be noeviction"));
        assert_eq!(said, "redis: its maxmemory-policy must be noeviction");
    }
}

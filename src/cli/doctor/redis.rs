//! Checks that Redis answers, accepts writes and evicts nothing.
//!
//! Must change nothing except the key of the check.

use std::error::Error;

use redis::{ErrorKind, RedisError};

use crate::adapters::redis::Weakness;
use crate::app;
use crate::config::Settings;
use crate::ports::{Store as _, StoreError};

/// The keys that are written.
const KEYS: u32 = 200;

/// Checks the configured Redis. The line says what was found, or what failed and how to fix it.
pub(super) async fn check(settings: &Settings) -> Result<String, String> {
    let store =
        app::store(settings, app::COMMAND_CONNECTION_TIMEOUT).map_err(|error| format!("redis: {error:#}"))?;
    store.ready().await.map_err(|error| report(&error))?;
    // In a cluster, these are in many slots.
    for number in 0..KEYS {
        store.takes_writes(number).await.map_err(|error| report(&error))?;
    }
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
            "It writes snapshots only: a restart brings back the last one, and resets what was counted \
             since; unless the fence is on, codes that were used since are valid again. appendonly yes prevents that."
        }
        Weakness::EverySecond => {
            "Its append-only file is written to disk once a second (appendfsync everysec): a power failure \
             can lose the last second of what was counted; unless the fence is on, a code that was used in it is valid \
             again."
        }
        Weakness::NeverSynced => {
            "Its append-only file is written to disk when the system decides to (appendfsync no): a power \
             failure can lose half a minute of what was counted; unless the fence is on, codes that were used in it are \
             valid again."
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
                           GETRANGE, STRLEN, SET, APPEND, PEXPIRE and DEL on the keys otp:*, and in a cluster \
                           also CLUSTER SLOTS, ASKING and PING";

fn advice(error: &RedisError) -> &'static str {
    let text = error.to_string();
    match (error.code(), error.kind()) {
        (Some("NOAUTH" | "WRONGPASS"), _) | (_, ErrorKind::AuthenticationFailed) => LOGIN,
        (Some("NOPERM"), _) => PERMISSIONS,
        (Some("READONLY"), _) => {
            "it is a replica: set REDIS_HOST and REDIS_PORT, or REDIS_URL, to the primary"
        }
        (Some("NOREPLICAS"), _) => {
            "its replicas are out of reach: it takes no writes while fewer than min-replicas-to-write are connected"
        }
        (Some("MISCONF"), _) => "it cannot save to its disk, and so takes no writes: its log says why",
        (Some("OOM"), _) => "its memory is full: raise its maxmemory",
        (Some("MOVED" | "CROSSSLOT"), _) => "it is a node of a cluster: set REDIS_URL=rediss+cluster://host:port,host:port",
        (Some("CLUSTERDOWN"), _) => "its cluster does not serve all slots: redis-cli --cluster check says which",
        (_, ErrorKind::MasterNameNotFoundBySentinel) => {
            "the sentinels know no primary of the name at the end of REDIS_URL, or it is down: redis-cli \
             sentinel masters shows the names"
        }
        _ => OF_TEXT.iter().find(|(part, _)| text.contains(part)).map_or_else(
            || {
                if error.is_timeout() || error.is_io_error() {
                    "check that it runs and that REDIS_HOST and REDIS_PORT, or REDIS_URL, are its address; if its port speaks TLS, set \
                     REDIS_TLS=true (or rediss:// in REDIS_URL), and if not, do not"
                } else {
                    "check that it is a Redis of version 7 or later, and that REDIS_DB (or the number in REDIS_URL) is a database of it"
                }
            },
            |(_, advice)| *advice,
        ),
    }
}

const LOGIN: &str = "set REDIS_PASSWORD, and REDIS_USERNAME for a user of an ACL, or put both into REDIS_URL \
                     (rediss://user:password@host:port/db); the login at sentinels is another one: \
                     OTP_REDIS__SENTINEL_PASSWORD and OTP_REDIS__SENTINEL_USERNAME";

/// Parts of errors that have no code, and the advice.
const OF_TEXT: [(&str, &str); 10] = [
    ("can't run this command", PERMISSIONS),
    ("WRONGPASS", LOGIN),
    ("NOAUTH", LOGIN),
    (
        "point to a sentinel",
        "these are no sentinels: set REDIS_URL to rediss://host:port or rediss+cluster://host:port",
    ),
    (
        "cluster support disabled",
        "it is no cluster: set REDIS_URL to rediss://host:port or rediss+sentinel://host:port/name",
    ),
    (
        "'CLUSTER'",
        "it is no node of a cluster: set REDIS_URL to rediss+sentinel://host:port/name if it is a sentinel",
    ),
    (
        "'EVALSHA'",
        "it is no Redis server: set REDIS_URL to rediss+sentinel://host:port/name if it is a sentinel",
    ),
    ("UnknownIssuer", "its certificate is of an authority that is unknown here: set OTP_REDIS__CA_FILE"),
    ("CertificateRequired", "it asks for a certificate: set OTP_REDIS__CERT_FILE and OTP_REDIS__KEY_FILE"),
    (
        "UnknownCA",
        "it does not know the authority of OTP_REDIS__CERT_FILE: use a certificate that it accepts",
    ),
];

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

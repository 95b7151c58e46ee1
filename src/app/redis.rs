//! Assembles the store on Redis, with the certificates that the settings name.
//!
//! Must not hold a rule.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, anyhow};

use super::certificate::{LoadedCertificate, load};
use super::files::{cured, read, shown};
use crate::adapters::redis::{
    Certificates, Durability, Fence, RedisStore, ScriptClock, SentinelLogin, Servers, Topology,
};
use crate::adapters::smtp::TrustAnchors;
use crate::config::Settings;
use crate::config::redis::{Redis, RedisTopology, SentinelAuth};

/// How long a request waits for a connection to Redis.
pub(super) const REQUEST_CONNECTION_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a command waits for one.
pub const COMMAND_CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Creates the Redis store of the settings, in a runtime of tokio. The first call connects. A call
/// waits for a connection of the pool for as long as `connection_timeout`.
///
/// # Errors
/// Returns an error that names the setting that cannot be used.
pub fn store(settings: &Settings, connection_timeout: Duration) -> anyhow::Result<RedisStore> {
    let redis = &settings.redis;
    let servers =
        Servers { urls: redis.urls.clone(), topology: topology(redis), certificates: certificates(redis)? };
    let fence = if redis.fence { Fence::Up } else { Fence::Down };
    let durability = Durability { fence, replicas: redis.wait_replicas };
    let store = RedisStore::new(&servers, ScriptClock::Server, durability, connection_timeout);
    store.map_err(|error| cured(&error.into(), "redis.url"))
}

fn topology(redis: &Redis) -> Topology {
    match &redis.topology {
        RedisTopology::One => Topology::One,
        RedisTopology::Sentinel { primary } => Topology::Sentinel {
            name: primary.clone(),
            login: match &redis.sentinels {
                SentinelAuth::None => None,
                SentinelAuth::Password { username, password } => {
                    Some(SentinelLogin { username: username.clone(), password: password.clone() })
                }
            },
        },
        RedisTopology::Cluster => Topology::Cluster,
    }
}

/// Reads the certificates of the settings, and checks that they can be used.
///
/// # Errors
/// Returns an error that names the setting whose file cannot be used.
pub(super) fn certificates(redis: &Redis) -> anyhow::Result<Certificates> {
    let files = &redis.certificates;
    let authorities = files.authorities.as_deref().map(authorities).transpose();
    let authorities = authorities.map_err(|error| cured(&error, "redis.ca_file"))?;
    let client = match &files.client {
        None => None,
        Some(files) => {
            let LoadedCertificate { chain, key, .. } = load(files, "redis")?;
            let text = std::str::from_utf8(&key).map_err(|_| anyhow!("the private key is not a text"))?;
            Some((chain, text.into()))
        }
    };
    Ok(Certificates { authorities, client })
}

fn authorities(path: &Path) -> anyhow::Result<Vec<u8>> {
    let pem = read(path)?;
    TrustAnchors::These(pem.clone()).certificates().with_context(|| shown(path))?;
    Ok(pem)
}

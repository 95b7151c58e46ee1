//! Reads how durable the configured Redis is, for `otpd doctor` and for readiness.
//!
//! Must not change a setting of Redis.

use redis::{Cmd, FromRedisValue};

use super::servers::TopologyKind;
use super::{Fence, RedisStore};
use crate::ports::StoreError;

/// What `INFO` says of one primary.
struct Info(String);

/// A way in which a Redis can lose acknowledged writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weakness {
    /// It writes nothing to disk.
    NoPersistence,
    /// It writes snapshots only.
    SnapshotsOnly,
    /// Its append-only file is written to disk once a second.
    EverySecond,
    /// Its append-only file is written to disk when the system decides to.
    NeverSynced,
    /// Its append-only file may be any of these: `CONFIG GET` is not allowed.
    UnknownSync,
    /// It has replicas, and takes writes while none of them is in reach.
    IsolatedWrites,
    /// It has replicas, and writes are answered before one has them.
    Unacknowledged,
    /// It has replicas, and codes stay live when one takes over.
    NoFence,
}

impl Weakness {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::NoPersistence,
        Self::SnapshotsOnly,
        Self::EverySecond,
        Self::NeverSynced,
        Self::UnknownSync,
        Self::IsolatedWrites,
        Self::Unacknowledged,
        Self::NoFence,
    ];
}

impl RedisStore {
    /// Returns the ways in which this Redis can lose acknowledged writes.
    ///
    /// # Errors
    /// Returns the error if Redis does not answer.
    pub async fn weaknesses(&self) -> Result<Vec<Weakness>, StoreError> {
        let mut weaknesses = Vec::new();
        let infos = self.infos().await?;
        if infos.iter().any(|info| info.says("aof_enabled:1")) {
            weaknesses.extend(self.sync_weakness().await);
        }
        if infos.iter().any(|info| !info.says("aof_enabled:1")) {
            weaknesses.push(self.without_append_only_file().await);
        }
        for info in infos {
            if self.topology == TopologyKind::Sentinel || info.has_replicas() {
                weaknesses.extend((!info.demands_replicas()).then_some(Weakness::IsolatedWrites));
                weaknesses.extend((self.durability.replicas == 0).then_some(Weakness::Unacknowledged));
                weaknesses.extend((self.durability.fence == Fence::Down).then_some(Weakness::NoFence));
            }
        }
        weaknesses.sort();
        weaknesses.dedup();
        Ok(weaknesses)
    }

    /// Fails if Redis may evict ledgers to free memory, which no error would report, or if it has
    /// replicas and does not refuse writes while they are out of reach.
    pub(super) async fn keeps_everything(&self) -> Result<(), StoreError> {
        for info in self.infos().await? {
            if !info.says("maxmemory_policy:noeviction") {
                return Err(StoreError::new(
                    "it may evict what was counted: its maxmemory-policy must be noeviction (CONFIG SET \
                     maxmemory-policy noeviction, and in redis.conf)",
                ));
            }
            // In a cluster, a primary that is cut off stops by itself.
            if self.topology == TopologyKind::Sentinel && !info.demands_replicas() {
                return Err(StoreError::new(
                    "a primary that is cut off from its replicas would go on taking writes, which are lost when one of \
                     them takes over: its min-replicas-to-write must be at least 1 (CONFIG SET min-replicas-to-write \
                     1, and in redis.conf of each server)",
                ));
            }
        }
        Ok(())
    }

    /// Returns what each primary says of itself.
    async fn infos(&self) -> Result<Vec<Info>, StoreError> {
        let mut command = redis::cmd("INFO");
        command.arg("memory").arg("persistence").arg("replication");
        let infos: Vec<String> = self.ask_all(&command).await?;
        Ok(infos.into_iter().map(Info).collect())
    }

    async fn sync_weakness(&self) -> Option<Weakness> {
        match self.setting("appendfsync").await.as_deref() {
            Some("always") => None,
            Some("everysec") => Some(Weakness::EverySecond),
            Some(_) => Some(Weakness::NeverSynced),
            None => Some(Weakness::UnknownSync),
        }
    }

    async fn without_append_only_file(&self) -> Weakness {
        match self.setting("save").await.as_deref() {
            Some("") => Weakness::NoPersistence,
            _ => Weakness::SnapshotsOnly,
        }
    }

    /// Returns a setting of Redis, if otpd may read it and all primaries have the same value.
    async fn setting(&self, name: &str) -> Option<String> {
        let mut command = redis::cmd("CONFIG");
        command.arg("GET").arg(name);
        let values: Vec<(String, String)> = self.ask_all(&command).await.ok()?;
        let mut values = values.into_iter().map(|(_, value)| value);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    }

    async fn ask_all<T: FromRedisValue>(&self, command: &Cmd) -> Result<Vec<T>, StoreError> {
        let mut connection = self.connections.get().await?;
        connection.link.query_all(command).await.map_err(|error| {
            connection.discard_if_broken(&error);
            StoreError::new(error)
        })
    }
}

impl Info {
    fn says(&self, line: &str) -> bool {
        self.0.lines().any(|other| other.trim_end() == line)
    }

    fn has_replicas(&self) -> bool {
        !self.says("connected_slaves:0")
    }

    /// Returns whether `min-replicas-to-write` and `min-replicas-max-lag` are set: only then Redis
    /// counts its good replicas.
    fn demands_replicas(&self) -> bool {
        self.0.lines().any(|line| line.starts_with("min_slaves_good_slaves:"))
    }
}

//! Reads how durable the configured Redis is.
//!
//! Reports only. Must not decide what follows from it.

use super::{Fence, RedisStore};
use crate::ports::StoreError;

impl RedisStore {
    /// Returns the ways in which this Redis can lose acknowledged writes, one sentence each.
    ///
    /// # Errors
    /// Returns the error if Redis does not answer.
    pub async fn weaknesses(&self) -> Result<Vec<&'static str>, StoreError> {
        let mut connection = self.connections.get().await?;
        let info = redis::cmd("INFO");
        let info: String = info.query_async(&mut connection.manager).await.map_err(StoreError::new)?;
        let says = |line: &str| info.lines().any(|other| other.trim_end() == line);
        let mut weaknesses = Vec::new();
        if !says("aof_enabled:1") {
            weaknesses.push(
                "it has no append-only file: a restart forgets what was counted, or revives used codes",
            );
        }
        if !says("connected_slaves:0") && self.fence == Fence::Down {
            weaknesses.push(
                "it has replicas: one that takes over can revive used codes; OTP_REDIS__FENCE=true closes all live \
                 codes then instead",
            );
        }
        Ok(weaknesses)
    }

    /// Fails if Redis may evict ledgers to free memory, which no error would report.
    pub(super) async fn evicts_nothing(&self) -> Result<(), StoreError> {
        let mut connection = self.connections.get().await?;
        let mut info = redis::cmd("INFO");
        let info: String =
            info.arg("memory").query_async(&mut connection.manager).await.map_err(StoreError::new)?;
        if info.lines().any(|line| line.trim_end() == "maxmemory_policy:noeviction") {
            Ok(())
        } else {
            Err(StoreError::new(
                "it may evict what was counted: its maxmemory-policy must be noeviction (CONFIG SET maxmemory-policy \
                 noeviction, and in redis.conf)",
            ))
        }
    }
}

//! What an operator does with ledgers: finds those of an email address, and empties them.

use super::RedisStore;
use super::key::{self, RedisKey};
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger_key::LedgerKey;
use crate::ports::StoreError;

/// How many keys Redis looks at in one step of a scan.
const SCAN_COUNT: u32 = 1000;

impl RedisStore {
    /// Returns the ledgers of an email address at all tenants. Reads the names of all keys of
    /// Redis, because nothing lists those of one address.
    ///
    /// # Errors
    /// Returns the error if Redis does not answer.
    pub async fn ledgers_of(&self, email: &KeyedHash) -> Result<Vec<LedgerKey>, StoreError> {
        let prefix = key::email_prefix(email);
        let mut found = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let mut connection = self.connections.get().await?;
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*")).arg("COUNT").arg(SCAN_COUNT);
            let (next, keys): (u64, Vec<String>) =
                connection.link.query(&scan, Some(&prefix)).await.map_err(StoreError::new)?;
            let suffixes = keys.iter().filter_map(|key| key.strip_prefix(&prefix));
            found.extend(suffixes.filter_map(|suffix| LedgerKey::of_email(email, suffix)));
            if next == 0 {
                // A scan may return a key twice.
                found.sort();
                found.dedup();
                return Ok(found);
            }
            cursor = next;
        }
    }

    /// Removes all entries of a ledger. Returns whether there were any.
    ///
    /// # Errors
    /// Returns the error if Redis does not answer.
    pub async fn empty(&self, ledger: &LedgerKey) -> Result<bool, StoreError> {
        let mut connection = self.connections.get().await?;
        let key = RedisKey::Ledger(ledger);
        let mut del = redis::cmd("DEL");
        del.arg(key);
        let removed: u64 = connection.link.query(&del, Some(&key)).await.map_err(StoreError::new)?;
        Ok(removed > 0)
    }
}

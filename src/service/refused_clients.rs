//! A hint of which clients exceeded the limit of their IP lately.
//!
//! Must not decide anything: it forgets, and two clients can share a slot. The ledgers decide.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

use crate::domain::keyed_hash::KeyedHash;

/// Number of slots, so that memory is bounded.
const SLOTS: u64 = 2048;
/// How long a client is remembered, in seconds.
const LIFETIME: u64 = 60;

/// Clients that exceeded a limit. A slot has the last second in which its client is remembered, and
/// 32 bits of the hash of that client.
pub(super) struct RefusedClients {
    slots: Box<[AtomicU64]>,
    created: Instant,
}

impl RefusedClients {
    /// Remembers a client, instead of another one in its slot.
    pub(super) fn add(&self, client: &KeyedHash, now: Instant) {
        let (slot, tag) = self.slot(client);
        if let Some(slot) = slot {
            slot.store(((self.seconds(now) + LIFETIME) << 32) | tag, Ordering::Relaxed);
        }
    }

    /// Returns whether a client is remembered.
    pub(super) fn contains(&self, client: &KeyedHash, now: Instant) -> bool {
        let (slot, tag) = self.slot(client);
        let value = slot.map_or(0, |slot| slot.load(Ordering::Relaxed));
        value & u64::from(u32::MAX) == tag && self.seconds(now) < value >> 32
    }

    /// Returns the slot of a client, and the bits that tell it from others in the slot.
    fn slot(&self, client: &KeyedHash) -> (Option<&AtomicU64>, u64) {
        let number = client.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let slot = usize::try_from((number >> 32) % SLOTS).unwrap_or_default();
        (self.slots.get(slot), number & u64::from(u32::MAX))
    }

    /// Returns the seconds since it was created.
    fn seconds(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.created).as_secs()
    }
}

impl Default for RefusedClients {
    fn default() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), created: Instant::now() }
    }
}

impl fmt::Debug for RefusedClients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedClients").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::keyed_hash::IndexKey;

    #[test]
    fn a_client_is_remembered_for_a_minute_and_others_are_not() {
        let index_key = IndexKey::new([1; 32]);
        let client = |number: u8| index_key.network([192, 0, 2, number].into()).prefix48;
        let refused = RefusedClients::default();
        let now = refused.created;
        assert!(!refused.contains(&client(1), now));
        refused.add(&client(1), now);
        assert!(refused.contains(&client(1), now));
        assert!((2..=255).all(|number| !refused.contains(&client(number), now)));
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(refused.contains(&client(1), later(LIFETIME - 1)));
        assert!(!refused.contains(&client(1), later(LIFETIME)));
    }
}

//! The call that approves a verification, and refunds what a right attempt was charged.

use std::error::Error;

use redis::Cmd;
use smallvec::SmallVec;

use super::RedisStore;
use super::answer::moment;
use super::key::{RedisKey, RedisKeys};
use super::scripts::Argument;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::Charge;
use crate::domain::store_key::StoreKey;
use crate::domain::time::{EntryId, Millis, millis};
use crate::domain::verification::AttemptToken;
use crate::ports::{IpEntry, Store as _, StoreError};

/// Ledgers with the entries to refund, and how many bytes of a partition each entry has.
struct Refunds<'a>(SmallVec<[(&'a LedgerKey, u64, EntryId); 3]>);

impl Argument for Refunds<'_> {
    fn add_to(&self, command: &mut Cmd) {
        for (_, partition_bytes, entry) in &self.0 {
            command.arg(partition_bytes).arg(entry);
        }
    }
}

impl RedisStore {
    /// Approves, and refunds the IP in the same step.
    pub(super) async fn approve_and_refund(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<(&LedgerKey, EntryId)>,
        ip: Option<IpEntry<'_>>,
    ) -> Result<Option<Millis>, StoreError> {
        let of_ip = ip.into_iter().flat_map(|IpEntry { charge: Charge { ledger, of_partition, .. }, id }| {
            // The entries of a partition have no partition themselves.
            let of_partition = of_partition.as_ref().map(|ledger| (ledger, 0, id));
            [(ledger, ledger.partition_bytes() as u64, id)].into_iter().chain(of_partition)
        });
        let refunds = charged.map(|(ledger, entry)| (ledger, ledger.partition_bytes() as u64, entry));
        let refunds = Refunds(refunds.into_iter().chain(of_ip).collect());
        let ledgers = refunds.0.iter().map(|(ledger, ..)| RedisKey::Ledger(ledger));
        let keys: RedisKeys<'_> = [RedisKey::Verification(store_key)].into_iter().chain(ledgers).collect();
        let retention = millis(store_key.retention());
        let code = token.code.as_bytes().as_slice();
        let nonce = token.nonce.as_slice();
        let args: [&dyn Argument; 4] = [&retention, &code, &nonce, &refunds];
        moment(&self.call(&self.scripts.approve, &keys, &args).await?)
    }

    /// Approves, then refunds the IP. If that fails, the charge stays.
    pub(super) async fn approve_then_refund(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<(&LedgerKey, EntryId)>,
        ip: Option<IpEntry<'_>>,
    ) -> Result<Option<Millis>, StoreError> {
        let approved_at = self.approve_and_refund(store_key, token, charged, None).await?;
        if let (Some(_), Some(IpEntry { charge, id })) = (approved_at, ip)
            && let Err(error) = self.refund(&charge.ledger, charge.of_partition.as_ref(), id).await
        {
            tracing::warn!(error = &error as &dyn Error, "an IP was not refunded");
        }
        Ok(approved_at)
    }
}

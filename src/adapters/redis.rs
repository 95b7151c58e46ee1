//! The store of `otpd serve`: Redis, with one Lua script per call on keys that share a hash tag.
//!
//! The scripts hold the rules. `domain::verification` and `domain::ledger` implement the same rules
//! in Rust, and one model tests both. Must not decide anything itself.

mod admin;
mod answer;
mod attempt;
mod calls;
mod charge;
mod connections;
mod idempotency;
mod ip_first;
mod key;
mod kind;
mod link;
mod refunds;
mod scripts;
mod send;
mod servers;
mod test_mails;

use std::fmt;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;

use self::answer::{number, opened, status, unexpected, view};
use self::attempt::AttemptCall;
use self::charge::ChargeArguments;
use self::connections::Connections;
use self::key::RedisKey;
pub use self::kind::Weakness;
use self::scripts::Scripts;
pub use self::scripts::{Fence, ScriptClock};
use self::send::SendCall;
use self::servers::TopologyKind;
pub use self::servers::{Certificates, SentinelLogin, Servers, Topology};
use crate::domain::code_hash::{CodeHash, CodeId, CodeSalt};
use crate::domain::details::EncryptedDetails;
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limits::Charge;
use crate::domain::provider_id::ProviderId;
use crate::domain::store_key::StoreKey;
use crate::domain::time::{EntryId, Millis, millis};
use crate::domain::verification::{AttemptToken, Status, VerificationRules, View};
use crate::ports::{
    AttemptOutcome, ChargeOutcome, IpEntry, OpenOutcome, ReplaceOutcome, Store, StoreError,
    charge_ip_then_send, charge_ip_then_take_attempt,
};

/// Verifications and ledgers in Redis.
pub struct RedisStore {
    connections: Connections,
    topology: TopologyKind,
    /// Whether a script may have keys of several hash slots.
    spans_slots: AtomicBool,
    clock: ScriptClock,
    durability: Durability,
    scripts: Scripts,
}

/// What is done about writes that Redis loses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durability {
    /// Whether codes expire when another Redis takes over.
    pub fence: Fence,
    /// How many replicas must acknowledge a write before it is answered; 0: none.
    pub replicas: u32,
}

/// How many slots of a cluster a readiness check writes to: enough to meet most of its primaries.
const READY_SLOTS: u32 = 16;

/// Redis could not be set up, because its address is invalid.
#[derive(Debug, thiserror::Error)]
#[error("the Redis address cannot be used: {0}")]
pub struct InvalidAddress(&'static str);

impl RedisStore {
    /// Checks that scripts can write: keys with other numbers are in other slots of a cluster.
    ///
    /// # Errors
    /// Returns the error if Redis does not answer, or does not take the write.
    pub async fn takes_writes(&self, number: u32) -> Result<(), StoreError> {
        self.call(&self.scripts.ready, &[RedisKey::Ready(number)], &[]).await.map(|_| ())
    }

    /// Creates the store, in a runtime of tokio. The first call connects, so that Redis may start
    /// later than otpd. A call waits for a connection of the pool for as long as
    /// `connection_timeout`: a server or a sentinel that is silent holds up a new one.
    ///
    /// # Errors
    /// Returns [`InvalidAddress`] if a URL is not a Redis URL.
    pub fn new(
        servers: &Servers,
        clock: ScriptClock,
        durability: Durability,
        connection_timeout: Duration,
    ) -> Result<Self, InvalidAddress> {
        let connections = Connections::new(servers, durability.replicas, connection_timeout)?;
        let scripts = Scripts::with(&clock, durability);
        let topology = servers.topology.kind();
        let spans_slots = AtomicBool::new(topology != TopologyKind::Cluster);
        Ok(Self { connections, topology, spans_slots, clock, durability, scripts })
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn charge(&self, charge: &Charge<'_>) -> Result<ChargeOutcome, StoreError> {
        let args = ChargeArguments::of(charge)?;
        match self.call_with(&self.scripts.charge, charge, &args).await? {
            Value::Array(parts) => args.charged(&parts),
            _ => Err(unexpected()),
        }
    }

    async fn charge_send(
        &self,
        charge: &Charge<'_>,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<(ChargeOutcome, Option<CodeSalt>), StoreError> {
        let call = SendCall::new(charge, Some((store_key, rules)))?;
        call.outcome(&self.call(&self.scripts.charge_send, &call.keys, &[&call]).await?)
    }

    async fn charge_ip_and_send(
        &self,
        ip: &Charge<'_>,
        charge: &Charge<'_>,
        pending: Option<(&StoreKey, &VerificationRules)>,
    ) -> Result<(ChargeOutcome, Option<(ChargeOutcome, Option<CodeSalt>)>), StoreError> {
        match self.in_one_call(async || self.send_after_ip(ip, charge, pending).await).await? {
            Some(outcome) => Ok(outcome),
            None => charge_ip_then_send(self, ip, charge, pending).await,
        }
    }

    async fn charge_ip_and_take_attempt(
        &self,
        ip: &Charge<'_>,
        store_key: &StoreKey,
        rules: &VerificationRules,
        charge: Option<&Charge<'_>>,
    ) -> Result<(ChargeOutcome, Option<AttemptOutcome>), StoreError> {
        let call = AttemptCall::new(store_key, rules, charge)?;
        match self.in_one_call(async || self.attempt_after_ip(ip, call).await).await? {
            Some(outcome) => Ok(outcome),
            None => charge_ip_then_take_attempt(self, ip, store_key, rules, charge).await,
        }
    }

    async fn peek(&self, charge: &Charge<'_>) -> Result<LimitState, StoreError> {
        let args = ChargeArguments::of(charge)?;
        match self.call_with(&self.scripts.peek, charge, &args).await? {
            Value::Array(parts) => args.limit_state(&parts),
            _ => Err(unexpected()),
        }
    }

    async fn refund(
        &self,
        ledger: &LedgerKey,
        of_partition: Option<&LedgerKey>,
        entry: EntryId,
    ) -> Result<(), StoreError> {
        let partition_bytes = ledger.partition_bytes() as u64;
        let keys = key::ledgers(ledger, of_partition);
        self.call(&self.scripts.refund, &keys, &[&partition_bytes, &entry]).await.map(|_| ())
    }

    async fn open(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
        encrypted: &EncryptedDetails,
    ) -> Result<OpenOutcome, StoreError> {
        opened(&self.write(&self.scripts.open, store_key, hash, rules, entry, encrypted).await?)
    }

    async fn replace_code(
        &self,
        store_key: &StoreKey,
        hash: &CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
    ) -> Result<ReplaceOutcome, StoreError> {
        let answer = self
            .write(&self.scripts.replace_code, store_key, hash, rules, entry, &EncryptedDetails::default())
            .await?;
        match &answer {
            Value::Nil => Ok(ReplaceOutcome::Unknown),
            answer => status(answer)
                .map(ReplaceOutcome::Closed)
                .or_else(|_| opened(answer).map(ReplaceOutcome::Opened)),
        }
    }

    async fn take_attempt(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
        charge: Option<&Charge<'_>>,
    ) -> Result<AttemptOutcome, StoreError> {
        let call = AttemptCall::new(store_key, rules, charge)?;
        call.outcome(&self.call(&self.scripts.take_attempt, &call.keys, &[&call]).await?)
    }

    async fn approve(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<(&LedgerKey, EntryId)>,
        ip: Option<IpEntry<'_>>,
    ) -> Result<Option<Millis>, StoreError> {
        let in_one = async || self.approve_and_refund(store_key, token, charged, ip).await;
        match self.in_one_call(in_one).await? {
            Some(approved_at) => Ok(approved_at),
            None => self.approve_then_refund(store_key, token, charged, ip).await,
        }
    }

    async fn find(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Option<View>, StoreError> {
        match self.ask(&self.scripts.find, store_key, rules).await? {
            Value::Nil => Ok(None),
            Value::Array(parts) => view(&parts).map(Some),
            _ => Err(unexpected()),
        }
    }

    async fn cancel(
        &self,
        store_key: &StoreKey,
        rules: &VerificationRules,
    ) -> Result<Option<Status>, StoreError> {
        match self.ask(&self.scripts.cancel, store_key, rules).await? {
            Value::Nil => Ok(None),
            answer => status(&answer).map(Some),
        }
    }

    async fn mark_failed(
        &self,
        store_key: &StoreKey,
        code: &CodeId,
        entry: EntryId,
    ) -> Result<bool, StoreError> {
        let retention = millis(store_key.retention());
        let code = code.as_bytes().as_slice();
        let keys = [RedisKey::Verification(store_key)];
        let answer = self.call(&self.scripts.mark_failed, &keys, &[&retention, &code, &entry]).await?;
        Ok(number(&answer)? == 1)
    }

    async fn mark_accepted(
        &self,
        store_key: &StoreKey,
        code: &CodeId,
        provider_id: Option<&ProviderId>,
    ) -> Result<Option<Millis>, StoreError> {
        let retention = millis(store_key.retention());
        let code = code.as_bytes().as_slice();
        let id = provider_id.map_or("", ProviderId::as_str);
        let keys = [RedisKey::Verification(store_key)];
        match self.call(&self.scripts.mark_accepted, &keys, &[&retention, &code, &id]).await? {
            Value::Nil => Ok(None),
            answer => number(&answer).map(Some),
        }
    }

    /// Fails if a script cannot write, or if Redis may lose what it has written, which no error
    /// would report: by evicting it, or by a failover from a primary that was cut off.
    async fn ready(&self) -> Result<(), StoreError> {
        let slots = if self.topology == TopologyKind::Cluster { READY_SLOTS } else { 1 };
        for number in 0..slots {
            self.takes_writes(number).await?;
        }
        self.keeps_everything().await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

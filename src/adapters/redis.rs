//! The store of `otpd serve`: Redis, with one Lua script per call on keys that share a hash tag.
//!
//! The scripts hold the rules. `domain::verification` and `domain::ledger` implement the same rules
//! in Rust, and one model tests both. Must not decide anything itself.

mod answer;
mod calls;
mod connections;
mod idempotency;
mod key;
mod kind;
mod scripts;
mod windows;

use std::fmt;

use async_trait::async_trait;
use redis::Value;
use secrecy::SecretString;

use self::answer::{count, encrypted, hash, moment, number, opened, status, unexpected, view};
use self::connections::Connections;
use self::scripts::{Argument, Scripts};
pub use self::scripts::{Fence, ScriptClock};
use self::windows::Windows;
use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::details::EncryptedDetails;
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::ledger::{LimitRule, LimitState, PARTITION_BYTES};
use crate::domain::limit::Policy;
use crate::domain::limits::{IpLimit, SendLimits};
use crate::domain::store_key::{Recipient, StoreKey};
use crate::domain::time::{EntryId, Millis, millis};
use crate::domain::verification::{AttemptToken, Status, VerificationRules, View};
use crate::ports::{
    AttemptOutcome, Attempter, ChargeOutcome, IpLedger, OpenOutcome, PrefixCharge, ReplaceOutcome, Store,
    StoreError,
};

/// Verifications and ledgers in Redis.
pub struct RedisStore {
    connections: Connections,
    clock: ScriptClock,
    fence: Fence,
    scripts: Scripts,
}

/// Redis could not be set up, because its address is invalid.
#[derive(Debug, thiserror::Error)]
#[error("the Redis address cannot be used: {0}")]
pub struct InvalidAddress(&'static str);

impl RedisStore {
    /// Creates the store. The first call connects, so that Redis may start later than otpd.
    ///
    /// # Errors
    /// Returns [`InvalidAddress`] if the URL is not a Redis URL.
    pub async fn new(url: &SecretString, clock: ScriptClock, fence: Fence) -> Result<Self, InvalidAddress> {
        let connections = Connections::new(url).await?;
        let scripts = Scripts::with(&clock, fence);
        Ok(Self { connections, clock, fence, scripts })
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn charge(&self, profile: &IpLedger, limit: &IpLimit) -> Result<ChargeOutcome, StoreError> {
        let policy = profile.action.policy();
        let mut windows = Windows::default();
        windows.add(1, &LimitRule { policy, limit: &limit.prefix64, partition_bytes: 0 });
        if profile.network.prefix64.is_some() {
            windows.add(2, &LimitRule { policy, limit: &limit.prefix48, partition_bytes: 0 });
        }
        self.enter(&key::network(profile), &[], limit.longest(), &windows).await
    }

    async fn refund(&self, profile: &IpLedger, entry: EntryId) -> Result<(), StoreError> {
        self.call(&self.scripts.refund, &key::network(profile), &[&0_u64, &entry]).await.map(|_| ())
    }

    async fn charge_send(
        &self,
        recipient: &Recipient,
        client: Option<&KeyedHash>,
        limits: &SendLimits,
    ) -> Result<ChargeOutcome, StoreError> {
        let windows = Windows::of(&limits.rules(client.is_some()));
        self.enter(
            &[key::sends(&recipient.email)],
            &recipient.partition(client).0,
            limits.retention,
            &windows,
        )
        .await
    }

    async fn peek_sends(&self, recipient: &Recipient, limits: &SendLimits) -> Result<LimitState, StoreError> {
        let windows = Windows::of(&limits.rules(false));
        let keys = [key::sends(&recipient.email)];
        let partition = recipient.partition(None).0;
        let args: [&dyn Argument; 3] = [&partition.as_slice(), &windows.count(), &windows.numbers];
        match self.call(&self.scripts.peek, &keys, &args).await? {
            Value::Array(parts) => windows.limit_state(&parts),
            _ => Err(unexpected()),
        }
    }

    async fn refund_send(&self, recipient: &Recipient, entry: EntryId) -> Result<(), StoreError> {
        let keys = [key::sends(&recipient.email)];
        self.call(&self.scripts.refund, &keys, &[&(PARTITION_BYTES as u64), &entry]).await.map(|_| ())
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
        attempter: Option<&Attempter<'_>>,
    ) -> Result<AttemptOutcome, StoreError> {
        let mut keys = vec![key::verification(store_key)];
        let mut windows = Windows::default();
        let mut client = None;
        let mut keep = 0;
        if let (StoreKey::Address { recipient, .. }, Some(attempter)) = (store_key, attempter) {
            keys.push(key::ip_email_attempts(recipient, &attempter.client));
            windows.add(
                1,
                &LimitRule { policy: Policy::IpEmailAttempts, limit: attempter.limit, partition_bytes: 0 },
            );
            (client, keep) = (Some(attempter.client), millis(attempter.limit.longest()));
        }
        let retention = millis(store_key.retention());
        let most = u64::from(rules.attempts);
        let args: [&dyn Argument; 5] = [&retention, &most, &keep, &windows.count(), &windows.numbers];
        match self.call(&self.scripts.take_attempt, &keys, &args).await? {
            Value::Nil => Ok(AttemptOutcome::Unknown),
            Value::Array(parts) => match parts.as_slice() {
                [Value::BulkString(what), refused @ ..] if what == b"limited" => {
                    match windows.charged(refused)? {
                        ChargeOutcome::Refused(limit_state) => Ok(AttemptOutcome::Limited(limit_state)),
                        ChargeOutcome::Admitted { .. } => Err(unexpected()),
                    }
                }
                [Value::BulkString(what), entry, attempts, about, stored @ ..] if what == b"taken" => {
                    let entry = number(entry)?;
                    let charged = client.map(|client| PrefixCharge { client, entry });
                    let attempts = count(attempts)?;
                    let encrypted = encrypted(about)?;
                    Ok(AttemptOutcome::Compare { hash: hash(stored)?, attempts, encrypted, charged })
                }
                _ => Err(unexpected()),
            },
            answer => status(&answer).map(AttemptOutcome::Closed),
        }
    }

    async fn approve(
        &self,
        store_key: &StoreKey,
        token: &AttemptToken,
        charged: Option<&PrefixCharge>,
    ) -> Result<Option<Millis>, StoreError> {
        let mut keys = vec![key::verification(store_key)];
        let mut entry = 0;
        if let (StoreKey::Address { recipient, .. }, Some(charged)) = (store_key, charged) {
            keys.push(key::ip_email_attempts(recipient, &charged.client));
            entry = charged.entry;
        }
        let retention = millis(store_key.retention());
        let code = token.code.as_bytes().as_slice();
        let nonce = token.nonce.as_slice();
        moment(&self.call(&self.scripts.approve, &keys, &[&retention, &code, &nonce, &entry]).await?)
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
        code: &Salt,
        entry: EntryId,
    ) -> Result<bool, StoreError> {
        let retention = millis(store_key.retention());
        let code = code.as_bytes().as_slice();
        let keys = [key::verification(store_key)];
        let answer = self.call(&self.scripts.mark_failed, &keys, &[&retention, &code, &entry]).await?;
        Ok(number(&answer)? == 1)
    }

    async fn relay_has_room(&self, most: u32) -> Result<bool, StoreError> {
        let mails = self.call(&self.scripts.relay_day, &[key::RELAY_DAY.to_owned()], &[&0_u64]).await?;
        Ok(number(&mails)? < u64::from(most))
    }

    async fn count_mail(&self) -> Result<(), StoreError> {
        let keys = [key::RELAY_DAY.to_owned()];
        self.call(&self.scripts.relay_day, &keys, &[&1_u64]).await.map(|_| ())
    }

    /// Fails if a script cannot write, or if Redis may evict ledgers to free memory, which no error
    /// would report.
    async fn ready(&self) -> Result<(), StoreError> {
        self.call(&self.scripts.ready, &[key::READY.to_owned()], &[]).await?;
        self.evicts_nothing().await
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

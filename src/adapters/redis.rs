//! The store of `otpd serve`: Redis, one Lua script on the keys of one hash tag per call.
//!
//! The scripts hold the rules (`domain::verification` and `domain::ledger` say the same in Rust; one model checks
//! both). Must not decide anything itself.

mod answer;
mod claims;
mod connections;
mod key;
mod kind;
mod scripts;
mod windows;

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use redis::{Script, Value};
use secrecy::SecretString;

use self::answer::{count, hash, moment, number, opened, sealed, status, unexpected, view};
use self::connections::{CONNECTIONS, Connections, is_refused_login};
use self::scripts::{Argument, Scripts};
pub use self::scripts::{Fence, ScriptClock};
use self::windows::Windows;
use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::ledger::{MARK_OCTETS, Quota, Stamp, Standing};
use crate::domain::limit::{Ledger, IpLimit, SLOWEST_OPENING, SendLimits};
use crate::domain::sealed::Sealed;
use crate::domain::slot::{Slot, Subject, Tag};
use crate::domain::verification::{GuessToken, LONGEST_LIFE, Millis, Policy, Status, View, millis};
use crate::ports::{Charged, Guesser, NetworkAccount, Opened, Recoded, SiteEntry, Spend, Store, StoreError};

/// Verifications and ledgers in Redis.
pub struct RedisStore {
    connections: Connections,
    clock: ScriptClock,
    fence: Fence,
    scripts: Scripts,
}

/// Redis could not be set up: its address is none.
#[derive(Debug, thiserror::Error)]
#[error("the Redis address cannot be used: {0}")]
pub struct InvalidAddress(&'static str);

impl RedisStore {
    /// Prepares the connections; the first call makes them, so that Redis may come up later than otpd.
    ///
    /// # Errors
    /// [`InvalidAddress`] where the URL is none of Redis'.
    pub async fn new(url: &SecretString, clock: ScriptClock, fence: Fence) -> Result<Self, InvalidAddress> {
        let connections = Connections::new(url).await?;
        let scripts = Scripts::with(&clock, fence);
        Ok(Self { connections, clock, fence, scripts })
    }

    /// Calls a script on keys that share a hash tag.
    async fn call(
        &self,
        script: &Script,
        keys: &[String],
        args: &[&dyn Argument],
    ) -> Result<Value, StoreError> {
        let mut refusals = 0;
        loop {
            let mut connection = self.connections.get().await?;
            match self.clock.call(&mut connection, script, keys, args).await {
                // Nothing ran; the next connection may have a login by now.
                Err(error) if is_refused_login(&error) && refusals < CONNECTIONS => refusals += 1,
                answer => return answer.map_err(StoreError::new),
            }
        }
    }

    /// Charges logs that share a hash tag for one action.
    async fn enter(
        &self,
        keys: &[String],
        mark: &[u8],
        keep: Duration,
        windows: &Windows,
    ) -> Result<Charged, StoreError> {
        let args: [&dyn Argument; 4] = [&mark, &millis(keep), &windows.count(), &windows.numbers];
        match self.call(&self.scripts.charge, keys, &args).await? {
            Value::Array(parts) => windows.charged(&parts),
            _ => Err(unexpected()),
        }
    }

    async fn ask(&self, script: &Script, slot: &Slot, policy: &Policy) -> Result<Value, StoreError> {
        let (remembrance, guesses) = (millis(slot.remembrance()), u64::from(policy.guesses));
        self.call(script, &[key::verification(slot)], &[&remembrance, &guesses]).await
    }

    async fn write(
        &self,
        script: &Script,
        slot: &Slot,
        hash: &CodeHash,
        policy: &Policy,
        entry: Stamp,
        about: &Sealed,
    ) -> Result<Value, StoreError> {
        let (life, longest, slowest) = (millis(policy.life), millis(LONGEST_LIFE), millis(SLOWEST_OPENING));
        let (guesses, salt) = (u64::from(policy.guesses), hash.salt().as_bytes().as_slice());
        let remembrance = millis(slot.remembrance());
        let (hash, about) = (hash.to_bytes(), about.as_bytes());
        let args: [&dyn Argument; 9] =
            [&remembrance, &guesses, &life, &longest, &salt, &hash, &entry, &slowest, &about];
        self.call(script, &[key::verification(slot)], &args).await
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn charge(&self, account: &NetworkAccount, limit: &IpLimit) -> Result<Charged, StoreError> {
        let ledger = account.action.ledger();
        let mut windows = Windows::default();
        windows.add(1, &Quota { ledger, limit: &limit.network, shared: 0 });
        if account.network.link.is_some() {
            windows.add(2, &Quota { ledger, limit: &limit.site, shared: 0 });
        }
        self.enter(&key::network(account), &[], limit.longest(), &windows).await
    }

    async fn refund(&self, account: &NetworkAccount, entry: Stamp) -> Result<(), StoreError> {
        self.call(&self.scripts.refund, &key::network(account), &[&0_u64, &entry]).await.map(|_| ())
    }

    async fn admit(
        &self,
        subject: &Subject,
        site: Option<&Tag>,
        limits: &SendLimits,
    ) -> Result<Charged, StoreError> {
        let windows = Windows::of(&limits.quotas(site.is_some()));
        self.enter(&[key::sends(&subject.person)], &subject.mark(site).0, limits.kept, &windows).await
    }

    async fn outlook(&self, subject: &Subject, limits: &SendLimits) -> Result<Standing, StoreError> {
        let windows = Windows::of(&limits.quotas(false));
        let (keys, mark) = ([key::sends(&subject.person)], subject.mark(None).0);
        let args: [&dyn Argument; 3] = [&mark.as_slice(), &windows.count(), &windows.numbers];
        match self.call(&self.scripts.outlook, &keys, &args).await? {
            Value::Array(parts) => windows.standing(&parts),
            _ => Err(unexpected()),
        }
    }

    async fn withdraw(&self, subject: &Subject, entry: Stamp) -> Result<(), StoreError> {
        let keys = [key::sends(&subject.person)];
        self.call(&self.scripts.refund, &keys, &[&(MARK_OCTETS as u64), &entry]).await.map(|_| ())
    }

    async fn open(
        &self,
        slot: &Slot,
        hash: &CodeHash,
        policy: &Policy,
        entry: Stamp,
        sealed: &Sealed,
    ) -> Result<Opened, StoreError> {
        opened(&self.write(&self.scripts.open, slot, hash, policy, entry, sealed).await?)
    }

    async fn recode(
        &self,
        slot: &Slot,
        hash: &CodeHash,
        policy: &Policy,
        entry: Stamp,
    ) -> Result<Recoded, StoreError> {
        let answer = self.write(&self.scripts.recode, slot, hash, policy, entry, &Sealed::default()).await?;
        match &answer {
            Value::Nil => Ok(Recoded::Unknown),
            answer => status(answer).map(Recoded::Closed).or_else(|_| opened(answer).map(Recoded::Opened)),
        }
    }

    async fn spend(
        &self,
        slot: &Slot,
        policy: &Policy,
        guesser: Option<&Guesser<'_>>,
    ) -> Result<Spend, StoreError> {
        let (mut keys, mut windows) = (vec![key::verification(slot)], Windows::default());
        let (mut site, mut keep) = (None, 0);
        if let (Slot::Address { subject, .. }, Some(guesser)) = (slot, guesser) {
            keys.push(key::ip_email_attempts(subject, &guesser.site));
            windows.add(1, &Quota { ledger: Ledger::IpEmailAttempts, limit: guesser.limit, shared: 0 });
            (site, keep) = (Some(guesser.site), millis(guesser.limit.longest()));
        }
        let (remembrance, most) = (millis(slot.remembrance()), u64::from(policy.guesses));
        let args: [&dyn Argument; 5] = [&remembrance, &most, &keep, &windows.count(), &windows.numbers];
        match self.call(&self.scripts.spend, &keys, &args).await? {
            Value::Nil => Ok(Spend::Unknown),
            Value::Array(parts) => match parts.as_slice() {
                [Value::BulkString(what), refused @ ..] if what == b"limited" => {
                    match windows.charged(refused)? {
                        Charged::Refused(standing) => Ok(Spend::Limited(standing)),
                        Charged::Admitted { .. } => Err(unexpected()),
                    }
                }
                [Value::BulkString(what), entry, spent, about, stored @ ..] if what == b"spent" => {
                    let entry = number(entry)?;
                    let charged = site.map(|site| SiteEntry { site, entry });
                    let (spent, sealed) = (count(spent)?, sealed(about)?);
                    Ok(Spend::Compare { hash: hash(stored)?, spent, sealed, charged })
                }
                _ => Err(unexpected()),
            },
            answer => status(&answer).map(Spend::Closed),
        }
    }

    async fn consume(
        &self,
        slot: &Slot,
        token: &GuessToken,
        charged: Option<&SiteEntry>,
    ) -> Result<Option<Millis>, StoreError> {
        let (mut keys, mut entry) = (vec![key::verification(slot)], 0);
        if let (Slot::Address { subject, .. }, Some(charged)) = (slot, charged) {
            keys.push(key::ip_email_attempts(subject, &charged.site));
            entry = charged.entry;
        }
        let remembrance = millis(slot.remembrance());
        let (code, nonce) = (token.code.as_bytes().as_slice(), token.nonce.as_slice());
        moment(&self.call(&self.scripts.consume, &keys, &[&remembrance, &code, &nonce, &entry]).await?)
    }

    async fn look(&self, slot: &Slot, policy: &Policy) -> Result<Option<View>, StoreError> {
        match self.ask(&self.scripts.look, slot, policy).await? {
            Value::Nil => Ok(None),
            Value::Array(parts) => view(&parts).map(Some),
            _ => Err(unexpected()),
        }
    }

    async fn cancel(&self, slot: &Slot, policy: &Policy) -> Result<Option<Status>, StoreError> {
        match self.ask(&self.scripts.cancel, slot, policy).await? {
            Value::Nil => Ok(None),
            answer => status(&answer).map(Some),
        }
    }

    async fn fail(&self, slot: &Slot, code: &Salt, entry: Stamp) -> Result<bool, StoreError> {
        let (remembrance, code) = (millis(slot.remembrance()), code.as_bytes().as_slice());
        let keys = [key::verification(slot)];
        let answer = self.call(&self.scripts.fail, &keys, &[&remembrance, &code, &entry]).await?;
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

    /// Not where a script cannot write, and not where Redis would throw counters away to make room, which no error
    /// would tell (SEC-73).
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

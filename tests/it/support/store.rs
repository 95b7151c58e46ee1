//! A store under test, of either kind, on a clock that the test sets; codes and tokens by number.
//!
//! Must not know the rules: the tests and their model say what a store should answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otpd::adapters::memory::MemoryStore;
use otpd::adapters::redis::{Durability, Fence, RedisStore, ScriptClock};
use otpd::domain::code_hash::{CodeHash, CodeId, CodeSalt, DIGEST_BYTES, SALT_BYTES, Salt};
use otpd::domain::details::EncryptedDetails;
use otpd::domain::email_address::EmailAddress;
use otpd::domain::keyed_hash::{INDEX_KEY_BYTES, IndexKey, KeyedHash};
use otpd::domain::ledger::LimitState;
use otpd::domain::ledger_key::LedgerKey;
use otpd::domain::limit::Policy;
use otpd::domain::limits::{Charge, Limits};
use otpd::domain::provider_id::ProviderId;
use otpd::domain::store_key::{ClientNetwork, Recipient, StoreKey};
use otpd::domain::tenant::Tenant;
use otpd::domain::time::EntryId;
use otpd::domain::time::Millis;
use otpd::domain::verification::{AttemptToken, NONCE_BYTES, Status, VerificationRules, View};
use otpd::domain::verification_id::{ID_BYTES, VerificationId};
use otpd::ports::{
    AttemptOutcome, ChargeOutcome, Clock, IdempotencyStore, Live, OpenOutcome, ReplaceOutcome, Store,
    TestMails,
};

use super::model::SALT_SHIFT;
use super::redis::RedisServer;

/// The initial time of every settable clock: far enough from the epoch to be stepped back.
const BEGINNING: Duration = Duration::from_secs(1_700_000_000);

/// The service's own policy, unless a bench has another, but for the overlap.
pub const RULES: VerificationRules =
    VerificationRules { life: Duration::from_mins(5), attempts: 5, overlap: Duration::ZERO };

/// A store that must answer, its clock, and its server if it has one. Codes and attempts are
/// numbered.
#[derive(Clone)]
pub struct Bench {
    pub store: Arc<dyn Store>,
    pub idempotency: Arc<dyn IdempotencyStore>,
    pub test_mails: Arc<dyn TestMails>,
    pub clock: Arc<SettableClock>,
    pub rules: VerificationRules,
    redis: Option<Arc<RedisServer>>,
    /// The newest entry id that was made up for a code without a charge.
    entries: Arc<AtomicU64>,
}

/// The outcome of an attempt, with the numbers of the codes to compare it with: the newest, and the
/// one before if that is still good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenAttempt {
    Compare(u32),
    CompareBoth(u32, u32),
    Limited(LimitState),
    Closed(Status),
    Unknown,
}

/// A clock that stands still until it is set.
pub struct SettableClock(AtomicU64);

impl Bench {
    /// Returns the store of `otpd dev`.
    pub fn memory() -> Self {
        let clock = SettableClock::new();
        Self::of(MemoryStore::new(clock.clone()), clock, None)
    }

    /// Returns the store of `otpd serve`, on a new Redis.
    pub async fn redis() -> Self {
        let (server, clock) = (RedisServer::start().await, SettableClock::new());
        let store = store_on(&server, ScriptClock::Given(clock.clone()));
        Self::of(store, clock, Some(Arc::new(server)))
    }

    fn of(
        store: impl Store + IdempotencyStore + TestMails + 'static,
        clock: Arc<SettableClock>,
        redis: Option<Arc<RedisServer>>,
    ) -> Self {
        let store = Arc::new(store);
        Self {
            idempotency: store.clone(),
            test_mails: store.clone(),
            store,
            clock,
            rules: RULES,
            redis,
            entries: Arc::default(),
        }
    }

    /// Returns the same bench with another store.
    pub fn with(&self, store: impl Store + IdempotencyStore + TestMails + 'static) -> Self {
        let store = Arc::new(store);
        Self { idempotency: store.clone(), test_mails: store.clone(), store, ..self.clone() }
    }

    /// Returns the store as a restarted process sees it: on Redis, new connections to the same
    /// server; in memory, the same store, because memory ends with its process.
    pub fn restarted(&self) -> Self {
        match &self.redis {
            Some(server) => self.with(store_on(server, ScriptClock::Given(self.clock.clone()))),
            None => self.clone(),
        }
    }

    /// Returns the Redis of the store.
    pub fn server(&self) -> &RedisServer {
        self.redis.as_ref().expect("a bench on Redis")
    }

    /// Empties the Redis of the store.
    pub async fn clear(&self) {
        self.server().flush_all().await;
    }

    /// Flushes the scripts of the store's Redis, if it has one.
    pub async fn forget_scripts(&self) {
        if let Some(server) = &self.redis {
            server.script_flush().await;
        }
    }

    /// Returns an unused entry id of the present time, for one code.
    pub fn fresh_entry(&self) -> EntryId {
        let next = |newest: u64| self.clock.millis().max(newest + 1);
        let (all, order) = (|newest| Some(next(newest)), Ordering::SeqCst);
        next(self.entries.fetch_update(order, order, all).expect("there is always a next"))
    }

    /// Opens a verification and returns how long the code is valid.
    pub async fn open(&self, store_key: &StoreKey, code: u32) -> Duration {
        match self.open_for(store_key, code, self.fresh_entry()).await {
            OpenOutcome::Live(live) => live.valid_for,
            OpenOutcome::Late => panic!("a fresh entry was late"),
        }
    }

    pub async fn open_for(&self, store_key: &StoreKey, code: u32, entry: EntryId) -> OpenOutcome {
        let opened = self.store.open(store_key, &hash(code), &self.rules, entry, &about(store_key)).await;
        self.fits(opened.expect("an answer"))
    }

    pub async fn replace_code(&self, store_key: &StoreKey, code: u32) -> ReplaceOutcome {
        self.replace_code_for(store_key, code, self.fresh_entry()).await
    }

    pub async fn replace_code_for(&self, store_key: &StoreKey, code: u32, entry: EntryId) -> ReplaceOutcome {
        match self.store.replace_code(store_key, &hash(code), &self.rules, entry).await.expect("an answer") {
            ReplaceOutcome::Opened(opened) => ReplaceOutcome::Opened(self.fits(opened)),
            other => other,
        }
    }

    /// Takes an attempt that is not charged.
    pub async fn take_attempt(&self, store_key: &StoreKey) -> TakenAttempt {
        self.take_attempt_for(None, store_key).await.0
    }

    /// Takes an attempt, and returns the entry of its charge.
    pub async fn take_attempt_for(
        &self,
        charge: Option<&Charge<'_>>,
        store_key: &StoreKey,
    ) -> (TakenAttempt, Option<EntryId>) {
        let taken = self.store.take_attempt(store_key, &self.rules, charge).await;
        self.seen(taken.expect("an answer"), store_key)
    }

    /// Charges an IP and takes an attempt in one call of the store.
    pub async fn charge_ip_and_take_attempt(
        &self,
        ip: &Charge<'_>,
        charge: Option<&Charge<'_>>,
        store_key: &StoreKey,
    ) -> (ChargeOutcome, Option<(TakenAttempt, Option<EntryId>)>) {
        let both = self.store.charge_ip_and_take_attempt(ip, store_key, &self.rules, charge).await;
        let (charged, taken) = both.expect("an answer");
        (charged, taken.map(|taken| self.seen(taken, store_key)))
    }

    /// Returns an outcome with its codes by number.
    fn seen(&self, outcome: AttemptOutcome, store_key: &StoreKey) -> (TakenAttempt, Option<EntryId>) {
        match outcome {
            AttemptOutcome::Compare { codes, attempts, encrypted, entry } => {
                assert_eq!(encrypted, about(store_key));
                assert!((1..=self.rules.attempts).contains(&attempts), "{attempts}");
                let newest = code_in(&codes.newest).expect("the hash as it was stored");
                let taken = match codes.earlier {
                    None => TakenAttempt::Compare(newest),
                    Some(earlier) => {
                        let earlier = code_in(&codes.newest.with_id(earlier));
                        TakenAttempt::CompareBoth(newest, earlier.expect("a code of the same salt"))
                    }
                };
                (taken, entry)
            }
            AttemptOutcome::Limited(limit_state) => (TakenAttempt::Limited(limit_state), None),
            AttemptOutcome::Closed(status) => (TakenAttempt::Closed(status), None),
            AttemptOutcome::Unknown => (TakenAttempt::Unknown, None),
        }
    }

    pub async fn approve(&self, store_key: &StoreKey, code: u32, attempt: u32) -> bool {
        self.approve_for(store_key, code, attempt, None).await
    }

    pub async fn approve_for(
        &self,
        store_key: &StoreKey,
        code: u32,
        attempt: u32,
        charged: Option<(&LedgerKey, EntryId)>,
    ) -> bool {
        self.approved_at(store_key, code, attempt, charged).await.is_some()
    }

    /// Returns the time at which this attempt was approved, if it was.
    pub async fn approved_at(
        &self,
        store_key: &StoreKey,
        code: u32,
        attempt: u32,
        charged: Option<(&LedgerKey, EntryId)>,
    ) -> Option<Millis> {
        self.store.approve(store_key, &token(code, attempt), charged, None).await.expect("an answer")
    }

    /// Returns the state of a verification. Its details must be as they were encrypted.
    pub async fn find(&self, store_key: &StoreKey) -> Option<View> {
        let view = self.store.find(store_key, &self.rules).await.expect("an answer");
        view.inspect(|view| {
            assert_eq!((&view.encrypted, view.seen_at), (&about(store_key), self.clock.millis()));
        })
    }

    pub async fn cancel(&self, store_key: &StoreKey) -> Option<Status> {
        self.store.cancel(store_key, &self.rules).await.expect("an answer")
    }

    /// Asserts that the two times of a live code agree.
    fn fits(&self, opened: OpenOutcome) -> OpenOutcome {
        if let OpenOutcome::Live(Live { valid_for, expires_at, .. }) = opened {
            let millis = u64::try_from(valid_for.as_millis()).expect("a short time");
            assert_eq!(expires_at, self.clock.millis() + millis);
        }
        opened
    }

    /// Marks a send as failed that no ledger was charged for.
    pub async fn mark_failed(&self, store_key: &StoreKey, code: u32) {
        self.mark_failed_for(store_key, code, self.fresh_entry()).await;
    }

    pub async fn mark_failed_for(&self, store_key: &StoreKey, code: u32, entry: EntryId) -> bool {
        self.store.mark_failed(store_key, &code_id(code), entry).await.expect("an answer")
    }

    /// Records that the email of a code was accepted. Its provider names it by the code's number.
    pub async fn mark_accepted(&self, store_key: &StoreKey, code: u32) -> Option<Millis> {
        let provider_id = provider_id(code);
        self.store.mark_accepted(store_key, &code_id(code), Some(&provider_id)).await.expect("an answer")
    }

    /// Returns what the next code of a store key must be hashed with. A ledger of its own is
    /// charged.
    pub async fn code_salt(&self, store_key: &StoreKey) -> Option<CodeSalt> {
        let StoreKey::Address { recipient, .. } = store_key else { panic!("not an address") };
        let limits = limits(&[(Policy::EmailSends, "100000/1h"), (Policy::EmailSendsTotal, "100000/1h")]);
        let charge = limits.send_charge(recipient, None);
        self.store.charge_send(&charge, store_key, &self.rules).await.expect("an answer").1
    }
}

impl SettableClock {
    fn new() -> Arc<Self> {
        let millis = BEGINNING.as_millis().try_into().expect("a small number");
        Arc::new(Self(AtomicU64::new(millis)))
    }

    /// Returns milliseconds since the epoch.
    pub fn millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Steps forward, or back if negative.
    pub fn step(&self, millis: i64) {
        self.0.store(self.millis().strict_add_signed(millis), Ordering::SeqCst);
    }

    /// Steps forward.
    pub fn forward(&self, time: Duration) {
        self.step(time.as_millis().try_into().expect("a small number"));
    }
}

impl Clock for SettableClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.millis())
    }
}

/// Returns a store with new connections to this server.
pub fn store_on(server: &RedisServer, clock: ScriptClock) -> RedisStore {
    let durability = Durability { fence: Fence::Down, replicas: 0 };
    RedisStore::new(&server.servers(), clock, durability, Duration::from_millis(500)).expect("a Redis URL")
}

/// Returns limits that have these policies and no others.
pub fn limits(limits: &[(Policy, &str)]) -> Limits {
    limits.iter().map(|(policy, limit)| (*policy, limit.parse().expect("a limit"))).collect()
}

/// Returns the charge of a client prefix for an attempt at an address, or `None` for one at an id.
pub fn attempt_charge<'a>(
    limits: &'a Limits,
    store_key: &StoreKey,
    client: &KeyedHash,
) -> Option<Charge<'a>> {
    match store_key {
        StoreKey::Address { recipient, .. } => Some(limits.ip_email_attempt_charge(recipient, client)),
        StoreKey::Id(_) => None,
    }
}

/// Returns the store key of an address on the simple endpoints.
pub fn address(text: &str) -> StoreKey {
    index_key().email_key(recipient(Tenant::Simple, text), &parse(text))
}

/// Returns the recipient of an address.
pub fn recipient(tenant: Tenant, text: &str) -> Recipient {
    index_key().recipient(tenant, &parse(text))
}

/// Returns the network of an IP address.
pub fn network(ip: &str) -> ClientNetwork {
    index_key().network(ip.parse().expect("an IP address"))
}

pub fn index_key() -> IndexKey {
    IndexKey::new([7; INDEX_KEY_BYTES])
}

fn parse(text: &str) -> EmailAddress {
    EmailAddress::parse(text).expect("an address")
}

/// Returns the store key of a verification with an id.
pub fn id(number: u8) -> StoreKey {
    index_key().id_key(&tenant("keyed"), &VerificationId::new([number; ID_BYTES]))
}

/// Returns a tenant with a name.
pub fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("a name")
}

/// Returns the encrypted details of a verification; on the simple endpoints there are none. The
/// store never interprets them.
pub fn about(store_key: &StoreKey) -> EncryptedDetails {
    match store_key {
        StoreKey::Address { .. } => EncryptedDetails::default(),
        StoreKey::Id(hash) => EncryptedDetails::from_bytes(format!("about\0{hash}").into_bytes()),
    }
}

/// Returns the salt of the code with this number. Numbers that differ in their lower bits alone
/// have one salt.
pub fn salt(code: u32) -> Salt {
    let mut bytes = [0x5a; SALT_BYTES];
    bytes[..4].copy_from_slice(&((code >> SALT_SHIFT) + 1).to_be_bytes());
    Salt::new(bytes)
}

/// Returns what names the code with this number.
pub fn code_id(code: u32) -> CodeId {
    CodeId::new(digest(code))
}

/// Returns the provider's id of the email with the code of this number.
pub fn provider_id(code: u32) -> ProviderId {
    ProviderId::parse(&format!("mail-{code}")).expect("an id")
}

/// Returns the digest of the code with this number.
pub fn digest(code: u32) -> [u8; DIGEST_BYTES] {
    let mut bytes = [0xd1; DIGEST_BYTES];
    bytes[DIGEST_BYTES - 4..].copy_from_slice(&code.to_be_bytes());
    bytes
}

/// Returns the stored hash of the code with this number. The store never interprets it.
pub fn hash(code: u32) -> CodeHash {
    CodeHash::from_bytes(salt(code), &[&digest(code), &b"k1"[..]].concat()).expect("the stored form")
}

/// Returns the token of an attempt at the code with this number.
pub fn token(code: u32, attempt: u32) -> AttemptToken {
    let mut nonce = [0x6e; NONCE_BYTES];
    nonce[..4].copy_from_slice(&attempt.to_be_bytes());
    nonce[NONCE_BYTES - 4..].copy_from_slice(&code.to_be_bytes());
    AttemptToken { code: code_id(code), nonce }
}

/// Returns the number of the code with this hash, if salt, digest and pepper all belong to it.
fn code_in(hash: &CodeHash) -> Option<u32> {
    let code = u32::from_be_bytes(*hash.id().as_bytes().last_chunk()?);
    let own = self::hash(code);
    (own.salt() == hash.salt() && own.to_bytes() == hash.to_bytes()).then_some(code)
}

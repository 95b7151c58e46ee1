//! A store under test, of either kind, on a clock that the test sets; and codes and tokens by number.
//!
//! Must not know the rules: what a store should answer is said by the tests and their model.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use otpd::adapters::memory::MemoryStore;
use otpd::adapters::redis::{Fence, RedisStore, ScriptClock};
use otpd::domain::code_hash::{CodeHash, DIGEST_OCTETS, SALT_OCTETS, Salt};
use otpd::domain::email_address::EmailAddress;
use otpd::domain::ledger::{Stamp, Standing};
use otpd::domain::sealed::Sealed;
use otpd::domain::slot::{INDEX_KEY_OCTETS, IndexKey, Network, Slot, Subject};
use otpd::domain::tenant::Tenant;
use otpd::domain::verification::{GuessToken, Millis, NONCE_OCTETS, Policy, Status, View};
use otpd::domain::verification_id::{ID_OCTETS, VerificationId};
use otpd::ports::{Claims, Clock, Guesser, Live, Opened, Recoded, SiteEntry, Spend, Store};

use super::redis::RedisServer;

/// Where every settable clock begins: far enough from the epoch to be stepped back.
const BEGINNING: Duration = Duration::from_secs(1_700_000_000);

/// The service's own policy, unless a bench is given another.
pub const POLICY: Policy = Policy { life: Duration::from_mins(5), guesses: 5 };

/// A store that must answer, its clock, and its server where it has one. Codes and guesses go by number.
#[derive(Clone)]
pub struct Bench {
    pub store: Arc<dyn Store>,
    pub claims: Arc<dyn Claims>,
    pub clock: Arc<SettableClock>,
    pub policy: Policy,
    redis: Option<Arc<RedisServer>>,
    /// The newest entry that was made up for a code that no ledger was charged for.
    entries: Arc<AtomicU64>,
}

/// What became of a guess, with the number of the code to compare it with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    Compare(u32),
    Limited(Standing),
    Closed(Status),
    Unknown,
}

/// Stands still until it is set.
pub struct SettableClock(AtomicU64);

impl Bench {
    /// The store of `otpd dev`.
    pub fn memory() -> Self {
        let clock = SettableClock::new();
        Self::of(MemoryStore::new(clock.clone()), clock, None)
    }

    /// The store of `otpd serve` on a Redis of its own.
    pub async fn redis() -> Self {
        let (server, clock) = (RedisServer::start().await, SettableClock::new());
        let store = store_on(&server, ScriptClock::Given(clock.clone())).await;
        Self::of(store, clock, Some(Arc::new(server)))
    }

    fn of(
        store: impl Store + Claims + 'static,
        clock: Arc<SettableClock>,
        redis: Option<Arc<RedisServer>>,
    ) -> Self {
        let store = Arc::new(store);
        Self { claims: store.clone(), store, clock, policy: POLICY, redis, entries: Arc::default() }
    }

    /// The same with another store.
    pub fn with(&self, store: impl Store + Claims + 'static) -> Self {
        let store = Arc::new(store);
        Self { claims: store.clone(), store, ..self.clone() }
    }

    /// What a process sees that is started anew: another one's Redis, or, as memory ends with its process, the same.
    pub async fn restarted(&self) -> Self {
        match &self.redis {
            Some(server) => self.with(store_on(server, ScriptClock::Given(self.clock.clone())).await),
            None => self.clone(),
        }
    }

    /// The Redis below the store.
    pub fn server(&self) -> &RedisServer {
        self.redis.as_ref().expect("a bench on Redis")
    }

    /// Empties the Redis below the store.
    pub async fn clear(&self) {
        self.server().flush_all().await;
    }

    /// Makes the Redis below the store, if there is one, forget its scripts.
    pub async fn forget_scripts(&self) {
        if let Some(server) = &self.redis {
            server.script_flush().await;
        }
    }

    /// An entry of now that pays for one code and no other.
    pub fn fresh_entry(&self) -> Stamp {
        let next = |newest: u64| self.clock.millis().max(newest + 1);
        let (all, order) = (|newest| Some(next(newest)), Ordering::SeqCst);
        next(self.entries.fetch_update(order, order, all).expect("there is always a next"))
    }

    /// Opens, and says how long the code is valid.
    pub async fn open(&self, slot: &Slot, code: u32) -> Duration {
        match self.open_for(slot, code, self.fresh_entry()).await {
            Opened::Live(live) => live.valid_for,
            Opened::Late => panic!("a fresh entry was late"),
        }
    }

    pub async fn open_for(&self, slot: &Slot, code: u32, entry: Stamp) -> Opened {
        let opened = self.store.open(slot, &hash(code), &self.policy, entry, &about(slot)).await;
        self.fits(opened.expect("an answer"))
    }

    pub async fn recode(&self, slot: &Slot, code: u32) -> Recoded {
        self.recode_for(slot, code, self.fresh_entry()).await
    }

    pub async fn recode_for(&self, slot: &Slot, code: u32, entry: Stamp) -> Recoded {
        match self.store.recode(slot, &hash(code), &self.policy, entry).await.expect("an answer") {
            Recoded::Opened(opened) => Recoded::Opened(self.fits(opened)),
            other => other,
        }
    }

    /// A guess from nowhere: no site is charged.
    pub async fn spend(&self, slot: &Slot) -> Spent {
        self.spend_from(None, slot).await.0
    }

    /// A guess, and what its site was charged.
    pub async fn spend_from(&self, guesser: Option<&Guesser<'_>>, slot: &Slot) -> (Spent, Option<SiteEntry>) {
        match self.store.spend(slot, &self.policy, guesser).await.expect("an answer") {
            Spend::Compare { hash, spent, sealed, charged } => {
                assert_eq!(sealed, about(slot));
                assert!((1..=self.policy.guesses).contains(&spent), "{spent}");
                (Spent::Compare(code_in(&hash).expect("the hash as it was stored")), charged)
            }
            Spend::Limited(standing) => (Spent::Limited(standing), None),
            Spend::Closed(status) => (Spent::Closed(status), None),
            Spend::Unknown => (Spent::Unknown, None),
        }
    }

    pub async fn consume(&self, slot: &Slot, code: u32, guess: u32) -> bool {
        self.consume_for(slot, code, guess, None).await
    }

    pub async fn consume_for(&self, slot: &Slot, code: u32, guess: u32, charged: Option<&SiteEntry>) -> bool {
        self.won_at(slot, code, guess, charged).await.is_some()
    }

    /// When that guess won, if it did.
    pub async fn won_at(
        &self,
        slot: &Slot,
        code: u32,
        guess: u32,
        charged: Option<&SiteEntry>,
    ) -> Option<Millis> {
        self.store.consume(slot, &token(code, guess), charged).await.expect("an answer")
    }

    /// What can be seen; what it is about is as it was sealed.
    pub async fn look(&self, slot: &Slot) -> Option<View> {
        let view = self.store.look(slot, &self.policy).await.expect("an answer");
        view.inspect(|view| assert_eq!((&view.sealed, view.seen_at), (&about(slot), self.clock.millis())))
    }

    pub async fn cancel(&self, slot: &Slot) -> Option<Status> {
        self.store.cancel(slot, &self.policy).await.expect("an answer")
    }

    /// The two times of a live code say the same.
    fn fits(&self, opened: Opened) -> Opened {
        if let Opened::Live(Live { valid_for, expires_at, .. }) = opened {
            let millis = u64::try_from(valid_for.as_millis()).expect("a short time");
            assert_eq!(expires_at, self.clock.millis() + millis);
        }
        opened
    }

    /// A refused mail that no ledger was charged for.
    pub async fn fail(&self, slot: &Slot, code: u32) {
        self.fail_for(slot, code, self.fresh_entry()).await;
    }

    pub async fn fail_for(&self, slot: &Slot, code: u32, entry: Stamp) -> bool {
        self.store.fail(slot, &salt(code), entry).await.expect("an answer")
    }
}

impl SettableClock {
    fn new() -> Arc<Self> {
        let millis = BEGINNING.as_millis().try_into().expect("a small number");
        Arc::new(Self(AtomicU64::new(millis)))
    }

    /// Milliseconds since the epoch.
    pub fn millis(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Steps forward, or back where negative.
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

/// A store of its own connections on that server.
pub async fn store_on(server: &RedisServer, clock: ScriptClock) -> RedisStore {
    RedisStore::new(&server.url().into(), clock, Fence::Down).await.expect("a Redis URL")
}

/// The slot of an address on the simple endpoints.
pub fn address(text: &str) -> Slot {
    index_key().address_slot(subject(Tenant::Simple, text), &parse(text))
}

/// The person behind an address.
pub fn subject(tenant: Tenant, text: &str) -> Subject {
    index_key().subject(tenant, &parse(text))
}

/// The network of an IP address.
pub fn network(ip: &str) -> Network {
    index_key().network(ip.parse().expect("an IP address"))
}

pub fn index_key() -> IndexKey {
    IndexKey::new([7; INDEX_KEY_OCTETS])
}

fn parse(text: &str) -> EmailAddress {
    EmailAddress::parse(text).expect("an address")
}

/// The slot of a verification with an id.
pub fn id(number: u8) -> Slot {
    index_key().id_slot(&tenant("keyed"), &VerificationId::new([number; ID_OCTETS]))
}

/// A tenant with a name.
pub fn tenant(name: &str) -> Tenant {
    Tenant::parse(name).expect("a name")
}

/// What the verification of a slot is about; those of the simple endpoints say nothing. The store never looks into it.
pub fn about(slot: &Slot) -> Sealed {
    match slot {
        Slot::Address { .. } => Sealed::default(),
        Slot::Id(tag) => Sealed::from_bytes(format!("about\0{tag}").into_bytes()),
    }
}

/// The name of the code with this number.
pub fn salt(code: u32) -> Salt {
    let mut octets = [0x5a; SALT_OCTETS];
    octets[..4].copy_from_slice(&code.to_be_bytes());
    Salt::new(octets)
}

/// The digest of the code with this number.
pub fn digest(code: u32) -> [u8; DIGEST_OCTETS] {
    let mut octets = [0xd1; DIGEST_OCTETS];
    octets[DIGEST_OCTETS - 4..].copy_from_slice(&code.to_be_bytes());
    octets
}

/// What is stored of the code with this number; the store never looks into it.
pub fn hash(code: u32) -> CodeHash {
    CodeHash::from_bytes(salt(code), &[&digest(code), &b"k1"[..]].concat()).expect("the stored form")
}

/// A guess at the code with this number.
pub fn token(code: u32, guess: u32) -> GuessToken {
    let mut nonce = [0x6e; NONCE_OCTETS];
    nonce[..4].copy_from_slice(&guess.to_be_bytes());
    GuessToken { code: salt(code), nonce }
}

/// The number of the code that was handed out, if salt, digest and pepper are all that code's own.
fn code_in(hash: &CodeHash) -> Option<u32> {
    let code = u32::from_be_bytes(*hash.salt().as_bytes().first_chunk()?);
    let own = self::hash(code);
    (own.salt() == hash.salt() && own.to_bytes() == hash.to_bytes()).then_some(code)
}

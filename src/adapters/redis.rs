//! The store of `otpd serve`: Redis, one Lua script on one key per call.
//!
//! The scripts hold the rules (`domain::verification` says the same in Rust; one model checks both). Must not
//! retry a call that may have run: only a script that Redis did not know is loaded and called again.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bb8_redis::bb8::{ManageConnection, Pool};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, IntoConnectionInfo, ProtocolVersion, RedisError, RedisResult, Script, Value};
use secrecy::{ExposeSecret, SecretString};

use crate::domain::code_hash::{CodeHash, SALT_OCTETS, Salt};
use crate::domain::slot::Slot;
use crate::domain::verification::{GuessToken, LONGEST_LIFE, Policy, Status, millis};
use crate::ports::{Clock, Opened, Recoded, Spend, Store, StoreError};

/// Connections, each shared by any number of calls at a time.
const CONNECTIONS: u32 = 2;
/// How long a call may wait for its answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// After how long without acknowledgement a connection is given up (`TCP_USER_TIMEOUT`, RFC 5482).
const VANISHED: Duration = Duration::from_secs(2);
/// How long a connection is kept: what it was refused when it was made, such as its password, is asked again then.
const LIFETIME: Duration = Duration::from_secs(30);
/// How often a script that Redis forgot is loaded for one call: a flush can come between loading and calling.
const LOADS: usize = 3;

/// Verifications in Redis.
pub struct RedisStore {
    pool: Pool<Manager>,
    clock: ScriptClock,
    scripts: Scripts,
}

/// Whose time the scripts go by.
pub enum ScriptClock {
    /// Redis' own `TIME`: one clock for all processes.
    Server,
    /// A given one, so that a test can set it.
    Given(Arc<dyn Clock>),
}

/// Redis could not be set up: its address is none.
#[derive(Debug, thiserror::Error)]
#[error("the Redis address cannot be used: {0}")]
pub struct InvalidAddress(&'static str);

struct Scripts {
    open: Script,
    recode: Script,
    spend: Script,
    consume: Script,
    fail: Script,
}

/// Hands out `ConnectionManager`s, which reconnect by themselves; bb8-redis' own manager would ping at each
/// check-out, and without that never recover.
#[derive(Debug)]
struct Manager(Client);

impl RedisStore {
    /// Prepares the connections; the first call makes them, so that Redis may come up later than otpd.
    ///
    /// # Errors
    /// [`InvalidAddress`] where the URL is none of Redis'.
    pub async fn new(url: &SecretString, clock: ScriptClock) -> Result<Self, InvalidAddress> {
        let refused = |_| InvalidAddress("not a redis://, rediss:// or unix:// URL");
        let info = url.expose_secret().into_connection_info().map_err(refused)?;
        // RESP3 lets the server's hang-up be noticed at once, not at the next call.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        // A server that vanished without a word is noticed by what it does not acknowledge.
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(VANISHED);
        let client =
            Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp)).map_err(refused)?;
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(CONNECTIONS)
            .test_on_check_out(false)
            .connection_timeout(CONNECT_TIMEOUT)
            .max_lifetime(LIFETIME)
            .reaper_rate(LIFETIME)
            .build(Manager(client))
            .await
            .map_err(refused)?;
        let scripts = Scripts::with(clock.prologue());
        Ok(Self { pool, clock, scripts })
    }

    async fn connection(&self) -> Result<ConnectionManager, StoreError> {
        self.pool.get().await.map(|shared| shared.clone()).map_err(StoreError::new)
    }

    /// Calls a script on the slot's key. Its first argument is always the slot's remembrance.
    async fn call(&self, script: &Script, slot: &Slot, args: &[&dyn Argument]) -> Result<Value, StoreError> {
        let mut invocation = script.key(key(slot));
        invocation.arg(millis(slot.remembrance()));
        for arg in args {
            arg.add_to(&mut invocation);
        }
        if let ScriptClock::Given(clock) = &self.clock {
            invocation.arg(clock.now().duration_since(UNIX_EPOCH).map_or(0, millis));
        }
        let mut connection = self.connection().await?;
        let mut loads = 0;
        loop {
            let answer: RedisResult<Value> = invocation.invoke_async(&mut connection).await;
            match answer {
                Err(error) if is_unknown_script(&error) && loads < LOADS => loads += 1,
                answer => return answer.map_err(StoreError::new),
            }
        }
    }

    async fn write(
        &self,
        script: &Script,
        slot: &Slot,
        hash: &CodeHash,
        policy: &Policy,
    ) -> Result<Value, StoreError> {
        let (life, longest) = (millis(policy.life), millis(LONGEST_LIFE));
        let salt = hash.salt().as_bytes().as_slice();
        self.call(script, slot, &[&u64::from(policy.guesses), &life, &longest, &salt, &hash.to_bytes()]).await
    }
}

/// The one place where keys are built: the person's tag (or the id) in braces, so that everything that one
/// script will ever touch shares a hash slot.
fn key(slot: &Slot) -> String {
    match slot {
        Slot::Address { person, tenant, address } => {
            format!("otp:{{s:{person}}}:{}:{address}", tenant.name())
        }
        Slot::Id(id) => format!("otp:{{v:{id}}}"),
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

/// What a script takes as an argument.
trait Argument: Send + Sync {
    fn add_to(&self, invocation: &mut redis::ScriptInvocation<'_>);
}

impl<T: redis::ToRedisArgs + Send + Sync> Argument for T {
    fn add_to(&self, invocation: &mut redis::ScriptInvocation<'_>) {
        invocation.arg(self);
    }
}

impl ScriptClock {
    fn prologue(&self) -> &'static str {
        match self {
            Self::Server => {
                "local t = redis.call('TIME')\nlocal now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
            }
            Self::Given(_) => "local now = tonumber(ARGV[#ARGV])\n",
        }
    }
}

impl Scripts {
    fn with(prologue: &str) -> Self {
        let record = include_str!("redis/record.lua");
        let script = |body| Script::new(&format!("{prologue}{record}{body}"));
        Self {
            open: script(include_str!("redis/open.lua")),
            recode: script(include_str!("redis/recode.lua")),
            spend: script(include_str!("redis/spend.lua")),
            consume: script(include_str!("redis/consume.lua")),
            fail: script(include_str!("redis/fail.lua")),
        }
    }
}

#[async_trait]
impl Store for RedisStore {
    async fn open(&self, slot: &Slot, hash: &CodeHash, policy: &Policy) -> Result<Opened, StoreError> {
        match self.write(&self.scripts.open, slot, hash, policy).await? {
            Value::Int(valid_for) => opened(valid_for),
            _ => Err(unexpected()),
        }
    }

    async fn recode(&self, slot: &Slot, hash: &CodeHash, policy: &Policy) -> Result<Recoded, StoreError> {
        match self.write(&self.scripts.recode, slot, hash, policy).await? {
            Value::Int(valid_for) => opened(valid_for).map(Recoded::Live),
            Value::Nil => Ok(Recoded::Unknown),
            answer => status(&answer).map(Recoded::Closed),
        }
    }

    async fn spend(&self, slot: &Slot, policy: &Policy) -> Result<Spend, StoreError> {
        match self.call(&self.scripts.spend, slot, &[&u64::from(policy.guesses)]).await? {
            Value::Nil => Ok(Spend::Unknown),
            Value::Array(parts) => hash(&parts).map(Spend::Compare),
            answer => status(&answer).map(Spend::Closed),
        }
    }

    async fn consume(&self, slot: &Slot, token: &GuessToken) -> Result<bool, StoreError> {
        let (code, nonce) = (token.code.as_bytes().as_slice(), token.nonce.as_slice());
        match self.call(&self.scripts.consume, slot, &[&code, &nonce]).await? {
            Value::Int(won) => Ok(won == 1),
            _ => Err(unexpected()),
        }
    }

    async fn fail(&self, slot: &Slot, code: &Salt) -> Result<(), StoreError> {
        self.call(&self.scripts.fail, slot, &[&code.as_bytes().as_slice()]).await.map(|_| ())
    }

    /// Also not where Redis would throw counters away to make room, which no error would tell (SEC-73).
    async fn ready(&self) -> Result<(), StoreError> {
        let mut connection = self.connection().await?;
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut connection).await.map_err(StoreError::new)?;
        if info.lines().any(|line| line.trim_end() == "maxmemory_policy:noeviction") {
            Ok(())
        } else {
            Err(StoreError::new("Redis may forget what was counted: its maxmemory-policy must be noeviction"))
        }
    }
}

fn opened(valid_for: i64) -> Result<Opened, StoreError> {
    let valid_for = u64::try_from(valid_for).map_err(StoreError::new)?;
    Ok(Opened { valid_for: Duration::from_millis(valid_for) })
}

fn status(answer: &Value) -> Result<Status, StoreError> {
    match answer {
        Value::BulkString(name) => match name.as_slice() {
            b"approved" => Ok(Status::Approved),
            b"expired" => Ok(Status::Expired),
            b"exhausted" => Ok(Status::Exhausted),
            b"failed" => Ok(Status::Failed),
            _ => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

fn hash(parts: &[Value]) -> Result<CodeHash, StoreError> {
    let [Value::BulkString(salt), Value::BulkString(hash)] = parts else { return Err(unexpected()) };
    let salt: [u8; SALT_OCTETS] = salt.as_slice().try_into().map_err(StoreError::new)?;
    CodeHash::from_bytes(Salt::new(salt), hash).ok_or_else(unexpected)
}

fn unexpected() -> StoreError {
    StoreError::new("a script gave an answer of another form")
}

impl ManageConnection for Manager {
    type Connection = ConnectionManager;
    type Error = RedisError;

    async fn connect(&self) -> Result<ConnectionManager, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(200))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        ConnectionManager::new_lazy_with_config(self.0.clone(), config)
    }

    async fn is_valid(&self, _: &mut ConnectionManager) -> Result<(), RedisError> {
        Ok(())
    }

    fn has_broken(&self, _: &mut ConnectionManager) -> bool {
        false
    }
}

impl fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}

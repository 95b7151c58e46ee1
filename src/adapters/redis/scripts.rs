//! Builds the scripts and calls them.
//!
//! Must not call a script again if it may have run. Only a script that Redis did not know is called
//! again: by one call with its text, by those that waited for it by the hash.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use redis::{Cmd, RedisError, RedisResult, Script, Value};
use tokio::sync::Mutex;

use super::Durability;
use super::connections::Shared;
use super::key::RedisKey;
use super::link::{Acknowledged, Wait};
use crate::domain::time::millis;
use crate::ports::Clock;

/// How long replicas may take to acknowledge a write. Less than a call may take, so that the answer
/// arrives.
const WAIT_TIMEOUT: Duration = Duration::from_millis(300);
/// The initial capacity of a command: its arguments, and their bytes. Few need more.
const ARGUMENTS: usize = 24;
const ARGUMENT_BYTES: usize = 700;
/// How often a script is called by its hash before its text is sent in any case. More than once,
/// because another node of a cluster may have got the text.
const MAX_CALLS_BY_HASH: u32 = 16;
/// Lets a script run when Redis has no memory left (Redis 7, script flags). A script with flags is
/// also refused by a replica, and by a primary that has too few of them, even if it only reads.
const ALLOW_OOM: &str = "#!lua flags=allow-oom\n";

/// The clock that the scripts use.
pub enum ScriptClock {
    /// Redis' own `TIME`: one clock for all processes.
    Server,
    /// A given clock, which a test can set.
    Given(Arc<dyn Clock>),
}

/// Whether codes expire when another Redis takes over, because that Redis may not know that they
/// were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// Codes stay live.
    Down,
    /// Codes expire, and people must request another one.
    Up,
}

/// A script with the name of its call, for metrics.
pub(super) struct NamedScript {
    pub(super) name: &'static str,
    /// The text in pieces, most of which all scripts share.
    text: Vec<Cow<'static, str>>,
    /// SHA-1 of the text, by which Redis knows it.
    hash: String,
    /// Whether the loss of what it wrote would allow more than the limits do.
    durable: bool,
    /// How often its text was sent.
    sent: AtomicU64,
    /// Held while its text is sent.
    turn: Mutex<()>,
}

pub(super) struct Scripts {
    pub charge: NamedScript,
    pub charge_send: NamedScript,
    pub charge_ip_and_send: NamedScript,
    pub charge_ip_and_new_send: NamedScript,
    pub charge_ip_and_take_attempt: NamedScript,
    pub refund: NamedScript,
    pub peek: NamedScript,
    pub open: NamedScript,
    pub replace_code: NamedScript,
    pub take_attempt: NamedScript,
    pub approve: NamedScript,
    pub mark_failed: NamedScript,
    pub mark_accepted: NamedScript,
    pub find: NamedScript,
    pub cancel: NamedScript,
    pub begin: NamedScript,
    pub complete: NamedScript,
    pub abandon: NamedScript,
    pub put_test_mail: NamedScript,
    pub list_test_mails: NamedScript,
    pub ready: NamedScript,
}

/// An argument of a script.
pub(super) trait Argument: Send + Sync {
    fn add_to(&self, command: &mut Cmd);
}

impl<T: redis::ToRedisArgs + Send + Sync> Argument for T {
    fn add_to(&self, command: &mut Cmd) {
        command.arg(self);
    }
}

impl NamedScript {
    fn new(name: &'static str, text: Vec<Cow<'static, str>>) -> Self {
        let hash = Script::new(&text.concat()).get_hash().to_owned();
        Self { name, text, hash, durable: false, sent: AtomicU64::new(0), turn: Mutex::new(()) }
    }

    fn durable(self) -> Self {
        Self { durable: true, ..self }
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

impl Fence {
    fn prologue(self) -> &'static str {
        match self {
            Self::Down => "local function fence() return '\\0\\0\\0\\0' end\n",
            Self::Up => {
                "local function fence()\n  \
                   local id = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')\n  \
                   return struct.pack('>I4', tonumber(string.sub(id, 1, 8), 16))\n\
                 end\n"
            }
        }
    }
}

impl Scripts {
    pub(super) fn with(clock: &ScriptClock, durability: Durability) -> Self {
        let waits = format!("local WAITS = {}\n", durability.replicas > 0);
        let prologue = format!("{}{waits}{}", clock.prologue(), durability.fence.prologue());
        let library = [
            Cow::Owned(prologue),
            Cow::Borrowed(include_str!("lua/lib/sliding_log.lua")),
            Cow::Borrowed(include_str!("lua/lib/verification.lua")),
        ];
        let idempotency_library = [
            Cow::Owned(format!("{}{waits}", clock.prologue())),
            Cow::Borrowed(include_str!("lua/lib/idempotency.lua")),
        ];
        let test_mails_library =
            [Cow::Borrowed(clock.prologue()), Cow::Borrowed(include_str!("lua/lib/test_mails.lua"))];
        let script = |name, body| NamedScript::new(name, text(&[], &library, &[body]));
        let idempotency = |name, body| NamedScript::new(name, text(&[], &idempotency_library, &[body]));
        let after_ip = |name, body| {
            let charge = include_str!("lua/charge.lua");
            let then = include_str!("lua/after_ip.lua");
            let functions = [
                "local function charge_ip()\n",
                charge,
                "end\nlocal function after()\n",
                body,
                "end\n",
                then,
            ];
            let text = text(&["local KEYS, ARGV = KEYS, ARGV\n"], &library, &functions);
            NamedScript::new(name, text).durable()
        };
        // These free memory, or write no more than is stored already, so they must run when memory
        // is full.
        let without_memory = |name, body| NamedScript::new(name, text(&[ALLOW_OOM], &library, &[body]));
        let idempotency_without_memory =
            |name, body| NamedScript::new(name, text(&[ALLOW_OOM], &idempotency_library, &[body]));
        Self {
            charge: script("charge", include_str!("lua/charge.lua")).durable(),
            charge_send: script("charge_send", include_str!("lua/charge_send.lua")).durable(),
            charge_ip_and_send: after_ip("charge_ip_and_send", include_str!("lua/charge_send.lua")),
            charge_ip_and_new_send: after_ip("charge_ip_and_new_send", include_str!("lua/charge.lua")),
            charge_ip_and_take_attempt: after_ip(
                "charge_ip_and_take_attempt",
                include_str!("lua/take_attempt.lua"),
            ),
            refund: without_memory("refund", include_str!("lua/refund.lua")),
            peek: without_memory("peek", include_str!("lua/peek.lua")),
            open: script("open", include_str!("lua/open.lua")).durable(),
            replace_code: script("replace_code", include_str!("lua/replace_code.lua")).durable(),
            take_attempt: script("take_attempt", include_str!("lua/take_attempt.lua")).durable(),
            approve: without_memory("approve", include_str!("lua/approve.lua")).durable(),
            mark_failed: without_memory("mark_failed", include_str!("lua/mark_failed.lua")),
            mark_accepted: script("mark_accepted", include_str!("lua/mark_accepted.lua")),
            find: without_memory("find", include_str!("lua/find.lua")).durable(),
            cancel: without_memory("cancel", include_str!("lua/cancel.lua")).durable(),
            begin: idempotency("begin", include_str!("lua/begin.lua")).durable(),
            complete: idempotency_without_memory("complete", include_str!("lua/complete.lua")).durable(),
            abandon: idempotency_without_memory("abandon", include_str!("lua/abandon.lua")),
            put_test_mail: NamedScript::new(
                "put_test_mail",
                text(&[], &test_mails_library, &[include_str!("lua/put_test_mail.lua")]),
            ),
            list_test_mails: NamedScript::new(
                "list_test_mails",
                text(&[ALLOW_OOM], &test_mails_library, &[include_str!("lua/list_test_mails.lua")]),
            ),
            ready: script("ready", include_str!("lua/ready.lua")).durable(),
        }
    }
}

/// Returns the pieces of a script.
fn text(
    head: &[&'static str],
    library: &[Cow<'static, str>],
    body: &[&'static str],
) -> Vec<Cow<'static, str>> {
    let borrowed =
        |pieces: &[&'static str]| pieces.iter().map(|piece| Cow::Borrowed(*piece)).collect::<Vec<_>>();
    [borrowed(head), library.to_vec(), borrowed(body)].concat()
}

impl ScriptClock {
    /// Calls a script on keys that share a hash tag. If it is durable and `replicas` is not 0,
    /// waits for them, and returns how many have acknowledged it.
    pub(super) async fn call(
        &self,
        connection: &mut Shared,
        script: &NamedScript,
        replicas: u32,
        keys: &[RedisKey<'_>],
        args: &[&dyn Argument],
    ) -> RedisResult<Acknowledged> {
        let command = |name: &str, script: &str| {
            let mut command = Cmd::with_capacity(ARGUMENTS, script.len() + ARGUMENT_BYTES);
            command.arg(name).arg(script).arg(keys.len()).arg(keys);
            for arg in args {
                arg.add_to(&mut command);
            }
            if let Self::Given(clock) = self {
                command.arg(clock.now().duration_since(UNIX_EPOCH).map_or(0, millis));
            }
            command
        };
        let mut calls = 0;
        let answer = loop {
            let sent = script.sent.load(Ordering::Relaxed);
            let answer = send(connection, &command("EVALSHA", &script.hash), script, replicas, keys).await;
            calls += 1;
            if !answer.as_ref().is_err_and(is_unknown_script) {
                break answer;
            }
            // One call sends the text. The others wait for it, and then go on by the hash.
            let turn = script.turn.lock().await;
            let is_first = script.sent.load(Ordering::Relaxed) == sent;
            if !is_first && calls < MAX_CALLS_BY_HASH {
                continue;
            }
            let turn = is_first.then_some(turn);
            let text = command("EVAL", &script.text.concat());
            let answer = send(connection, &text, script, replicas, keys).await;
            // Counted afterwards, also if it failed: calls that began meanwhile go on by the hash.
            script.sent.fetch_add(1, Ordering::Relaxed);
            drop(turn);
            break answer;
        };
        answer.inspect_err(|error| connection.discard_if_broken(error))
    }
}

async fn send(
    connection: &mut Shared,
    command: &Cmd,
    script: &NamedScript,
    replicas: u32,
    keys: &[RedisKey<'_>],
) -> RedisResult<Acknowledged> {
    let key = keys.first();
    if script.durable && replicas > 0 {
        let wait = Wait { replicas, timeout: WAIT_TIMEOUT };
        connection.link.query_and_wait(command, key, wait).await
    } else {
        let value: Value = connection.link.query(command, key).await?;
        Ok(Acknowledged { value, replicas: replicas.into() })
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

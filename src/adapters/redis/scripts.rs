//! Builds the scripts and calls them.
//!
//! Must not call a script again if it may have run. Only a script that Redis did not know is loaded
//! and called again.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use redis::{RedisError, RedisResult, Script, Value};

use super::connections::Shared;
use crate::domain::time::millis;
use crate::ports::Clock;

/// How often one call may load a script that Redis does not know. A flush can come between loading
/// and calling.
const MAX_LOADS: usize = 3;
/// Lets a script run when Redis has no memory left (Redis 7, script flags).
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
    pub(super) script: Script,
}

pub(super) struct Scripts {
    pub charge: NamedScript,
    pub refund: NamedScript,
    pub peek: NamedScript,
    pub open: NamedScript,
    pub replace_code: NamedScript,
    pub take_attempt: NamedScript,
    pub approve: NamedScript,
    pub mark_failed: NamedScript,
    pub find: NamedScript,
    pub cancel: NamedScript,
    pub begin: NamedScript,
    pub complete: NamedScript,
    pub abandon: NamedScript,
    pub ready: NamedScript,
}

/// An argument of a script.
pub(super) trait Argument: Send + Sync {
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
    pub(super) fn with(clock: &ScriptClock, fence: Fence) -> Self {
        let prologue = format!("{}{}", clock.prologue(), fence.prologue());
        let sliding_log = include_str!("lua/lib/sliding_log.lua");
        let verification = include_str!("lua/lib/verification.lua");
        let library = format!("{prologue}{sliding_log}{verification}");
        let idempotency_library = format!("{}{}", clock.prologue(), include_str!("lua/lib/idempotency.lua"));
        let named = |name, text: &str| NamedScript { name, script: Script::new(text) };
        let script = |name, body| named(name, &format!("{library}{body}"));
        let idempotency = |name, body| named(name, &format!("{idempotency_library}{body}"));
        // These free memory, or write no more than is stored already, so they must run when memory
        // is full.
        let script_without_memory = |name, body| named(name, &format!("{ALLOW_OOM}{library}{body}"));
        let idempotency_without_memory =
            |name, body| named(name, &format!("{ALLOW_OOM}{idempotency_library}{body}"));
        Self {
            charge: script("charge", include_str!("lua/charge.lua")),
            refund: script_without_memory("refund", include_str!("lua/refund.lua")),
            peek: script("peek", include_str!("lua/peek.lua")),
            open: script("open", include_str!("lua/open.lua")),
            replace_code: script("replace_code", include_str!("lua/replace_code.lua")),
            take_attempt: script("take_attempt", include_str!("lua/take_attempt.lua")),
            approve: script_without_memory("approve", include_str!("lua/approve.lua")),
            mark_failed: script_without_memory("mark_failed", include_str!("lua/mark_failed.lua")),
            find: script("find", include_str!("lua/find.lua")),
            cancel: script_without_memory("cancel", include_str!("lua/cancel.lua")),
            begin: idempotency("begin", include_str!("lua/begin.lua")),
            complete: idempotency_without_memory("complete", include_str!("lua/complete.lua")),
            abandon: idempotency_without_memory("abandon", include_str!("lua/abandon.lua")),
            ready: script("ready", include_str!("lua/ready.lua")),
        }
    }
}

impl ScriptClock {
    /// Calls a script on keys that share a hash tag.
    pub(super) async fn call(
        &self,
        connection: &mut Shared,
        script: &Script,
        keys: &[String],
        args: &[&dyn Argument],
    ) -> RedisResult<Value> {
        let mut invocation = script.prepare_invoke();
        for key in keys {
            invocation.key(key);
        }
        for arg in args {
            arg.add_to(&mut invocation);
        }
        if let Self::Given(clock) = self {
            invocation.arg(clock.now().duration_since(UNIX_EPOCH).map_or(0, millis));
        }
        let mut loads = 0;
        loop {
            let answer: RedisResult<Value> = invocation.invoke_async(&mut connection.manager).await;
            match answer {
                Err(error) if is_unknown_script(&error) && loads < MAX_LOADS => loads += 1,
                answer => {
                    return answer.inspect_err(|error| connection.judge(error));
                }
            }
        }
    }
}

fn is_unknown_script(error: &RedisError) -> bool {
    error.code() == Some("NOSCRIPT")
}

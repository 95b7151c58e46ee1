//! The scripts: what they are made of, and how one is called.
//!
//! Must not call a script twice that may have run: only one that Redis did not know is loaded and called again.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use redis::{RedisError, RedisResult, Script, Value};

use super::connections::Shared;
use crate::domain::verification::millis;
use crate::ports::Clock;

/// How often a script that Redis forgot is loaded for one call: a flush can come between loading and calling.
const LOADS: usize = 3;

/// Whose time the scripts go by.
pub enum ScriptClock {
    /// Redis' own `TIME`: one clock for all processes.
    Server,
    /// A given one, so that a test can set it.
    Given(Arc<dyn Clock>),
}

/// Whether codes die when another Redis takes over, which may not know that they were used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fence {
    /// They live on.
    Down,
    /// They die: people ask again.
    Up,
}

pub(super) struct Scripts {
    pub charge: Script,
    pub refund: Script,
    pub outlook: Script,
    pub open: Script,
    pub recode: Script,
    pub spend: Script,
    pub consume: Script,
    pub fail: Script,
    pub look: Script,
    pub cancel: Script,
    pub claim: Script,
    pub settle: Script,
    pub release: Script,
    pub relay_day: Script,
    pub ready: Script,
}

/// What a script takes as an argument.
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
    pub fn with(clock: &ScriptClock, fence: Fence) -> Self {
        let prologue = format!("{}{}", clock.prologue(), fence.prologue());
        let (ledger, record) = (include_str!("ledger.lua"), include_str!("record.lua"));
        let counting = format!("{prologue}{ledger}{record}");
        let claiming = format!("{}{}", clock.prologue(), include_str!("claims.lua"));
        let script = |body| Script::new(&format!("{counting}{body}"));
        let claims = |body| Script::new(&format!("{claiming}{body}"));
        // These give back, or put no more than what is there already, and must work where memory is full.
        let relief = |body| Script::new(&format!("#!lua flags=allow-oom\n{counting}{body}"));
        let relief_of_claims = |body| Script::new(&format!("#!lua flags=allow-oom\n{claiming}{body}"));
        Self {
            charge: script(include_str!("charge.lua")),
            refund: relief(include_str!("refund.lua")),
            outlook: script(include_str!("outlook.lua")),
            open: script(include_str!("open.lua")),
            recode: script(include_str!("recode.lua")),
            spend: script(include_str!("spend.lua")),
            consume: relief(include_str!("consume.lua")),
            fail: relief(include_str!("fail.lua")),
            look: script(include_str!("look.lua")),
            cancel: relief(include_str!("cancel.lua")),
            claim: claims(include_str!("claim.lua")),
            settle: relief_of_claims(include_str!("settle.lua")),
            release: relief_of_claims(include_str!("release.lua")),
            relay_day: script(include_str!("relay_day.lua")),
            ready: script(include_str!("ready.lua")),
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
                Err(error) if is_unknown_script(&error) && loads < LOADS => loads += 1,
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

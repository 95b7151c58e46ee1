//! The life of one verification, as pure state: opened, recoded, guessed at, won once, or failed.
//!
//! The rules are those of the ledgers' document: a guess is spent before it is compared, a resend never resets
//! what was spent, one code is live at most, and it is won at most once. Must not know the time: each step is
//! told it. The in-memory store runs on this; the Redis store says the same in Lua, and one model checks both.

use std::time::Duration;

use super::code_hash::{CodeHash, SALT_OCTETS, Salt};
use super::ledger::Stamp;

/// However often its code is sent again, a verification ends this long after it was opened.
pub const LONGEST_LIFE: Duration = Duration::from_mins(30);
/// Octets of a nonce.
pub const NONCE_OCTETS: usize = SALT_OCTETS;

/// What a verification may cost and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How long a code is valid, from its opening or its last resend.
    pub life: Duration,
    /// How many guesses are compared in the life of a verification.
    pub guesses: u8,
}

/// How a verification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A code is live and a guess is left.
    Pending,
    /// A guess was right.
    Approved,
    /// The time was up.
    Expired,
    /// Every guess was spent; one that is being compared may still win.
    Exhausted,
    /// The mail was refused, so nobody has the code.
    Failed,
}

/// One spent guess: which code it is compared with, and a random part that makes it this guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuessToken {
    /// The salt of the code that was live when the guess was spent.
    pub code: Salt,
    /// 16 random octets, drawn for this guess.
    pub nonce: [u8; NONCE_OCTETS],
}

/// What became of a right guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Win {
    /// It wins.
    Taken,
    /// It has won before.
    Repeated,
    /// Another won, or its code is dead.
    Lost,
}

/// A moment on the store's clock, in milliseconds since the Unix epoch.
pub type Millis = u64;

/// One verification.
#[derive(Debug, Clone)]
pub struct Verification {
    entry: Stamp,
    opened_at: Millis,
    expires_at: Millis,
    spent: u8,
    code: Salt,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Open(CodeHash),
    Won([u8; NONCE_OCTETS]),
    Failed,
}

impl Verification {
    /// Opens a verification with its first code, paid for by an entry in the ledger of the subject's sends.
    #[must_use]
    pub fn open(hash: CodeHash, policy: &Policy, entry: Stamp, now: Millis) -> Self {
        Self {
            entry,
            opened_at: now,
            expires_at: now + millis(policy.life),
            spent: 0,
            code: *hash.salt(),
            state: State::Open(hash),
        }
    }

    /// Replaces the code of a pending verification and restarts its life, up to [`LONGEST_LIFE`] after the
    /// opening; what was spent stays spent. Any other status is given back and nothing changes.
    ///
    /// # Errors
    /// The status, where it is not pending.
    pub fn recode(&mut self, hash: CodeHash, policy: &Policy, now: Millis) -> Result<(), Status> {
        match self.status(policy.guesses, now) {
            Status::Pending => {
                self.expires_at = (now + millis(policy.life)).min(self.opened_at + millis(LONGEST_LIFE));
                self.code = *hash.salt();
                self.state = State::Open(hash);
                Ok(())
            }
            closed => Err(closed),
        }
    }

    /// How it stands at `now`, where `guesses` may be spent.
    #[must_use]
    pub fn status(&self, guesses: u8, now: Millis) -> Status {
        match self.state {
            State::Won(_) => Status::Approved,
            State::Failed => Status::Failed,
            State::Open(_) if self.spent >= guesses => Status::Exhausted,
            State::Open(_) if now >= self.expires_at => Status::Expired,
            State::Open(_) => Status::Pending,
        }
    }

    /// Spends a guess, for good, and hands out what to compare it with.
    ///
    /// # Errors
    /// The status, where it is not pending: then nothing is spent.
    pub fn spend(&mut self, guesses: u8, now: Millis) -> Result<CodeHash, Status> {
        match (self.status(guesses, now), &self.state) {
            (Status::Pending, State::Open(hash)) => {
                self.spent += 1;
                Ok(hash.clone())
            }
            (closed, _) => Err(closed),
        }
    }

    /// Takes the win for a right guess: once, for the token's own code while it is live. The same token may ask
    /// again. The hash is gone with the first win.
    pub fn consume(&mut self, token: &GuessToken, now: Millis) -> Win {
        if self.code != token.code {
            return Win::Lost;
        }
        match &self.state {
            State::Won(nonce) if *nonce == token.nonce => Win::Repeated,
            State::Open(_) if now < self.expires_at => {
                self.state = State::Won(token.nonce);
                Win::Taken
            }
            State::Open(_) | State::Won(_) | State::Failed => Win::Lost,
        }
    }

    /// Ends it where its mail was refused, if that mail's code is still the live one. True where the mail's entry
    /// can be given back: it opened this verification, so that it replaced no live code, and no guess was spent.
    pub fn fail(&mut self, code: &Salt, entry: Stamp, now: Millis) -> bool {
        if self.code == *code && matches!(self.state, State::Open(_)) && now < self.expires_at {
            self.state = State::Failed;
        }
        self.entry == entry && self.spent == 0
    }

    /// When its code dies.
    #[must_use]
    pub fn expires_at(&self) -> Millis {
        self.expires_at
    }
}

/// A duration in whole milliseconds.
#[must_use]
pub fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

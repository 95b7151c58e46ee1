//! The life of one verification, as pure state: opened, recoded, guessed at, won once, or failed.
//!
//! The rules are those of the ledgers' document: a guess is spent before it is compared, a resend never resets
//! what was spent, one code is live at most, and it is won at most once. Must not know the time: each step is
//! told it. The in-memory store runs on this; the Redis store says the same in Lua, and one model checks both.

use std::time::Duration;

use super::code_hash::{CodeHash, SALT_OCTETS, Salt};
use super::ledger::Stamp;
use super::sealed::Sealed;

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

impl Policy {
    /// Guesses that are left once so many were spent.
    #[must_use]
    pub fn left(&self, spent: u8) -> u8 {
        self.guesses.saturating_sub(spent)
    }
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
    /// Its tenant took it back.
    Canceled,
    /// The mail was refused, so nobody has the code.
    Failed,
}

/// What can be seen of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// How it stands.
    pub status: Status,
    /// Guesses that were spent.
    pub spent: u8,
    /// When its code dies, or did.
    pub expires_at: Millis,
    /// When it was won, if it was.
    pub won_at: Option<Millis>,
    /// When this was seen.
    pub seen_at: Millis,
    /// What it is about.
    pub sealed: Sealed,
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
    /// It wins, now.
    Taken(Millis),
    /// It has won before, then.
    Repeated(Millis),
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
    sealed: Sealed,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    Open(CodeHash),
    Won { nonce: [u8; NONCE_OCTETS], at: Millis },
    Failed,
    Canceled,
}

impl Verification {
    /// Opens a verification with its first code, paid for by an entry in the ledger of the subject's sends.
    #[must_use]
    pub fn open(hash: CodeHash, policy: &Policy, entry: Stamp, sealed: Sealed, now: Millis) -> Self {
        Self {
            entry,
            opened_at: now,
            expires_at: now + millis(policy.life),
            spent: 0,
            code: *hash.salt(),
            sealed,
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
            State::Won { .. } => Status::Approved,
            State::Failed => Status::Failed,
            State::Canceled => Status::Canceled,
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
            State::Won { nonce, at } if *nonce == token.nonce => Win::Repeated(*at),
            State::Open(_) if now < self.expires_at => {
                self.state = State::Won { nonce: token.nonce, at: now };
                Win::Taken(now)
            }
            State::Open(_) | State::Won { .. } | State::Failed | State::Canceled => Win::Lost,
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

    /// Ends it at its tenant's wish, where it is pending; tells how it stands then. The hash is gone with it.
    pub fn cancel(&mut self, guesses: u8, now: Millis) -> Status {
        if self.status(guesses, now) == Status::Pending {
            self.state = State::Canceled;
        }
        self.status(guesses, now)
    }

    /// What can be seen of it.
    #[must_use]
    pub fn view(&self, guesses: u8, now: Millis) -> View {
        View {
            status: self.status(guesses, now),
            spent: self.spent,
            expires_at: self.expires_at,
            won_at: match self.state {
                State::Won { at, .. } => Some(at),
                State::Open(_) | State::Failed | State::Canceled => None,
            },
            seen_at: now,
            sealed: self.sealed.clone(),
        }
    }

    /// Guesses that were spent.
    #[must_use]
    pub fn spent(&self) -> u8 {
        self.spent
    }

    /// What it is about.
    #[must_use]
    pub fn sealed(&self) -> &Sealed {
        &self.sealed
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

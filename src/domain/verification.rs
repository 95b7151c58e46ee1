//! The life of one verification, as pure state: opened, recoded, guessed at, won once, or failed.
//!
//! The rules are those of the ledgers' document: an attempt is taken before it is compared, a resend never resets
//! what was taken, one code is live at most, and it is won at most once. Must not know the time: each step is
//! told it. The in-memory store runs on this; the Redis store says the same in Lua, and one model checks both.

use std::time::Duration;

use super::code_hash::{CodeHash, SALT_BYTES, Salt};
use super::details::EncryptedDetails;
use super::ledger::EntryId;

/// However often its code is sent again, a verification ends this long after it was opened.
pub const MAX_LIFETIME: Duration = Duration::from_mins(30);
/// Octets of a nonce.
pub const NONCE_BYTES: usize = SALT_BYTES;

/// What a verification may cost and how long it may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationRules {
    /// How long a code is valid, from its opening or its last resend.
    pub life: Duration,
    /// How many attempts are compared in the life of a verification.
    pub attempts: u8,
}

impl VerificationRules {
    /// Attempts that are left once so many were taken.
    #[must_use]
    pub fn left(&self, attempts: u8) -> u8 {
        self.attempts.saturating_sub(attempts)
    }
}

/// How a verification stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A code is live and an attempt is left.
    Pending,
    /// An attempt was right.
    Approved,
    /// The time was up.
    Expired,
    /// Every attempt was taken; one that is being compared may still win.
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
    /// Attempts that were taken.
    pub attempts: u8,
    /// When its code dies, or did.
    pub expires_at: Millis,
    /// When it was won, if it was.
    pub approved_at: Option<Millis>,
    /// When this was seen.
    pub seen_at: Millis,
    /// What it is about.
    pub encrypted: EncryptedDetails,
}

/// One attempt that was taken: which code it is compared with, and a random part that makes it this attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptToken {
    /// The salt of the code that was live when the attempt was taken.
    pub code: Salt,
    /// 16 random octets, drawn for this attempt.
    pub nonce: [u8; NONCE_BYTES],
}

/// What became of a right attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApproveOutcome {
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
    entry: EntryId,
    opened_at: Millis,
    expires_at: Millis,
    attempts: u8,
    code: Salt,
    encrypted: EncryptedDetails,
    state: VerificationState,
}

#[derive(Debug, Clone)]
enum VerificationState {
    Open(CodeHash),
    Won { nonce: [u8; NONCE_BYTES], at: Millis },
    Failed,
    Canceled,
}

impl Verification {
    /// Opens a verification with its first code, charge for by an entry in the ledger of the subject's sends.
    #[must_use]
    pub fn open(
        hash: CodeHash,
        rules: &VerificationRules,
        entry: EntryId,
        encrypted: EncryptedDetails,
        now: Millis,
    ) -> Self {
        Self {
            entry,
            opened_at: now,
            expires_at: now + millis(rules.life),
            attempts: 0,
            code: *hash.salt(),
            encrypted,
            state: VerificationState::Open(hash),
        }
    }

    /// Replaces the code of a pending verification and restarts its life, up to [`MAX_LIFETIME`] after the
    /// opening; what was taken stays taken. Any other status is given back and nothing changes.
    ///
    /// # Errors
    /// The status, where it is not pending.
    pub fn replace_code(
        &mut self,
        hash: CodeHash,
        rules: &VerificationRules,
        now: Millis,
    ) -> Result<(), Status> {
        match self.status(rules.attempts, now) {
            Status::Pending => {
                self.expires_at = (now + millis(rules.life)).min(self.opened_at + millis(MAX_LIFETIME));
                self.code = *hash.salt();
                self.state = VerificationState::Open(hash);
                Ok(())
            }
            closed => Err(closed),
        }
    }

    /// How it stands at `now`, where `attempts` may be taken.
    #[must_use]
    pub fn status(&self, attempts: u8, now: Millis) -> Status {
        match self.state {
            VerificationState::Won { .. } => Status::Approved,
            VerificationState::Failed => Status::Failed,
            VerificationState::Canceled => Status::Canceled,
            VerificationState::Open(_) if self.attempts >= attempts => Status::Exhausted,
            VerificationState::Open(_) if now >= self.expires_at => Status::Expired,
            VerificationState::Open(_) => Status::Pending,
        }
    }

    /// Spends an attempt, for good, and hands out what to compare it with.
    ///
    /// # Errors
    /// The status, where it is not pending: then nothing is taken.
    pub fn take_attempt(&mut self, attempts: u8, now: Millis) -> Result<CodeHash, Status> {
        match (self.status(attempts, now), &self.state) {
            (Status::Pending, VerificationState::Open(hash)) => {
                self.attempts += 1;
                Ok(hash.clone())
            }
            (closed, _) => Err(closed),
        }
    }

    /// Takes the win for a right attempt: once, for the token's own code while it is live. The same token may ask
    /// again. The hash is gone with the first win.
    pub fn approve(&mut self, token: &AttemptToken, now: Millis) -> ApproveOutcome {
        if self.code != token.code {
            return ApproveOutcome::Lost;
        }
        match &self.state {
            VerificationState::Won { nonce, at } if *nonce == token.nonce => ApproveOutcome::Repeated(*at),
            VerificationState::Open(_) if now < self.expires_at => {
                self.state = VerificationState::Won { nonce: token.nonce, at: now };
                ApproveOutcome::Taken(now)
            }
            VerificationState::Open(_)
            | VerificationState::Won { .. }
            | VerificationState::Failed
            | VerificationState::Canceled => ApproveOutcome::Lost,
        }
    }

    /// Ends it where its mail was refused, if that mail's code is still the live one. True where the mail's entry
    /// can be given back: it opened this verification, so that it replaced no live code, and no attempt was taken.
    pub fn fail(&mut self, code: &Salt, entry: EntryId, now: Millis) -> bool {
        if self.code == *code && matches!(self.state, VerificationState::Open(_)) && now < self.expires_at {
            self.state = VerificationState::Failed;
        }
        self.entry == entry && self.attempts == 0
    }

    /// Ends it at its tenant's wish, where it is pending; tells how it stands then. The hash is gone with it.
    pub fn cancel(&mut self, attempts: u8, now: Millis) -> Status {
        if self.status(attempts, now) == Status::Pending {
            self.state = VerificationState::Canceled;
        }
        self.status(attempts, now)
    }

    /// What can be seen of it.
    #[must_use]
    pub fn view(&self, attempts: u8, now: Millis) -> View {
        View {
            status: self.status(attempts, now),
            attempts: self.attempts,
            expires_at: self.expires_at,
            approved_at: match self.state {
                VerificationState::Won { at, .. } => Some(at),
                VerificationState::Open(_) | VerificationState::Failed | VerificationState::Canceled => None,
            },
            seen_at: now,
            encrypted: self.encrypted.clone(),
        }
    }

    /// Attempts that were taken.
    #[must_use]
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// What it is about.
    #[must_use]
    pub fn encrypted(&self) -> &EncryptedDetails {
        &self.encrypted
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

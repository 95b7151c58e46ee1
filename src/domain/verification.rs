//! The state machine of one verification: opened, its code replaced, attempted, and then approved,
//! failed or canceled.
//!
//! An attempt is taken before it is compared. A resend never resets the attempts. Of the codes that
//! were replaced, at most the last is still good, for a short time. A verification is approved at
//! most once (ARCHITECTURE.md, "An attempt, step by step"). Must not read a clock: each call
//! receives the time. The memory store uses this module. The Redis store implements the same rules
//! in Lua, and one model tests both.

mod outcome;

use std::time::Duration;

use super::code_hash::{CodeHash, CodeId, CodeSalt, SALT_BYTES};
use super::delivery::DeliveryRecord;
use super::details::EncryptedDetails;
use super::live_codes::{LiveCodes, OpenCodes};
use super::time::{EntryId, Millis, millis};

/// The longest time from the opening of a verification until it expires, however often its code is
/// sent again.
pub const MAX_LIFETIME: Duration = Duration::from_mins(30);
/// Bytes of a nonce.
pub const NONCE_BYTES: usize = SALT_BYTES;

/// The attempts and the lifetime of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VerificationRules {
    /// How long a code is valid after the opening or the last resend.
    pub life: Duration,
    /// The most attempts that are compared for one verification.
    pub attempts: u8,
    /// How long a code stays good after it was replaced, at most until its own end. Zero: not at
    /// all.
    pub overlap: Duration,
}

impl VerificationRules {
    /// Returns the attempts that remain once `attempts` were taken.
    #[must_use]
    pub fn left(&self, attempts: u8) -> u8 {
        self.attempts.saturating_sub(attempts)
    }
}

/// The status of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A code is live and an attempt remains.
    Pending,
    /// An attempt was correct.
    Approved,
    /// The code expired.
    Expired,
    /// All attempts were taken. One that is still being compared may approve it.
    Exhausted,
    /// The tenant canceled it.
    Canceled,
    /// The email was refused, so nobody has the code.
    Failed,
}

/// The visible state of a verification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its status.
    pub status: Status,
    /// Attempts that were taken.
    pub attempts: u8,
    /// When its code expires or expired.
    pub expires_at: Millis,
    /// When it was approved, if it was.
    pub approved_at: Option<Millis>,
    /// When this state was read.
    pub seen_at: Millis,
    /// Its encrypted details.
    pub encrypted: EncryptedDetails,
    /// While it is pending, what its next code must be hashed with, so that the one before can stay
    /// good.
    pub code_salt: Option<CodeSalt>,
    /// The delivery of its newest email.
    pub delivery: DeliveryRecord,
}

/// Identifies one attempt that was taken: the code that it matched, and a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttemptToken {
    /// The code that it matched.
    pub code: CodeId,
    /// 16 random bytes, generated for this attempt.
    pub nonce: [u8; NONCE_BYTES],
}

/// The outcome of a correct attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApproveOutcome {
    /// It approved the verification, now.
    Taken(Millis),
    /// It approved the verification before, at this time.
    Repeated(Millis),
    /// Another attempt approved the verification, or the code is no longer valid.
    Lost,
}

/// One verification.
#[derive(Debug, Clone)]
pub struct Verification {
    entry: EntryId,
    opened_at: Millis,
    expires_at: Millis,
    attempts: u8,
    encrypted: EncryptedDetails,
    delivery: DeliveryRecord,
    state: VerificationState,
}

#[derive(Debug, Clone)]
enum VerificationState {
    Open(OpenCodes),
    Won { nonce: [u8; NONCE_BYTES], at: Millis },
    Failed,
    Canceled,
}

impl Verification {
    /// Opens a verification with its first code. `entry` is the entry of the send that it was
    /// charged to.
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
            encrypted,
            delivery: DeliveryRecord::unknown(now),
            state: VerificationState::Open(OpenCodes::new(hash)),
        }
    }

    /// Replaces the code of a pending verification and restarts its lifetime, up to
    /// [`MAX_LIFETIME`] after the opening. Attempts that were taken stay taken. The code that is
    /// replaced stays good until the earlier of its own end and the overlap of the rules.
    ///
    /// If the clock was stepped back to before the opening, the opening counts as now.
    ///
    /// # Errors
    /// Returns the status if it is not pending. Nothing changes then.
    pub fn replace_code(
        &mut self,
        hash: CodeHash,
        rules: &VerificationRules,
        now: Millis,
    ) -> Result<(), Status> {
        match (self.status(rules.attempts, now), &mut self.state) {
            (Status::Pending, VerificationState::Open(codes)) => {
                self.opened_at = self.opened_at.min(now);
                let latest = self.opened_at + millis(MAX_LIFETIME);
                let own_end = self.expires_at.min(latest);
                self.expires_at = (now + millis(rules.life)).min(latest);
                let good_until = own_end.min(now + millis(rules.overlap)).min(self.expires_at);
                codes.replace(hash, own_end, good_until, now);
                self.delivery = DeliveryRecord::unknown(now);
                Ok(())
            }
            (closed, _) => Err(closed),
        }
    }

    /// Returns the status at `now`, if the verification allows `attempts` attempts.
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

    /// Takes one attempt, permanently, and returns the codes to compare it with.
    ///
    /// # Errors
    /// Returns the status if it is not pending. Nothing is taken then.
    pub fn take_attempt(&mut self, attempts: u8, now: Millis) -> Result<LiveCodes, Status> {
        match (self.status(attempts, now), &self.state) {
            (Status::Pending, VerificationState::Open(codes)) => {
                self.attempts += 1;
                Ok(codes.live(now))
            }
            (closed, _) => Err(closed),
        }
    }

    /// Approves the verification for a correct attempt: once, and only while the token's code is
    /// good. The same token gets the same answer again. The first approval deletes all hashes.
    pub fn approve(&mut self, token: &AttemptToken, now: Millis) -> ApproveOutcome {
        match &self.state {
            VerificationState::Won { nonce, at } if *nonce == token.nonce => ApproveOutcome::Repeated(*at),
            VerificationState::Open(codes) if now < self.expires_at && codes.has(&token.code, now) => {
                self.state = VerificationState::Won { nonce: token.nonce, at: now };
                ApproveOutcome::Taken(now)
            }
            VerificationState::Open(_)
            | VerificationState::Won { .. }
            | VerificationState::Failed
            | VerificationState::Canceled => ApproveOutcome::Lost,
        }
    }

    /// Cancels it if it is pending, which deletes the hash. Returns its status afterwards.
    pub fn cancel(&mut self, attempts: u8, now: Millis) -> Status {
        if self.status(attempts, now) == Status::Pending {
            self.state = VerificationState::Canceled;
        }
        self.status(attempts, now)
    }

    /// Returns its visible state.
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
            code_salt: self.code_salt(attempts, now),
            delivery: self.delivery.clone(),
        }
    }

    /// Returns what the next code must be hashed with, if it is pending.
    #[must_use]
    pub fn code_salt(&self, attempts: u8, now: Millis) -> Option<CodeSalt> {
        match (self.status(attempts, now), &self.state) {
            (Status::Pending, VerificationState::Open(codes)) => Some(codes.newest().code_salt()),
            _ => None,
        }
    }

    /// Returns the attempts that were taken.
    #[must_use]
    pub fn attempts(&self) -> u8 {
        self.attempts
    }

    /// Returns its encrypted details.
    #[must_use]
    pub fn encrypted(&self) -> &EncryptedDetails {
        &self.encrypted
    }

    /// Returns when its code expires.
    #[must_use]
    pub fn expires_at(&self) -> Millis {
        self.expires_at
    }
}

//! What the service needs of the world, said as invariants rather than as reads and writes.
//!
//! Each adapter keeps these promises whatever happens in parallel. Must not name an adapter or a library.

use std::any::Any;
use std::error::Error;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use thiserror::Error as ThisError;

use crate::domain::code::Code;
use crate::domain::code_hash::{Binding, CodeHash, Digest, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::pepper::Pepper;
use crate::domain::slot::Slot;
use crate::domain::verification::{GuessToken, Policy, Status};

/// The memory of verifications. Every call is one atomic step on the store's own clock; none is retried by the
/// store, since a call that timed out may have taken effect.
#[async_trait]
pub trait Store: Send + Sync {
    /// Makes this code the one live code of the slot. A pending verification keeps what was spent and gets its
    /// life restarted (see `recode`); in any other state, or none, a new verification begins.
    async fn open(&self, slot: &Slot, hash: &CodeHash, policy: &Policy) -> Result<Opened, StoreError>;

    /// Replaces the code of a pending verification: the old one dies, what was spent stays spent. Any other
    /// verification is left as it is.
    async fn recode(&self, slot: &Slot, hash: &CodeHash, policy: &Policy) -> Result<Recoded, StoreError>;

    /// Spends a guess for good and hands out what to compare it with. No more than `policy.guesses` are handed
    /// out in the life of a verification, and none once it is closed.
    async fn spend(&self, slot: &Slot, policy: &Policy) -> Result<Spend, StoreError>;

    /// Takes the win. True exactly for one token in the life of a verification, and only while that token's
    /// code is live; true again for that same token. The stored code is gone before the answer.
    async fn consume(&self, slot: &Slot, token: &GuessToken) -> Result<bool, StoreError>;

    /// Gives back what a refused mail opened: ends the verification as failed if the mail's own code is still
    /// the live one. Never touches the code of a later send.
    async fn fail(&self, slot: &Slot, code: &Salt) -> Result<(), StoreError>;

    /// Whether the store answers now, and keeps what it is told.
    async fn ready(&self) -> Result<(), StoreError>;
}

/// A code is live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// How long it will be.
    pub valid_for: Duration,
}

/// What became of a resend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recoded {
    /// The new code is live.
    Live(Opened),
    /// The verification is over.
    Closed(Status),
    /// There is none.
    Unknown,
}

/// What became of a guess.
#[derive(Debug, Clone)]
pub enum Spend {
    /// It is spent; compare it with this.
    Compare(CodeHash),
    /// Nothing was spent: the verification is over.
    Closed(Status),
    /// Nothing was spent: there is no verification.
    Unknown,
}

/// The store could not answer, or answered what is none of ours. What was asked may still have happened.
#[derive(Debug, ThisError)]
#[error("the store did not answer")]
pub struct StoreError(#[source] Box<dyn Error + Send + Sync>);

impl StoreError {
    /// Keeps the cause for the log.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// The way a code reaches a person.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Hands one mail over, within ten seconds, and says what became of it.
    async fn deliver(&self, mail: &CodeMail) -> Delivery;
}

/// A mail with a code, as far as the service knows it.
#[derive(Debug, Clone)]
pub struct CodeMail {
    /// Whom it is for.
    pub to: EmailAddress,
    /// The code in it.
    pub code: Code,
    /// How long the code will be valid.
    pub valid_for: Duration,
}

/// What became of a mail.
#[derive(Debug)]
pub enum Delivery {
    /// The relay took it.
    Accepted,
    /// No attempt got further than a refusal: nobody has the code.
    Refused(MailError),
    /// The message was under way when the relay fell silent: it may or may not arrive.
    Unknown(MailError),
}

/// Why a mail was not, or not surely, handed over.
#[derive(Debug, ThisError)]
#[error("the mail was not handed over")]
pub struct MailError(#[source] Box<dyn Error + Send + Sync>);

impl MailError {
    /// Keeps the cause for the log.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// The threads that derive digests. Their memory and their queue are bounded.
#[async_trait]
pub trait Hasher: Send + Sync {
    /// Takes a place in the queue, before anything is spent; `None` at once where it is full.
    fn place(&self, urgency: Urgency) -> Option<Place>;

    /// Derives a digest in the place taken.
    async fn digest(&self, place: Place, work: HashWork) -> Result<Digest, HasherError>;
}

/// Which work goes first when both wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody waits to be let in.
    Check,
    /// Somebody asked for a code.
    Send,
}

/// A place in the hash queue, given back when dropped.
pub struct Place {
    /// Which work it is for.
    pub urgency: Urgency,
    /// What the hasher needs to give it back.
    pub guard: Box<dyn Any + Send>,
}

/// One digest to derive.
pub struct HashWork {
    /// The code, drawn or typed.
    pub code: Code,
    /// Its salt.
    pub salt: Salt,
    /// Its place in the store.
    pub binding: Binding,
    /// The pepper to use.
    pub pepper: Pepper,
}

/// A digest was not derived.
#[derive(Debug, ThisError)]
pub enum HasherError {
    /// Its time was up before a thread came to it.
    #[error("the hash queue did not come to it in time")]
    Late,
    /// The derivation itself failed.
    #[error("the digest could not be derived")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// The time of day.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> SystemTime;
}

/// The mails that `otpd dev` captured instead of sending.
pub trait Mailbox: Send + Sync {
    /// The captured mails, newest first; those to one address where it is given.
    fn captured(&self, to: Option<&EmailAddress>) -> Vec<CapturedMail>;
}

/// A captured mail, as its reader would see it.
#[derive(Clone, PartialEq, Eq)]
pub struct CapturedMail {
    /// The recipient.
    pub to: String,
    /// The sender.
    pub from: String,
    /// The subject.
    pub subject: String,
    /// The plain part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// When it was captured.
    pub received_at: SystemTime,
}

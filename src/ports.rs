//! What the service needs of the world, said as invariants rather than as reads and writes.
//!
//! Each adapter keeps these promises whatever happens in parallel. Must not name an adapter or a library.

mod idempotency;
mod store;

use std::any::Any;
use std::error::Error;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use thiserror::Error as ThisError;

pub use self::idempotency::IdempotencyStore;
pub use self::store::{
    Action, AttemptOutcome, Attempter, ChargeOutcome, IpLedger, Live, OpenOutcome, ReplaceOutcome,
    SiteCharge, Store, StoreError,
};
use crate::domain::code::Code;
use crate::domain::code_hash::{AssociatedData, Digest, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::locale::Locale;
use crate::domain::pepper::Pepper;
use crate::domain::reference::Reference;
use crate::domain::sender::Sender;
use crate::domain::tenant::Tenant;

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
    /// Who it is from.
    pub sender: Sender,
    /// Which screen it belongs to, where several may be open.
    pub reference: Option<Reference>,
    /// For which tenant it is.
    pub tenant: Tenant,
    /// The languages that its reader wants, the most wanted first.
    pub languages: Vec<Locale>,
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
    /// Takes a place in the queue, before anything is taken; `None` at once where it is full.
    fn reserve(&self, priority: Priority) -> Option<HashPermit>;

    /// Derives a digest in the place taken.
    async fn digest(&self, permit: HashPermit, work: HashWork) -> Result<Digest, HasherError>;
}

/// Which work goes first when both wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// Somebody waits to be let in.
    Check,
    /// Somebody asked for a code.
    Send,
}

/// A place in the hash queue, given back when dropped.
pub struct HashPermit {
    /// Which work it is for.
    pub priority: Priority,
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
    pub associated_data: AssociatedData,
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

/// The mails that `otpd dev` captured instead of sending; the oldest are forgotten where they are many.
#[async_trait]
pub trait Mailbox: Send + Sync {
    /// The captured mails, newest first; those to one address where it is given.
    fn captured(&self, to: Option<&EmailAddress>) -> Vec<CapturedMail>;

    /// The captured mails behind that number, newest first: waits until there is one.
    async fn captured_after(&self, number: u64) -> Vec<CapturedMail>;
}

/// A captured mail, as its reader would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedMail {
    /// The how manieth it is, from one.
    pub number: u64,
    /// The recipient.
    pub to: String,
    /// The sender.
    pub from: String,
    /// The subject.
    pub subject: String,
    /// The names and values of its headers, each on one line, as they would be sent.
    pub headers: Vec<(String, String)>,
    /// The plain part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// When it was captured.
    pub received_at: SystemTime,
}

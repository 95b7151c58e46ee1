//! The traits of what the service depends on. They state invariants rather than reads and writes.
//!
//! Each adapter upholds these invariants under concurrent calls. Must not name an adapter or a
//! library.

mod idempotency;
mod store;
mod test_mails;

use std::any::Any;
use std::error::Error;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use thiserror::Error as ThisError;

pub use self::idempotency::IdempotencyStore;
pub use self::store::{
    AttemptOutcome, ChargeOutcome, IpEntry, Live, OpenOutcome, ReplaceOutcome, Store, StoreError,
};
pub(crate) use self::store::{charge_ip_then_send, charge_ip_then_take_attempt};
pub use self::test_mails::{StoredTestMail, TestMails};
use crate::domain::code::Code;
use crate::domain::code_hash::{AssociatedData, CodeId, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::locale::Locale;
use crate::domain::pepper::Pepper;
use crate::domain::provider_id::ProviderId;
use crate::domain::purpose::Purpose;
use crate::domain::reference::Reference;
use crate::domain::sender::Sender;
use crate::domain::tenant::Tenant;
use crate::domain::test_recipients::TestCode;
use crate::domain::time::Millis;

/// Delivers codes to people.
#[async_trait]
pub trait Mailer: Send + Sync {
    /// Hands one email to a relay or provider within ten seconds and returns the result.
    async fn deliver(&self, mail: &CodeMail) -> Delivery;

    /// Composes the email as `deliver` would, and sends nothing.
    ///
    /// # Errors
    /// Returns [`MailError`] if it cannot be composed.
    fn compose(&self, mail: &CodeMail) -> Result<Content, MailError>;
}

/// An email with a code, before it is rendered.
#[derive(Debug, Clone)]
pub struct CodeMail {
    /// The recipient.
    pub to: EmailAddress,
    /// The code.
    pub code: Code,
    /// How long the code will be valid.
    pub valid_for: Duration,
    /// The sender.
    pub sender: Sender,
    /// The reference shown on the screen that this email belongs to, because several may be open.
    pub reference: Option<Reference>,
    /// The tenant that sends it.
    pub tenant: Tenant,
    /// The purpose of the confirmation; none on the simple endpoints.
    pub purpose: Option<Purpose>,
    /// When the code expires.
    pub expires_at: Millis,
    /// The languages that the recipient accepts, in order of preference.
    pub languages: Vec<Locale>,
}

/// What the reader of an email sees.
#[derive(Clone)]
pub struct Content {
    /// Subject.
    pub subject: String,
    /// Text part.
    pub text: String,
    /// HTML part.
    pub html: String,
    /// Language of all parts.
    pub language: String,
}

/// The result of handing over an email.
#[derive(Debug)]
pub enum Delivery {
    /// The relay or provider accepted it.
    Accepted {
        /// The provider's id of the email, if it gives one.
        provider_id: Option<ProviderId>,
    },
    /// Every try ended without a connection or with an error reply: nobody has the code.
    Refused(MailError),
    /// The connection timed out or was lost during the transfer: the email may or may not arrive.
    Unknown(MailError),
}

/// Why an email was not handed over, or may not have been.
#[derive(Debug, ThisError)]
#[error("the relay did not confirm the email")]
pub struct MailError(#[source] Box<dyn Error + Send + Sync>);

impl MailError {
    /// Wraps the cause, for the log.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self(cause.into())
    }
}

/// A digest that is being derived. Does not hold what it is derived from, so that many can wait.
pub type PendingDigest = Pin<Box<dyn Future<Output = Result<CodeId, HasherError>> + Send>>;

/// A place in the hash queue that is waited for.
pub type PendingPlace = Pin<Box<dyn Future<Output = Option<HashPermit>> + Send>>;

/// The threads that derive digests. Their memory and their queue are bounded.
pub trait Hasher: Send + Sync {
    /// Reserves a place in the hash queue, before anything is charged. Returns `None` at once if
    /// the queue is full.
    fn reserve(&self, priority: Priority) -> Option<HashPermit>;

    /// Waits for a place, in the order of the calls. Completes with `None` if there is none in
    /// time.
    fn reserve_within(&self, priority: Priority, limit: Duration) -> PendingPlace;

    /// Begins to derive a digest in the reserved place.
    fn digest(&self, permit: HashPermit, work: HashWork) -> PendingDigest;

    /// Begins to derive the digest of a submitted code in the reserved place, with the salt and the
    /// cost of a test code, which must not need more memory than any other digest.
    fn test_digest(&self, permit: HashPermit, code: Code, test_code: TestCode) -> PendingDigest;
}

/// Which work goes first if both wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// A code is being checked.
    Check,
    /// A code is being sent.
    Send,
}

/// A place in the hash queue, released when dropped.
pub struct HashPermit {
    /// The kind of work it is for.
    pub priority: Priority,
    /// What the hasher needs to free the place.
    pub guard: Box<dyn Any + Send>,
}

/// One digest to derive.
pub struct HashWork {
    /// The code, generated or submitted.
    pub code: Code,
    /// Its salt.
    pub salt: Salt,
    /// The associated data, which binds the digest to one key in the store.
    pub associated_data: AssociatedData,
    /// The pepper to use.
    pub pepper: Pepper,
}

/// Why a digest was not derived.
#[derive(Debug, ThisError)]
pub enum HasherError {
    /// Its time limit passed before a thread took it from the queue.
    #[error("the hash queue did not come to it in time")]
    Late,
    /// The derivation itself failed.
    #[error("the digest could not be derived")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// Knows which domains take mail.
#[async_trait]
pub trait MailDomains: Send + Sync {
    /// Returns within a second whether mail to the domain can be delivered, and `true` if that
    /// cannot be found out.
    async fn takes_mail(&self, domain: &str) -> bool;

    /// Returns whether it asks anybody to find out.
    fn asks(&self) -> bool;
}

/// A clock that tells the time of day.
pub trait Clock: Send + Sync {
    /// Returns the current time.
    fn now(&self) -> SystemTime;
}

/// The emails that `otpd dev` captured instead of sending. Its size is bounded: the oldest are
/// dropped first.
#[async_trait]
pub trait Mailbox: Send + Sync {
    /// Returns the captured emails, newest first. `to` limits them to one address.
    fn captured(&self, to: Option<&EmailAddress>) -> Vec<CapturedMail>;

    /// Returns the captured emails with a higher sequence number, newest first. Waits until there
    /// is one.
    async fn captured_after(&self, number: u64) -> Vec<CapturedMail>;
}

/// A captured email, as an email client would show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CapturedMail {
    /// Sequence number, starting at 1.
    pub number: u64,
    /// The recipient.
    pub to: String,
    /// The sender.
    pub from: String,
    /// The subject.
    pub subject: String,
    /// The names and values of its headers, each unfolded to one line.
    pub headers: Vec<(String, String)>,
    /// The plain-text part.
    pub text: String,
    /// The HTML part.
    pub html: String,
    /// When it was captured.
    pub received_at: SystemTime,
}

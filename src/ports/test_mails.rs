//! The captured emails of sandbox keys, which any process of a deployment can list.

use async_trait::async_trait;

use super::StoreError;
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::test_mail::EncryptedTestMail;
use crate::domain::time::Millis;

/// The captured emails of each mailbox. Every call is one atomic step on the store's own clock.
///
/// A mailbox holds the newest [`MAX_TEST_MAILS`](crate::domain::test_mail::MAX_TEST_MAILS) emails,
/// each for [`TEST_MAIL_RETENTION`](crate::domain::test_mail::TEST_MAIL_RETENTION). The store
/// retries no call.
#[async_trait]
pub trait TestMails: Send + Sync {
    /// Adds an email to a mailbox.
    async fn put(&self, mailbox: &KeyedHash, mail: &EncryptedTestMail) -> Result<(), StoreError>;

    /// Returns the emails of a mailbox, newest first. Changes nothing.
    async fn list(&self, mailbox: &KeyedHash) -> Result<Vec<StoredTestMail>, StoreError>;
}

/// A captured email in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredTestMail {
    /// When it was added.
    pub received_at: Millis,
    /// The email.
    pub encrypted: EncryptedTestMail,
}

//! Captured emails of sandbox keys in Redis: one value per mailbox.

use async_trait::async_trait;
use redis::Value;

use super::RedisStore;
use super::answer::{number, unexpected};
use super::key::RedisKey;
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::test_mail::{EncryptedTestMail, MAX_TEST_MAILS, TEST_MAIL_RETENTION};
use crate::domain::time::millis;
use crate::ports::{StoreError, StoredTestMail, TestMails};

#[async_trait]
impl TestMails for RedisStore {
    async fn put(&self, mailbox: &KeyedHash, mail: &EncryptedTestMail) -> Result<(), StoreError> {
        let keys = [RedisKey::TestMails(mailbox)];
        let retention = millis(TEST_MAIL_RETENTION);
        let most = MAX_TEST_MAILS as u64;
        let mail = mail.as_bytes();
        self.call(&self.scripts.put_test_mail, &keys, &[&retention, &most, &mail]).await.map(|_| ())
    }

    async fn list(&self, mailbox: &KeyedHash) -> Result<Vec<StoredTestMail>, StoreError> {
        let keys = [RedisKey::TestMails(mailbox)];
        let retention = millis(TEST_MAIL_RETENTION);
        match self.call(&self.scripts.list_test_mails, &keys, &[&retention]).await? {
            Value::Array(parts) => parts.chunks(2).map(stored).collect(),
            _ => Err(unexpected()),
        }
    }
}

/// Parses an email and the time when it was added.
fn stored(parts: &[Value]) -> Result<StoredTestMail, StoreError> {
    let [received_at, Value::BulkString(mail)] = parts else { return Err(unexpected()) };
    let encrypted = EncryptedTestMail::from_bytes(mail.clone());
    Ok(StoredTestMail { received_at: number(received_at)?, encrypted })
}

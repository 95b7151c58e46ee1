//! Captured emails of sandbox keys in the memory of one process.

use std::collections::VecDeque;

use async_trait::async_trait;

use super::MemoryStore;
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::test_mail::{EncryptedTestMail, MAX_TEST_MAILS, TEST_MAIL_RETENTION};
use crate::domain::time::{Millis, millis};
use crate::ports::{StoreError, StoredTestMail, TestMails};

/// The emails of a mailbox, newest first.
#[derive(Default)]
pub(super) struct MemoryMails(VecDeque<StoredTestMail>);

impl MemoryMails {
    /// Returns whether no email is left whose retention is not over.
    pub(super) fn is_over(&self, now: Millis) -> bool {
        self.0.front().is_none_or(|newest| !is_kept(newest, now))
    }
}

fn is_kept(mail: &StoredTestMail, now: Millis) -> bool {
    now < mail.received_at + millis(TEST_MAIL_RETENTION)
}

#[async_trait]
impl TestMails for MemoryStore {
    async fn put(&self, mailbox: &KeyedHash, mail: &EncryptedTestMail) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        let MemoryMails(mails) = state.test_mails.entry(*mailbox).or_default();
        mails.push_front(StoredTestMail { received_at: now, encrypted: mail.clone() });
        mails.truncate(MAX_TEST_MAILS);
        mails.retain(|mail| is_kept(mail, now));
        state.sweep_now_and_then(now);
        Ok(())
    }

    async fn list(&self, mailbox: &KeyedHash) -> Result<Vec<StoredTestMail>, StoreError> {
        let (state, now) = self.lock();
        let mails = state.test_mails.get(mailbox).into_iter().flat_map(|mails| &mails.0);
        Ok(mails.filter(|mail| is_kept(mail, now)).cloned().collect())
    }
}

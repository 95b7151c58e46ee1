//! Mailbox of `otpd dev`: captures emails in memory instead of sending them.
//!
//! Must not be used outside of `otpd dev`, because it shows codes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::watch;

use super::message::{Composer, MessageError, new_id};
use crate::domain::email_address::EmailAddress;
use crate::ports::{CapturedMail, Clock, CodeMail, Content, Delivery, MailError, Mailbox, Mailer};
use crate::random;

/// Maximum number of captured emails; older ones are dropped.
const MAX_EMAILS: usize = 200;

/// Captured emails, newest first.
pub struct MemoryMailbox {
    composer: Composer,
    clock: Arc<dyn Clock>,
    mails: Mutex<VecDeque<CapturedMail>>,
    /// Number of the newest email.
    newest: watch::Sender<u64>,
}

impl MemoryMailbox {
    /// Creates an empty mailbox.
    #[must_use]
    pub fn new(composer: Composer, clock: Arc<dyn Clock>) -> Self {
        Self { composer, clock, mails: Mutex::default(), newest: watch::Sender::default() }
    }

    fn capture(&self, mail: &CodeMail, id: [u8; 16]) -> Result<(), MessageError> {
        let content = self.composer.content(mail)?;
        let message = Composer::message(mail, &content, &new_id(id))?;
        let captured = CapturedMail {
            number: 0,
            to: mail.to.as_str().to_owned(),
            from: format!("{} <{}>", mail.sender.brand, mail.sender.address.as_str()),
            subject: content.subject,
            headers: headers(&String::from_utf8_lossy(&message.formatted())),
            text: content.text,
            html: content.html,
            received_at: self.clock.now(),
        };
        let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *self.newest.borrow() + 1;
        mails.push_front(CapturedMail { number, ..captured });
        mails.truncate(MAX_EMAILS);
        // Sent while the lock is held, so that subscribers see the numbers in order.
        self.newest.send_replace(number);
        Ok(())
    }

    fn select(&self, is_wanted: impl Fn(&CapturedMail) -> bool) -> Vec<CapturedMail> {
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.iter().filter(|mail| is_wanted(mail)).cloned().collect()
    }
}

/// Returns names and values of a message's headers, each unfolded to one line (RFC 5322 section
/// 2.2.3).
fn headers(message: &str) -> Vec<(String, String)> {
    let (block, _) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
    let block = block.replace("\r\n ", " ").replace("\r\n\t", "\t");
    let fields = block.lines().filter_map(|line| line.split_once(": "));
    fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[async_trait]
impl Mailer for MemoryMailbox {
    async fn deliver(&self, mail: &CodeMail) -> Delivery {
        let captured = random::bytes().map_err(MailError::new);
        match captured.and_then(|id| self.capture(mail, id).map_err(MailError::new)) {
            Ok(()) => Delivery::Accepted { provider_id: None },
            Err(error) => Delivery::Refused(error),
        }
    }

    fn compose(&self, mail: &CodeMail) -> Result<Content, MailError> {
        self.composer.content(mail).map_err(MailError::new)
    }
}

#[async_trait]
impl Mailbox for MemoryMailbox {
    fn captured(&self, to: Option<&EmailAddress>) -> Vec<CapturedMail> {
        self.select(|mail| to.is_none_or(|to| mail.to.eq_ignore_ascii_case(to.as_str())))
    }

    async fn captured_after(&self, number: u64) -> Vec<CapturedMail> {
        // Cannot fail, because `self` owns the sender.
        let _ = self.newest.subscribe().wait_for(|newest| *newest > number).await;
        self.select(|mail| mail.number > number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_unfolded_keep_their_colons_and_end_where_the_body_begins() {
        let message = "Subject: a\r\n b: c\r\nX: \ty\r\n\tz\r\n\r\nNo: header\r\n";
        let expected = [("Subject", "a b: c"), ("X", "\ty\tz")];
        assert_eq!(headers(message), expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
}

//! The mailbox of `otpd dev`: mails are kept in memory for the one who tries otpd, and go nowhere.
//!
//! Must not be used outside of `otpd dev`: it shows codes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::message::{Composer, MessageError};
use crate::domain::email_address::EmailAddress;
use crate::ports::{CapturedMail, Clock, CodeMail, Delivery, MailError, Mailbox, Mailer};

/// The most mails that are kept; older ones go.
const KEPT: usize = 200;

/// Captured mails, newest first.
pub struct MemoryMailbox {
    composer: Composer,
    clock: Arc<dyn Clock>,
    mails: Mutex<VecDeque<CapturedMail>>,
}

impl MemoryMailbox {
    /// An empty mailbox.
    #[must_use]
    pub fn new(composer: Composer, clock: Arc<dyn Clock>) -> Self {
        Self { composer, clock, mails: Mutex::default() }
    }

    fn capture(&self, mail: &CodeMail) -> Result<(), MessageError> {
        let content = self.composer.content(mail)?;
        let captured = CapturedMail {
            to: mail.to.as_str().to_owned(),
            from: format!("{} <{}>", mail.sender.brand, mail.sender.address.as_str()),
            subject: content.subject,
            text: content.text,
            html: content.html,
            received_at: self.clock.now(),
        };
        let mut mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.push_front(captured);
        mails.truncate(KEPT);
        Ok(())
    }
}

#[async_trait]
impl Mailer for MemoryMailbox {
    async fn deliver(&self, mail: &CodeMail) -> Delivery {
        match self.capture(mail) {
            Ok(()) => Delivery::Accepted,
            Err(error) => Delivery::Refused(MailError::new(error)),
        }
    }
}

impl Mailbox for MemoryMailbox {
    fn captured(&self, to: Option<&EmailAddress>) -> Vec<CapturedMail> {
        let mails = self.mails.lock().unwrap_or_else(PoisonError::into_inner);
        mails.iter().filter(|mail| to.is_none_or(|to| mail.to == to.as_str())).cloned().collect()
    }
}

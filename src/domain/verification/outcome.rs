//! What becomes of a verification's emails: accepted, or refused.
//!
//! Must affect only the code of that email.

use super::{Verification, VerificationState};
use crate::domain::code_hash::CodeId;
use crate::domain::delivery::{DeliveryRecord, DeliveryStatus};
use crate::domain::provider_id::ProviderId;
use crate::domain::time::{EntryId, Millis};

impl Verification {
    /// Ends the code of an email that was refused. If it is the newest, the one before is the live
    /// one again until its own end; if that is not good any more, the verification has failed.
    ///
    /// Returns true if the email's entry can be refunded: the email opened this verification, so
    /// that it replaced no live code, and no attempt was taken.
    pub fn fail(&mut self, code: &CodeId, entry: EntryId, now: Millis) -> bool {
        if self.is_newest(code) {
            self.record_delivery(DeliveryStatus::Refused, None, now);
        }
        if let VerificationState::Open(codes) = &mut self.state {
            if codes.newest().id() != *code {
                codes.remove_earlier(code);
            } else if now < self.expires_at {
                match codes.restore(now) {
                    Some(expires_at) => self.expires_at = expires_at,
                    None => self.state = VerificationState::Failed,
                }
            }
        }
        self.entry == entry && self.attempts == 0
    }

    /// Records that an email was accepted, if it is that of the newest code. Returns when.
    pub fn accept(&mut self, code: &CodeId, provider_id: Option<ProviderId>, now: Millis) -> Option<Millis> {
        self.is_newest(code).then(|| self.record_delivery(DeliveryStatus::Accepted, provider_id, now))
    }

    /// Returns whether it is the newest code. A closed verification has no codes: then it is taken
    /// to be, as long as nothing is known of the delivery.
    fn is_newest(&self, code: &CodeId) -> bool {
        match &self.state {
            VerificationState::Open(codes) => codes.newest().id() == *code,
            VerificationState::Won { .. } | VerificationState::Failed | VerificationState::Canceled => {
                self.delivery.status == DeliveryStatus::Unknown
            }
        }
    }

    fn record_delivery(
        &mut self,
        status: DeliveryStatus,
        provider_id: Option<ProviderId>,
        now: Millis,
    ) -> Millis {
        let at = now.max(self.opened_at);
        self.delivery = DeliveryRecord { status, at, provider_id };
        at
    }
}

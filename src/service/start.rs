//! Starting a verification: draw a code, store its hash, mail it.
//!
//! The numbers are the steps of a send in the ledgers' document.

use thiserror::Error;

use super::{Parts, log};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::slot::Tenant;
use crate::ports::{CodeMail, Delivery, HashWork, HasherError, StoreError, Urgency};
use crate::random::{self, SysError, SysRng};

/// Why no code was mailed.
#[derive(Debug, Error)]
pub enum StartError {
    /// Too much is being hashed; nothing was touched.
    #[error("the hash queue is full")]
    Overloaded,
    /// The store or the hasher did not do its part; no mail was sent.
    #[error("a part of the service is unavailable")]
    Unavailable,
    /// The relay refused the mail; its code is dead.
    #[error("the relay refused the mail")]
    Refused,
    /// The relay fell silent with the mail under way; its code stays live, since the mail may arrive.
    #[error("the outcome of the mail is unknown")]
    OutcomeUnknown,
    /// A fault of ours.
    #[error("internal fault")]
    Fault,
}

pub(super) async fn start(parts: &Parts, address: EmailAddress) -> Result<(), StartError> {
    // 3. A place in the hash queue, before anything is spent.
    let place = parts.hasher.place(Urgency::Send).ok_or(StartError::Overloaded)?;
    let slot = parts.secrets.index_key.address_slot(Tenant::SIMPLE, &address);

    // 5. Code drawn and hashed.
    let code = Code::draw(parts.code_length, &mut SysRng)?;
    let salt = Salt::new(random::octets()?);
    let pepper = parts.secrets.peppers.current().clone();
    let kid = pepper.id().clone();
    let work = HashWork { code: code.clone(), salt, binding: slot.binding(), pepper };
    let digest = parts.hasher.digest(place, work).await?;
    let hash = CodeHash::new(kid, salt, digest);

    // 6. Verification opened, or its code replaced.
    let opened = parts.store.open(&slot, &hash, &parts.policy).await?;

    // 7. Mail handed over.
    let mail = CodeMail { to: address, code, valid_for: opened.valid_for };
    match parts.mailer.deliver(&mail).await {
        Delivery::Accepted => {
            tracing::info!("a code was mailed");
            Ok(())
        }
        Delivery::Refused(error) => {
            log(&error, "the mail was refused; its code is dead");
            // Where this fails too, the code stays live for its life, unknown to anybody.
            if let Err(error) = parts.store.fail(&slot, &salt).await {
                log(&error, "the code of a refused mail could not be withdrawn");
            }
            Err(StartError::Refused)
        }
        Delivery::Unknown(error) => {
            log(&error, "the outcome of the mail is unknown; its code stays live");
            Err(StartError::OutcomeUnknown)
        }
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        log(&error, "no code was mailed");
        Self::Unavailable
    }
}

impl From<HasherError> for StartError {
    fn from(error: HasherError) -> Self {
        log(&error, "no code was mailed");
        match error {
            HasherError::Late => Self::Unavailable,
            HasherError::Failed(_) => Self::Fault,
        }
    }
}

impl From<SysError> for StartError {
    fn from(error: SysError) -> Self {
        log(&error, "no code was mailed");
        Self::Fault
    }
}

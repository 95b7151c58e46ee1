//! The steps that every send has in common: a place, the subject's ledgers, a new code, and the mail.
//!
//! The numbers are the steps of a send in the ledgers' document; where the code is kept is the caller's to say.

use std::sync::PoisonError;

use thiserror::Error;

use super::toll::{Toll, TollError};
use super::{Limited, Parts, log};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::ledger::{Stamp, Standing};
use crate::domain::limit::RelayMails;
use crate::domain::locale::Locale;
use crate::domain::reference::Reference;
use crate::domain::sealed::Unsealable;
use crate::domain::slot::{Slot, Subject};
use crate::domain::tenant::Account;
use crate::domain::verification::{Millis, millis};
use crate::ports::{
    Charged, CodeMail, Delivery, HashWork, HasherError, Live, Opened, Place, StoreError, Urgency,
};
use crate::random::{self, SysError, SysRng};

/// Why no code was mailed.
#[derive(Debug, Error)]
pub enum StartError {
    /// The operator does not mail to that domain; no person's ledger was touched.
    #[error("no mails go to that domain")]
    NotAllowed,
    /// A ledger is full; no code was drawn.
    #[error("too many sends")]
    Limited(Standing),
    /// Too much is being hashed, or the relay has had its day's mails; nothing was spent.
    #[error("there is no room")]
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

/// One code to be sent.
pub(super) struct Errand<'a> {
    /// On whose account.
    pub account: &'a Account,
    /// What its network was charged.
    pub toll: &'a Toll,
    /// Where its code is kept.
    pub slot: &'a Slot,
    /// Whom it goes to.
    pub address: &'a EmailAddress,
    /// What the mail says of the screen it belongs to.
    pub reference: Option<Reference>,
    /// The languages that its reader wants, the most wanted first.
    pub languages: &'a [Locale],
}

/// A code that was mailed.
pub(super) struct Sent {
    /// How it stands.
    pub live: Live,
    /// When the ledgers admit the next send to that person.
    pub resend_at: Millis,
}

/// 1. The address is one that is mailed to.
pub(super) fn admit_address(parts: &Parts, address: &EmailAddress) -> Result<(), StartError> {
    let recipients = parts.recipients.read().unwrap_or_else(PoisonError::into_inner);
    if recipients.admit(address) { Ok(()) } else { Err(StartError::NotAllowed) }
}

/// 3. A place in the hash queue and room in the relay's day, before anything is spent; else step 2 is given back.
pub(super) async fn room(parts: &Parts, toll: &Toll) -> Result<Place, StartError> {
    let place = take_room(parts).await;
    if let Err(StartError::Overloaded) = &place {
        toll.give_back(parts).await;
    }
    place
}

async fn take_room(parts: &Parts) -> Result<Place, StartError> {
    let place = parts.hasher.place(Urgency::Send).ok_or(StartError::Overloaded)?;
    if let RelayMails::PerDay(most) = parts.relay_mails
        && !parts.store.relay_has_room(most.get()).await?
    {
        tracing::warn!("the relay has had the mails of its day: OTP_LIMITS__RELAY_EMAILS_PER_DAY is reached");
        return Err(StartError::Overloaded);
    }
    Ok(place)
}

/// Steps 4 to 7. `keep` is step 6: it makes the new code the live one.
pub(super) async fn send<E: From<StartError>>(
    parts: &Parts,
    place: Place,
    errand: &Errand<'_>,
    keep: impl AsyncFnOnce(&CodeHash, Stamp) -> Result<Live, E>,
) -> Result<Sent, E> {
    let Errand { account, toll, slot, address, reference, languages } = errand;
    let subject = parts.secrets.index_key.subject(account.tenant.clone(), address);
    // 4. Subject's sends, the site's share, the address over all tenants.
    let (entry, standing) = admit(parts, &subject, account, toll).await?;
    // 5. Code drawn and hashed.
    let (code, hash) = draw(parts, place, slot).await?;
    // 6. Verification opened, or its code replaced.
    let live = keep(&hash, entry).await?;
    // 7. Mail handed over.
    let mail = CodeMail {
        to: (*address).clone(),
        code,
        valid_for: live.valid_for,
        sender: account.sender.clone(),
        reference: *reference,
        tenant: account.tenant.clone(),
        languages: languages.to_vec(),
    };
    match deliver(parts, &mail).await {
        Delivery::Accepted => {
            tracing::info!(tenant.name = account.tenant.name(), "a code was mailed");
            Ok(Sent { live, resend_at: entry + millis(standing.wait) })
        }
        Delivery::Refused(error) => {
            log(&error, "the mail was refused; its code is dead");
            undo(parts, slot, &subject, hash.salt(), entry).await;
            Err(StartError::Refused.into())
        }
        Delivery::Unknown(error) => {
            log(&error, "the outcome of the mail is unknown; its code stays live");
            Err(StartError::OutcomeUnknown.into())
        }
    }
}

async fn admit(
    parts: &Parts,
    subject: &Subject,
    account: &Account,
    toll: &Toll,
) -> Result<(Stamp, Standing), StartError> {
    match parts.store.admit(subject, toll.site().as_ref(), &account.limits.sends).await? {
        Charged::Admitted { entry, standing } => Ok((entry, standing)),
        Charged::Refused(standing) => Err(StartError::Limited(toll.or_longer(standing))),
    }
}

async fn draw(parts: &Parts, place: Place, slot: &Slot) -> Result<(Code, CodeHash), StartError> {
    let code = Code::draw(parts.code_length, &mut SysRng)?;
    let salt = Salt::new(random::octets()?);
    let pepper = parts.secrets.peppers.current().clone();
    let kid = pepper.id().clone();
    let work = HashWork { code: code.clone(), salt, binding: slot.binding(), pepper };
    let digest = parts.hasher.digest(place, work).await?;
    Ok((code, CodeHash::new(kid, salt, digest)))
}

/// What an opening has made live.
pub(super) fn live(opened: Opened) -> Result<Live, StartError> {
    match opened {
        Opened::Live(live) => Ok(live),
        Opened::Late => {
            tracing::warn!("it took too long to draw a code: none was opened");
            Err(StartError::Unavailable)
        }
    }
}

async fn deliver(parts: &Parts, mail: &CodeMail) -> Delivery {
    let delivery = parts.mailer.deliver(mail).await;
    if parts.relay_mails != RelayMails::Unlimited
        && !matches!(delivery, Delivery::Refused(_))
        && let Err(error) = parts.store.count_mail().await
    {
        log(&error, "a mail was not counted");
    }
    delivery
}

/// Ends what a refused mail opened, and gives back what it was charged where it may be. Where this fails, the code
/// stays live for its life, unknown to anybody, and what was charged stays charged.
async fn undo(parts: &Parts, slot: &Slot, subject: &Subject, salt: &Salt, entry: Stamp) {
    let undone = match parts.store.fail(slot, salt, entry).await {
        Ok(true) => parts.store.withdraw(subject, entry).await,
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = undone {
        log(&error, "a refused mail was not undone");
    }
}

impl Limited for StartError {
    fn limited(&self) -> Option<Standing> {
        match self {
            Self::Limited(standing) => Some(*standing),
            _ => None,
        }
    }
}

impl From<TollError> for StartError {
    fn from(error: TollError) -> Self {
        match error {
            TollError::Refused(standing) => Self::Limited(standing),
            TollError::Store(error) => error.into(),
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
        Self::Unavailable
    }
}

impl From<SysError> for StartError {
    fn from(error: SysError) -> Self {
        log(&error, "no code was mailed");
        Self::Unavailable
    }
}

impl From<Unsealable> for StartError {
    fn from(error: Unsealable) -> Self {
        log(&error, "no code was mailed");
        Self::Fault
    }
}

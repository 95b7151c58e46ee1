//! Starting a verification: draw a code, store its hash, mail it.
//!
//! The numbers are the steps of a send in the ledgers' document.

use std::net::IpAddr;

use thiserror::Error;

use super::{Metered, Parts, log, longest};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::ledger::{Stamp, Standing};
use crate::domain::limit::RelayMails;
use crate::domain::slot::{Slot, Subject, Tag, Tenant};
use crate::ports::{
    Action, Charged, CodeMail, Delivery, HashWork, HasherError, NetworkAccount, Opened, Place, StoreError,
    Urgency,
};
use crate::random::{self, SysError, SysRng};

/// Why no code was mailed.
#[derive(Debug, Error)]
pub enum StartError {
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

pub(super) async fn start(
    parts: &Parts,
    address: EmailAddress,
    client: IpAddr,
) -> Metered<Result<(), StartError>> {
    // 2. The network's sends.
    let network = parts.secrets.index_key.network(client);
    let account = NetworkAccount { tenant: Tenant::SIMPLE, network, action: Action::Send };
    let (entry, standing) = match parts.store.charge(&account, &parts.limits.network_sends).await {
        Ok(Charged::Admitted { entry, standing }) => (entry, standing),
        Ok(Charged::Refused(standing)) => return Metered::at(standing, Err(StartError::Limited(standing))),
        Err(error) => return Metered::not_at_all(Err(error.into())),
    };
    // 3. A place in the hash queue and room in the relay's day, before anything is spent.
    let outcome = match room(parts).await {
        Ok(place) => send(parts, place, address, network.site, standing).await,
        Err(error) => {
            if matches!(error, StartError::Overloaded)
                && let Err(error) = parts.store.refund(&account, entry).await
            {
                log(&error, "a network was not given back a send");
            }
            Err(error)
        }
    };
    match outcome {
        Err(StartError::Limited(standing)) => Metered::at(standing, outcome),
        _ => Metered::at(standing, outcome),
    }
}

async fn room(parts: &Parts) -> Result<Place, StartError> {
    let place = parts.hasher.place(Urgency::Send).ok_or(StartError::Overloaded)?;
    if let RelayMails::PerDay(most) = parts.limits.relay_mails
        && !parts.store.relay_has_room(most.get()).await?
    {
        tracing::warn!("the relay has had the mails of its day");
        return Err(StartError::Overloaded);
    }
    Ok(place)
}

/// The steps from the subject's ledgers on; `charged` is how the network stands.
async fn send(
    parts: &Parts,
    place: Place,
    address: EmailAddress,
    site: Tag,
    charged: Standing,
) -> Result<(), StartError> {
    let subject = parts.secrets.index_key.subject(Tenant::SIMPLE, &address);
    let slot = parts.secrets.index_key.address_slot(subject.clone(), &address);
    // 4. Subject's sends, the site's share, the address over all tenants.
    let entry = match parts.store.admit(&subject, Some(&site), &parts.limits.sends).await? {
        Charged::Admitted { entry, .. } => entry,
        Charged::Refused(standing) => return Err(StartError::Limited(longest([charged, standing]))),
    };

    // 5. Code drawn and hashed.
    let code = Code::draw(parts.code_length, &mut SysRng)?;
    let salt = Salt::new(random::octets()?);
    let pepper = parts.secrets.peppers.current().clone();
    let kid = pepper.id().clone();
    let work = HashWork { code: code.clone(), salt, binding: slot.binding(), pepper };
    let digest = parts.hasher.digest(place, work).await?;
    let hash = CodeHash::new(kid, salt, digest);

    // 6. Verification opened, or its code replaced.
    let valid_for = match parts.store.open(&slot, &hash, &parts.policy, entry).await? {
        Opened::Live { valid_for } => valid_for,
        Opened::Late => {
            tracing::warn!("it took too long to draw a code: none was opened");
            return Err(StartError::Unavailable);
        }
    };

    // 7. Mail handed over.
    let delivery = parts.mailer.deliver(&CodeMail { to: address, code, valid_for }).await;
    if parts.limits.relay_mails != RelayMails::Unlimited
        && !matches!(delivery, Delivery::Refused(_))
        && let Err(error) = parts.store.count_mail().await
    {
        log(&error, "a mail was not counted");
    }
    match delivery {
        Delivery::Accepted => {
            tracing::info!("a code was mailed");
            Ok(())
        }
        Delivery::Refused(error) => {
            log(&error, "the mail was refused; its code is dead");
            undo(parts, &slot, &subject, &salt, entry).await;
            Err(StartError::Refused)
        }
        Delivery::Unknown(error) => {
            log(&error, "the outcome of the mail is unknown; its code stays live");
            Err(StartError::OutcomeUnknown)
        }
    }
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

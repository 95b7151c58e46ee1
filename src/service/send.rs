//! The steps that every send has in common: reserve a place, charge the recipient's ledgers, make a
//! code, hand the email over.
//!
//! The numbers are those of "A send, step by step" in ARCHITECTURE.md. The caller decides where the
//! code is stored.

use thiserror::Error;

use super::decision::Decision;
use super::error::{ServiceError, log};
use super::ip_charge::IpCharge;
use super::{Dependencies, UseCaseError};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::email_address::EmailAddress;
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limit::Policy;
use crate::domain::limits::Charge;
use crate::domain::locale::Locale;
use crate::domain::purpose::Purpose;
use crate::domain::reference::Reference;
use crate::domain::store_key::StoreKey;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::time::{EntryId, Millis, millis};
use crate::ports::{ChargeOutcome, CodeMail, Delivery, HashPermit, HashWork, Live, OpenOutcome, Priority};
use crate::random::{self, SysRng};

/// Why no code was sent.
#[derive(Debug, Error)]
pub enum StartError {
    /// The operator's lists exclude that domain, or it takes no mail. No ledger of the recipient
    /// was charged.
    #[error("email to that domain is not allowed")]
    NotAllowed,
    /// A limit is exceeded. No code was generated.
    #[error("too many sends")]
    Limited(LimitState),
    /// The relay refused the email. Its code is no longer valid.
    #[error("the relay refused the email")]
    Refused,
    /// The connection timed out or was lost during the transfer. The code stays live, because the
    /// email may arrive.
    #[error("it is unknown whether the email was sent")]
    OutcomeUnknown,
    /// The send was not completed.
    #[error(transparent)]
    Service(ServiceError),
}

/// One code to send.
pub(super) struct OutgoingCode<'a> {
    /// The decision to send it.
    pub decision: &'a Decision<'a>,
    /// The profile of the tenant that sends it.
    pub profile: &'a TenantProfile,
    /// What the IP was charged.
    pub ip_charge: &'a IpCharge,
    /// The store key of its verification.
    pub store_key: &'a StoreKey,
    /// The recipient.
    pub address: &'a EmailAddress,
    /// The purpose of the confirmation.
    pub purpose: Option<&'a Purpose>,
    /// The reference in the email, which the screen shows too.
    pub reference: Option<Reference>,
    /// The languages that the recipient accepts, in order of preference.
    pub languages: &'a [Locale],
}

/// A code that was sent.
pub(super) struct Sent {
    /// The live code.
    pub live: Live,
    /// When the limits allow the next send to that recipient.
    pub resend_at: Millis,
}

/// 1. Check that the lists of domains allow the address.
pub(super) fn check_domain_policy(deps: &Dependencies, address: &EmailAddress) -> Result<(), StartError> {
    if deps.reloadable.recipients.allows(address) { Ok(()) } else { Err(StartError::NotAllowed) }
}

/// 3. Check in DNS that the domain takes mail, then reserve a place in the hash queue and check the
///    relay's daily limit, before anything else is charged. If either is full, refund step 2. If
///    the domain takes no mail, step 2 stays charged, so that it also bounds the look-ups.
pub(super) async fn reserve_capacity(
    deps: &Dependencies,
    decision: &Decision<'_>,
    ip_charge: &IpCharge,
    address: &EmailAddress,
) -> Result<HashPermit, StartError> {
    if !deps.reloadable.mail_domains.takes_mail(address.domain()).await {
        return Err(StartError::NotAllowed);
    }
    let permit = take_capacity(deps, decision).await;
    if let Err(StartError::Service(ServiceError::Overloaded)) = &permit {
        ip_charge.refund(deps).await;
    }
    permit
}

async fn take_capacity(deps: &Dependencies, decision: &Decision<'_>) -> Result<HashPermit, StartError> {
    let permit = deps.hasher.reserve(Priority::Send).ok_or(ServiceError::Overloaded)?;
    if let Some(charge) = deps.reloadable.simple.limits.relay_email_charge()
        && !deps.store.peek(&charge).await?.wait.is_zero()
    {
        decision.set_refused_by(Policy::RelayEmails);
        tracing::warn!("the daily limit of the relay is reached");
        return Err(ServiceError::Overloaded.into());
    }
    Ok(permit)
}

/// Runs steps 4 to 7. `store_code` is step 6: it makes the new code the live one.
pub(super) async fn send<E: From<StartError>>(
    deps: &Dependencies,
    permit: HashPermit,
    outgoing: &OutgoingCode<'_>,
    store_code: impl AsyncFnOnce(&CodeHash, EntryId) -> Result<Live, E>,
) -> Result<Sent, E> {
    let OutgoingCode { decision, profile, ip_charge, store_key, address, purpose, reference, languages } =
        outgoing;
    // 4. Charge the recipient's sends, the client prefix's share of them, and the sends of all
    // tenants.
    let recipient = deps.index_key.recipient(profile.tenant.clone(), address);
    let charge = profile.limits.send_charge(&recipient, ip_charge.client_prefix().as_ref());
    let (entry, limit_state) = charge_recipient(deps, &charge, ip_charge).await?;
    // 5. Generate the code and hash it.
    let (code, hash) = generate(deps, permit, store_key).await?;
    // 6. Open the verification, or replace its code.
    let live = store_code(&hash, entry).await?;
    // 7. Hand the email over.
    let mail = CodeMail {
        to: (*address).clone(),
        code,
        valid_for: live.valid_for,
        sender: profile.sender.clone(),
        reference: *reference,
        tenant: profile.tenant.clone(),
        purpose: purpose.cloned(),
        expires_at: live.expires_at,
        languages: languages.to_vec(),
    };
    match deliver(deps, &mail).await {
        Delivery::Accepted { provider_id } => {
            if let Some(provider_id) = provider_id {
                decision.set_provider_id(provider_id);
            }
            tracing::info!(tenant.name = profile.tenant.name(), "a code was sent");
            Ok(Sent { live, resend_at: entry + millis(limit_state.wait) })
        }
        Delivery::Refused(error) => {
            log(&error, "the relay refused an email; its code is no longer valid");
            undo(deps, store_key, &charge.ledger, hash.salt(), entry).await;
            Err(StartError::Refused.into())
        }
        Delivery::Unknown(error) => {
            log(&error, "it is unknown whether the relay accepted an email; its code stays valid");
            Err(StartError::OutcomeUnknown.into())
        }
    }
}

async fn charge_recipient(
    deps: &Dependencies,
    charge: &Charge<'_>,
    ip_charge: &IpCharge,
) -> Result<(EntryId, LimitState), StartError> {
    match deps.store.charge(charge).await? {
        ChargeOutcome::Admitted { entry, limit_state } => Ok((entry, limit_state)),
        ChargeOutcome::Refused(limit_state) => {
            Err(StartError::Limited(ip_charge.or_longer_wait(limit_state)))
        }
    }
}

async fn generate(
    deps: &Dependencies,
    permit: HashPermit,
    store_key: &StoreKey,
) -> Result<(Code, CodeHash), StartError> {
    let code = Code::generate(deps.code_length, &mut SysRng)?;
    let salt = Salt::new(random::bytes()?);
    let pepper = deps.reloadable.peppers.current().clone();
    let kid = pepper.id().clone();
    let work = HashWork { code: code.clone(), salt, associated_data: store_key.associated_data(), pepper };
    let digest = deps.hasher.digest(permit, work).await?;
    Ok((code, CodeHash::new(kid, salt, digest)))
}

/// Returns the code that an opening made live.
pub(super) fn live(opened: OpenOutcome) -> Result<Live, StartError> {
    match opened {
        OpenOutcome::Live(live) => Ok(live),
        OpenOutcome::Late => {
            tracing::warn!("generating a code took too long: no verification was opened");
            Err(ServiceError::Unavailable.into())
        }
    }
}

async fn deliver(deps: &Dependencies, mail: &CodeMail) -> Delivery {
    let delivery = deps.reloadable.mailer.deliver(mail).await;
    if let Some(charge) = deps.reloadable.simple.limits.relay_email_charge()
        && !matches!(delivery, Delivery::Refused(_))
        && let Err(error) = deps.store.charge(&charge.of_what_happened()).await
    {
        log(&error, "an email was not counted towards the daily limit of the relay");
    }
    delivery
}

/// Closes what a refused email opened, and refunds the recipient's ledgers if the store allows it.
/// If this fails, the code stays live until it expires, known to nobody, and the charge stays.
async fn undo(deps: &Dependencies, store_key: &StoreKey, ledger: &LedgerKey, salt: &Salt, entry: EntryId) {
    let undone = match deps.store.mark_failed(store_key, salt, entry).await {
        Ok(true) => deps.store.refund(ledger, None, entry).await,
        Ok(false) => Ok(()),
        Err(error) => Err(error),
    };
    if let Err(error) = undone {
        log(&error, "the verification of a refused email could not be closed");
    }
}

impl UseCaseError for StartError {
    fn exceeded(limit_state: LimitState) -> Self {
        Self::Limited(limit_state)
    }

    fn limited(&self) -> Option<LimitState> {
        match self {
            Self::Limited(limit_state) => Some(*limit_state),
            _ => None,
        }
    }

    fn outcome(&self) -> &'static str {
        match self {
            Self::NotAllowed => "not_allowed",
            Self::Limited(_) => "rate_limited",
            Self::Refused => "refused",
            Self::OutcomeUnknown => "unknown",
            Self::Service(error) => error.outcome(),
        }
    }
}

impl<E: Into<ServiceError>> From<E> for StartError {
    fn from(error: E) -> Self {
        Self::Service(error.into())
    }
}

//! The steps that every send has in common: reserve a place, charge the recipient's ledgers, make a
//! code, hand the email over.
//!
//! The numbers are those of "A send, step by step" in ARCHITECTURE.md. The caller decides where the
//! code is stored.

use thiserror::Error;

use super::decision::Decision;
use super::error::{ServiceError, log};
use super::hand_over::{deliver, record_acceptance};
use super::ip_charge::IpCharge;
use super::{Dependencies, UseCaseError};
use crate::domain::code::Code;
use crate::domain::code_hash::{CodeHash, CodeId, CodeSalt, Salt};
use crate::domain::delivery::DeliveryRecord;
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
use crate::domain::verification_id::VerificationId;
use crate::ports::{ChargeOutcome, CodeMail, Delivery, HashPermit, HashWork, Live, OpenOutcome};
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
    pub ip_charge: &'a IpCharge<'a>,
    /// The store key of its verification.
    pub store_key: &'a StoreKey,
    /// The id of its verification, if it has one.
    pub id: Option<&'a VerificationId>,
    /// What the codes of its verification are hashed with, if it has an id and was opened before.
    pub code_salt: Option<CodeSalt>,
    /// The recipient.
    pub address: &'a EmailAddress,
    /// The purpose of the confirmation.
    pub purpose: Option<&'a Purpose>,
    /// The reference in the email, which the screen shows too.
    pub reference: Option<Reference>,
    /// The languages that the recipient accepts, in order of preference.
    pub languages: &'a [Locale],
    /// Whether it is the code of a test, for which no email is sent.
    pub is_test: bool,
}

/// A code that was sent.
pub(super) struct Sent {
    /// The live code.
    pub live: Live,
    /// When the limits allow the next send to that recipient.
    pub resend_at: Millis,
    /// What is known of its email.
    pub delivery: DeliveryRecord,
}

/// 1. Check that the lists of domains allow the address.
pub(super) fn check_domain_policy(deps: &Dependencies, address: &EmailAddress) -> Result<(), StartError> {
    if deps.reloadable.recipients.allows(address) { Ok(()) } else { Err(StartError::NotAllowed) }
}

/// 3. Check the relay's daily limit, then in DNS that the domain takes mail. If that asks the store
///    or a DNS server, charge the IP before (step 2), so that it also bounds the look-ups. A test
///    sends no email, so neither matters to it.
pub(super) async fn check_mail(
    deps: &Dependencies,
    decision: &Decision<'_>,
    ip_charge: &IpCharge<'_>,
    address: &EmailAddress,
    is_test: bool,
) -> Result<(), StartError> {
    if is_test {
        return Ok(());
    }
    if let Some(charge) = deps.reloadable.simple.limits.relay_email_charge() {
        ip_charge.make::<StartError>(deps).await?;
        if !deps.store.peek(&charge).await?.wait.is_zero() {
            ip_charge.refund(deps).await;
            decision.set_refused_by(Policy::RelayEmails);
            tracing::warn!("the daily limit of the relay is reached");
            return Err(ServiceError::Overloaded.into());
        }
    }
    if deps.reloadable.mail_domains.asks() {
        ip_charge.make::<StartError>(deps).await?;
    }
    let takes_mail = deps.reloadable.mail_domains.takes_mail(address.domain()).await;
    if takes_mail { Ok(()) } else { Err(StartError::NotAllowed) }
}

/// Runs steps 2 and 4 to 7, with a place in the hash queue. `store_code` is step 6: it makes the
/// new code the live one.
pub(super) async fn send<E: From<StartError>>(
    deps: &Dependencies,
    permit: HashPermit,
    outgoing: &OutgoingCode<'_>,
    store_code: impl AsyncFnOnce(&CodeHash, EntryId) -> Result<Live, E>,
) -> Result<Sent, E> {
    let OutgoingCode { decision, profile, store_key, address, .. } = outgoing;
    // 2. Charge the IP's sends, unless that is done.
    // 4. Charge the recipient's sends, the client prefix's share of them, and the sends of all
    // tenants.
    let recipient = deps.index_key.recipient(profile.tenant.clone(), address);
    let charge = profile.limits.send_charge(&recipient, outgoing.ip_charge.client_prefix().as_ref());
    let charged = charge_recipient(deps, &charge, outgoing).await?;
    let entry = charged.entry;
    // 5. Generate the code and hash it.
    let (code, hash) = generate(deps, permit, store_key, charged.code_salt).await?;
    // 6. Open the verification, or replace its code.
    let live = store_code(&hash, entry).await?;
    // 7. Hand the email over.
    let mail = CodeMail {
        to: (*address).clone(),
        code,
        valid_for: live.valid_for,
        sender: profile.sender.clone(),
        reference: outgoing.reference,
        tenant: profile.tenant.clone(),
        purpose: outgoing.purpose.cloned(),
        expires_at: live.expires_at,
        languages: outgoing.languages.to_vec(),
    };
    match deliver(deps, profile, outgoing.is_test, outgoing.id, &mail).await.map_err(StartError::from)? {
        Delivery::Accepted { provider_id } => {
            let delivery = record_acceptance(deps, store_key, &hash.id(), provider_id, &live).await;
            if let Some(provider_id) = delivery.provider_id.clone() {
                decision.set_provider_id(provider_id);
            }
            let is_test = outgoing.is_test;
            tracing::info!(
                tenant.name = profile.tenant.name(),
                verification.test = is_test,
                "a code was sent"
            );
            Ok(Sent { live, resend_at: entry + millis(charged.limit_state.wait), delivery })
        }
        Delivery::Refused(error) => {
            log(&error, "the relay refused an email; its code is no longer valid");
            undo(deps, store_key, &charge.ledger, &hash.id(), entry).await;
            Err(StartError::Refused.into())
        }
        Delivery::Unknown(error) => {
            log(&error, "it is unknown whether the relay accepted an email; its code stays valid");
            Err(StartError::OutcomeUnknown.into())
        }
    }
}

/// What the recipient was charged for a send.
struct Charged {
    entry: EntryId,
    limit_state: LimitState,
    /// What the new code must be hashed with, so that the one before can stay good.
    code_salt: Option<CodeSalt>,
}

async fn charge_recipient(
    deps: &Dependencies,
    charge: &Charge<'_>,
    outgoing: &OutgoingCode<'_>,
) -> Result<Charged, StartError> {
    let OutgoingCode { store_key, ip_charge, .. } = outgoing;
    let pending = match store_key {
        StoreKey::Address { .. } => Some((*store_key, &deps.rules)),
        StoreKey::Id(_) => None,
    };
    let (outcome, code_salt) = match (ip_charge.due(), pending) {
        (Some(ip), pending) => {
            let (charged, send) = deps.store.charge_ip_and_send(ip, charge, pending).await?;
            ip_charge.record::<StartError>(charged)?;
            send.ok_or(ServiceError::Fault)?
        }
        (None, Some((store_key, rules))) => deps.store.charge_send(charge, store_key, rules).await?,
        (None, None) => (deps.store.charge(charge).await?, None),
    };
    let code_salt = code_salt.or_else(|| outgoing.code_salt.clone());
    match outcome {
        ChargeOutcome::Admitted { entry, limit_state } => Ok(Charged { entry, limit_state, code_salt }),
        ChargeOutcome::Refused(limit_state) => {
            Err(StartError::Limited(outgoing.ip_charge.or_longer_wait(limit_state)))
        }
    }
}

async fn generate(
    deps: &Dependencies,
    permit: HashPermit,
    store_key: &StoreKey,
    code_salt: Option<CodeSalt>,
) -> Result<(Code, CodeHash), StartError> {
    let code = Code::generate(deps.code_length, &mut SysRng)?;
    let pepper = deps.reloadable.peppers.current().clone();
    let kid = pepper.id().clone();
    // Under another pepper no digest could be compared with both codes, so the one before ends.
    let salt = match code_salt.filter(|code_salt| code_salt.kid == kid) {
        Some(code_salt) => code_salt.salt,
        None => Salt::new(random::bytes()?),
    };
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

/// Ends the code of a refused email, with the verification if no other code of it is good, and
/// refunds the recipient's ledgers if the store allows it. If this fails, the code stays live until
/// it expires, known to nobody, and the charge stays.
async fn undo(deps: &Dependencies, store_key: &StoreKey, ledger: &LedgerKey, code: &CodeId, entry: EntryId) {
    let undone = match deps.store.mark_failed(store_key, code, entry).await {
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

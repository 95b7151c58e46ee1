//! The two simple endpoints: one verification an address, under the store key of its recipient.

use std::net::IpAddr;

use super::attempt::{Approved, Attempt, CheckError, SubmittedCode, attempt};
use super::decision::Decision;
use super::ip_charge::{IpCharge, with_ip_charge};
use super::prove::{Proven, prove};
use super::send::{OutgoingCode, StartError, check_domain_policy, check_mail, live, send};
use super::{Dependencies, WithLimitState};
use crate::domain::details::EncryptedDetails;
use crate::domain::email_address::EmailAddress;
use crate::domain::limits::Action;
use crate::domain::locale::Locale;
use crate::domain::store_key::Recipient;
use crate::domain::verification_id::VerificationId;
use crate::ports::HashPermit;
use crate::random;

/// The purpose in the proofs of the simple endpoints.
const SIMPLE_PURPOSE: &str = "simple";

/// Sends a code.
pub(super) async fn send_otp(
    deps: &Dependencies,
    permit: HashPermit,
    address: &EmailAddress,
    client: IpAddr,
    languages: &[Locale],
) -> WithLimitState<Result<(), StartError>> {
    let index_key = &deps.index_key;
    let recipient = index_key.recipient(deps.reloadable.simple.tenant.clone(), address);
    let decision = &Decision::new(Action::Send, &deps.reloadable.simple.tenant);
    decision.set_email(recipient.email);
    let step_1 = check_domain_policy(deps, address);
    with_ip_charge(deps, &deps.reloadable.simple, decision, Some(client), step_1, async |ip_charge, ()| {
        check_mail(deps, decision, ip_charge, address, false).await?;
        let store_key = index_key.email_key(recipient, address);
        let outgoing = OutgoingCode {
            decision,
            profile: &deps.reloadable.simple,
            ip_charge,
            store_key: &store_key,
            id: None,
            code_salt: None,
            address,
            purpose: None,
            reference: None,
            languages,
            is_test: false,
        };
        let sent = send(deps, permit, &outgoing, async |hash, entry| {
            live(deps.store.open(&store_key, hash, &deps.rules, entry, &EncryptedDetails::default()).await?)
        });
        sent.await.map(|_| ())
    })
    .await
}

/// Checks a code.
pub(super) async fn verify_otp(
    deps: &Dependencies,
    submitted: Option<SubmittedCode>,
    address: &EmailAddress,
    client: IpAddr,
) -> WithLimitState<Result<Approved, CheckError>> {
    let recipient = deps.index_key.recipient(deps.reloadable.simple.tenant.clone(), address);
    let decision = &Decision::new(Action::Attempt, &deps.reloadable.simple.tenant);
    decision.set_email(recipient.email);
    // 1. Reject what cannot be a code. Nothing is charged.
    let step_1 = submitted.ok_or(CheckError::Invalid { left: 0 });
    let profile = &deps.reloadable.simple;
    with_ip_charge(deps, profile, decision, Some(client), step_1, async |ip_charge, submitted| {
        check_address(deps, decision, ip_charge, recipient, address, submitted).await
    })
    .await
}

async fn check_address(
    deps: &Dependencies,
    decision: &Decision<'_>,
    ip_charge: &IpCharge<'_>,
    recipient: Recipient,
    address: &EmailAddress,
    submitted: SubmittedCode,
) -> Result<Approved, CheckError> {
    let profile = &deps.reloadable.simple;
    let charge =
        ip_charge.client_prefix().map(|client| profile.limits.ip_email_attempt_charge(&recipient, &client));
    let store_key = deps.index_key.email_key(recipient, address);
    let of = Attempt { decision, profile, ip_charge, store_key: &store_key, charge };
    let approved = attempt(deps, &of, submitted).await?;
    tracing::info!(tenant.name = profile.tenant.name(), "an address was confirmed");
    // The code is valid for the address in any case of letters, so the proof names the lower-case
    // form.
    let audience = &profile.tenant;
    let purpose = SIMPLE_PURPOSE;
    // Drawn only now, so that a rejected attempt needs no system call. If it failed, the code would
    // be used up; the nonce of the approval came from the same generator just before.
    let id = VerificationId::new(random::bytes()?);
    let address = &address.folded();
    let proof =
        prove(deps, &Proven { audience, address, purpose, id: &id, is_test: false, at: approved.at })?;
    Ok(Approved { proof, is_test: false })
}

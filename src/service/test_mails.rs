//! The emails of sandbox keys: captured instead of sent, and listed for the key that caused them.
//!
//! Must not touch an email that is meant for a person.

use super::Dependencies;
use super::error::{ServiceError, log};
use crate::domain::api_key::KeyHash;
use crate::domain::email_address::EmailAddress;
use crate::domain::reference::Reference;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::test_mail::{EncryptedTestMail, TestMailContent};
use crate::domain::time::Millis;
use crate::domain::verification_id::VerificationId;
use crate::ports::{CodeMail, Delivery, MailError};
use crate::random;

/// A captured email.
pub struct CapturedTestMail {
    /// When it was captured, on the store's clock.
    pub received_at: Millis,
    /// The email.
    pub mail: TestMailContent,
}

/// Composes the email as it would be sent, and stores it for the sandbox key instead. One that
/// cannot be composed or stored as it is counts as refused.
pub(super) async fn capture(
    deps: &Dependencies,
    key: &KeyHash,
    id: Option<&VerificationId>,
    mail: &CodeMail,
) -> Result<Delivery, ServiceError> {
    let content = match deps.reloadable.mailer.compose(mail) {
        Ok(content) => content,
        Err(error) => return Ok(Delivery::Refused(error)),
    };
    let mail = TestMailContent {
        id: id.map(ToString::to_string).unwrap_or_default(),
        to: mail.to.as_str().to_owned(),
        subject: content.subject,
        text: content.text,
        html: content.html,
        code: mail.code.expose().to_owned(),
        reference: mail.reference.as_ref().map(Reference::as_str).unwrap_or_default().to_owned(),
        locale: content.language,
        expires_at: mail.expires_at,
    };
    let mailbox = deps.index_key.test_mailbox(key);
    let pepper = deps.reloadable.peppers.current();
    match EncryptedTestMail::new(&mail, &mailbox, pepper, random::bytes()?) {
        Ok(encrypted) => deps.test_mails.put(&mailbox, &encrypted).await?,
        Err(error) => return Ok(Delivery::Refused(MailError::new(error))),
    }
    Ok(Delivery::Accepted { provider_id: None })
}

/// Returns the captured emails of the profile's sandbox key; a live key has none. One whose pepper
/// has been removed is left out.
pub(super) async fn list(
    deps: &Dependencies,
    profile: &TenantProfile,
    to: Option<&EmailAddress>,
) -> Result<Vec<CapturedTestMail>, ServiceError> {
    let Some(key) = &profile.sandbox_key else { return Ok(Vec::new()) };
    let mailbox = deps.index_key.test_mailbox(key);
    let stored = deps.test_mails.list(&mailbox).await?;
    let captured = stored.iter().filter_map(|stored| {
        let mail = stored.encrypted.open(&mailbox, &deps.reloadable.peppers);
        let mail = mail.inspect_err(|error| log(error, "a test mail could not be decrypted")).ok()?;
        Some(CapturedTestMail { received_at: stored.received_at, mail })
    });
    Ok(captured.filter(|found| to.is_none_or(|to| found.mail.to.eq_ignore_ascii_case(to.as_str()))).collect())
}

//! What the use cases depend on: what stays until the process ends, and what a reload replaces.

use std::sync::Arc;
use std::time::UNIX_EPOCH;

use super::error::log;
use crate::domain::code::CodeLength;
use crate::domain::details::{EncryptedDetails, VerificationDetails};
use crate::domain::domain_policy::DomainPolicy;
use crate::domain::email_address::EmailAddress;
use crate::domain::exempt::ExemptNetworks;
use crate::domain::keyed_hash::IndexKey;
use crate::domain::pepper::Peppers;
use crate::domain::proof::ProofKey;
use crate::domain::store_key::StoreKey;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::test_recipients::TestCode;
use crate::domain::time::{Millis, millis};
use crate::domain::verification::VerificationRules;
use crate::ports::{Clock, Hasher, IdempotencyStore, MailDomains, Mailer, Store, TestMails};

/// Everything that the use cases need.
#[derive(Clone)]
pub struct Dependencies {
    /// Stores verifications and ledgers.
    pub store: Arc<dyn Store>,
    /// Stores idempotency keys.
    pub idempotency: Arc<dyn IdempotencyStore>,
    /// Stores the captured emails of sandbox keys.
    pub test_mails: Arc<dyn TestMails>,
    /// Derives digests.
    pub hasher: Arc<dyn Hasher>,
    /// Keys the hashes that stand for addresses in the store.
    pub index_key: IndexKey,
    /// Tells the time of day, which decides whether a test recipient has expired.
    pub clock: Arc<dyn Clock>,
    /// The number of digits of a new code.
    pub code_length: CodeLength,
    /// The attempts and the lifetime of a verification.
    pub rules: VerificationRules,
    /// Networks whose clients are exempt from the per-IP limits.
    pub exempt: ExemptNetworks,
    /// The most checks that run at once, and the most sends. Further ones are rejected. The two are
    /// counted apart, so that a slow relay does not block checks.
    pub at_once: usize,
    /// What a reload replaces.
    pub reloadable: Arc<ReloadableDependencies>,
}

/// What a reload of the settings replaces.
pub struct ReloadableDependencies {
    /// Secrets outside the store that every digest depends on.
    pub peppers: Peppers,
    /// Sign proofs, if there are any. The first signs; the others only verify what they have
    /// signed.
    pub proof_keys: Vec<ProofKey>,
    /// The `iss` claim of proofs.
    pub issuer: String,
    /// Which domains codes are sent to.
    pub recipients: DomainPolicy,
    /// Which of these domains take mail.
    pub mail_domains: Arc<dyn MailDomains>,
    /// The profile of the simple endpoints.
    pub simple: TenantProfile,
    /// Delivers codes to people.
    pub mailer: Arc<dyn Mailer>,
}

impl Dependencies {
    /// Returns the test code of the address, if it is a test recipient of the tenant now.
    pub(super) fn test_code<'a>(
        &self,
        profile: &'a TenantProfile,
        address: &EmailAddress,
    ) -> Option<&'a TestCode> {
        let now = self.clock.now().duration_since(UNIX_EPOCH).map_or(Millis::MAX, millis);
        profile.test_recipients.active(address, now)
    }

    /// Returns the details of a verification, or `None` if its pepper has been removed. The caller
    /// then treats it as unknown.
    pub(super) fn decrypt(
        &self,
        store_key: &StoreKey,
        encrypted: &EncryptedDetails,
    ) -> Option<VerificationDetails> {
        let opened = encrypted.open(&store_key.associated_data(), &self.reloadable.peppers);
        if let Err(error) = &opened {
            log(error, "a verification could not be decrypted and is treated as unknown");
        }
        opened.ok()
    }
}

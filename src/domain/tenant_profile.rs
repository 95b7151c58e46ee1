//! What a tenant may do, and how its emails are sent.

use super::api_key::KeyHash;
use super::limits::Limits;
use super::purpose::Purposes;
use super::sender::Sender;
use super::tenant::Tenant;
use super::test_recipients::TestRecipients;

/// The settings of a tenant.
#[derive(Debug, Clone)]
pub struct TenantProfile {
    /// The tenant.
    pub tenant: Tenant,
    /// The sender of its emails.
    pub sender: Sender,
    /// The purposes that it may use.
    pub purposes: Purposes,
    /// Its limits.
    pub limits: Limits,
    /// The addresses whose codes the operator has set.
    pub test_recipients: TestRecipients,
    /// In a sandbox, the key that the emails are captured for.
    pub sandbox_key: Option<KeyHash>,
}

impl TenantProfile {
    /// Returns the profile of one of the tenant's sandbox keys: the same settings in the sandbox,
    /// where every address is a test recipient with a code of its own.
    #[must_use]
    pub fn sandbox(&self, key: KeyHash) -> Self {
        Self {
            tenant: self.tenant.sandbox(),
            sandbox_key: Some(key),
            test_recipients: TestRecipients::default(),
            ..self.clone()
        }
    }

    /// Returns whether what it starts are tests, for which no email is sent.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        self.tenant.is_sandbox()
    }
}

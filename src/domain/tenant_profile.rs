//! What a tenant may do, and how its emails are sent.

use super::limits::Limits;
use super::purpose::Purposes;
use super::sender::Sender;
use super::tenant::Tenant;

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
}

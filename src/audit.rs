//! The audit log: each decision once, as an event with a fixed set of fields.
//!
//! An event is a `tracing` event of its own target; `telemetry` writes it. The span of the request
//! adds the request's id and the label of the API key. Must not name a person: email addresses and
//! networks appear as keyed hashes.

use crate::domain::keyed_hash::KeyedHash;

/// The `tracing` target of the events.
pub const TARGET: &str = "audit";

/// One decision.
#[derive(Debug, Clone, Copy, Default)]
pub struct AuditEvent<'a> {
    /// What was decided on: `send`, `attempt`, `cancel`, `authentication`, `request`, `reload` or
    /// `unblock`.
    pub event: &'static str,
    /// What was decided, as in the metrics.
    pub outcome: &'static str,
    /// The policy whose limit was exceeded.
    pub policy: Option<&'static str>,
    /// The tenant.
    pub tenant: Option<&'a str>,
    /// Stands for the email address of the recipient.
    pub email: Option<KeyedHash>,
    /// Stands for the network of the client: the IPv4 address or the IPv6 /48.
    pub client: Option<KeyedHash>,
    /// Stands for the id of the verification.
    pub verification: Option<KeyedHash>,
}

impl AuditEvent<'_> {
    /// Writes the event to the audit log.
    pub fn record(&self) {
        tracing::info!(
            target: TARGET,
            event = self.event,
            outcome = self.outcome,
            policy = self.policy,
            tenant.name = self.tenant,
            email.hash = self.email.map(display),
            client.hash = self.client.map(display),
            verification.hash = self.verification.map(display),
        );
    }
}

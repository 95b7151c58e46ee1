//! The audit log: each decision once, as an event with a fixed set of fields.
//!
//! An event is a `tracing` event of its own target; `telemetry` writes it. The span of the request
//! adds the request's id and the label of the API key. Must not name a person: email addresses and
//! networks appear as keyed hashes.

use crate::domain::keyed_hash::KeyedHash;

/// The `tracing` target of the events.
pub const TARGET: &str = "audit";
/// The `tracing` target of requests that were rejected before any use case.
pub const REJECTIONS: &str = "audit::rejections";

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
    /// The provider's id of the email that was sent.
    pub provider_id: Option<&'a str>,
    /// `true` if it was a test, for which no email is sent.
    pub test: Option<bool>,
}

/// Writes an event with this target.
macro_rules! record {
    ($target:ident, $event:ident) => {
        tracing::info!(
            target: $target,
            event = $event.event,
            outcome = $event.outcome,
            policy = $event.policy,
            tenant.name = $event.tenant,
            email.hash = $event.email.map(display),
            client.hash = $event.client.map(display),
            verification.hash = $event.verification.map(display),
            email.provider_id = $event.provider_id,
            verification.test = $event.test,
        )
    };
}

impl AuditEvent<'_> {
    /// Writes the event to the audit log.
    pub fn record(&self) {
        record!(TARGET, self);
    }

    /// Writes the event of a request that was rejected before any use case. Such events have a
    /// share of the queue, so that a flood of requests does not displace other decisions.
    pub fn record_rejection(&self) {
        record!(REJECTIONS, self);
    }
}

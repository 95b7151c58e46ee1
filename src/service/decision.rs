//! A decision on a send or an attempt, which ends in one event of the audit log and one of the
//! metrics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ServiceError, StartError, UseCaseError};
use crate::audit::AuditEvent;
use crate::domain::keyed_hash::KeyedHash;
use crate::domain::limit::Policy;
use crate::domain::limits::Action;
use crate::domain::provider_id::ProviderId;
use crate::domain::store_key::StoreKey;
use crate::domain::tenant::Tenant;
use crate::metrics::metrics;

/// A decision in progress. What it is about is added as it becomes known. If it is dropped before
/// its end, because its use case panicked, it ends with a fault.
pub(super) struct Decision<'a> {
    pub(super) action: Action,
    tenant: &'a Tenant,
    email: OnceLock<KeyedHash>,
    client: OnceLock<KeyedHash>,
    verification: OnceLock<KeyedHash>,
    refused_by: OnceLock<Policy>,
    provider_id: OnceLock<ProviderId>,
    is_test: AtomicBool,
    is_ended: AtomicBool,
}

impl<'a> Decision<'a> {
    pub(super) fn new(action: Action, tenant: &'a Tenant) -> Self {
        Self {
            action,
            tenant,
            email: OnceLock::new(),
            client: OnceLock::new(),
            verification: OnceLock::new(),
            refused_by: OnceLock::new(),
            provider_id: OnceLock::new(),
            is_test: AtomicBool::new(tenant.is_sandbox()),
            is_ended: AtomicBool::new(false),
        }
    }

    /// Adds the recipient.
    pub(super) fn set_email(&self, email: KeyedHash) {
        let _ = self.email.set(email);
    }

    /// Adds the network of the client.
    pub(super) fn set_client(&self, client: KeyedHash) {
        let _ = self.client.set(client);
    }

    /// Adds the verification, if it has an id.
    pub(super) fn set_verification(&self, store_key: &StoreKey) {
        if let Some(id) = store_key.id() {
            let _ = self.verification.set(id);
        }
    }

    /// Adds the policy of a limit that is not reported to the caller.
    pub(super) fn set_refused_by(&self, policy: Policy) {
        let _ = self.refused_by.set(policy);
    }

    /// Adds the provider's id of the email.
    pub(super) fn set_provider_id(&self, id: ProviderId) {
        let _ = self.provider_id.set(id);
    }

    /// Marks it as one on a test. What a sandbox starts is one from the beginning.
    pub(super) fn set_test(&self) {
        self.is_test.store(true, Ordering::Relaxed);
    }

    /// Counts and records the outcome.
    pub(super) fn end<T, E: UseCaseError>(&self, outcome: &Result<T, E>) {
        self.is_ended.store(true, Ordering::Relaxed);
        let tenant = self.tenant.name();
        let error = outcome.as_ref().err();
        let reported = error.and_then(UseCaseError::limited).map(|limit_state| limit_state.policy);
        let policy = reported.or(self.refused_by.get().copied()).map(Policy::name);
        let (event, outcome) = match self.action {
            Action::Send => ("send", error.map_or("sent", UseCaseError::outcome)),
            Action::Attempt => ("attempt", error.map_or("approved", UseCaseError::outcome)),
        };
        match self.action {
            Action::Send => metrics().send(tenant, outcome),
            Action::Attempt => metrics().attempt(tenant, outcome),
        }
        let is_test = self.is_test.load(Ordering::Relaxed);
        if is_test && self.action == Action::Send && error.is_none() {
            metrics().test_sends(tenant).inc();
        }
        if let Some(policy) = policy {
            metrics().rate_limited(policy);
        }
        let event = AuditEvent {
            event,
            outcome,
            policy,
            tenant: Some(tenant),
            email: self.email.get().copied(),
            client: self.client.get().copied(),
            verification: self.verification.get().copied(),
            provider_id: self.provider_id.get().map(ProviderId::as_str),
            test: is_test.then_some(true),
        };
        event.record();
    }
}

impl Drop for Decision<'_> {
    fn drop(&mut self) {
        if !*self.is_ended.get_mut() {
            self.end::<(), _>(&Err(StartError::from(ServiceError::Fault)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_ends_once_and_one_that_a_panic_drops_ends_with_a_fault() {
        let tenant = Tenant::parse("of-a-test").unwrap();
        Decision::new(Action::Send, &tenant).end::<(), StartError>(&Ok(()));
        drop(Decision::new(Action::Attempt, &tenant));
        let text = metrics().text();
        let of_tenant: Vec<_> = text.lines().filter(|line| line.contains("of-a-test")).collect();
        let expected = [
            r#"otpd_sends_total{tenant="of-a-test",outcome="sent"} 1"#,
            r#"otpd_attempts_total{tenant="of-a-test",outcome="error"} 1"#,
        ];
        assert_eq!(of_tenant, expected);
    }
}

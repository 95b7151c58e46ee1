//! Honest throttling: what a caller is told of its limits (RFC 6585 section 4, and the structured fields of
//! draft-ietf-httpapi-ratelimit-headers).
//!
//! Must not tell of a ledger but those of the caller's own network, save where one of a subject refuses.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use poem::Response;
use poem::http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::ledger::LimitState;

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Where a handler leaves what the caller is to be told of its limits.
#[derive(Debug, Clone, Default)]
pub struct LimitReport(Arc<Mutex<Items>>);

/// Items of the two lists.
#[derive(Debug, Default)]
struct Items {
    policies: Vec<String>,
    states: Vec<String>,
}

impl LimitReport {
    /// Leaves how a ledger stands.
    pub fn show(&self, limit_state: LimitState) {
        let (name, window) = (limit_state.policy.name(), limit_state.window);
        let policy = format!("\"{name}\";q={};w={}", window.most, window.span.as_secs());
        let reset = seconds(limit_state.reset.max(limit_state.wait));
        self.add(policy, format!("\"{name}\";r={};t={reset}", limit_state.remaining));
    }

    /// Leaves an item of each list.
    pub fn add(&self, policy: String, state: String) {
        let mut items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        items.policies.push(policy);
        items.states.push(state);
    }

    /// Puts them into the answer.
    pub fn mark(&self, response: &mut Response) {
        let items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !items.policies.is_empty() {
            set(response.headers_mut(), &items.policies.join(", "), &items.states.join(", "));
        }
    }
}

/// Sets both headers.
pub fn set(headers: &mut HeaderMap, policy: &str, state: &str) {
    for (header, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(header, value);
        }
    }
}

/// Whole seconds, rounded up: after them it is surely over.
pub fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

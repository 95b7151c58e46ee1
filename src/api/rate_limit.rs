//! The headers that report limits: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers), next to 429 (RFC 6585 section 4).
//!
//! Must report only limits of the caller's own IP or key, and a limit per email only if it rejected
//! the request.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use poem::Response;
use poem::http::{HeaderMap, HeaderName, HeaderValue};

use crate::audit::AuditEvent;
use crate::domain::ledger::LimitState;
use crate::metrics::metrics;
use crate::service::WithLimitState;

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Collects the limits to report in the response to one request.
#[derive(Debug, Clone, Default)]
pub(super) struct LimitReport(Arc<Mutex<Items>>);

/// The items of the two header lists.
#[derive(Debug, Default)]
struct Items {
    policies: Vec<String>,
    states: Vec<String>,
}

impl LimitReport {
    /// Adds the state of a ledger's tightest limit.
    pub(super) fn show(&self, limit_state: LimitState) {
        let name = limit_state.policy.name();
        let window = limit_state.window;
        let policy = format!("\"{name}\";q={};w={}", window.most, window.span.as_secs());
        let reset = seconds(limit_state.reset.max(limit_state.wait));
        self.add(policy, format!("\"{name}\";r={};t={reset}", limit_state.remaining));
    }

    /// Adds one item to each list.
    pub(super) fn add(&self, policy: String, state: String) {
        let mut items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        items.policies.push(policy);
        items.states.push(state);
    }

    /// Sets the headers of a response.
    pub(super) fn add_headers(&self, response: &mut Response) {
        let items = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !items.policies.is_empty() {
            set(response.headers_mut(), &items.policies.join(", "), &items.states.join(", "));
        }
    }
}

/// Counts a request that a limit in the memory of this process refused, and records it in the audit
/// log.
pub(super) fn record_refusal(policy: &'static str, tenant: Option<&str>) {
    metrics().rate_limited(policy);
    let refused = AuditEvent { event: "request", outcome: "rate_limited", ..AuditEvent::default() };
    AuditEvent { policy: Some(policy), tenant, ..refused }.record_rejection();
}

/// Records the limit state for the response headers and returns the outcome.
pub(super) fn report_limits<T, E>(
    result: WithLimitState<Result<T, E>>,
    report: &LimitReport,
) -> Result<T, E> {
    if let Some(limit_state) = result.limit_state {
        report.show(limit_state);
    }
    result.outcome
}

/// Sets both headers.
pub(super) fn set(headers: &mut HeaderMap, policy: &str, state: &str) {
    for (header, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(header, value);
        }
    }
}

/// Returns whole seconds, rounded up so that the wait is over by then.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

//! The headers that report limits: `RateLimit` and `RateLimit-Policy`
//! (draft-ietf-httpapi-ratelimit-headers), next to 429 (RFC 6585 section 4).
//!
//! Must report only limits of the caller's own IP or key, and a limit per email only if it rejected
//! the request.

use std::fmt::{self, Write as _};
use std::mem;
use std::sync::{Mutex, PoisonError};
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
#[derive(Debug, Default)]
pub(super) struct LimitReport(Mutex<Lists>);

/// The two header lists.
#[derive(Debug, Default)]
struct Lists {
    policies: String,
    states: String,
}

impl LimitReport {
    /// Adds the state of a ledger's tightest limit.
    pub(super) fn show(&self, limit_state: LimitState) {
        let name = limit_state.policy.name();
        let window = limit_state.window;
        let reset = seconds(limit_state.reset.max(limit_state.wait));
        self.add(
            format_args!("\"{name}\";q={};w={}", window.most, window.span.as_secs()),
            format_args!("\"{name}\";r={};t={reset}", limit_state.remaining),
        );
    }

    /// Adds one item to each list.
    pub(super) fn add(&self, policy: fmt::Arguments<'_>, state: fmt::Arguments<'_>) {
        let mut lists = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Lists { policies, states } = &mut *lists;
        for (list, item) in [(policies, policy), (states, state)] {
            let comma = if list.is_empty() { "" } else { ", " };
            list.reserve(48);
            // Writing to a string does not fail.
            let _ = write!(list, "{comma}{item}");
        }
    }

    /// Sets the headers of a response.
    pub(super) fn add_headers(&self, response: &mut Response) {
        let lists = mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        if !lists.policies.is_empty() {
            set(response.headers_mut(), lists.policies, lists.states);
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
pub(super) fn set(headers: &mut HeaderMap, policy: String, state: String) {
    for (header, text) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
        if let Ok(value) = HeaderValue::try_from(text) {
            headers.insert(header, value);
        }
    }
}

/// Returns whole seconds, rounded up so that the wait is over by then.
pub(super) fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

//! Honest throttling: what a caller is told of its limits (RFC 6585 section 4, and the structured fields of
//! draft-ietf-httpapi-ratelimit-headers).
//!
//! Must not tell of a ledger but those of the caller's own network, save where one of a subject refuses.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use poem::Response;
use poem::http::{HeaderMap, HeaderName, HeaderValue};

use crate::domain::ledger::Standing;

const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// Where a handler leaves what the caller is to be told of its limits.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<OnceLock<Standing>>);

impl Meter {
    /// Leaves it.
    pub fn show(&self, standing: Standing) {
        // One request is metered once.
        let _ = self.0.set(standing);
    }

    /// Puts it into the answer.
    pub fn mark(&self, response: &mut Response) {
        let Some(standing) = self.0.get() else { return };
        let (name, window) = (standing.ledger.name(), standing.window);
        let policy = format!("\"{name}\";q={};w={}", window.most, window.span.as_secs());
        let reset = seconds(standing.reset.max(standing.wait));
        let state = format!("\"{name}\";r={};t={reset}", standing.remaining);
        set(response.headers_mut(), &policy, &state);
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

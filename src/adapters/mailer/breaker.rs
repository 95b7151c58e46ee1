//! Circuit breaker of a transport: stops connecting while it is down, so that no request waits
//! for it in vain, and tries again after a while.
//!
//! Must not count replies, such as that the other side is busy: only the absence of any.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::metrics::Gauge;

/// Number of consecutive attempts without a reply that opens the breaker.
const MAX_FAILURES: u32 = 5;
/// Minimum time for an attempt; a shorter one does not count as a failure.
const MIN_TIME: Duration = Duration::from_secs(3);
/// Time between two trial connections while the breaker is open.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// The circuit breaker of one transport.
#[derive(Debug, Default)]
pub struct Breaker {
    state: Mutex<BreakerState>,
    /// 1 while it is open. Set under the lock, so that it agrees with the state.
    open: Gauge,
}

#[derive(Debug, Default)]
struct BreakerState {
    failures: u32,
    open_until: Option<Instant>,
    /// Time of the last reply.
    last_success: Option<Instant>,
}

impl Breaker {
    /// Creates a closed breaker. `open` shows its state.
    #[must_use]
    pub fn new(open: Gauge) -> Self {
        open.set(0);
        Self { state: Mutex::default(), open }
    }

    /// Returns whether an attempt may be made. While the breaker is open, allows one in each
    /// [`OPEN_TIMEOUT`] (half-open).
    pub fn admits(&self, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.open_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.open_until = Some(now + OPEN_TIMEOUT);
                true
            }
            None => true,
        }
    }

    /// Records a reply and closes the breaker.
    pub fn succeeded(&self, now: Instant) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *state = BreakerState { last_success: Some(now), ..BreakerState::default() };
        self.open.set(0);
    }

    /// Records that an attempt at `transport`, which began at `begun` and had time until `limit`,
    /// got no reply. An attempt with too little time says nothing about the transport.
    pub fn no_reply(&self, transport: &str, error: &impl Display, begun: Instant, limit: Instant) {
        let is_fair = limit.saturating_duration_since(begun) >= MIN_TIME;
        if is_fair && self.failed(begun, Instant::now()) {
            let error = error.to_string();
            tracing::error!(relay = transport, error, "a relay is down: it is not used for a while");
        }
    }

    /// Records that an attempt that began at `begun` got no reply. Returns whether this opens the
    /// breaker.
    fn failed(&self, begun: Instant, now: Instant) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.last_success.is_some_and(|last_success| begun < last_success) {
            // It has replied to another attempt in the meantime.
            return false;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures < MAX_FAILURES {
            return false;
        }
        self.open.set(1);
        state.open_until.replace(now + OPEN_TIMEOUT).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_open_the_breaker_and_one_attempt_at_a_time_tries_again() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for _ in 1..MAX_FAILURES {
            assert!(breaker.admits(start) && !breaker.failed(start, start));
        }
        assert!(breaker.failed(start, start), "the last failure opens it");
        assert!(!breaker.admits(start + OPEN_TIMEOUT - Duration::from_millis(1)));
        let later = start + OPEN_TIMEOUT;
        assert_eq!([breaker.admits(later), breaker.admits(later)], [true, false], "one trial alone");
        assert!(!breaker.failed(later, later), "it is open already");
        assert!(!breaker.admits(later + OPEN_TIMEOUT / 2));
        assert!(breaker.admits(later + OPEN_TIMEOUT));
        breaker.succeeded(later);
        assert_eq!([breaker.admits(later), breaker.admits(later)], [true, true]);
        for _ in 0..MAX_FAILURES {
            assert!(!breaker.failed(start, later), "an attempt that began before the success says nothing");
        }
        assert!(breaker.admits(later));
    }

    #[test]
    fn a_success_between_failures_keeps_it_closed() {
        let breaker = Breaker::default();
        let now = Instant::now();
        for _ in 0..3 * MAX_FAILURES {
            breaker.failed(now, now);
            breaker.succeeded(now);
        }
        assert!(breaker.admits(now));
    }
}

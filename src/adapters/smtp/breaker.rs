//! Leaves a relay alone that cannot be reached, so that nobody waits for it in vain, and tries again after a while.
//!
//! Must not count what a relay says of one mail: only that no conversation came to be.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many failures in a row to begin a conversation say that the relay is down.
const FAILURES: u32 = 5;
/// How long it is left alone then, before one attempt is let through.
const REST: Duration = Duration::from_secs(5);

/// What is known of a relay.
#[derive(Debug, Default)]
pub struct Breaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    failures: u32,
    rests_until: Option<Instant>,
}

impl Breaker {
    /// Whether the relay may be spoken to now. While it rests, one caller in each [`REST`] may.
    pub fn admits(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.rests_until {
            Some(until) if now < until => false,
            Some(_) => {
                state.rests_until = Some(now + REST);
                true
            }
            None => true,
        }
    }

    /// A conversation came to be.
    pub fn succeeded(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// None came to be. Gives whether that begins a rest.
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.failures = state.failures.saturating_add(1);
        if state.failures < FAILURES {
            return false;
        }
        state.rests_until.replace(now + REST).is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_rests_after_failures_in_a_row_and_is_tried_by_one_at_a_time() {
        let breaker = Breaker::default();
        let start = Instant::now();
        for _ in 1..FAILURES {
            assert!(breaker.admits(start) && !breaker.failed(start));
        }
        assert!(breaker.failed(start), "the last failure begins the rest");
        assert!(!breaker.admits(start + REST - Duration::from_millis(1)));
        let later = start + REST;
        assert_eq!([breaker.admits(later), breaker.admits(later)], [true, false], "one attempt alone");
        assert!(!breaker.failed(later), "it rests already");
        assert!(!breaker.admits(later + REST / 2));
        assert!(breaker.admits(later + REST));
        breaker.succeeded();
        assert_eq!([breaker.admits(later), breaker.admits(later)], [true, true]);
    }

    #[test]
    fn a_success_between_failures_keeps_it_awake() {
        let breaker = Breaker::default();
        let now = Instant::now();
        for _ in 0..3 * FAILURES {
            breaker.failed(now);
            breaker.succeeded();
        }
        assert!(breaker.admits(now));
    }
}

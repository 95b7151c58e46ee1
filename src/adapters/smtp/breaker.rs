//! Leaves a relay alone that cannot be reached, so that nobody waits for it in vain, and tries again after a while.
//!
//! Must not count what a relay says, such as that it is busy: only that it says nothing.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// So many attempts in a row that were not answered say that the relay is down.
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
    /// When it was last known to be well.
    well_at: Option<Instant>,
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

    /// The relay has answered.
    pub fn succeeded(&self, now: Instant) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *state = State { well_at: Some(now), ..State::default() };
    }

    /// It did not answer who tried since `begun`. Gives whether that begins a rest.
    pub fn failed(&self, begun: Instant, now: Instant) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.well_at.is_some_and(|well_at| begun < well_at) {
            // It has answered others since.
            return false;
        }
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
            assert!(breaker.admits(start) && !breaker.failed(start, start));
        }
        assert!(breaker.failed(start, start), "the last failure begins the rest");
        assert!(!breaker.admits(start + REST - Duration::from_millis(1)));
        let later = start + REST;
        assert_eq!([breaker.admits(later), breaker.admits(later)], [true, false], "one attempt alone");
        assert!(!breaker.failed(later, later), "it rests already");
        assert!(!breaker.admits(later + REST / 2));
        assert!(breaker.admits(later + REST));
        breaker.succeeded(later);
        assert_eq!([breaker.admits(later), breaker.admits(later)], [true, true]);
        for _ in 0..FAILURES {
            assert!(!breaker.failed(start, later), "who began before knows nothing");
        }
        assert!(breaker.admits(later));
    }

    #[test]
    fn a_success_between_failures_keeps_it_awake() {
        let breaker = Breaker::default();
        let now = Instant::now();
        for _ in 0..3 * FAILURES {
            breaker.failed(now, now);
            breaker.succeeded(now);
        }
        assert!(breaker.admits(now));
    }
}

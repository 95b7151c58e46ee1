//! The system clock: the only code that reads the time of day.

use std::time::SystemTime;

use crate::ports::Clock;

/// Reads the time of day from the system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the time of day")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

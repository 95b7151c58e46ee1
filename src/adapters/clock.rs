//! The system's clock: the one home of the ambient time of day.

use std::time::SystemTime;

use crate::ports::Clock;

/// The time of day as the system has it.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one home of the time of day")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

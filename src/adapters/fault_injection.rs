//! Injects faults in `otpd dev --fail`, at the ports where they arise in production: the mailer and
//! the store.
//!
//! The responses are those of the real code, because everything above the ports is real. Must not
//! be used outside of `otpd dev`.

mod mailer;
mod store;

use tokio::sync::broadcast;

pub use self::mailer::FaultyMailer;
pub use self::store::FaultyStore;
use crate::domain::fault_plan::{FaultPlan, InjectedFault};
use crate::random::{self, SysError};

/// Draws faults, and announces those that are injected.
pub struct FaultInjector {
    plan: FaultPlan,
    injected: broadcast::Sender<InjectedFault>,
}

impl FaultInjector {
    /// Creates an injector for this plan, which announces faults to `injected`.
    #[must_use]
    pub fn new(plan: FaultPlan, injected: broadcast::Sender<InjectedFault>) -> Self {
        Self { plan, injected }
    }

    /// Draws whether to inject the fault.
    fn injects(&self, fault: InjectedFault) -> Result<bool, SysError> {
        let is_hit = self.plan.is_hit(fault, draw()?);
        if is_hit {
            tracing::info!(fault.name = fault.name(), "a fault was injected on purpose");
            // Fails if no page is open.
            let _ = self.injected.send(fault);
        }
        Ok(is_hit)
    }
}

/// Returns a number from 0 to 99. All are equally likely, up to one part in 40 million.
fn draw() -> Result<u8, SysError> {
    let number = u64::from(u32::from_be_bytes(random::bytes()?));
    Ok(u8::try_from((number * 100) >> u32::BITS).unwrap_or_default())
}

/// Returns the cause of an injected failure, for the log.
fn cause(fault: InjectedFault) -> String {
    format!("injected on purpose by --fail {}", fault.name())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_draws_are_equally_likely() {
        const DRAWS: usize = 100_000;
        let mut counts = [0_usize; 100];
        for _ in 0..DRAWS {
            counts[usize::from(draw().unwrap())] += 1;
        }
        // Eight standard deviations of 31 from the mean of 1000.
        for (number, count) in counts.into_iter().enumerate() {
            assert!((750..=1250).contains(&count), "{number}: {count}");
        }
    }
}

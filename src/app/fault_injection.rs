//! Puts the faults of `otpd dev --fail` in front of its store and its mailer.
//!
//! Must not be used by `otpd serve`.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::adapters::fault_injection::{FaultInjector, FaultyMailer, FaultyStore};
use crate::domain::fault_plan::{FaultPlan, InjectedFault};
use crate::ports::{Mailer, Store};

/// How many faults are kept for a page that reads slowly.
const AHEAD: usize = 64;

/// The ports of `otpd dev`, with the faults of its plan.
pub(super) struct FaultyPorts {
    pub store: Arc<dyn Store>,
    pub mailer: Arc<dyn Mailer>,
    /// Announces each fault that is injected.
    pub injected: broadcast::Sender<InjectedFault>,
}

impl FaultyPorts {
    /// Leaves both ports as they are if the plan has no fault.
    pub(super) fn new(plan: FaultPlan, store: Arc<dyn Store>, mailer: Arc<dyn Mailer>) -> Self {
        let injected = broadcast::Sender::new(AHEAD);
        if plan.is_empty() {
            return Self { store, mailer, injected };
        }
        let injector = Arc::new(FaultInjector::new(plan, injected.clone()));
        Self {
            store: Arc::new(FaultyStore::new(store, Arc::clone(&injector))),
            mailer: Arc::new(FaultyMailer::new(mailer, injector)),
            injected,
        }
    }
}

//! One relay, its connections, and what is known of its health.
//!
//! Must not keep a connection whose exchange did not end cleanly, and must not take what an old connection says for the
//! relay's last word.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::breaker::Breaker;
use super::connection::{Envelope, Handover, Relay, Session};
use super::fault::{Cause, Fault, Step};

/// A connection idle for longer is not used again: relays hang up after a minute or a few.
const IDLE: Duration = Duration::from_secs(30);
/// How long a connection that was idle may take for its first answer before it counts as dead.
const WAKES: Duration = Duration::from_secs(2);

/// By when a mail must have got how far.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// The message must be under way by then: behind it another relay may have its turn.
    pub begin: Instant,
    /// All must be over by then.
    pub end: Instant,
}

/// One relay and the connections to it.
pub struct Pool {
    relay: Relay,
    /// As whom it is greeted.
    hello: String,
    /// One permit a connection: the library's pool would bound idle ones only.
    connections: Semaphore,
    idle: Mutex<Vec<(Session, Instant)>>,
    breaker: Breaker,
}

impl Pool {
    /// At most `connections` at a time to this relay; none is made yet.
    pub fn new(relay: Relay, hello: String, connections: usize) -> Self {
        let connections = Semaphore::new(connections);
        Self { relay, hello, connections, idle: Mutex::default(), breaker: Breaker::default() }
    }

    /// Connects and logs in.
    pub async fn connect(&self, by: Instant) -> Result<Session, Fault> {
        let connecting = timeout_at(by, self.relay.connect(&self.hello));
        connecting.await.unwrap_or(Err(Fault::timeout(Step::Connect)))
    }

    /// Tries once to hand a mail over.
    pub async fn attempt(&self, mail: &Envelope<'_>, deadlines: Deadlines) -> Result<(), Handover> {
        let _permit = timeout_at(deadlines.begin, self.connections.acquire())
            .await
            .map_err(|_| Handover::Refused(Fault::timeout(Step::Connect)))?;
        // What an old connection says may be about the connection; as long as nothing was under way, a fresh one is asked.
        while let Some(mut session) = self.take_idle() {
            let wakes = deadlines.begin.min(Instant::now() + WAKES);
            match session.hand_over(mail, wakes, deadlines).await {
                Err(Handover::Refused(fault)) if fault.is_hang_up() => {}
                Err(Handover::Refused(fault)) if fault.may_be_about_the_connection() => break,
                outcome => return self.keep(session, outcome),
            }
        }
        let mut session = self.connect_unless_down(deadlines.begin).await.map_err(Handover::Refused)?;
        let outcome = session.hand_over(mail, deadlines.begin, deadlines).await;
        self.keep(session, outcome)
    }

    async fn connect_unless_down(&self, by: Instant) -> Result<Session, Fault> {
        if !self.breaker.admits(Instant::now()) {
            return Err(Fault { step: Step::Connect, cause: Cause::Rests });
        }
        let session = self.connect(by).await;
        match &session {
            Ok(_) => self.breaker.succeeded(),
            Err(fault) if self.breaker.failed(Instant::now()) => {
                tracing::error!(fault = fault.to_string(), "a relay is down: it is left alone for a while");
            }
            Err(_) => {}
        }
        session
    }

    fn take_idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (session, since) = idle.pop()?;
        if since.elapsed() > IDLE {
            // The youngest is on top: all below are older.
            idle.clear();
            return None;
        }
        Some(session)
    }

    fn keep(&self, session: Session, outcome: Result<(), Handover>) -> Result<(), Handover> {
        if outcome.is_ok() {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((session, Instant::now()));
        }
        outcome
    }
}

//! One relay, its connections, and what is known of its health.
//!
//! Must not keep a connection whose exchange did not end cleanly, and must not take what an old connection says for the
//! relay's last word.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::breaker::Breaker;
use super::connection::{Deadlines, Envelope, Handover, Relay, Session};
use super::fault::{Cause, Fault, Step};

/// A connection idle for longer is not used again: relays hang up after a minute or a few.
const IDLE: Duration = Duration::from_secs(30);
/// How long a connection that was idle may take for its first answer before it counts as dead.
const WAKES: Duration = Duration::from_secs(2);
/// An attempt that had less time to connect says nothing of the relay.
const FAIR: Duration = Duration::from_secs(3);
/// How long to wait for a connection of ours to be free at a relay that takes no more of them.
const ANOTHER_LOOK: Duration = Duration::from_secs(1);

/// One relay and the connections to it.
pub struct Pool {
    relay: Relay,
    /// As whom it is greeted.
    hello: String,
    /// One permit a connection: the library's pool would bound idle ones only.
    connections: Semaphore,
    idle: Mutex<Vec<(Connection, Instant)>>,
    /// Told of each mail that has ended, whose connection another may use, or make one in its place.
    ended: Notify,
    /// Shared by all connections that are open.
    open: Arc<()>,
    breaker: Breaker,
}

/// An open connection; it counts as long as it lives.
struct Connection {
    session: Session,
    _open: Arc<()>,
}

impl Pool {
    /// At most `connections` at a time to this relay; none is made yet.
    pub fn new(relay: Relay, hello: String, connections: usize) -> Self {
        Self {
            relay,
            hello,
            connections: Semaphore::new(connections),
            idle: Mutex::default(),
            ended: Notify::new(),
            open: Arc::default(),
            breaker: Breaker::default(),
        }
    }

    /// The relay's name.
    pub fn host(&self) -> &str {
        &self.relay.host
    }

    /// Connects and logs in.
    pub async fn connect(&self, by: Instant) -> Result<Session, Fault> {
        self.relay.connect(&self.hello, by).await
    }

    /// Tries to hand a mail over, until a connection that is not old has been asked.
    pub async fn attempt(&self, mail: &Envelope<'_>, deadlines: Deadlines) -> Result<(), Handover> {
        let _permit = timeout_at(deadlines.begin, self.connections.acquire())
            .await
            .map_err(|_| Handover::Refused(Fault { step: Step::Connect, cause: Cause::NoneFree }))?;
        let outcome = self.over_some_connection(mail, deadlines).await;
        self.ended.notify_one();
        outcome
    }

    async fn over_some_connection(&self, mail: &Envelope<'_>, deadlines: Deadlines) -> Result<(), Handover> {
        loop {
            if let Some(outcome) = self.over_an_idle_one(mail, deadlines).await {
                return outcome;
            }
            let fault = match self.connect_unless_down(deadlines.begin).await {
                Ok(connection) => return self.hand_over(connection, mail, deadlines).await,
                Err(fault) => fault,
            };
            // A relay that puts us off while others of ours are open takes no more of them: one will soon be free.
            if !(fault.puts_a_connection_off() && self.has_open_ones()) {
                return Err(Handover::Refused(fault));
            }
            let soon = deadlines.begin.min(Instant::now() + ANOTHER_LOOK);
            let _ = timeout_at(soon, self.ended.notified()).await;
            if Instant::now() >= deadlines.begin {
                return Err(Handover::Refused(fault));
            }
        }
    }

    /// `None` where no idle connection says anything that can be believed. What an old one says may be about the
    /// connection; as long as nothing was taken for sure, another may be asked.
    async fn over_an_idle_one(
        &self,
        mail: &Envelope<'_>,
        deadlines: Deadlines,
    ) -> Option<Result<(), Handover>> {
        while let Some(connection) = self.take_idle() {
            let first = deadlines.first.min(Instant::now() + WAKES);
            match self.hand_over(connection, mail, Deadlines { first, ..deadlines }).await {
                // What ended before the message was said costs nothing to say on the next.
                Err(Handover::Refused(fault)) if fault.is_hang_up() && fault.step() != Step::Message => {}
                Err(Handover::Refused(fault)) if fault.may_be_about_the_connection() => return None,
                outcome => return Some(outcome),
            }
        }
        None
    }

    /// Hands a mail over, and keeps the connection if all went well.
    async fn hand_over(
        &self,
        mut connection: Connection,
        mail: &Envelope<'_>,
        deadlines: Deadlines,
    ) -> Result<(), Handover> {
        connection.session.hand_over(mail, deadlines).await?;
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() <= IDLE);
        idle.push((connection, Instant::now()));
        Ok(())
    }

    async fn connect_unless_down(&self, by: Instant) -> Result<Connection, Fault> {
        if !self.breaker.admits(Instant::now()) {
            return Err(Fault { step: Step::Connect, cause: Cause::Rests });
        }
        let begun = Instant::now();
        let connected = self.connect(by).await;
        match &connected {
            Err(fault) if !fault.is_an_answer() => {
                // Who had no time left to try knows nothing.
                let is_fair = by.saturating_duration_since(begun) >= FAIR;
                if is_fair && self.breaker.failed(begun, Instant::now()) {
                    let (relay, fault) = (self.host(), fault.to_string());
                    tracing::error!(relay, fault, "a relay is down: it is left alone for a while");
                }
            }
            _ => self.breaker.succeeded(Instant::now()),
        }
        Ok(Connection { session: connected?, _open: Arc::clone(&self.open) })
    }

    fn has_open_ones(&self) -> bool {
        Arc::strong_count(&self.open) > 1
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() <= IDLE);
        idle.pop().map(|(connection, _)| connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

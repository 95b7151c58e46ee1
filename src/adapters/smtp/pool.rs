//! One relay, its connections, and what is known of its health.
//!
//! Must not keep a connection whose exchange did not end cleanly, and must not take what an old connection says for the
//! relay's last word.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::breaker::Breaker;
use super::connection::{Deadlines, Envelope, HandoverError, Relay, Session};
use super::error::{Cause, SendError, Stage};

/// A connection idle for longer is not used again: relays hang up after a minute or a few.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection that was idle may take for its first answer before it counts as dead.
const WAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// An attempt that had less time to connect says nothing of the relay.
const MIN_CONNECT_TIME: Duration = Duration::from_secs(3);
/// How long to wait for a connection of ours to be free at a relay that takes no more of them.
const POOL_RETRY_DELAY: Duration = Duration::from_secs(1);

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
    pub async fn connect(&self, by: Instant) -> Result<Session, SendError> {
        self.relay.connect(&self.hello, by).await
    }

    /// Tries to hand a mail over, until a connection that is not old has been asked.
    pub async fn attempt(&self, mail: &Envelope<'_>, deadlines: Deadlines) -> Result<(), HandoverError> {
        let _permit = timeout_at(deadlines.begin, self.connections.acquire()).await.map_err(|_| {
            HandoverError::Refused(SendError { stage: Stage::Connect, cause: Cause::NoneFree })
        })?;
        let outcome = self.send_over_a_connection(mail, deadlines).await;
        self.ended.notify_one();
        outcome
    }

    async fn send_over_a_connection(
        &self,
        mail: &Envelope<'_>,
        deadlines: Deadlines,
    ) -> Result<(), HandoverError> {
        loop {
            if let Some(outcome) = self.send_over_an_idle_connection(mail, deadlines).await {
                return outcome;
            }
            let error = match self.connect_unless_down(deadlines.begin).await {
                Ok(connection) => return self.hand_over(connection, mail, deadlines).await,
                Err(error) => error,
            };
            // A relay that puts us off while others of ours are open takes no more of them: one will soon be free.
            if !(error.refuses_connections() && self.has_open_connections()) {
                return Err(HandoverError::Refused(error));
            }
            let soon = deadlines.begin.min(Instant::now() + POOL_RETRY_DELAY);
            let _ = timeout_at(soon, self.ended.notified()).await;
            if Instant::now() >= deadlines.begin {
                return Err(HandoverError::Refused(error));
            }
        }
    }

    /// `None` where no idle connection says anything that can be believed. What an old one says may be about the
    /// connection; as long as nothing was taken for sure, another may be asked.
    async fn send_over_an_idle_connection(
        &self,
        mail: &Envelope<'_>,
        deadlines: Deadlines,
    ) -> Option<Result<(), HandoverError>> {
        while let Some(connection) = self.take_idle() {
            let first = deadlines.first.min(Instant::now() + WAKE_TIMEOUT);
            match self.hand_over(connection, mail, Deadlines { first, ..deadlines }).await {
                // What ended before the message was said costs nothing to say on the next.
                Err(HandoverError::Refused(error))
                    if error.is_hang_up() && error.stage() != Stage::Message => {}
                Err(HandoverError::Refused(error)) if error.may_be_about_the_connection() => return None,
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
    ) -> Result<(), HandoverError> {
        connection.session.hand_over(mail, deadlines).await?;
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() <= IDLE_TIMEOUT);
        idle.push((connection, Instant::now()));
        Ok(())
    }

    async fn connect_unless_down(&self, by: Instant) -> Result<Connection, SendError> {
        if !self.breaker.admits(Instant::now()) {
            return Err(SendError { stage: Stage::Connect, cause: Cause::BreakerOpen });
        }
        let begun = Instant::now();
        let connected = self.connect(by).await;
        match &connected {
            Err(error) if !error.is_an_answer() => {
                // Who had no time left to try knows nothing.
                let is_fair = by.saturating_duration_since(begun) >= MIN_CONNECT_TIME;
                if is_fair && self.breaker.failed(begun, Instant::now()) {
                    let (relay, error) = (self.host(), error.to_string());
                    tracing::error!(relay, error, "a relay is down: it is left alone for a while");
                }
            }
            _ => self.breaker.succeeded(Instant::now()),
        }
        Ok(Connection { session: connected?, _open: Arc::clone(&self.open) })
    }

    fn has_open_connections(&self) -> bool {
        Arc::strong_count(&self.open) > 1
    }

    fn take_idle(&self) -> Option<Connection> {
        let mut idle = self.idle();
        idle.retain(|(_, since)| since.elapsed() <= IDLE_TIMEOUT);
        idle.pop().map(|(connection, _)| connection)
    }

    fn idle(&self) -> MutexGuard<'_, Vec<(Connection, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

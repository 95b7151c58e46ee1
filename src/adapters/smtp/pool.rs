//! One relay, the pool of connections to it, and its circuit breaker.
//!
//! Must not reuse a connection whose last session did not end cleanly, and must not treat an error
//! on a reused connection as final.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connection::{Envelope, HandoverError, Relay, Session};
use super::error::{Cause, SendError};
use super::login::Login;
use super::stage::Stage;
use crate::adapters::mailer::{Breaker, Deadlines};
use crate::adapters::oauth::AccessToken;
use crate::metrics::metrics;

/// Maximum idle time of a connection. Relays close idle connections after one or a few minutes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// Time limit for the first reply on a reused connection; afterwards it counts as dead.
const WAKE_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before the next attempt if the relay accepts no further connections.
const POOL_RETRY_DELAY: Duration = Duration::from_secs(1);

/// One relay and the connections to it.
pub(super) struct Pool {
    relay: Relay,
    /// Name for EHLO.
    hello: String,
    /// One permit for each connection.
    connections: Semaphore,
    idle: Mutex<Vec<(Connection, Instant)>>,
    /// Notified when an email is finished, so that another can use its connection or open a new
    /// one.
    ended: Notify,
    /// One reference for each open connection.
    open: Arc<()>,
    breaker: Breaker,
}

/// An open connection; it counts as open until it is dropped.
struct Connection {
    session: Session,
    _open: Arc<()>,
}

impl Pool {
    /// Creates a pool of at most `connections` connections. Does not connect yet.
    pub(super) fn new(relay: Relay, hello: String, connections: usize) -> Self {
        let breaker = Breaker::new(metrics().relay_breaker(&relay.host));
        Self {
            relay,
            hello,
            connections: Semaphore::new(connections),
            idle: Mutex::default(),
            ended: Notify::new(),
            open: Arc::default(),
            breaker,
        }
    }

    /// Returns the relay's name.
    pub(super) fn host(&self) -> &str {
        &self.relay.host
    }

    /// Returns an access token, if otpd logs in with one.
    pub(super) async fn token(&self, by: Instant) -> Result<Option<AccessToken>, SendError> {
        match &self.relay.login {
            Login::OAuth(tokens) => tokens.token(by).await.map(Some).map_err(SendError::token),
            Login::None | Login::Password { .. } => Ok(None),
        }
    }

    /// Connects and logs in.
    pub(super) async fn connect(&self, by: Instant) -> Result<Session, SendError> {
        self.relay.connect(&self.hello, by).await
    }

    /// Sends an email. Errors on reused connections lead to another attempt, an error on a new
    /// connection is final.
    pub(super) async fn attempt(
        &self,
        mail: &Envelope<'_>,
        deadlines: Deadlines,
    ) -> Result<(), HandoverError> {
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
            // Boxed, because it is rare and large.
            let error = match Box::pin(self.connect_unless_down(deadlines.begin)).await {
                Ok(connection) => return self.hand_over(connection, mail, deadlines).await,
                Err(error) => error,
            };
            // A relay that refuses a connection temporarily while others are open has reached its
            // limit of connections: one becomes free soon.
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

    /// Tries idle connections until one gives a reliable outcome. Returns `None` if there is none.
    /// An error on a reused connection may be caused by the connection; as long as the relay has
    /// certainly not accepted the message, it is safe to try another one.
    async fn send_over_an_idle_connection(
        &self,
        mail: &Envelope<'_>,
        deadlines: Deadlines,
    ) -> Option<Result<(), HandoverError>> {
        while let Some(connection) = self.take_idle() {
            let first = deadlines.first.min(Instant::now() + WAKE_TIMEOUT);
            match self.hand_over(connection, mail, Deadlines { first, ..deadlines }).await {
                // Nothing was transmitted before the connection ended, so the next one can be
                // tried.
                Err(HandoverError::Refused(error))
                    if error.is_hang_up() && error.stage() != Stage::Message => {}
                Err(HandoverError::Refused(error)) if error.may_be_about_the_connection() => return None,
                outcome => return Some(outcome),
            }
        }
        None
    }

    /// Sends an email, and returns the connection to the pool if that succeeds.
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
            Err(error) if error.is_our_own() => {}
            Err(error) if !error.is_an_answer() => {
                self.breaker.no_reply(self.host(), error, begun, by);
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

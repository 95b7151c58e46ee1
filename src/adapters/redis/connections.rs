//! The pool of connections to Redis: few, each shared by any number of calls, with automatic
//! reconnection.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bb8_redis::bb8::{ErrorSink, ManageConnection, Pool};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, RedisError, RedisResult};

use super::InvalidAddress;
use super::link::Link;
use super::servers::{CONNECT_TIMEOUT, RESPONSE_TIMEOUT, Servers, ServersClient};
use crate::metrics::metrics;
use crate::ports::StoreError;

/// The number of connections. Each is shared by any number of concurrent calls.
pub(super) const CONNECTIONS: u32 = 2;
/// The number of connections if calls wait for replicas, because a connection on which one waits
/// sends nothing else.
const WAITING_CONNECTIONS: u32 = 8;
/// How long the connections to a cluster are used at least.
const CLUSTER_CONNECTION_LIFE: Duration = Duration::from_secs(2);

/// The connections of one store.
pub(super) struct Connections {
    pool: Pool<Manager>,
    last_error: LastError,
}

/// Why the last connection was not made. The pool itself only says that it waited in vain.
#[derive(Debug, Clone, Default)]
struct LastError(Arc<Mutex<Option<RedisError>>>);

impl LastError {
    fn take(&self) -> Option<RedisError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl ErrorSink<RedisError> for LastError {
    fn sink(&self, error: RedisError) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    fn boxed_clone(&self) -> Box<dyn ErrorSink<RedisError>> {
        Box::new(self.clone())
    }
}

/// A connection of the pool.
#[derive(Clone)]
pub(super) struct Shared {
    pub link: Link,
    made: Instant,
    discarded: Arc<AtomicBool>,
}

impl Shared {
    /// Stops the use of this connection if it caused the error: if it timed out or broke, or if its
    /// server refused the login or the call, so that another connection may lead to another server.
    pub(super) fn discard_if_broken(&self, error: &RedisError) {
        let is_broken = match self.link {
            Link::One(_) => error.code().is_none_or(is_refusal_of_the_server),
            // The library replaces broken connections to single nodes, but not silent ones. Making
            // all anew takes those of other shards too, so it is not done again and again.
            Link::Cluster(_) => {
                (error.is_timeout() || error.code() == Some("CLUSTERDOWN") || is_login_rejected(error))
                    && self.made.elapsed() > CLUSTER_CONNECTION_LIFE
            }
        };
        if is_broken {
            self.discarded.store(true, Ordering::Relaxed);
        }
    }

    /// Stops the use of this connection because replicas did not acknowledge a write: it may lead
    /// to a primary that was cut off. A cluster tells by itself who the primary is.
    pub(super) fn discard_unacknowledged(&self) {
        if matches!(self.link, Link::One(_)) {
            self.discarded.store(true, Ordering::Relaxed);
        }
    }

    fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Relaxed)
    }
}

/// Creates connections. bb8-redis' own manager would ping at each check-out, and without the ping
/// would never recover.
#[derive(Debug)]
struct Manager(ServersClient);

impl Connections {
    /// Creates the pool. The first call connects, so that Redis may start later than otpd.
    pub(super) fn new(servers: &Servers, replicas: u32, timeout: Duration) -> Result<Self, InvalidAddress> {
        let last_error = LastError::default();
        let connections = if replicas == 0 { CONNECTIONS } else { WAITING_CONNECTIONS };
        let pool = Pool::builder()
            .max_size(connections)
            .min_idle(connections)
            .test_on_check_out(false)
            .connection_timeout(timeout)
            .error_sink(last_error.boxed_clone())
            .build_unchecked(Manager(servers.client()?));
        Ok(Self { pool, last_error })
    }

    /// Returns a connection and puts it back into the pool at once, because many calls can share
    /// it. The pool drops unusable connections when they are put back.
    pub(super) async fn get(&self) -> Result<Shared, StoreError> {
        loop {
            let shared = self.pool.get().await.map(|shared| shared.clone()).map_err(|_| {
                let why = self.last_error.take();
                why.map_or_else(|| StoreError::new("no connection was made in time"), StoreError::new)
            })?;
            if !shared.is_discarded() {
                return Ok(shared);
            }
        }
    }
}

impl ManageConnection for Manager {
    type Connection = Shared;
    type Error = RedisError;

    async fn connect(&self) -> Result<Shared, RedisError> {
        metrics().redis_connects.inc();
        let link = match &self.0 {
            ServersClient::One(client) => Link::One(manager(Client::clone(client))?),
            // Asks the sentinels again for each connection: another server may have taken over.
            ServersClient::Sentinel(client) => {
                Link::One(manager(client.lock().await.async_get_client().await?)?)
            }
            ServersClient::Cluster(client) => Link::Cluster(client.get_async_connection().await?),
        };
        Ok(Shared { link, made: Instant::now(), discarded: Arc::default() })
    }

    async fn is_valid(&self, _: &mut Shared) -> Result<(), RedisError> {
        Ok(())
    }

    fn has_broken(&self, shared: &mut Shared) -> bool {
        shared.is_discarded()
    }
}

/// Returns a connection to one server that reconnects by itself.
fn manager(client: Client) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(Duration::from_millis(200))
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(RESPONSE_TIMEOUT));
    ConnectionManager::new_lazy_with_config(client, config)
}

/// Returns whether Redis did not run a call on this connection, so that the call had no effect and
/// another connection may succeed.
pub(super) fn is_refused(error: &RedisError) -> bool {
    is_login_rejected(error)
        || error.is_connection_refusal()
        || error.code().is_some_and(|code| code != "NOPERM" && is_refusal_of_the_server(code))
}

fn is_login_rejected(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) || error.kind() == ErrorKind::AuthenticationFailed
}

/// Returns whether an error says that a server does not run calls of this connection: it is not
/// authenticated, or the server loads its data, is a replica, lacks replicas, or is cut off from
/// its cluster.
fn is_refusal_of_the_server(code: &str) -> bool {
    ["CLUSTERDOWN", "LOADING", "MASTERDOWN", "NOAUTH", "NOPERM", "NOREPLICAS", "READONLY", "WRONGPASS"]
        .contains(&code)
}

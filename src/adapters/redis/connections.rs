//! Connections to Redis: few, each shared by any number of calls, with automatic reconnection.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bb8_redis::bb8::{ManageConnection, Pool};
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::io::tcp::TcpSettings;
use redis::{Client, ErrorKind, IntoConnectionInfo, ProtocolVersion, RedisError};
use secrecy::{ExposeSecret, SecretString};

use super::InvalidAddress;
use crate::metrics::metrics;
use crate::ports::StoreError;

/// The number of connections. Each is shared by any number of concurrent calls.
pub(super) const CONNECTIONS: u32 = 2;
/// How long a call may wait for its reply.
const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long sent data may stay unacknowledged before the connection is closed (`TCP_USER_TIMEOUT`,
/// RFC 5482).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections of one store.
pub(super) struct Connections(Pool<Manager>);

/// A connection that many calls share.
#[derive(Clone)]
pub(super) struct Shared {
    pub manager: ConnectionManager,
    discarded: Arc<AtomicBool>,
}

impl Shared {
    /// Stops the use of this connection if it caused the error: if it timed out or broke, or if
    /// Redis refused its login or its writes.
    pub(super) fn judge(&self, error: &RedisError) {
        let of_the_call = |code| !["NOAUTH", "NOPERM", "READONLY", "WRONGPASS"].contains(&code);
        if !error.code().is_some_and(of_the_call) {
            self.discarded.store(true, Ordering::Relaxed);
        }
    }

    fn is_discarded(&self) -> bool {
        self.discarded.load(Ordering::Relaxed)
    }
}

/// Creates `ConnectionManager`s, which reconnect automatically. bb8-redis' own manager would ping
/// at each check-out, and without the ping would never recover.
#[derive(Debug)]
struct Manager(Client);

impl Connections {
    /// Creates the pool. The first call connects, so that Redis may start later than otpd.
    pub(super) async fn new(url: &SecretString) -> Result<Self, InvalidAddress> {
        let refused = |_| InvalidAddress("not a redis://, rediss:// or unix:// URL");
        let info = url.expose_secret().into_connection_info().map_err(refused)?;
        // With RESP3 the client notices at once that the server closed the connection, not at the
        // next call.
        let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        // The timeout detects a server that disappeared without closing the connection.
        let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(TCP_USER_TIMEOUT);
        let client =
            Client::open(info.set_redis_settings(settings).set_tcp_settings(tcp)).map_err(refused)?;
        let pool = Pool::builder()
            .max_size(CONNECTIONS)
            .min_idle(CONNECTIONS)
            .test_on_check_out(false)
            .connection_timeout(CONNECT_TIMEOUT)
            .build(Manager(client))
            .await
            .map_err(refused)?;
        Ok(Self(pool))
    }

    /// Returns a connection and puts it back into the pool at once, because many calls can share
    /// it. The pool drops unusable connections when they are put back.
    pub(super) async fn get(&self) -> Result<Shared, StoreError> {
        loop {
            let shared = self.0.get().await.map(|shared| shared.clone()).map_err(StoreError::new)?;
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
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_min_delay(Duration::from_millis(50))
            .set_max_delay(Duration::from_millis(200))
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(RESPONSE_TIMEOUT));
        metrics().redis_connects.inc();
        let manager = ConnectionManager::new_lazy_with_config(self.0.clone(), config)?;
        Ok(Shared { manager, discarded: Arc::default() })
    }

    async fn is_valid(&self, _: &mut Shared) -> Result<(), RedisError> {
        Ok(())
    }

    fn has_broken(&self, shared: &mut Shared) -> bool {
        shared.is_discarded()
    }
}

/// Returns whether a connection is not authenticated, so that its calls had no effect.
pub(super) fn is_login_rejected(error: &RedisError) -> bool {
    matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) || error.kind() == ErrorKind::AuthenticationFailed
}

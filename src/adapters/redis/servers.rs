//! Which servers make up the Redis of a store, and how they are reached.
//!
//! Creates the clients of the library. Must not connect.

use std::fmt;
use std::time::Duration;

use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::io::tcp::TcpSettings;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo as _, ProtocolVersion, RedisResult,
    TlsCertificates, TlsMode,
};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;

use super::InvalidAddress;

/// How long a call may wait for its reply.
pub(super) const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);
/// How long connecting may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// How long sent data may stay unacknowledged before the connection is closed (`TCP_USER_TIMEOUT`,
/// RFC 5482).
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(2);

/// The servers of a store.
pub struct Servers {
    /// The URLs of the servers to ask: one, or several of a cluster or of sentinels. They have the
    /// same login, database and TLS.
    pub urls: Vec<SecretString>,
    /// What these servers are.
    pub topology: Topology,
    /// The certificates of TLS, if the URLs ask for it.
    pub certificates: Certificates,
}

/// What the URLs of [`Servers`] name.
pub enum Topology {
    /// One server.
    One,
    /// Sentinels, which know the primary by this name. The login of the URLs is that of the
    /// primary; the sentinels have their own.
    Sentinel {
        /// The name of the primary.
        name: String,
        /// The login at the sentinels, if they ask for one.
        login: Option<SentinelLogin>,
    },
    /// Nodes of a cluster.
    Cluster,
}

/// A [`Topology`] without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TopologyKind {
    One,
    Sentinel,
    Cluster,
}

/// The login at sentinels.
pub struct SentinelLogin {
    /// The user of their ACL; `None`: the default user.
    pub username: Option<String>,
    /// The password.
    pub password: SecretString,
}

/// What certificates of servers are verified against, and the one that is presented to them.
#[derive(Default)]
pub struct Certificates {
    /// Certificate authorities in PEM form; `None`: the trust anchors of this machine.
    pub authorities: Option<Vec<u8>>,
    /// The client's certificate and its private key, in PEM form.
    pub client: Option<(Vec<u8>, SecretString)>,
}

/// The client of the library.
pub(super) enum ServersClient {
    One(Box<Client>),
    /// Behind a lock, because it keeps its connections to the sentinels.
    Sentinel(Box<Mutex<SentinelClient>>),
    Cluster(Box<ClusterClient>),
}

impl Topology {
    pub(super) fn kind(&self) -> TopologyKind {
        match self {
            Self::One => TopologyKind::One,
            Self::Sentinel { .. } => TopologyKind::Sentinel,
            Self::Cluster => TopologyKind::Cluster,
        }
    }
}

impl Servers {
    /// Returns one server without certificates of its own.
    #[must_use]
    pub fn one(url: SecretString) -> Self {
        Self { urls: vec![url], topology: Topology::One, certificates: Certificates::default() }
    }

    pub(super) fn client(&self) -> Result<ServersClient, InvalidAddress> {
        let refused = |_| InvalidAddress("not a redis://, rediss:// or unix:// URL");
        let infos: Vec<_> = self.urls.iter().map(info).collect::<RedisResult<_>>().map_err(refused)?;
        let first = infos.first().ok_or(InvalidAddress("no URL"))?;
        let client = match &self.topology {
            Topology::One => self.one_client(first).map(|client| ServersClient::One(Box::new(client))),
            Topology::Sentinel { name, login } => self
                .sentinel_client(&infos, first, name, login.as_ref())
                .map(|client| ServersClient::Sentinel(Box::new(Mutex::new(client)))),
            Topology::Cluster => {
                self.cluster_client(infos).map(|client| ServersClient::Cluster(Box::new(client)))
            }
        };
        client.map_err(|_| InvalidAddress("its TLS cannot be set up"))
    }

    fn one_client(&self, info: &ConnectionInfo) -> RedisResult<Client> {
        match self.certificates.given() {
            Some(certificates) if is_tls(info) => Client::build_with_tls(info.clone(), certificates),
            _ => Client::open(info.clone()),
        }
    }

    fn sentinel_client(
        &self,
        infos: &[ConnectionInfo],
        first: &ConnectionInfo,
        name: &str,
        login: Option<&SentinelLogin>,
    ) -> RedisResult<SentinelClient> {
        let addresses: Vec<ConnectionAddr> = infos.iter().map(|info| info.addr().clone()).collect();
        let of_primary = first.redis_settings();
        let mut builder = SentinelClientBuilder::new(addresses, name, SentinelServerType::Master)?
            .set_client_to_redis_db(of_primary.db())
            .set_client_to_redis_protocol(ProtocolVersion::RESP3)
            .set_client_to_redis_tcp_settings(tcp_settings())
            .set_client_to_sentinel_tcp_settings(tcp_settings());
        if let Some(username) = of_primary.username() {
            builder = builder.set_client_to_redis_username(username);
        }
        if let Some(password) = of_primary.password() {
            builder = builder.set_client_to_redis_password(password);
        }
        if let Some(SentinelLogin { username, password }) = login {
            builder = builder.set_client_to_sentinel_password(password.expose_secret());
            if let Some(username) = username {
                builder = builder.set_client_to_sentinel_username(username);
            }
        }
        if is_tls(first) {
            builder = builder.set_client_to_redis_tls_mode(TlsMode::Secure);
            if let Some(certificates) = self.certificates.given() {
                builder = builder
                    .set_client_to_redis_certificates(certificates.clone())
                    .set_client_to_sentinel_certificates(certificates);
            }
        }
        builder.build()
    }

    fn cluster_client(&self, infos: Vec<ConnectionInfo>) -> RedisResult<ClusterClient> {
        let is_tls = infos.first().is_some_and(is_tls);
        let mut builder = ClusterClientBuilder::new(infos)
            // The library would repeat calls that timed out, and so may have run.
            .retries(0)
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(RESPONSE_TIMEOUT)
            // While the library looks for the nodes, calls wait.
            .overall_response_timeout(Some(RESPONSE_TIMEOUT))
            .use_protocol(ProtocolVersion::RESP3)
            .tcp_settings(tcp_settings());
        if let Some(certificates) = self.certificates.given().filter(|_| is_tls) {
            builder = builder.certs(certificates);
        }
        builder.build()
    }
}

impl Certificates {
    /// Returns the certificates as the library takes them, if there are any.
    fn given(&self) -> Option<TlsCertificates> {
        let client_tls = self.client.as_ref().map(|(certificate, key)| redis::ClientTlsConfig {
            client_cert: certificate.clone(),
            client_key: key.expose_secret().as_bytes().to_vec(),
        });
        let root_cert = self.authorities.clone();
        (client_tls.is_some() || root_cert.is_some()).then_some(TlsCertificates { client_tls, root_cert })
    }
}

fn info(url: &SecretString) -> RedisResult<ConnectionInfo> {
    let info = url.expose_secret().into_connection_info()?;
    // With RESP3 the client notices at once that the server closed the connection, not at the next
    // call.
    let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
    Ok(info.set_redis_settings(settings).set_tcp_settings(tcp_settings()))
}

/// The timeout detects a server that disappeared without closing the connection.
fn tcp_settings() -> TcpSettings {
    TcpSettings::default().set_nodelay(true).set_user_timeout(TCP_USER_TIMEOUT)
}

fn is_tls(info: &ConnectionInfo) -> bool {
    matches!(info.addr(), ConnectionAddr::TcpTls { .. })
}

impl fmt::Debug for ServersClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServersClient").finish_non_exhaustive()
    }
}

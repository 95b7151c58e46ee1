//! A primary with two replicas, and three sentinels that watch them. They end when dropped.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tempfile::TempDir;

use super::app::within;
use super::host::Host;
use super::redis::{RedisServer, free_port};

/// What the sentinels call the primary.
pub const NAME: &str = "otpd";
/// How long a primary may be silent before the sentinels look for another. They ask once a second,
/// and connect again as often, so with less than two seconds they replace healthy primaries.
const DOWN_AFTER: &str = "2500";
/// How long a set of servers may take to be whole again.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Options of each server.
const OPTIONS: [&str; 8] = [
    "--min-replicas-to-write",
    "1",
    "--min-replicas-max-lag",
    "2",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-ping-replica-period",
    "1",
];

pub struct Sentinels {
    pub servers: Vec<RedisServer>,
    sentinels: Vec<Sentinel>,
}

struct Sentinel {
    process: Child,
    host: Host,
    port: u16,
    _folder: TempDir,
}

impl Sentinels {
    /// Starts everything on these hosts, and waits until each sentinel knows all.
    pub async fn start(hosts: [Host; 3]) -> Self {
        let [first, second, third] = hosts.clone();
        let primary = RedisServer::start_on(first, &OPTIONS).await;
        let address = (primary.ip().to_owned(), primary.port().to_string());
        let replica = [&OPTIONS[..], &["--replicaof", &address.0, &address.1]].concat();
        let second = RedisServer::start_on(second, &replica).await;
        let third = RedisServer::start_on(third, &replica).await;
        let sentinels = hosts.map(|host| Sentinel::start(host, &address, "")).into();
        let this = Self { servers: vec![primary, second, third], sentinels };
        this.whole().await;
        this
    }

    /// Starts a primary with a replica, and one sentinel. The servers' password is that of
    /// [`RedisServer::lock`], and the sentinel has this one.
    pub async fn guarded(password: &str) -> Self {
        let primary = RedisServer::start_with(&OPTIONS).await;
        let address = (primary.ip().to_owned(), primary.port().to_string());
        let own = ["--replicaof", &address.0, &address.1];
        let replica = RedisServer::start_with(&[&OPTIONS[..], &own].concat()).await;
        within(TIMEOUT, "the replica has all", async || primary.replicas_online().await == 1).await;
        replica.configure("masterauth", "locked").await;
        primary.lock().await;
        let more = format!("requirepass \"{password}\"\nsentinel auth-pass {NAME} locked\n");
        let sentinel = Sentinel::start(Host::here(), &address, &more);
        Self { servers: vec![primary, replica], sentinels: vec![sentinel] }
    }

    /// Returns the form of `REDIS_URL` with these sentinels.
    pub fn url(&self, sentinels: &[usize]) -> String {
        let hosts: Vec<_> = sentinels.iter().map(|at| &self.sentinels[*at]).collect();
        let hosts: Vec<_> = hosts.iter().map(|s| format!("{}:{}", s.host.ip, s.port)).collect();
        format!("redis+sentinel://{}/{NAME}", hosts.join(","))
    }

    /// Returns which server this sentinel says is the primary.
    pub async fn primary(&self, sentinel: usize) -> Option<usize> {
        let mut connection = self.sentinels[sentinel].connection().await.ok()?;
        let mut command = redis::cmd("SENTINEL");
        command.arg("GET-MASTER-ADDR-BY-NAME").arg(NAME);
        let (ip, port): (String, u16) = command.query_async(&mut connection).await.ok()?;
        self.servers.iter().position(|server| server.ip() == ip && server.port() == port)
    }

    /// Waits until each sentinel names another server than this one as the primary that `of`
    /// sentinels agree on, and returns it.
    pub async fn successor(&self, old: usize, sentinels: &[usize]) -> usize {
        let begun = Instant::now();
        loop {
            for at in sentinels {
                if let Some(primary) = self.primary(*at).await.filter(|primary| *primary != old) {
                    return primary;
                }
            }
            assert!(begun.elapsed() < TIMEOUT, "no failover");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Tells a sentinel to replace the primary, which lives on until it is told.
    pub async fn replace_primary(&self) {
        let mut connection = self.sentinels[0].connection().await.expect("a connection");
        let mut command = redis::cmd("SENTINEL");
        let _: () = command.arg("FAILOVER").arg(NAME).query_async(&mut connection).await.expect("begun");
    }

    /// Returns how many failovers there were, whatever began them.
    pub async fn failovers(&self) -> usize {
        let mut connection = self.sentinels[0].connection().await.expect("a connection");
        let mut command = redis::cmd("SENTINEL");
        command.arg("MASTER").arg(NAME);
        let state: HashMap<String, String> = command.query_async(&mut connection).await.expect("a state");
        state["config-epoch"].parse().expect("a number")
    }

    /// Freezes a sentinel (SIGSTOP): it accepts connections, and answers nothing.
    pub fn pause_sentinel(&self, sentinel: usize) {
        let id = self.sentinels[sentinel].process.id().to_string();
        let status = std::process::Command::new("kill").args(["-STOP", &id]).status();
        assert!(status.is_ok_and(|status| status.success()));
    }

    /// Starts a server again as a replica of the primary, without data.
    pub async fn rejoin(&self, server: usize, primary: usize) {
        let (ip, port) = (self.servers[primary].ip(), self.servers[primary].port().to_string());
        let options = [&OPTIONS[..], &["--replicaof", ip, &port]].concat();
        self.servers[server].set_options(&options);
        self.servers[server].start_again().await;
    }

    /// Waits until the primary has both replicas, and each sentinel knows of everybody in reach.
    pub async fn whole(&self) {
        within(TIMEOUT, "all are in reach", async || {
            for sentinel in &self.sentinels {
                if !sentinel.knows_all().await {
                    return false;
                }
            }
            let Some(primary) = self.primary(0).await else { return false };
            let info: RedisResult<String> = redis::cmd("INFO")
                .arg("replication")
                .query_async(&mut self.servers[primary].connection().await)
                .await;
            info.is_ok_and(|info| info.matches("state=online").count() == 2)
        })
        .await;
    }
}

impl Sentinel {
    fn start(host: Host, primary: &(String, String), more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port().expect("a port");
        let file = folder.path().join("sentinel.conf");
        let config = format!(
            "bind {ip}\nprotected-mode no\nport {port}\ndir {dir}\nsentinel monitor {NAME} {} {} 2\n\
             sentinel down-after-milliseconds {NAME} {DOWN_AFTER}\nsentinel failover-timeout {NAME} 5000\n\
             sentinel parallel-syncs {NAME} 2\n{more}",
            primary.0,
            primary.1,
            ip = host.ip,
            dir = folder.path().display(),
        );
        fs::write(&file, config).expect("written");
        let mut command = host.command("redis-server");
        command.arg(&file).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().expect("redis-server starts");
        Self { process, host, port, _folder: folder }
    }

    async fn connection(&self) -> RedisResult<MultiplexedConnection> {
        let patience = Some(Duration::from_secs(1));
        let config =
            AsyncConnectionConfig::new().set_connection_timeout(patience).set_response_timeout(patience);
        let client = Client::open(format!("redis://{}:{}", self.host.ip, self.port))?;
        client.get_multiplexed_async_connection_with_config(&config).await
    }

    async fn knows_all(&self) -> bool {
        let Ok(mut connection) = self.connection().await else { return false };
        let ask = |what: &str| {
            let mut command = redis::cmd("SENTINEL");
            command.arg(what).arg(NAME);
            command
        };
        let replicas: RedisResult<Vec<HashMap<String, String>>> =
            ask("REPLICAS").query_async(&mut connection).await;
        let others: RedisResult<Vec<HashMap<String, String>>> =
            ask("SENTINELS").query_async(&mut connection).await;
        let in_reach = |found: RedisResult<Vec<HashMap<String, String>>>| {
            found.is_ok_and(|found| {
                found.len() == 2
                    && found.iter().all(|one| {
                        let flags = &one["flags"];
                        !["s_down", "o_down", "disconnected"].iter().any(|flag| flags.contains(flag))
                            && one.get("master-link-status").is_none_or(|status| status == "ok")
                    })
            })
        };
        in_reach(replicas) && in_reach(others)
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

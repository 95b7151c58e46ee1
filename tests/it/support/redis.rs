//! A private, real `redis-server` for one test, with its own port and directory. It ends when the
//! value is dropped, even if the test panics. It can be killed, restarted, frozen and dumped. It
//! must never connect to a Redis that somebody else started, and it never interprets what otpd
//! stores.

use std::{
    fs::{self, File},
    io, iter,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use otpd::adapters::redis::{Certificates, Servers, Topology};
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::{AsyncConnectionConfig, Client, Cmd, FromRedisValue, RedisResult};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::{
    net::{TcpSocket, TcpStream},
    time,
};

use super::host::Host;
use super::of_run;

/// How long a server may take to start or to answer; generous, for a machine that runs many tests
/// at once.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Interval at which a starting process is polled.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A `redis-server` process that belongs to one test.
pub struct RedisServer {
    occupant: Mutex<Occupant>,
    host: Host,
    port: u16,
    directory: TempDir,
    options: Mutex<Vec<String>>,
    /// The other nodes of its cluster: two primaries, then the replicas in the same order.
    others: Vec<Self>,
}

/// Options of the nodes of a cluster.
const OF_CLUSTER: [&str; 8] = [
    "--cluster-enabled",
    "yes",
    "--cluster-node-timeout",
    "2000",
    "--cluster-replica-validity-factor",
    "0",
    "--repl-diskless-sync-delay",
    "0",
];

/// The holder of the port.
enum Occupant {
    Server(Process),
    /// A socket that is bound and does not listen. It refuses connections, and nobody else can take
    /// the port.
    Placeholder {
        _bound: TcpSocket,
    },
    Nobody,
}

/// The child process; dropping it kills it.
struct Process(Child);

impl RedisServer {
    /// Starts a server on a free port and waits until it answers. If `OTPD_TEST_CLUSTER` is set, it
    /// is a cluster.
    pub async fn start() -> Self {
        if of_run("OTPD_TEST_CLUSTER").is_some() {
            Self::start_cluster(3, true).await
        } else {
            Self::single().await
        }
    }

    /// Starts a server that is no cluster.
    pub async fn single() -> Self {
        Self::start_with(&[]).await
    }

    /// Starts a cluster of one node, which serves every hash slot and refuses a call that touches
    /// two.
    pub async fn start_clustered() -> Self {
        Self::start_cluster(1, false).await
    }

    /// Starts a cluster with so many primaries, each with one replica or none.
    pub async fn start_cluster(primaries: u16, replicated: bool) -> Self {
        Self::start_cluster_with(primaries, replicated, &[]).await
    }

    /// Starts a cluster of nodes with these options.
    pub async fn start_cluster_with(primaries: u16, replicated: bool, options: &[&str]) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..primaries * if replicated { 2 } else { 1 } {
            let bus = free_port().expect("a free port exists").to_string();
            let own = ["--cluster-port", &bus];
            let node = Self::start_with(&[&OF_CLUSTER[..], &own, options].concat()).await;
            nodes.push((node, bus));
        }
        let slots = 16384 / primaries;
        for (at, (node, _)) in (0..primaries).zip(&nodes) {
            let last = if at + 1 == primaries { 16383 } else { (at + 1) * slots - 1 };
            node.cluster(&["ADDSLOTSRANGE", &(at * slots).to_string(), &last.to_string()]).await;
        }
        // Each meets all, because gossip takes seconds.
        for (at, (node, _)) in nodes.iter().enumerate() {
            for (other, bus) in &nodes[at + 1..] {
                node.cluster(&["MEET", other.ip(), &other.port.to_string(), bus]).await;
            }
        }
        let (primaries, replicas) = nodes.split_at(primaries.into());
        for ((replica, _), (primary, _)) in replicas.iter().zip(primaries) {
            let id = primary.cluster(&["MYID"]).await;
            let patience = Patience::new("the replica knows its primary");
            while replica.try_cluster(&["REPLICATE", &id]).await.is_err() {
                patience.pause().await;
            }
        }
        let count = nodes.len();
        for (node, _) in &nodes {
            let known = format!("cluster_known_nodes:{count}\r");
            let patience = Patience::new("the node knows all, and every slot is served");
            loop {
                let info = node.cluster(&["INFO"]).await;
                let links = node.cluster(&["NODES"]).await;
                let are_linked = links.lines().all(|line| line.contains(" connected"));
                if info.contains("cluster_state:ok") && info.contains(&known) && are_linked {
                    break;
                }
                patience.pause().await;
            }
        }
        for (primary, _) in primaries.iter().filter(|_| replicated) {
            primary.await_replica().await;
        }
        let mut nodes = nodes.into_iter().map(|(node, _)| node);
        let first = nodes.next().expect("a node");
        Self { others: nodes.collect(), ..first }
    }

    /// Returns all nodes of its cluster, or itself.
    pub fn nodes(&self) -> impl Iterator<Item = &Self> {
        iter::once(self).chain(&self.others)
    }

    /// Returns the nodes that were primaries at the start.
    pub fn primaries(&self) -> impl Iterator<Item = &Self> {
        let primaries =
            if self.others.len() > 2 { self.others.len().div_ceil(2) } else { 1 + self.others.len() };
        self.nodes().take(primaries)
    }

    /// Sends a command about the cluster to this node, and returns its answer.
    pub async fn cluster(&self, words: &[&str]) -> String {
        self.try_cluster(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    async fn try_cluster(&self, words: &[&str]) -> RedisResult<String> {
        let mut command = redis::cmd("CLUSTER");
        command.arg(words);
        command.query_async(&mut connect(&self.host.ip, self.port, TIMEOUT).await?).await
    }

    /// Waits until this primary has its one replica.
    async fn await_replica(&self) {
        let patience = Patience::new("the primary has its replica");
        while self.replicas_online().await != 1 {
            patience.pause().await;
        }
    }

    /// Returns the number of replicas that have all its data.
    pub async fn replicas_online(&self) -> usize {
        let Ok(mut connection) = connect(&self.host.ip, self.port, TIMEOUT).await else { return 0 };
        let info: RedisResult<String> =
            redis::cmd("INFO").arg("replication").query_async(&mut connection).await;
        info.map_or(0, |info| info.matches("state=online").count())
    }

    /// Starts a server with these options.
    pub async fn start_with(options: &[&str]) -> Self {
        Self::start_on(Host::here(), options).await
    }

    /// Starts a server with these options on a host.
    pub async fn start_on(host: Host, options: &[&str]) -> Self {
        let options: Vec<_> = options.iter().map(|option| (*option).to_owned()).collect();
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let started = time::timeout(TIMEOUT, async {
            loop {
                let port = free_port().expect("a free port exists");
                if let Some(process) = Process::launch(directory.path(), &host, port, &options).await {
                    return (process, port);
                }
            }
        });
        let Ok((process, port)) = started.await else {
            panic!("redis-server did not start: {}", log(directory.path()));
        };
        let (occupant, options) = (Mutex::new(Occupant::Server(process)), Mutex::new(options));
        Self { occupant, host, port, directory, options, others: Vec::new() }
    }

    /// Kills the process (SIGKILL) and waits for its end; the port then refuses connections.
    pub fn stop(&self) {
        self.nodes().for_each(Self::stop_node);
    }

    /// Like `stop`, but only this node of a cluster.
    pub fn stop_node(&self) {
        drop(self.replace(Occupant::Nobody));
        // Without the placeholder the port is unguarded until the restart, which retries if the
        // port is taken.
        if let Ok(socket) = bind(self.port)
            && self.host.namespace.is_none()
        {
            self.replace(Occupant::Placeholder { _bound: socket });
        }
    }

    /// Starts on the same port with no data, after a `stop` or in place of the running process.
    pub async fn start_again(&self) {
        for node in self.nodes() {
            node.start_node_again().await;
        }
        for node in self.nodes().filter(|_| !self.others.is_empty()) {
            let patience = Patience::new("the cluster is up");
            while !node.cluster(&["INFO"]).await.contains("cluster_state:ok") {
                patience.pause().await;
            }
        }
        for primary in self.primaries().filter(|_| !self.others.is_empty()) {
            primary.await_replica().await;
        }
    }

    /// Like `start_again`, but only this node of a cluster.
    pub async fn start_node_again(&self) {
        let options = self.options.lock().expect("no panic under this lock").clone();
        let started = time::timeout(TIMEOUT, async {
            loop {
                drop(self.replace(Occupant::Nobody));
                if let Some(process) =
                    Process::launch(self.directory.path(), &self.host, self.port, &options).await
                {
                    return process;
                }
                time::sleep(POLL_INTERVAL).await;
            }
        });
        let Ok(process) = started.await else {
            panic!("no restart: {}", log(self.directory.path()));
        };
        self.replace(Occupant::Server(process));
    }

    /// Freezes the process (SIGSTOP): the kernel still accepts connections, and nothing answers.
    pub fn pause(&self) {
        self.nodes().for_each(|node| node.signal("-STOP"));
    }

    /// Resumes a frozen process (SIGCONT).
    pub fn resume(&self) {
        self.nodes().for_each(|node| node.signal("-CONT"));
    }

    /// Replaces the options for the next start.
    pub fn set_options(&self, options: &[&str]) {
        let options = options.iter().map(|option| (*option).to_owned()).collect();
        *self.options.lock().expect("no panic under this lock") = options;
    }

    /// Returns the IP address; that of this machine is 127.0.0.1.
    pub fn ip(&self) -> &str {
        &self.host.ip
    }

    /// Returns the TCP port; it stays the same across restarts.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the address in the form of `REDIS_URL`.
    pub fn url(&self) -> String {
        if self.others.is_empty() {
            return url(&self.host.ip, self.port);
        }
        let nodes: Vec<_> = self.nodes().map(|node| format!("{}:{}", node.host.ip, node.port)).collect();
        format!("redis+cluster://{}", nodes.join(","))
    }

    /// Returns the settings that name this Redis.
    pub fn settings(&self) -> Vec<(&'static str, String)> {
        if self.others.is_empty() {
            vec![("REDIS_HOST", self.host.ip.clone()), ("REDIS_PORT", self.port.to_string())]
        } else {
            vec![("REDIS_URL", self.url()), ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true".to_owned())]
        }
    }

    /// Returns the servers as the adapter takes them.
    pub fn servers(&self) -> Servers {
        let topology = if self.others.is_empty() { Topology::One } else { Topology::Cluster };
        let urls = self.nodes().map(|node| url(&node.host.ip, node.port).into()).collect();
        Servers { urls, topology, certificates: Certificates::default() }
    }

    /// Sends a command on a key.
    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> T {
        let answer = if self.others.is_empty() {
            command.query_async(&mut self.connection().await).await
        } else {
            let nodes = self.nodes().map(|node| url(&node.host.ip, node.port));
            let client = ClusterClient::new(nodes).expect("nodes");
            command.query_async(&mut client.get_async_connection().await.expect("a connection")).await
        };
        answer.expect("Redis answers")
    }

    /// Opens a connection for the test.
    pub async fn connection(&self) -> MultiplexedConnection {
        connect(&self.host.ip, self.port, TIMEOUT).await.expect("the server accepts a connection")
    }

    /// Returns the commands that Redis executed meanwhile, one per line; those of scripts have
    /// `lua]`.
    pub async fn monitored(&self, act: impl Future<Output = ()>) -> Vec<String> {
        let mut monitors = Vec::new();
        for primary in self.primaries() {
            let stream = TcpStream::connect((primary.ip(), primary.port)).await.expect("a connection");
            let mut stream = BufReader::new(stream);
            stream.write_all(b"MONITOR\r\n").await.expect("sent");
            let mut lines = stream.lines();
            assert_eq!(lines.next_line().await.expect("a line").as_deref(), Some("+OK"));
            monitors.push((primary, lines));
        }
        act.await;
        let mut seen = Vec::new();
        for (primary, lines) in &mut monitors {
            let echo = redis::cmd("ECHO").arg("the end of the act").clone();
            echo.exec_async(&mut primary.connection().await).await.expect("Redis answers");
            loop {
                let line = lines.next_line().await.expect("a line").expect("the monitor goes on");
                if line.contains("the end of the act") {
                    break;
                }
                seen.push(line);
            }
        }
        // They begin with the time.
        seen.sort();
        seen
    }

    /// Flushes the server's scripts, as a failover does.
    pub async fn script_flush(&self) {
        for node in self.nodes() {
            let flush = redis::cmd("SCRIPT").arg("FLUSH").clone();
            flush.exec_async(&mut node.connection().await).await.expect("SCRIPT FLUSH is answered");
        }
    }

    /// Deletes every key.
    pub async fn flush_all(&self) {
        for node in self.primaries() {
            let flush = redis::cmd("FLUSHALL");
            flush.exec_async(&mut node.connection().await).await.expect("FLUSHALL is answered");
        }
    }

    /// Sets one of the server's own settings.
    pub async fn configure(&self, name: &str, value: &str) {
        for node in self.nodes() {
            let command = redis::cmd("CONFIG").arg("SET").arg(name).arg(value).clone();
            command.exec_async(&mut node.connection().await).await.expect("CONFIG SET is answered");
        }
    }

    /// Becomes a replica of another server; returns when it has the same data.
    pub async fn follow(&self, primary: &Self) {
        let mut connection = self.connection().await;
        let command = redis::cmd("REPLICAOF").arg(primary.ip()).arg(primary.port()).clone();
        command.exec_async(&mut connection).await.expect("REPLICAOF is answered");
        let in_step = time::timeout(TIMEOUT, async {
            loop {
                let info: RedisResult<String> =
                    redis::cmd("INFO").arg("replication").query_async(&mut connection).await;
                if info.is_ok_and(|info| info.contains("master_link_status:up")) {
                    return;
                }
                time::sleep(POLL_INTERVAL).await;
            }
        });
        in_step.await.expect("a replica in step");
    }

    /// Becomes a primary.
    pub async fn promote(&self) {
        let command = redis::cmd("REPLICAOF").arg("NO").arg("ONE").clone();
        command.exec_async(&mut self.connection().await).await.expect("REPLICAOF is answered");
    }

    /// Requires a password that nobody has on new connections.
    pub async fn lock(&self) {
        self.configure("requirepass", "locked").await;
    }

    /// Stops requiring a password.
    pub async fn unlock(&self) {
        for node in self.nodes() {
            let command = redis::cmd("CONFIG").arg("SET").arg("requirepass").arg("").clone();
            command.exec_async(&mut node.locked().await).await.expect("CONFIG SET is answered");
        }
    }

    /// Closes every connection of a locked server except the one that sends this command.
    pub async fn hang_up(&self) {
        for node in self.nodes() {
            let command = redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("normal").clone();
            command.exec_async(&mut node.locked().await).await.expect("CLIENT KILL is answered");
        }
    }

    async fn locked(&self) -> MultiplexedConnection {
        let client = Client::open(format!("redis://:locked@127.0.0.1:{}/0", self.port)).expect("a URL");
        client.get_multiplexed_async_connection().await.expect("a connection")
    }

    /// Returns every key, its value and its PTTL (-1 if it has none), sorted by key. The members of
    /// a hash, list, set or sorted set are joined by line feeds, in clear: no packing or
    /// compression hides a secret.
    pub async fn dump(&self) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
        let mut entries = Vec::new();
        for node in self.primaries() {
            entries.extend(node.dump_node().await);
        }
        entries.sort();
        entries
    }

    async fn dump_node(&self) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
        let mut connection = self.connection().await;
        let mut keys: Vec<Vec<u8>> = Vec::new();
        let mut cursor = 0_u64;
        loop {
            let (next, page): (u64, Vec<Vec<u8>>) =
                redis::cmd("SCAN").arg(cursor).query_async(&mut connection).await.expect("SCAN is answered");
            keys.extend(page);
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        keys.sort();
        keys.dedup();
        let mut entries = Vec::new();
        for key in keys {
            let read = read(&mut connection, &key).await;
            if let Some((value, ttl)) = read.expect("a key can be read") {
                entries.push((key, value, ttl));
            }
        }
        entries
    }

    /// Returns the bytes of a snapshot made now. It packs strings that look like 32-bit integers,
    /// which a code may: look for digits in `dump`.
    pub async fn rdb(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for node in self.primaries() {
            bytes.extend(node.rdb_node().await);
        }
        bytes
    }

    async fn rdb_node(&self) -> Vec<u8> {
        redis::cmd("SAVE").exec_async(&mut self.connection().await).await.expect("SAVE is answered");
        let path = self.directory.path().join("dump.rdb");
        let bytes = fs::read(&path).expect("SAVE wrote the file");
        fs::remove_file(path).expect("a restart must not find the file");
        bytes
    }

    /// Returns whether it was not stopped.
    pub fn is_running(&self) -> bool {
        matches!(&*self.occupant.lock().expect("no panic under this lock"), Occupant::Server(_))
    }

    fn replace(&self, occupant: Occupant) -> Occupant {
        let mut held = self.occupant.lock().expect("no panic under this lock");
        std::mem::replace(&mut *held, occupant)
    }

    fn signal(&self, signal: &str) {
        let id = match &*self.occupant.lock().expect("no panic under this lock") {
            Occupant::Server(process) => Some(process.0.id()),
            Occupant::Placeholder { .. } | Occupant::Nobody => None,
        };
        let id = id.expect("only a running server takes signals");
        let status = Command::new("kill").arg(signal).arg(id.to_string()).status();
        assert!(status.is_ok_and(|status| status.success()), "kill {signal} failed");
    }
}

impl Process {
    /// Starts the program and waits until it answers. Returns `None` if it ended, for example
    /// because the port is in use.
    async fn launch(directory: &Path, host: &Host, port: u16, options: &[String]) -> Option<Self> {
        let log = File::create(directory.join("redis.log")).expect("the directory is writable");
        let child = host
            .command("redis-server")
            .args(["--bind", &host.ip, "--port", &port.to_string()])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no", "--protected-mode", "no"])
            .args(["--maxmemory-policy", "noeviction", "--rdbcompression", "no"])
            .args(["--dbfilename", "dump.rdb", "--dir"])
            .arg(directory)
            .args(options)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed and on the PATH");
        let mut process = Self(child);
        while !process.answers(host, port).await {
            if process.0.try_wait().is_ok_and(|status| status.is_some()) {
                return None;
            }
            time::sleep(POLL_INTERVAL).await;
        }
        Some(process)
    }

    /// Returns whether this very process answers: another server may have taken the port.
    async fn answers(&self, host: &Host, port: u16) -> bool {
        let Ok(mut connection) = connect(&host.ip, port, Duration::from_secs(1)).await else {
            return false;
        };
        let info: RedisResult<String> = redis::cmd("INFO").arg("server").query_async(&mut connection).await;
        let wanted = format!("process_id:{}", self.0.id());
        info.is_ok_and(|info| info.lines().any(|line| line == wanted))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if the process has already been waited for, and then there is nothing to
        // do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the value in clear and the PTTL, or `None` if the key has expired meanwhile.
async fn read(connection: &mut MultiplexedConnection, key: &[u8]) -> RedisResult<Option<(Vec<u8>, i64)>> {
    let (kind, ttl): (String, i64) =
        redis::pipe().cmd("TYPE").arg(key).cmd("PTTL").arg(key).query_async(connection).await?;
    let (command, arguments): (&str, &[&str]) = match kind.as_str() {
        "hash" => ("HGETALL", &[]),
        "list" => ("LRANGE", &["0", "-1"]),
        "set" => ("SMEMBERS", &[]),
        "zset" => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
        "string" => ("GET", &[]),
        _ => ("DUMP", &[]),
    };
    let mut command = redis::cmd(command);
    command.arg(key).arg(arguments);
    let value: Option<Vec<u8>> = if matches!(kind.as_str(), "hash" | "list" | "set" | "zset") {
        let parts: Vec<Vec<u8>> = command.query_async(connection).await?;
        (!parts.is_empty()).then(|| parts.join(&b'\n'))
    } else {
        command.query_async(connection).await?
    };
    Ok(value.map(|value| (value, ttl)))
}

/// How long a condition is waited for.
struct Patience {
    what: &'static str,
    begun: time::Instant,
}

impl Patience {
    fn new(what: &'static str) -> Self {
        Self { what, begun: time::Instant::now() }
    }

    async fn pause(&self) {
        assert!(self.begun.elapsed() < TIMEOUT, "waited in vain: {}", self.what);
        time::sleep(POLL_INTERVAL).await;
    }
}

async fn connect(ip: &str, port: u16, patience: Duration) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(patience))
        .set_response_timeout(Some(patience));
    Client::open(url(ip, port))?.get_multiplexed_async_connection_with_config(&config).await
}

fn url(ip: &str, port: u16) -> String {
    format!("redis://{ip}:{port}/0")
}

pub fn free_port() -> io::Result<u16> {
    Ok(bind(0)?.local_addr()?.port())
}

fn bind(port: u16) -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(SocketAddr::from(([127, 0, 0, 1], port)))?;
    Ok(socket)
}

fn log(directory: &Path) -> String {
    fs::read_to_string(directory.join("redis.log")).unwrap_or_default()
}

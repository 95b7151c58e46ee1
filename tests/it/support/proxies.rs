//! nginx, Caddy and `HAProxy` as the documents configure them, and a client that speaks HTTPS.

use std::fmt::Write as _;
use std::future::pending;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::app::Answer;

/// The first port that proxies may listen on, and how many there are: no port of a connection is
/// among them, because Linux takes those from 32768 on.
const PORTS: (u16, u16) = (20_000, 10_000);

/// How long a proxy may take to listen.
const TIMEOUT: Duration = Duration::from_secs(20);

/// One of the documented proxies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    Nginx,
    Caddy,
    HaProxy,
}

/// Which of the documented configurations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    /// One otpd on a host name of its own.
    Plain,
    /// One otpd below `/otp/`.
    PathPrefix,
    /// Two processes.
    Several,
}

/// A running proxy; it ends when dropped.
pub struct Proxy {
    product: Product,
    process: Child,
    pub port: u16,
    connector: TlsConnector,
    _folder: TempDir,
}

/// One connection to a proxy.
pub struct Client {
    stream: TlsStream<tokio::net::TcpStream>,
    /// Bytes that were received behind the last answer.
    received: Vec<u8>,
}

impl Product {
    /// Returns a configuration as the document has it: the first block, in which a later one
    /// replaces what begins and ends like it.
    pub fn documented(self, setup: Setup) -> String {
        let (page, language) = match self {
            Self::Nginx => (include_str!("../../../docs/nginx.md"), "```nginx\n"),
            Self::Caddy => (include_str!("../../../docs/caddy.md"), "```caddy\n"),
            Self::HaProxy => (include_str!("../../../docs/haproxy.md"), "```haproxy\n"),
        };
        let blocks = page.split(language).skip(1).map(|rest| rest.split("```").next().expect("an end"));
        let [whole, prefix, several] = blocks.collect::<Vec<_>>()[..] else { panic!("three blocks") };
        let (start, end) = match (self, setup) {
            (_, Setup::Plain) => return whole.to_owned(),
            (Self::Nginx, Setup::PathPrefix) => ("    location / {\n", "\n    }\n"),
            (Self::Nginx, Setup::Several) => ("upstream otpd {\n", "\n}\n"),
            (Self::Caddy, _) => ("\treverse_proxy ", "\n\t}\n"),
            (Self::HaProxy, Setup::PathPrefix) => ("frontend otp\n", "pool-purge-delay 5s\n"),
            (Self::HaProxy, Setup::Several) => ("backend otpd\n  http-request ", "pool-purge-delay 5s\n"),
        };
        let (before, rest) = whole.split_once(start).expect("what is replaced");
        let (_, after) = rest.split_once(end).expect("its end");
        [before, if setup == Setup::Several { several } else { prefix }, after].concat()
    }

    /// Returns the configuration with other addresses, names and files.
    fn placed(self, config: &str, folder: &Path, port: u16, servers: &[SocketAddr]) -> String {
        let folder = folder.display();
        let ipv6 = |text: String| if has_ipv6() { text } else { String::new() };
        let own = match self {
            Self::Nginx => vec![
                ("listen 443 ssl;", format!("listen 127.0.0.1:{port} ssl;")),
                ("listen [::]:443 ssl;", ipv6(format!("listen [::1]:{port} ssl;"))),
                ("server_name otp.example.com;", "server_name localhost;".to_owned()),
                ("/etc/nginx/tls/", format!("{folder}/")),
            ],
            Self::Caddy => vec![
                ("otp.example.com {", format!("https://localhost:{port} {{")),
                ("/etc/caddy/tls/", format!("{folder}/")),
            ],
            Self::HaProxy => vec![
                (":::443 v4v6", format!("127.0.0.1:{port}{}", ipv6(format!(",::1:{port}")))),
                ("/etc/haproxy/tls/otp.example.com.pem", format!("{folder}/both.pem")),
            ],
        };
        let placeholders: &[&str] = match servers {
            [_] => &["127.0.0.1:5000"],
            _ => &["10.0.0.1:5000", "10.0.0.2:5000"],
        };
        let servers = placeholders.iter().copied().zip(servers.iter().map(ToString::to_string));
        own.into_iter().chain(servers).fold(config.to_owned(), |config, (from, to)| {
            assert!(config.contains(from), "{from} is not in: {config}");
            config.replace(from, &to)
        })
    }

    /// Returns the command that runs this configuration in the foreground.
    fn command(self, config: &str, folder: &Path) -> Command {
        let shown = folder.display();
        let around = match self {
            // The user is used by root only.
            Self::Nginx => {
                let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|kind| format!("{kind}_temp_path {shown}/{kind};\n"));
                let main = format!("user root;\npid {shown}/pid;\nevents {{}}\n");
                format!("{main}http {{\naccess_log off;\n{}{config}}}\n", paths.concat())
            }
            Self::Caddy => {
                let addresses = if has_ipv6() { "127.0.0.1 ::1" } else { "127.0.0.1" };
                format!("{{\n\tadmin off\n\tauto_https off\n\tdefault_bind {addresses}\n}}\n{config}")
            }
            Self::HaProxy => config.to_owned(),
        };
        let file = folder.join("config");
        std::fs::write(&file, around).expect("written");
        let (program, arguments) = match self {
            Self::Nginx => ("nginx", &["-e", "stderr", "-g", "daemon off;", "-c"][..]),
            Self::Caddy => ("caddy", &["run", "--adapter", "caddyfile", "--config"][..]),
            Self::HaProxy => ("haproxy", &["-db", "-f"][..]),
        };
        // Debian's folder of servers may be missing from the path of a user who is not root.
        let mut command = Command::new("env");
        command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin").arg(program).args(arguments).arg(file);
        command.envs(["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"].map(|name| (name, folder)));
        command
    }

    /// Starts the proxy with a configuration of the documents, for these processes.
    pub async fn start(self, config: &str, servers: &[SocketAddr]) -> Proxy {
        let folder = tempfile::tempdir().expect("a folder");
        let connector = certificate(folder.path());
        let port = free_port();
        let config = self.placed(config, folder.path(), port, servers);
        let log = folder.path().join("log");
        let process = self
            .command(&config, folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a file"))
            .spawn();
        let mut process = process.expect("Debian's package is installed");
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            let has_ended = process.try_wait().expect("a process").is_some();
            let said = std::fs::read_to_string(&log).expect("a log");
            assert!(!has_ended && begun.elapsed() < TIMEOUT, "{self:?} does not listen: {said}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Proxy { product: self, process, port, connector, _folder: folder }
    }
}

impl Proxy {
    /// Connects to it from 127.0.0.1.
    pub async fn client(&self) -> Client {
        self.client_at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Connects to it from this address of this machine.
    pub async fn client_at(&self, local: IpAddr) -> Client {
        let (socket, remote): (_, IpAddr) = match local {
            IpAddr::V4(_) => (TcpSocket::new_v4(), Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(_) => (TcpSocket::new_v6(), Ipv6Addr::LOCALHOST.into()),
        };
        let socket = socket.expect("a socket");
        socket.bind((local, 0).into()).expect("an address of this machine");
        let stream = socket.connect((remote, self.port).into()).await.expect("a connection");
        stream.set_nodelay(true).expect("an option");
        let name = ServerName::try_from("localhost").expect("a name");
        let stream = self.connector.connect(name, stream).await.expect("a handshake");
        Client { stream, received: Vec::new() }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Killed, nginx would leave its workers; the others would wait for their clients.
        let signal = if self.product == Product::Nginx { "-TERM" } else { "-KILL" };
        // Fails only if it has ended.
        let _ = Command::new("kill").arg(signal).arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

impl Client {
    /// Sends a request of JSON text and returns its answer; the connection stays open.
    pub async fn send(&mut self, line: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").expect("written");
        }
        let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
        self.exchange(&request).await
    }

    /// Sends these bytes and returns the next answer, which may come before all of them are sent.
    pub async fn exchange(&mut self, request: &str) -> Answer {
        let (mut reader, mut writer) = tokio::io::split(&mut self.stream);
        let received = &mut self.received;
        let reading = async {
            loop {
                if let Some((answer, length)) = parse(received) {
                    received.drain(..length);
                    return answer;
                }
                let read = reader.read_buf(received).await.expect("an answer");
                assert!(read > 0, "closed: {}", String::from_utf8_lossy(received));
            }
        };
        let writing = async {
            // A proxy that has answered may close while there is more to send.
            let _ = writer.write_all(request.as_bytes()).await;
            let _ = writer.flush().await;
            pending().await
        };
        tokio::select! { answer = reading => answer, answer = writing => answer }
    }
}

/// Returns the answer at the beginning of these bytes and its length, if it is complete.
fn parse(bytes: &[u8]) -> Option<(Answer, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head of text");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').expect("a header");
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    let mut answer =
        Answer { status: status.parse().expect("a number"), headers: headers.collect(), body: String::new() };
    let length = answer.header("content-length").unwrap_or_else(|| panic!("no length: {answer:?}"));
    let all = end + 4 + length.parse::<usize>().expect("a length");
    answer.body = String::from_utf8_lossy(bytes.get(end + 4..all)?).into_owned();
    Some((answer, all))
}

/// Writes a certificate for `localhost` and its key, and returns a connector that trusts it.
fn certificate(folder: &Path) -> TlsConnector {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let certificate = params.self_signed(&key).expect("signed");
    let (chain, key) = (certificate.pem(), key.serialize_pem());
    for (name, text) in
        [("fullchain.pem", &chain), ("privkey.pem", &key), ("both.pem", &(chain.clone() + &key))]
    {
        std::fs::write(folder.join(name), text).expect("written");
    }
    let mut roots = RootCertStore::empty();
    roots.add(certificate.der().clone()).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().expect("ring supports them");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}

/// Returns whether this machine has an IPv6 loopback address.
pub fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

/// Returns a port that nobody listens on.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % u32::from(PORTS.1)).expect("a small number");
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < PORTS.1, "no port is free");
        let port = PORTS.0 + (process + number) % PORTS.1;
        let free = |address: IpAddr| TcpListener::bind((address, port)).is_ok();
        if free(Ipv4Addr::LOCALHOST.into()) && (!has_ipv6() || free(Ipv6Addr::LOCALHOST.into())) {
            return port;
        }
    }
}

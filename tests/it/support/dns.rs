//! Knot DNS with the zones of tests/it/fixtures/dns.

use std::cell::RefCell;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;
use tokio::net::TcpSocket;

use super::app::eventually;

/// A running name server; it ends when dropped.
pub struct DnsServer {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl DnsServer {
    /// Starts the server on a free port, or on another one if somebody takes it for UDP.
    pub async fn start() -> Self {
        for _ in 0..10 {
            if let Some(server) = Self::try_start().await {
                return server;
            }
        }
        panic!("Knot DNS does not start");
    }

    /// Returns nothing if the server ends before it listens.
    async fn try_start() -> Option<Self> {
        // Takes the port for TCP without listening, which Knot DNS may do with this option.
        let port = TcpSocket::new_v4().expect("a socket");
        port.set_reuseaddr(true).expect("a socket");
        port.bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port");
        let address = port.local_addr().expect("an address");
        let folder = tempfile::tempdir().expect("a folder");
        let zones = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/fixtures/dns");
        let config = include_str!("../fixtures/dns/knot.conf")
            .replace("FOLDER", &folder.path().display().to_string())
            .replace("PORT", &address.port().to_string())
            .replace("ZONES", &zones.display().to_string());
        let file = folder.path().join("knot.conf");
        std::fs::write(&file, config).expect("written");
        // Debian's knotd is in a folder that only the path of root has.
        let mut process = Command::new("sh");
        process.args(["-c", "PATH=$PATH:/usr/sbin exec knotd -c \"$1\"", "sh"]);
        process.arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let process = process.spawn().expect("Debian's knot is installed");
        let process = RefCell::new(process);
        let has_ended = || process.borrow_mut().try_wait().expect("a status").is_some();
        eventually("Knot DNS listens or ends", async || has_ended() || TcpStream::connect(address).is_ok())
            .await;
        if has_ended() {
            return None;
        }
        Some(Self { process: process.into_inner(), address, _folder: folder })
    }

    /// Returns its address, as a setting.
    pub fn address(&self) -> String {
        self.address.to_string()
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The longest message over UDP without EDNS is 512 bytes; this is enough for any question.
const MAX_QUESTION: usize = 4096;

/// A name server that never answers.
pub struct SilentDnsServer(UdpSocket);

impl SilentDnsServer {
    /// Takes a port.
    pub fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_nonblocking(true).expect("set");
        Self(socket)
    }

    /// Returns whether a question since the last call contains this label of a name.
    pub fn was_asked_about(&self, label: &str) -> bool {
        let mut questions = Vec::new();
        let mut message = [0; MAX_QUESTION];
        while let Ok(length) = self.0.recv(&mut message) {
            questions.push(String::from_utf8_lossy(&message[..length]).into_owned());
        }
        questions.iter().any(|question| question.contains(label))
    }

    /// Returns its address, as a setting.
    pub fn address(&self) -> String {
        self.0.local_addr().expect("an address").to_string()
    }
}

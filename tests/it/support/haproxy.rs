//! `HAProxy` in front of several processes.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::app::eventually;

/// A running `HAProxy`; it ends when dropped.
pub struct HaProxy {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl HaProxy {
    /// Starts `HAProxy` with the configuration of docs/operations.md, for these servers.
    pub async fn start(servers: [SocketAddr; 2]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = port.local_addr().expect("an address");
        drop(port);
        let document = include_str!("../../../docs/operations.md");
        let config = document.split("```haproxy\n").nth(1).and_then(|rest| rest.split("```").next());
        let config = config.expect("a configuration in the document");
        let [first, second] = servers.map(|server| server.to_string());
        let config = config
            .replace("*:80", &address.to_string())
            .replace("10.0.0.1:5000", &first)
            .replace("10.0.0.2:5000", &second);
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("haproxy.cfg");
        std::fs::write(&file, config).expect("written");
        let process = Command::new("haproxy").arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).spawn();
        let process = process.expect("Debian's haproxy is installed");
        eventually("HAProxy listens", async || TcpStream::connect(address).is_ok()).await;
        Self { process, address, _folder: folder }
    }

    /// Returns the URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

impl Drop for HaProxy {
    fn drop(&mut self) {
        // Fails only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

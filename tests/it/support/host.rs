//! Where processes run: on this machine, or in network namespaces that stand for other machines.

use std::net::Ipv4Addr;
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where a process runs: on this machine, or in a network namespace that stands for another one.
#[derive(Clone)]
pub struct Host {
    pub ip: String,
    pub namespace: Option<String>,
}

impl Host {
    pub fn here() -> Self {
        Self { ip: "127.0.0.1".to_owned(), namespace: None }
    }

    /// Returns a command that runs there.
    pub fn command(&self, program: &str) -> Command {
        match &self.namespace {
            None => Command::new(program),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, program]);
                command
            }
        }
    }
}

/// Three hosts on one network with this machine. It is removed when dropped.
pub struct Network {
    name: String,
    subnet: [u8; 3],
}

/// Networks of this process so far.
static NETWORKS: AtomicU8 = AtomicU8::new(0);

const HOSTS: u8 = 3;

impl Network {
    /// Creates the network. Needs root, or sudo without a password.
    pub fn create() -> Self {
        let process = std::process::id();
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        let [.., third, second] = process.to_be_bytes();
        let network = Self {
            name: format!("o{process:x}{number}"),
            // One of the private networks (RFC 1918).
            subnet: [10, 64 + second % 128, third.wrapping_add(number)],
        };
        let bridge = &network.name;
        ip(&["link", "add", bridge, "type", "bridge"]);
        ip(&["address", "add", &format!("{}/24", network.machine()), "dev", bridge]);
        ip(&["link", "set", bridge, "up"]);
        for at in 0..HOSTS {
            let namespace = network.namespace(at);
            let (here, there) = (format!("{namespace}h"), "eth0");
            ip(&["netns", "add", &namespace]);
            ip(&["link", "add", &here, "type", "veth", "peer", "name", there, "netns", &namespace]);
            ip(&["link", "set", &here, "master", bridge, "up"]);
            let address = format!("{}/24", network.address(at));
            ip(&["-n", &namespace, "address", "add", &address, "dev", there]);
            ip(&["-n", &namespace, "link", "set", there, "up"]);
            ip(&["-n", &namespace, "link", "set", "lo", "up"]);
        }
        network
    }

    /// Returns the hosts.
    pub fn hosts(&self) -> [Host; HOSTS as usize] {
        [0, 1, 2].map(|at| Host { ip: self.address(at).to_string(), namespace: Some(self.namespace(at)) })
    }

    /// Returns the address of this machine.
    pub fn machine(&self) -> Ipv4Addr {
        let [first, second, third] = self.subnet;
        Ipv4Addr::new(first, second, third, 254)
    }

    /// Gives this machine another address, which the hosts reach.
    pub fn add_address(&self, address: Ipv4Addr) {
        ip(&["address", "add", &format!("{address}/32"), "dev", &self.name]);
        for at in 0..HOSTS {
            let machine = self.machine().to_string();
            ip(&["-n", &self.namespace(at), "route", "add", &address.to_string(), "via", &machine]);
        }
    }

    /// Resolves names on the hosts with a DNS server on this machine.
    pub fn resolve_here(&self) {
        for at in 0..HOSTS {
            self.resolve_here_on(&self.namespace(at));
        }
    }

    fn resolve_here_on(&self, namespace: &str) {
        let server = self.machine();
        let folder = format!("/etc/netns/{namespace}");
        let text = format!("mkdir -p {folder} && echo nameserver {server} >{folder}/resolv.conf");
        let status = root("sh").args(["-c", &text]).status().expect("a shell");
        assert!(status.success(), "{text}");
    }

    /// Drops all packets between a host and the other hosts. This machine still reaches all.
    pub fn cut(&self, host: usize) {
        self.routes(host, "add");
    }

    /// Undoes `cut`.
    pub fn mend(&self, host: usize) {
        self.routes(host, "delete");
    }

    fn routes(&self, host: usize, action: &str) {
        let host = u8::try_from(host).expect("a host");
        for other in (0..HOSTS).filter(|other| *other != host) {
            for (from, to) in [(host, other), (other, host)] {
                let to = format!("{}/32", self.address(to));
                ip(&["-n", &self.namespace(from), "route", action, "blackhole", &to]);
            }
        }
    }

    fn address(&self, host: u8) -> Ipv4Addr {
        let [first, second, third] = self.subnet;
        Ipv4Addr::new(first, second, third, host + 1)
    }

    fn namespace(&self, host: u8) -> String {
        format!("{}{host}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for at in 0..HOSTS {
            let _ = root("ip").args(["netns", "delete", &self.namespace(at)]).status();
            let _ = root("rm").args(["-rf", &format!("/etc/netns/{}", self.namespace(at))]).status();
        }
        let _ = root("ip").args(["link", "delete", &self.name]).status();
    }
}

fn ip(arguments: &[&str]) {
    let output = root("ip").args(arguments).output().expect("Debian's iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {output:?}");
}

/// Returns a command that runs as root.
fn root(program: &str) -> Command {
    let is_root =
        std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if is_root {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

//! Redis, the relay and the release `otpd serve` of one measurement. Its log at level info and its
//! audit log go to files, as they would go to the collector of a machine.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::driver::{self, Outcome, Pace};
use super::relay::{self, Relay};
use super::usage::{Usage, memory_mb};
use crate::support::app::{self, SENDER, command, light_hash};
use crate::support::redis::RedisServer;
use crate::support::v1;

/// How long a program may take to start.
const TIMEOUT: Duration = Duration::from_mins(1);
const SECRET: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";

/// A service that is measured, with what it needs.
pub struct Rig {
    pub redis: RedisServer,
    pub relay: Relay,
    pub address: SocketAddr,
    redis_id: u32,
    process: Child,
    folder: TempDir,
    /// Requests at once while a measurement is prepared: few under a profiler, which makes calls of
    /// Redis so slow that many at once would take too long.
    at_once: usize,
}

/// CPU time of one run.
#[derive(Clone, Copy)]
pub struct Spent {
    pub service: Usage,
    pub redis: Usage,
    pub relay: Usage,
}

/// Returns the settings that differ from the defaults: the light hash, no load shedding, limits of
/// API keys that are never reached, and a trusted proxy on this machine, so that each request can
/// come from a client of its own.
pub fn settings() -> BTreeMap<String, String> {
    let own = [
        ("EMAIL_SENDER", SENDER.to_owned()),
        ("EMAIL_PASSWORD", "relay password".to_owned()),
        ("SMTP_SERVER", "localhost".to_owned()),
        ("OTP_SECRETS__PEPPERS", app::one_pepper()),
        ("OTP_SECRETS__INDEX_KEY", SECRET.to_owned()),
        ("OTP_SECRETS__PROOF_KEYS", format!("p1:{SECRET}")),
        ("OTP_TENANT__KEYS", v1::hash(1)),
        ("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "10000000".to_owned()),
        ("OTP_LIMITS__KEY_CHECKS_PER_MINUTE", "10000000".to_owned()),
        ("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "0".to_owned()),
        ("OTP_HTTP__TRUSTED_PROXIES", "127.0.0.0/8".to_owned()),
        ("OTP_HTTP__LISTEN", "127.0.0.1:0".to_owned()),
        ("OTP_ADMIN__LISTEN", "127.0.0.1:0".to_owned()),
        ("OTP_HASH__QUEUE", "1000".to_owned()),
        ("OTP_LOG__LEVEL", "info".to_owned()),
    ];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
    own.chain(light_hash()).collect()
}

impl Rig {
    /// Starts otpd with these settings in addition.
    pub async fn start(more: &[(&str, &str)]) -> Self {
        Self::start_under(&[], more).await
    }

    /// Starts otpd under another program, such as a profiler.
    pub async fn start_under(program: &[&str], more: &[(&str, &str)]) -> Self {
        let mut settings = settings();
        let more = more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.extend(more);
        let at_once = if program.is_empty() { 32 } else { 1 };
        let mut rig = Self::start_with(|redis, relay, folder, log, output| {
            settings.extend(redis.settings().into_iter().map(|(name, value)| (name.to_owned(), value)));
            settings.insert("SMTP_PORT".to_owned(), relay.port().to_string());
            settings.insert("SSL_CERT_FILE".to_owned(), relay.certificate());
            let otpd = command(folder, &settings);
            let mut started = match program {
                [] => otpd,
                [first, rest @ ..] => {
                    let mut started = Command::new(first);
                    started.args(rest).arg(otpd.get_program()).current_dir(folder).env_clear();
                    started.envs(otpd.get_envs().filter_map(|(name, value)| Some((name, value?))));
                    started.stdin(Stdio::null());
                    started
                }
            };
            let process = started.arg("serve").stderr(log).stdout(output).spawn().expect("it starts");
            (process, None)
        })
        .await;
        rig.at_once = at_once;
        rig
    }

    /// Starts any service. If its address is not known, it is that of its log.
    pub async fn start_with(
        start: impl FnOnce(&RedisServer, &Relay, &Path, File, File) -> (Child, Option<SocketAddr>),
    ) -> Self {
        let redis = RedisServer::single().await;
        let mut info = redis::cmd("INFO");
        let info: String = redis.query(info.arg("server")).await;
        let id = info.lines().find_map(|line| line.strip_prefix("process_id:")).expect("a process");
        let relay = Relay::start();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (log, output) = (file(&folder, "log"), file(&folder, "output"));
        let (process, address) = start(&redis, &relay, folder.path(), log, output);
        let unknown = SocketAddr::from(([127, 0, 0, 1], 0));
        let redis_id = id.trim().parse().expect("a process id");
        let mut rig = Self { redis, relay, address: unknown, redis_id, process, folder, at_once: 32 };
        rig.await_start(address).await;
        rig
    }

    async fn await_start(&mut self, address: Option<SocketAddr>) {
        let begun = Instant::now();
        loop {
            if let Some(found) = address.or_else(|| listening(&self.log()))
                && tokio::net::TcpStream::connect(found).await.is_ok()
            {
                self.address = found;
                return;
            }
            assert!(begun.elapsed() < TIMEOUT, "it did not start: {}", self.log());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Returns what it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Returns the resident memory in MB.
    pub fn memory_mb(&self) -> f64 {
        memory_mb(self.id(), "VmRSS")
    }

    /// Returns the peak of the resident memory in MB.
    pub fn peak_mb(&self) -> f64 {
        memory_mb(self.id(), "VmHWM")
    }

    /// Sends requests and measures what they take.
    pub fn measure(&self, requests: Vec<Vec<u8>>, connections: usize, pace: Pace) -> (Outcome, Spent) {
        let before = self.spent();
        let outcome = driver::run(self.address, Arc::new(requests), connections, pace, false);
        let after = self.spent();
        let spent = Spent {
            service: after.service - before.service,
            redis: after.redis - before.redis,
            relay: after.relay - before.relay,
        };
        self.truncate_logs();
        (outcome, spent)
    }

    /// Sends requests that prepare a measurement, and returns the bodies of their answers in order.
    pub fn prepare(&self, requests: Vec<Vec<u8>>, status: u16) -> Vec<String> {
        let count = requests.len();
        let outcome = driver::run(self.address, Arc::new(requests), self.at_once, Pace::Closed, true);
        assert_eq!(outcome.count(status), count, "{:?}: {:?}", outcome.statuses, outcome.bodies.first());
        let mut bodies = outcome.bodies;
        bodies.sort_unstable_by_key(|(number, _)| *number);
        bodies.into_iter().map(|(_, body)| body).collect()
    }

    fn spent(&self) -> Spent {
        Spent {
            service: Usage::of_family(self.id()),
            redis: Usage::of(self.redis_id),
            relay: Usage::of_own_threads(relay::THREAD),
        }
    }

    fn truncate_logs(&self) {
        for name in ["log", "output"] {
            file(&self.folder, name).set_len(0).expect("a file of this process");
        }
    }

    /// Stops the service (SIGTERM), and waits for its end.
    pub fn stop(&mut self) {
        let status = Command::new("kill").arg(self.id().to_string()).status();
        assert!(status.expect("kill runs").success());
        self.process.wait().expect("a child");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Opens a file to append to, so that it can be truncated while another process writes to it.
fn file(folder: &TempDir, name: &str) -> File {
    let path = folder.path().join(name);
    OpenOptions::new().create(true).append(true).open(path).expect("a file in a temporary folder")
}

/// Returns the address that otpd has logged.
fn listening(log: &str) -> Option<SocketAddr> {
    log.lines().find_map(|line| {
        let line: Value = serde_json::from_str(line).ok()?;
        (line["message"] == "listening").then(|| line["address"].as_str()?.parse().ok())?
    })
}

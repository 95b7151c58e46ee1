//! A running otpd: the real binary as a separate process, with its own Redis, SMTP peer and
//! settings.
//!
//! The tests know the service only by its HTTP answers, its log and its exit code.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::host::Host;
use super::of_run;
use super::redis::RedisServer;
use super::secrets::Secrets;
use super::smtp::SmtpPeer;
use super::token_server::TokenServer;

/// Secrets of the test deployments, 32 bytes each.
const PEPPER_1: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE";
const PEPPER_2: &str = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI";
/// The sender of all test emails.
pub const SENDER: &str = "codes@sender.example";

/// How long to wait for something that must happen soon.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns `k1` alone.
pub fn one_pepper() -> String {
    format!("k1:{PEPPER_1}")
}

/// Returns `k2` as the new pepper and `k1`, which is still accepted.
pub fn rotated_peppers() -> String {
    format!("k2:{PEPPER_2},k1:{PEPPER_1}")
}

/// Returns `k2` alone.
pub fn new_pepper() -> String {
    format!("k2:{PEPPER_2}")
}

/// The settings of a process that is not started yet.
pub struct Builder {
    settings: BTreeMap<String, String>,
    smtp: super::smtp::SmtpPeerBuilder,
    tls: bool,
    redis: RedisKind,
    config: Option<String>,
}

/// otpd and its peers. All of them end with the test.
pub struct TestApp {
    pub process: Arc<Process>,
    pub redis: RedisServer,
    pub smtp: SmtpPeer,
    settings: BTreeMap<String, String>,
    config: Option<tempfile::NamedTempFile>,
}

/// A running process of the binary.
pub struct Process {
    child: Mutex<Child>,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    printed: Arc<Mutex<String>>,
    client: reqwest::Client,
    /// What the output must not contain.
    secrets: Mutex<Secrets>,
    readers: Mutex<Vec<JoinHandle<()>>>,
}

/// An HTTP answer as received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// Returns the value of a header, if it occurs exactly once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values =
            self.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str());
        values.next().filter(|_| values.next().is_none())
    }

    /// Returns the status and the `message` member. The body must have no other member.
    pub fn message(&self) -> (u16, String) {
        let body: Value = serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"));
        let message = body["message"].as_str().unwrap_or_else(|| panic!("no message: {self:?}"));
        assert_eq!(body, json!({ "message": message }));
        (self.status, message.to_owned())
    }

    /// Removes the headers that differ between answers by design.
    pub fn without_date_and_id(mut self) -> Self {
        self.headers.retain(|(name, _)| !["date", "ratelimit", "x-request-id"].contains(&name.as_str()));
        self
    }
}

/// Which Redis a test uses.
enum RedisKind {
    OfTheRun,
    Single,
    ClusterOfOne,
}

impl Builder {
    /// Adds a setting.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Uses a relay that requires STARTTLS and a login.
    pub fn tls(mut self) -> Self {
        self.smtp = self.smtp.starttls().credentials(SENDER, "relay password");
        self.tls = true;
        self
    }

    /// Uses a relay that requires STARTTLS and this token, and offers only this mechanism. otpd
    /// gets its tokens from the server.
    pub fn oauth(mut self, server: &TokenServer, mechanism: &'static str, token: &str) -> Self {
        self = self.tls();
        self.smtp = self.smtp.credentials(SENDER, token).mechanisms(mechanism);
        for (name, value) in server.settings() {
            self = self.set(name, &value);
        }
        self
    }

    /// Uses a relay that speaks TLS from the first byte and requires a login.
    pub fn implicit_tls(mut self) -> Self {
        self = self.tls().set("OTP_SMTP__TLS", "implicit");
        self.smtp = self.smtp.implicit_tls();
        self
    }

    /// Configures the keys 1 and 2 for the one tenant of the environment, `default`. Proofs are
    /// signed with `p2`; `p1` is its predecessor.
    pub fn keyed(self) -> Self {
        let keys = format!("{},{}", super::v1::hash(1), super::v1::hash(2));
        let proof_keys = format!("p2:{PEPPER_2},p1:{PEPPER_1}");
        self.set("OTP_TENANT__KEYS", &keys).set("OTP_SECRETS__PROOF_KEYS", &proof_keys)
    }

    /// Configures the sandbox keys 1 and 2 for the same tenant as [`keyed`](Self::keyed).
    pub fn sandboxed(self) -> Self {
        let keys = format!("{},{}", super::v1::sandbox_hash(1), super::v1::sandbox_hash(2));
        self.keyed().set("OTP_TENANT__SANDBOX_KEYS", &keys)
    }

    /// Sets the text of the file for `--config`.
    pub fn config(mut self, text: &str) -> Self {
        self.config = Some(text.to_owned());
        self
    }

    /// Uses a Redis in cluster mode, which refuses a call that touches more than one hash slot.
    pub fn clustered(mut self) -> Self {
        self.redis = RedisKind::ClusterOfOne;
        self
    }

    /// Uses a single Redis, even if the tests run on a cluster.
    pub fn single_redis(mut self) -> Self {
        self.redis = RedisKind::Single;
        self
    }

    /// Starts the peers, then otpd.
    pub async fn spawn(self) -> TestApp {
        let smtp = self.smtp.start().await;
        let redis = match self.redis {
            RedisKind::OfTheRun => RedisServer::start().await,
            RedisKind::Single => RedisServer::single().await,
            RedisKind::ClusterOfOne => RedisServer::start_clustered().await,
        };
        let mut settings = peers(&smtp);
        settings.extend(redis.settings().into_iter().map(|(name, value)| (name.to_owned(), value)));
        let relay = if self.tls {
            vec![
                ("EMAIL_PASSWORD", "relay password".to_owned()),
                ("SSL_CERT_FILE", smtp.ca_file().display().to_string()),
            ]
        } else {
            vec![("OTP_SMTP__AUTH", "none".to_owned()), ("OTP_SMTP__TLS", "none".to_owned())]
        };
        settings.extend(relay.into_iter().map(|(name, value)| (name.to_owned(), value)));
        settings.extend(self.settings);
        let config = self.config.map(|text| {
            let file = tempfile::NamedTempFile::new().expect("a temporary file");
            std::fs::write(file.path(), text).expect("written");
            file
        });
        let serve = config.as_ref().map(|file| format!("serve --config {}", file.path().display()));
        let process = Arc::new(Process::start(serve.as_deref().unwrap_or("serve"), &settings).await);
        TestApp { process, redis, smtp, settings, config }
    }
}

impl TestApp {
    /// Returns `otpd serve` with hashes that take microseconds and limits that no test reaches.
    /// Each test sets what it is about.
    pub fn builder() -> Builder {
        let settings = light_hash().into_iter().chain(wide_limits()).collect();
        Builder { settings, smtp: SmtpPeer::builder(), tls: false, redis: RedisKind::OfTheRun, config: None }
    }

    /// Returns the same with the limits of `otpd serve`, but without load shedding, and with a
    /// trusted proxy on this machine.
    pub fn limited() -> Builder {
        let mut builder = Self::builder().set("OTP_HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
        for (name, _) in wide_limits() {
            builder.settings.remove(&name);
        }
        builder.set("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "0").set("OTP_HASH__QUEUE", "1000")
    }

    /// Returns `otpd serve` with only the required settings, and a trusted proxy on this machine.
    pub fn defaults() -> Builder {
        let mut builder = Self::builder().set("OTP_HTTP__TRUSTED_PROXIES", "127.0.0.0/8");
        for (name, _) in light_hash().into_iter().chain(wide_limits()) {
            builder.settings.remove(&name);
        }
        builder
    }

    /// Returns the settings of `builder` with a key, this relay, and these.
    pub fn settings_for(smtp: &SmtpPeer, more: &[(&str, &str)]) -> BTreeMap<String, String> {
        let mut settings = peers(smtp);
        settings.extend(Self::builder().keyed().settings);
        let own = [
            ("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "10000000"),
            ("OTP_LIMITS__KEY_CHECKS_PER_MINUTE", "10000000"),
            ("OTP_SMTP__AUTH", "none"),
            ("OTP_SMTP__TLS", "none"),
        ];
        let all = own.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        settings.extend(all);
        settings
    }

    /// Starts `otpd serve` with the settings of `builder`.
    pub async fn spawn() -> Self {
        Self::builder().spawn().await
    }

    /// Returns the settings of its process.
    pub fn settings(&self) -> &BTreeMap<String, String> {
        &self.settings
    }

    /// Rewrites the file of `--config` and signals a reload.
    pub fn reload(&self, text: &str) {
        std::fs::write(self.config.as_ref().expect("a file").path(), text).expect("written");
        self.process.signal("HUP");
    }

    /// Starts another process on the same peers, with one setting changed.
    pub async fn another(&self, name: &str, value: &str) -> Process {
        let mut settings = self.settings.clone();
        settings.insert(name.to_owned(), value.to_owned());
        Process::start("serve", &settings).await
    }

    /// Sends a code for this client and returns it from the email.
    pub async fn smtp_code_from(&self, client: &str, email: &str) -> String {
        assert_eq!(self.process.send_from(client, email).await.status, 200);
        self.smtp.last_code_to(email)
    }

    /// Sends a code and returns it from the email.
    pub async fn code_for(&self, email: &str) -> String {
        let sent = self.process.send_otp(email).await;
        assert_eq!(sent.message(), (200, "OTP sent successfully".to_owned()));
        self.smtp.last_code_to(email)
    }
}

impl std::ops::Deref for TestApp {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

/// Returns the settings that every process needs, but for those of Redis.
fn peers(smtp: &SmtpPeer) -> BTreeMap<String, String> {
    let settings = [
        ("EMAIL_SENDER", SENDER.to_owned()),
        ("SMTP_SERVER", "localhost".to_owned()),
        ("SMTP_PORT", smtp.port().to_string()),
        ("OTP_SECRETS__PEPPERS", one_pepper()),
        ("OTP_SECRETS__INDEX_KEY", PEPPER_2.to_owned()),
    ];
    settings.map(|(name, value)| (name.to_owned(), value)).into()
}

/// Returns argon2id at its lowest cost, for tests that are not about hashing.
pub fn light_hash() -> [(String, String); 3] {
    [("OTP_HASH__MEMORY_KIB", "64"), ("OTP_HASH__PASSES", "1"), ("OTP_DANGEROUS__WEAK_HASH", "true")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Returns limits that only a test of limits reaches.
fn wide_limits() -> [(String, String); 8] {
    [
        ("OTP_DANGEROUS__WEAK_LIMITS", "true"),
        ("OTP_LIMITS__IP_SENDS", "100000/1h"),
        ("OTP_LIMITS__IP_ATTEMPTS", "100000/1h"),
        ("OTP_LIMITS__EMAIL_SENDS", "100000/1h"),
        ("OTP_LIMITS__IP_EMAIL_SENDS", "100000/1h"),
        ("OTP_LIMITS__IP_EMAIL_ATTEMPTS", "100000/1h"),
        ("OTP_LIMITS__EMAIL_SENDS_TOTAL", "100000/1h"),
        ("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "0"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}

/// Returns the binary with these settings, in this folder. It stops without a delay, unless they
/// say otherwise.
pub fn command(folder: &std::path::Path, settings: &BTreeMap<String, String>) -> Command {
    command_on(&Host::here(), folder, settings)
}

fn command_on(host: &Host, folder: &std::path::Path, settings: &BTreeMap<String, String>) -> Command {
    // Benchmarks can be run against another build (benches/run).
    let binary = of_run("OTPD_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_otpd").to_owned());
    let mut command = host.command(&binary);
    command.env_clear().env("OTP_HTTP__SHUTDOWN_DELAY", "0s").envs(settings);
    command.current_dir(folder).stdin(Stdio::null());
    command
}

impl Process {
    /// Starts `otpd dev` with hashes that take microseconds.
    pub async fn dev() -> Self {
        Self::dev_with(&[("OTP_HASH__QUEUE", "2000")]).await
    }

    /// Starts `otpd dev` with these settings.
    pub async fn dev_with(settings: &[(&str, &str)]) -> Self {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Self::start("dev", &light_hash().into_iter().chain(settings).collect()).await
    }

    /// Starts `otpd dev` with the limits of `otpd serve`, but without load shedding, and with a
    /// trusted proxy on this machine.
    pub async fn dev_limited() -> Self {
        let more = [
            ("OTP_HTTP__TRUSTED_PROXIES", "127.0.0.0/8"),
            ("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "0"),
            ("OTP_HASH__QUEUE", "1000"),
        ];
        let more = more.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self::start("dev --production-limits", &light_hash().into_iter().chain(more).collect()).await
    }

    /// Starts the binary with this subcommand and waits until it listens.
    pub async fn start(subcommand: &str, settings: &BTreeMap<String, String>) -> Self {
        Self::start_on(&Host::here(), subcommand, settings).await
    }

    /// Starts the binary on a host.
    pub async fn start_on(host: &Host, subcommand: &str, settings: &BTreeMap<String, String>) -> Self {
        let mut settings = settings.clone();
        for listener in ["OTP_HTTP__LISTEN", "OTP_ADMIN__LISTEN"] {
            settings.entry(listener.to_owned()).or_insert_with(|| format!("{}:0", host.ip));
        }
        settings.entry("OTP_LOG__LEVEL".to_owned()).or_insert_with(|| "trace".to_owned());
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut child = command_on(host, folder.path(), &settings)
            .args(subcommand.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("standard error is piped");
        let stdout = child.stdout.take().expect("standard output is piped");
        let log = Arc::new(Mutex::new(String::new()));
        let printed = Arc::new(Mutex::new(String::new()));
        let lines = Arc::clone(&printed);
        let of_stdout = std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut printed = lines.lock().expect("no thread panics with what was printed");
                printed.push_str(&line);
                printed.push('\n');
            }
        });
        let (found, address) = tokio::sync::oneshot::channel();
        let lines = Arc::clone(&log);
        let of_stderr = std::thread::spawn(move || {
            let _folder = folder;
            let mut found = Some(found);
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(address) = listening(&line)
                    && let Some(found) = found.take()
                {
                    let _ = found.send(address);
                }
                let mut log = lines.lock().expect("no thread panics with the log");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = tokio::time::timeout(TIMEOUT, address).await;
        let Ok(Ok(address)) = address else {
            panic!("otpd did not listen: {}", log.lock().expect("the log"))
        };
        let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
        let client = client.build().expect("an HTTP client");
        let readers = Mutex::new(vec![of_stdout, of_stderr]);
        let secrets = Mutex::default();
        Self { child: Mutex::new(child), address, log, printed, client, secrets, readers }
    }

    /// Returns the address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        let log = self.log();
        let found = log.lines().find_map(|line| {
            let line: Value = serde_json::from_str(line).ok()?;
            (line["message"] == "serving metrics").then(|| line["address"].as_str()?.parse().ok())?
        });
        found.expect("an admin listener")
    }

    /// Requests a path of the admin listener.
    pub async fn admin(&self, path: &str) -> Answer {
        self.answer(self.client.get(format!("http://{}{path}", self.admin_address()))).await
    }

    /// Returns the address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns what the output must not contain.
    pub fn secrets(&self) -> MutexGuard<'_, Secrets> {
        self.secrets.lock().expect("no thread panics with the secrets")
    }

    /// Returns the lines of the audit log so far.
    pub fn audited(&self) -> Vec<Value> {
        let printed = self.printed.lock().expect("no thread panics with what was printed");
        printed.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("no thread panics with the process")
    }

    /// Returns its process id.
    pub fn id(&self) -> u32 {
        self.child().id()
    }

    /// Returns everything that it has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no thread panics with the log").clone()
    }

    /// Returns everything that it had logged when this was called.
    pub async fn whole_log(&self) -> String {
        let last = self.get("/livez").await.header("x-request-id").expect("a request id").to_owned();
        let begun = Instant::now();
        loop {
            let log = self.log();
            if log.contains(&last) {
                return log;
            }
            assert!(begun.elapsed() < TIMEOUT, "{last} is not in the log: {log}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns what it has printed after this name.
    pub async fn printed(&self, name: &str) -> String {
        let begun = Instant::now();
        loop {
            let printed = self.printed.lock().expect("no thread panics with what was printed").clone();
            if let Some(line) = printed.lines().find_map(|line| line.trim().strip_prefix(name)) {
                return line.trim().to_owned();
            }
            assert!(begun.elapsed() < TIMEOUT, "{name} is not in: {printed}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Returns how many attempts were compared with a live code, by the trace event of each.
    pub async fn compared(&self) -> usize {
        self.whole_log().await.matches(r#""message":"an attempt was compared","live":true"#).count()
    }

    /// Sends `POST /send-otp` for an address, as a trusted proxy forwards it for a client.
    pub async fn send_from(&self, client: &str, email: &str) -> Answer {
        self.passed_on(client, "/send-otp", &json!({ "email": email })).await
    }

    /// Sends `POST /verify-otp` for an address and a code, as a trusted proxy forwards it for a
    /// client.
    pub async fn verify_from(&self, client: &str, email: &str, otp: &str) -> Answer {
        self.passed_on(client, "/verify-otp", &json!({ "email": email, "otp": otp })).await
    }

    async fn passed_on(&self, client: &str, path: &str, body: &Value) -> Answer {
        let request = self.request(reqwest::Method::POST, path).header("x-forwarded-for", client);
        self.answer(request.header("content-type", "application/json").body(body.to_string())).await
    }

    /// Returns its peak resident memory in KiB, without the pages of the binary, of which a debug
    /// build has many more.
    pub fn peak_memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).expect("a process");
        let kib = |name: &str| -> u64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).expect("a figure");
            line.trim().trim_end_matches("kB").trim().parse().expect("a number")
        };
        kib("VmHWM:") - kib("RssFile:")
    }

    /// Sends `POST /send-otp` for an address.
    pub async fn send_otp(&self, email: &str) -> Answer {
        self.post("/send-otp", &json!({ "email": email }).to_string()).await
    }

    /// Sends `POST /verify-otp` for an address and a code.
    pub async fn verify_otp(&self, email: &str, otp: &str) -> Answer {
        self.post("/verify-otp", &json!({ "email": email, "otp": otp }).to_string()).await
    }

    /// Sends a POST of JSON text.
    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let request = self.request(reqwest::Method::POST, path);
        self.answer(request.header("content-type", "application/json").body(body.to_owned())).await
    }

    /// Sends a GET.
    pub async fn get(&self, path: &str) -> Answer {
        self.answer(self.request(reqwest::Method::GET, path)).await
    }

    /// Returns any request, to be completed.
    pub fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("http://{}{path}", self.address))
    }

    /// Sends a completed request.
    pub async fn answer(&self, request: reqwest::RequestBuilder) -> Answer {
        let request = request.build().expect("a request");
        self.secrets().add_request(&request);
        let response = self.client.execute(request).await.expect("an answer");
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        Answer {
            status: response.status().as_u16(),
            headers: headers.collect(),
            body: response.text().await.expect("a body of text"),
        }
    }

    /// Opens a connection, for bytes that no client library would send.
    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    /// Sends raw bytes and reads until the server closes.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect().await;
        // A server that rejects early may close the connection while there is still more to send.
        let _ = stream.write_all(bytes).await;
        read_to_end(&mut stream).await
    }

    /// Returns the codes captured by `otpd dev` for an address, newest first.
    pub async fn captured_codes(&self, email: &str) -> Vec<String> {
        let answer = self.get(&format!("/dev/mails?to={email}")).await;
        let mails: Vec<Value> = serde_json::from_str(&answer.body).expect("a list of mails");
        mails.iter().map(|mail| digits(mail["text"].as_str().expect("a text"))).collect()
    }

    /// Kills it (SIGKILL).
    pub fn kill(&self) {
        self.child().kill().expect("a process to kill");
    }

    /// Asks it to stop (SIGTERM), as an orchestrator does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Sends it a signal.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").arg(format!("-{name}")).arg(self.id().to_string()).status();
        assert!(status.expect("kill runs").success());
    }

    /// Waits until it has logged this text.
    pub async fn logged(&self, text: &str) {
        eventually(text, async || self.log().contains(text)).await;
    }

    /// Stops it, and waits until all of its output is read.
    pub async fn stopped(&self) -> ExitStatus {
        self.terminate();
        let status = self.ended().await;
        self.join_readers();
        status
    }

    fn join_readers(&self) {
        for reader in self.readers.lock().expect("no thread panics with the readers").drain(..) {
            reader.join().expect("the output is read");
        }
    }

    /// Returns its status if it has ended.
    pub fn try_ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().expect("the process can be waited for")
    }

    /// Waits for its end.
    pub async fn ended(&self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.try_ended() {
                return status;
            }
            assert!(begun.elapsed() < TIMEOUT, "otpd did not end");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = self.child();
        let _ = child.kill();
        let _ = child.wait();
        drop(child);
        self.join_readers();
        if !std::thread::panicking() {
            let printed = self.printed.lock().expect("no thread panics with what was printed");
            self.secrets().assert_absent(&[self.log(), printed.clone()].concat());
        }
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        let mut secrets = self.process.secrets();
        for mail in self.smtp.mails() {
            mail.to.iter().for_each(|to| secrets.add_text(to));
            secrets.add_text(&mail.code());
        }
    }
}

/// Waits until a condition holds; it must hold soon.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    within(TIMEOUT, what, condition).await;
}

/// Waits until a condition holds; it must hold within this time.
pub async fn within(limit: Duration, what: &str, condition: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !condition().await {
        assert!(begun.elapsed() < limit, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Reads until the other side closes.
pub async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer counts as a close too.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Returns the first six digits that are alone on a line.
fn digits(text: &str) -> String {
    let line = text.lines().find(|line| line.len() >= 6 && line.bytes().all(|b| b.is_ascii_digit()));
    line.expect("a code in the mail").to_owned()
}

/// Returns the address in the log line that says where otpd listens.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line["message"] == "listening").then(|| line["address"].as_str()?.parse().ok())?
}

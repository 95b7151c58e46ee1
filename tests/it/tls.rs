//! HTTPS at the listener: protocol, certificates that change while requests are served, and
//! certificates that expire.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use otpd::adapters::clock::SystemClock;
use otpd::ports::Clock as _;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::commands::{run, text};
use crate::support::app::{TestApp, eventually, within};

const DAY: Duration = Duration::from_hours(24);

/// A folder with a certificate and its key, and the roots that clients trust.
struct Files {
    folder: tempfile::TempDir,
    roots: RootCertStore,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().expect("a folder"), roots: RootCertStore::empty() };
        files.renewed(90 * DAY)
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("chain.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    /// Writes a new certificate and its key, which clients trust too.
    fn renewed(mut self, valid_for: Duration) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
        params.not_before = (SystemClock.now() - 60 * DAY).into();
        params.not_after = (SystemClock.now() + valid_for).into();
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(self.certificate(), certificate.pem()).expect("written");
        std::fs::write(self.key(), key.serialize_pem()).expect("written");
        self.roots.add(certificate.der().clone()).expect("a root");
        self
    }

    fn settings(&self) -> [(&'static str, String); 2] {
        let shown = |path: PathBuf| path.display().to_string();
        [("OTP_TLS__CERT_FILE", shown(self.certificate())), ("OTP_TLS__KEY_FILE", shown(self.key()))]
    }

    async fn spawn(&self) -> TestApp {
        let [certificate, key] = self.settings();
        let builder = TestApp::builder().set(certificate.0, &certificate.1).set(key.0, &key.1);
        builder.spawn().await
    }

    fn connector(&self, versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider);
        let config = config.with_protocol_versions(versions).expect("versions");
        let mut config = config.with_root_certificates(self.roots.clone()).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        TlsConnector::from(Arc::new(config))
    }

    async fn connect(&self, address: SocketAddr) -> TlsStream<TcpStream> {
        self.connect_with(address, rustls::ALL_VERSIONS).await.expect("a handshake")
    }

    async fn connect_with(
        &self,
        address: SocketAddr,
        versions: &[&'static SupportedProtocolVersion],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let name = ServerName::try_from("localhost").expect("a name");
        self.connector(versions).connect(name, stream).await
    }
}

/// Sends a request and reads its answer; the connection stays open.
async fn exchange(stream: &mut TlsStream<TcpStream>, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    loop {
        let read = stream.read_buf(&mut answer).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            assert!(read > 0, "the connection was closed: {text}");
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ").map(str::to_owned));
        if length.is_none_or(|length| body.len() >= length.parse().expect("a length")) {
            return text;
        }
        assert!(read > 0, "the connection was closed: {text}");
    }
}

#[tokio::test]
async fn https_is_served_by_tls_1_2_and_1_3_and_hsts_is_set() {
    let files = Files::new();
    let app = files.spawn().await;
    for (version, is) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut stream = files.connect_with(app.address(), &[version]).await.expect("a handshake");
        let (_, session) = stream.get_ref();
        assert_eq!(session.protocol_version(), Some(is));
        assert_eq!(session.alpn_protocol(), Some(b"http/1.1".as_slice()));
        let sent = exchange(&mut stream, "POST", "/send-otp", r#"{"email":"a@example.com"}"#).await;
        assert!(sent.starts_with("HTTP/1.1 200 OK\r\n"), "{sent}");
        assert!(sent.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{sent}");
        let code = app.smtp.last_code_to("a@example.com");
        let body = json!({ "email": "a@example.com", "otp": code }).to_string();
        let checked = exchange(&mut stream, "POST", "/verify-otp", &body).await;
        assert!(checked.starts_with("HTTP/1.1 200 OK\r\n"), "on the same connection: {checked}");
        let refused = exchange(&mut stream, "GET", "/none", "").await;
        assert!(refused.contains("\r\nstrict-transport-security: "), "{refused}");
    }
    // HTTP without TLS gets no answer of HTTP.
    let answer = app.raw(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(!answer.contains("HTTP/1.1"), "{answer}");
    let plain = TestApp::spawn().await;
    assert_eq!(plain.get("/livez").await.header("strict-transport-security"), None);
}

#[tokio::test]
async fn a_certificate_is_renewed_under_load_and_a_bad_one_is_refused() {
    let files = Files::new();
    let app = files.spawn().await;
    let mut kept = files.connect(app.address()).await;
    let first = kept.get_ref().1.peer_certificates().expect("certificates")[0].clone().into_owned();
    let files = files.renewed(60 * DAY);
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let load = async || {
        while !stop.load(Ordering::Relaxed) {
            let mut stream = files.connect(app.address()).await;
            for _ in 0..3 {
                let answer = exchange(&mut stream, "GET", "/livez", "").await;
                assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            }
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let some_more = async || {
        let before = done.load(Ordering::Relaxed);
        eventually("more load", async || done.load(Ordering::Relaxed) > before + 8).await;
    };
    let renew = async {
        some_more().await;
        app.signal("HUP");
        app.logged("the settings were reloaded").await;
        let renewed = files.connect(app.address()).await;
        assert_ne!(renewed.get_ref().1.peer_certificates().expect("certificates")[0], first);
        let answer = exchange(&mut kept, "GET", "/livez", "").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "an open connection goes on: {answer}");
        some_more().await;
        // A key of another certificate, as between two steps of a renewal.
        let other = KeyPair::generate().expect("a key").serialize_pem();
        std::fs::write(files.key(), other).expect("written");
        app.signal("HUP");
        app.logged("the private key is not that of the first certificate").await;
        app.logged("the settings were not reloaded").await;
        some_more().await;
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(renew, load(), load(), load());
}

#[tokio::test]
async fn a_certificate_that_expires_soon_is_warned_of_and_its_end_is_a_metric() {
    let files = Files::new();
    let app = files.spawn().await;
    let expiry = async || {
        let metrics = app.admin("/metrics").await.body;
        let name = "otpd_tls_certificate_expiry_timestamp_seconds ";
        let value = metrics.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
        let left = Duration::from_secs(value.parse().expect("seconds"));
        left.saturating_sub(SystemClock.now().duration_since(SystemTime::UNIX_EPOCH).expect("now")).as_secs()
            / 3600
    };
    assert!((89 * 24..=90 * 24).contains(&expiry().await));
    // It would have been logged before it listened.
    assert!(!app.log().contains("OTP_TLS__CERT_FILE: "));
    let files = files.renewed(29 * DAY);
    app.signal("HUP");
    app.logged("the certificate expires in 28 days").await;
    assert!((28 * 24..=29 * 24).contains(&expiry().await));
    let _files = files.renewed(Duration::ZERO);
    app.signal("HUP");
    app.logged("the certificate expired").await;
    let plain = TestApp::spawn().await;
    assert!(!plain.admin("/metrics").await.body.contains("\notpd_tls_certificate_expiry_timestamp_seconds "));
}

#[tokio::test]
async fn a_handshake_that_does_not_go_on_holds_up_nobody() {
    let files = Files::new();
    let app = files.spawn().await;
    let silent = app.connect().await;
    let mut started = app.connect().await;
    started.write_all(&[22, 3, 1]).await.expect("sent");
    let mut stream = files.connect(app.address()).await;
    assert!(exchange(&mut stream, "GET", "/livez", "").await.starts_with("HTTP/1.1 200"));
    // The timeout of a head is that of the handshake too.
    within(Duration::from_secs(15), "it is closed", async || {
        let mut byte = [0];
        matches!(started.peek(&mut byte).await, Ok(0) | Err(_))
    })
    .await;
    drop(silent);
    let silent = app.connect().await;
    app.terminate();
    within(Duration::from_secs(8), "it ends", async || app.try_ended().is_some()).await;
    drop(silent);
}

#[tokio::test]
async fn tls_is_not_switched_on_by_a_reload() {
    let files = Files::new();
    let app = TestApp::builder().config("").spawn().await;
    let [certificate, key] = files.settings().map(|(_, path)| path);
    app.reload(&format!("[tls]\ncert_file = \"{certificate}\"\nkey_file = \"{key}\"\n"));
    app.logged(r#""names":"OTP_TLS__CERT_FILE""#).await;
    assert_eq!(app.get("/livez").await.status, 200);
}

#[test]
fn files_that_are_no_certificate_and_key_are_named() {
    let files = Files::new();
    let base: Vec<(String, String)> = [
        ("EMAIL_SENDER", "a@example.com"),
        ("SMTP_SERVER", "localhost"),
        ("OTP_SMTP__AUTH", "none"),
        ("REDIS_HOST", "127.0.0.1"),
        ("OTP_SECRETS__PEPPERS", "k1:AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"),
        ("OTP_SECRETS__INDEX_KEY", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let [certificate, key] = files.settings();
    let refused = |more: &[(&str, &str)]| {
        let base = base.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> = base.chain(more.iter().copied()).collect();
        let output = run(files.folder.path(), &settings, &["serve"]);
        assert_eq!(output.status.code(), Some(2), "{more:?}");
        text(&output.stderr)
    };
    let none = files.folder.path().join("none.pem").display().to_string();
    for (pair, reason) in [
        (
            [(certificate.0, certificate.1.as_str())].as_slice(),
            "OTP_TLS__KEY_FILE: is missing: OTP_TLS__CERT_FILE is set",
        ),
        (&[(key.0, &key.1)], "OTP_TLS__CERT_FILE: is missing: OTP_TLS__KEY_FILE is set"),
        (&[(certificate.0, &none), (key.0, &key.1)], "No such file"),
        (&[(certificate.0, &key.1), (key.0, &key.1)], "there is no certificate in PEM form"),
        (
            &[(certificate.0, &certificate.1), (key.0, &certificate.1)],
            "chain.pem: there is no private key in PEM form",
        ),
    ] {
        let said = refused(pair);
        assert!(said.contains(reason) && said.contains("OTP_TLS__"), "{reason}: {said}");
    }
}

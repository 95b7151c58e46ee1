//! TLS to Redis, with an authority and a client's certificate of its own.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::support::app::{Process, TestApp};
use crate::support::redis::{RedisServer, free_port};
use crate::support::smtp::SmtpPeer;

/// A folder with an authority, and the certificates of a server and a client that it issued.
struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, pem: String| std::fs::write(folder.path().join(name), pem).expect("written");
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority of Redis");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        write("ca.pem", params.self_signed(&key).expect("signed").pem());
        let issuer = Issuer::new(params, key);
        for name in ["server", "client"] {
            let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
            let params = CertificateParams::new(names).expect("names");
            let key = KeyPair::generate().expect("a key");
            write(&format!("{name}.pem"), params.signed_by(&key, &issuer).expect("signed").pem());
            write(&format!("{name}-key.pem"), key.serialize_pem());
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// Returns the options of a server that speaks TLS at this port, to clients with a certificate.
    fn options(&self, port: u16) -> Vec<String> {
        let options = [
            ("--tls-port", port.to_string()),
            ("--tls-cert-file", self.path("server.pem")),
            ("--tls-key-file", self.path("server-key.pem")),
            ("--tls-ca-cert-file", self.path("ca.pem")),
            ("--tls-auth-clients", "yes".to_owned()),
        ];
        options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect()
    }

    fn settings(&self) -> [(&'static str, String); 3] {
        [
            ("OTP_REDIS__CA_FILE", self.path("ca.pem")),
            ("OTP_REDIS__CERT_FILE", self.path("client.pem")),
            ("OTP_REDIS__KEY_FILE", self.path("client-key.pem")),
        ]
    }
}

/// Returns the status of `/readyz` of a process with these settings, and its log.
async fn readiness(smtp: &SmtpPeer, settings: &[(&str, &str)]) -> (u16, String) {
    let process = Process::start("serve", &TestApp::settings_for(smtp, settings)).await;
    let status = process.get("/readyz").await.status;
    if status == 200 {
        assert_eq!(process.send_otp("person@example.com").await.status, 200);
    }
    (status, process.whole_log().await)
}

async fn assert_certificates_are_checked(smtp: &SmtpPeer, url: &str, files: &Files) {
    let [ca, certificate, key] = files.settings();
    let own = [("REDIS_URL", url), (ca.0, &ca.1), (certificate.0, &certificate.1), (key.0, &key.1)];
    assert_eq!(readiness(smtp, &own).await.0, 200);
    let (status, log) = readiness(smtp, &own[..2]).await;
    assert_eq!(status, 503, "without a certificate: {log}");
    let stranger = Files::new();
    let of_stranger = stranger.path("ca.pem");
    let foreign = [own[0], (ca.0, &of_stranger), own[2], own[3]];
    let foreign_status = readiness(smtp, &foreign).await.0;
    assert_eq!(foreign_status, 503, "of an authority that the settings do not name");
    assert_eq!(readiness(smtp, &own[..1]).await.0, 503, "of an authority that the system does not know");
}

#[tokio::test]
async fn a_server_and_a_cluster_are_reached_with_the_certificates_of_the_settings() {
    let smtp = SmtpPeer::builder().start().await;
    let files = Files::new();
    let port = free_port().expect("a port");
    let options = files.options(port);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let _server = RedisServer::start_with(&options).await;
    assert_certificates_are_checked(&smtp, &format!("rediss://localhost:{port}"), &files).await;

    let port = free_port().expect("a port");
    let options = files.options(port);
    let of_cluster = [options.iter().map(String::as_str).collect(), vec!["--tls-cluster", "yes"]].concat();
    let _cluster = RedisServer::start_cluster_with(1, false, &of_cluster).await;
    assert_certificates_are_checked(&smtp, &format!("rediss+cluster://localhost:{port}"), &files).await;
}

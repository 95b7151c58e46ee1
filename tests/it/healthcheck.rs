//! `otpd healthcheck` against services in each state.

use std::process::Output;

use crate::commands::{run, text};
use crate::support::app::{TestApp, eventually};

/// Asks the listener on this address.
fn check(address: &str, more: &[(&str, &str)], arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [&[("OTP_HTTP__LISTEN", address)], more].concat();
    run(folder.path(), &settings, &[&["healthcheck"], arguments].concat())
}

#[tokio::test]
async fn a_healthcheck_asks_whether_the_process_lives_or_is_ready() {
    let app = TestApp::builder().single_redis().spawn().await;
    let address = app.address().to_string();
    for arguments in [&[][..], &["--ready"]] {
        let output = check(&address, &[], arguments);
        assert_eq!((output.status.code(), output.stdout.len(), output.stderr.len()), (Some(0), 0, 0));
    }
    app.redis.stop();
    eventually("it is not ready", async || app.get("/readyz").await.status == 503).await;
    assert_eq!(check(&address, &[], &[]).status.code(), Some(0));
    let output = check(&address, &[], &["--ready"]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("/readyz answered 503") && said.contains("otpd doctor"), "{said}");
}

#[tokio::test]
async fn a_listener_on_all_addresses_is_asked_on_loopback() {
    for address in ["0.0.0.0:0", "[::]:0"] {
        let app = TestApp::builder().set("OTP_HTTP__LISTEN", address).spawn().await;
        let listen = address.replace(":0", &format!(":{}", app.address().port()));
        assert_eq!(check(&listen, &[], &["--ready"]).status.code(), Some(0), "{listen}");
    }
}

#[tokio::test]
async fn a_listener_with_tls_is_asked_over_tls() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["otp.example.com".to_owned()]).expect("a certificate");
    std::fs::write(file("chain.pem"), cert.pem()).expect("written");
    std::fs::write(file("key.pem"), signing_key.serialize_pem()).expect("written");
    let (chain, key) = (file("chain.pem"), file("key.pem"));
    let tls = [("OTP_TLS__CERT_FILE", chain.as_str()), ("OTP_TLS__KEY_FILE", key.as_str())];
    let app = TestApp::builder().set(tls[0].0, tls[0].1).set(tls[1].0, tls[1].1).spawn().await;
    let address = app.address().to_string();
    assert_eq!(check(&address, &tls, &["--ready"]).status.code(), Some(0));
    assert_eq!(check(&address, &[], &[]).status.code(), Some(1), "it does not speak HTTP");
}

#[tokio::test]
async fn what_does_not_answer_is_not_well() {
    let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = socket.local_addr().expect("an address").to_string();
    // Connections are accepted by the system, and nobody answers.
    let silent = check(&address, &[], &[]);
    assert_eq!(silent.status.code(), Some(1));
    assert!(text(&silent.stderr).contains("no answer within 5 s"), "{silent:?}");
    drop(socket);
    let refused = check(&address, &[], &[]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("Connection refused"), "{refused:?}");
}

#[test]
fn settings_that_cannot_be_read_are_exit_code_1_too() {
    for (name, value) in [("OTP_HTTP__LISTEN", "nowhere"), ("OTP_TLS__CERT_FILE", "/a/chain.pem")] {
        let output = check("127.0.0.1:1", &[(name, value)], &[]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(text(&output.stderr).contains(if name.contains("TLS") { "OTP_TLS__KEY_FILE" } else { name }));
    }
    let folder = tempfile::tempdir().expect("a folder");
    let output = run(folder.path(), &[], &["--config", "/no/such/file", "healthcheck"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

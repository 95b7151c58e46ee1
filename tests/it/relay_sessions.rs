//! One session with a relay: logins by token, and what is sent at once.

use otpd::adapters::smtp::{Login, Relay, SmtpTransport, Tls, TrustAnchors};

use serde_json::json;

use crate::oauth::token_source;
use crate::support::app::TestApp;
use crate::support::smtp::SmtpPeer;
use crate::support::token_server::{TokenAnswer, TokenServer};

const USER: &str = "codes@sender.example";

/// Logs in with this token. Returns the error.
async fn login_error(peer: &SmtpPeer, token: &str) -> Option<String> {
    let authority = std::fs::read(peer.ca_file()).expect("the certificate of the relay's issuer");
    let security = TrustAnchors::These(authority).tls_config("localhost").expect("a TLS configuration");
    let server = TokenServer::start();
    let granted = json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
    server.set(TokenAnswer::Says(200, granted.to_string()));
    let tokens = token_source(&server, USER);
    let relay = Relay {
        host: "localhost".to_owned(),
        port: peer.port(),
        tls: Tls::StartTls(security),
        login: Login::OAuth(tokens),
    };
    let transport = SmtpTransport::new(relay, "sender.example", 1, None);
    transport.probe().await.err().map(|error| error.to_string())
}

#[tokio::test]
async fn a_relay_takes_the_token_that_it_knows_and_refuses_others() {
    let long = "t".repeat(2000);
    for mechanisms in ["XOAUTH2", "OAUTHBEARER", "PLAIN LOGIN OAUTHBEARER XOAUTH2"] {
        for token in ["t0ken", &long] {
            let peer = SmtpPeer::builder().starttls().credentials(USER, token).mechanisms(mechanisms);
            let peer = peer.start().await;
            assert_eq!(login_error(&peer, token).await, None, "{mechanisms}");
            let error = login_error(&peer, &format!("{token}2")).await;
            assert_eq!(error.as_deref(), Some("AUTH: refused with reply 535 5.7.8"), "{mechanisms}");
            let heard = String::from_utf8_lossy(&peer.transcript()).into_owned();
            assert!(!heard.contains("AUTH"), "before TLS: {heard}");
        }
    }
    let peer = SmtpPeer::builder().starttls().credentials(USER, "t0ken").start().await;
    let error = login_error(&peer, "t0ken").await;
    assert_eq!(error.as_deref(), Some("AUTH: the relay does not offer AUTH XOAUTH2 or OAUTHBEARER"));
}

#[tokio::test]
async fn the_commands_of_an_email_are_sent_at_once_only_to_a_relay_that_offers_it() {
    for pipelining in [true, false] {
        for builder in [TestApp::builder(), TestApp::builder().tls(), TestApp::builder().implicit_tls()] {
            let app = builder.spawn().await;
            app.smtp.offer_pipelining(pipelining);
            for number in 0..3 {
                // The relay closes connections with commands that came too soon.
                assert_eq!(app.send_otp(&format!("{number}@example.com")).await.status, 200);
            }
            assert_eq!((app.smtp.connections(), app.smtp.transmissions()), (1, 3));
        }
    }
}

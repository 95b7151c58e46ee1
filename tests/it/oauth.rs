//! Logins with access tokens: how many requests the token endpoint receives, what a caller is told
//! if it is down or lies, and that no token or secret is shown.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use otpd::adapters::clock::SystemClock;
use otpd::adapters::http::HttpClient;
use otpd::adapters::oauth::TokenSource;
use otpd::adapters::smtp::TrustAnchors;
use otpd::domain::oauth::{OAuthClient, OAuthGrant, ServiceAccount};
use otpd::domain::target_url::TargetUrl;
use otpd::ports::Clock;
use procfs::process::{FDTarget, Process};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::app::{SENDER, TestApp, eventually};
use crate::support::smtp::SmtpPeer;
use crate::support::token_server::{CLIENT_SECRET, TokenAnswer, TokenServer, token};

const REFRESH_TOKEN: &str = "1//first-refresh-token";

/// Returns a source of tokens for this mailbox, by client credentials.
pub fn token_source(server: &TokenServer, username: &str) -> TokenSource {
    source_of(server, username, client_credentials())
}

fn client_credentials() -> OAuthGrant {
    OAuthGrant::ClientCredentials { client_id: "client-id".to_owned(), client_secret: CLIENT_SECRET.into() }
}

fn source_of(server: &TokenServer, username: &str, grant: OAuthGrant) -> TokenSource {
    source_with(server, username, grant, Arc::new(SystemClock))
}

fn source_with(
    server: &TokenServer,
    username: &str,
    grant: OAuthGrant,
    clock: Arc<dyn Clock>,
) -> TokenSource {
    let client = OAuthClient {
        token_url: TargetUrl::parse(&server.url(), "").expect("a URL"),
        scope: "mail other".to_owned(),
        username: username.to_owned(),
        grant,
    };
    let http = HttpClient::new(TrustAnchors::System.client_config().expect("trust anchors"), Vec::new());
    TokenSource::new(client, http, clock)
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

async fn shown(source: &TokenSource) -> String {
    match source.token(soon()).await {
        Ok(token) => token.expose().to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn many_callers_at_once_cause_one_request() {
    let server = TokenServer::start();
    server.set(TokenAnswer::GrantsAfter(Duration::from_millis(200)));
    let source = Arc::new(token_source(&server, SENDER));
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let source = Arc::clone(&source);
        callers.spawn(async move { shown(&source).await });
    }
    let tokens = callers.join_all().await;
    assert!(tokens.iter().all(|shown| *shown == token(1)), "{tokens:?}");
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    let expected = [
        ("grant_type", "client_credentials"),
        ("client_id", "client-id"),
        ("client_secret", CLIENT_SECRET),
        ("scope", "mail other"),
    ];
    let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(requests[0], expected.into());
}

#[tokio::test]
async fn a_caller_whose_time_is_up_does_not_end_the_request_of_the_others() {
    let server = TokenServer::start();
    server.set(TokenAnswer::GrantsAfter(Duration::from_millis(300)));
    let source = token_source(&server, SENDER);
    let error = source.token(Instant::now() + Duration::from_millis(20)).await.unwrap_err();
    assert_eq!(error.to_string(), "the token endpoint did not answer in time");
    assert!(!error.is_an_answer() && !error.is_paused());
    assert_eq!((shown(&source).await, server.requests().len()), (token(1), 1));
}

#[tokio::test]
async fn a_token_is_used_while_it_is_renewed_and_after_its_end_no_more() {
    let server = TokenServer::start();
    server.set(TokenAnswer::Grants(2));
    let source = token_source(&server, SENDER);
    // The life of a token counts from its request.
    let begun = Instant::now();
    assert_eq!(shown(&source).await, token(1));
    server.set(TokenAnswer::Hangs);
    // Four fifths of its life later, the renewal begins; the token is still the answer.
    eventually("a renewal", async || {
        let now = shown(&source).await;
        assert!(now == token(1) || begun.elapsed() > Duration::from_millis(1500), "{now}");
        server.requests().len() == 2
    })
    .await;
    assert!(begun.elapsed() >= Duration::from_millis(1500), "{:?}", begun.elapsed());
    eventually("the end of the token", async || {
        source.token(Instant::now() + Duration::from_millis(20)).await.is_err()
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(server.requests().len(), 2, "the renewal is the only request");
}

#[tokio::test]
async fn a_renewed_token_replaces_the_old_one() {
    let server = TokenServer::start();
    server.set(TokenAnswer::Grants(1));
    let source = token_source(&server, SENDER);
    assert_eq!(shown(&source).await, token(1));
    server.set(TokenAnswer::Grants(3600));
    eventually("the next token", async || shown(&source).await == token(2)).await;
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_refused_token_is_renewed_once() {
    let server = TokenServer::start();
    let source = token_source(&server, SENDER);
    let first = source.token(soon()).await.unwrap();
    let second = source.renew(&first, soon()).await.unwrap().unwrap();
    assert_eq!(second.expose(), token(2));
    // Another session was refused the first token too: the second one is there already.
    assert_eq!(source.renew(&first, soon()).await.unwrap().unwrap().expose(), token(2));
    // The relay refuses every token: no further requests.
    assert!(source.renew(&second, soon()).await.unwrap().is_none());
    assert_eq!((shown(&source).await, server.requests().len()), (token(2), 2));
}

#[tokio::test]
async fn an_endpoint_that_failed_is_left_alone_for_a_moment() {
    let server = TokenServer::start();
    server.set(TokenAnswer::Says(503, "busy".to_owned()));
    let source = token_source(&server, SENDER);
    assert_eq!(shown(&source).await, "the token endpoint answered with status 503");
    server.set(TokenAnswer::Grants(3600));
    for _ in 0..10 {
        let error = source.token(soon()).await.unwrap_err();
        assert!(error.is_paused());
        let said = "the token endpoint answered with status 503; it is not asked again for a moment";
        assert_eq!(error.to_string(), said);
    }
    assert_eq!(server.requests().len(), 1);
    eventually("a token", async || source.token(soon()).await.is_ok()).await;
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_token_that_has_expired_on_arrival_is_a_failure_and_not_asked_for_again_at_once() {
    let server = TokenServer::start();
    let granted = json!({ "access_token": "t", "token_type": "Bearer", "expires_in": 0.000_001 });
    server.set(TokenAnswer::Says(200, granted.to_string()));
    let source = token_source(&server, SENDER);
    let said = "the token endpoint granted a token that has expired already";
    assert_eq!(shown(&source).await, said);
    assert_eq!(shown(&source).await, format!("{said}; it is not asked again for a moment"));
    assert_eq!(server.requests().len(), 1);
    server.set(TokenAnswer::Grants(3600));
    eventually("a token", async || source.token(soon()).await.is_ok()).await;
    assert_eq!(server.requests().len(), 2);
}

/// A clock that panics once.
#[derive(Default)]
struct PanickingClock {
    has_panicked: AtomicBool,
}

impl Clock for PanickingClock {
    fn now(&self) -> SystemTime {
        assert!(self.has_panicked.swap(true, Ordering::SeqCst), "this panic belongs to the test");
        SystemClock.now()
    }
}

#[tokio::test]
async fn a_request_that_panics_is_a_failure_and_not_the_last_request() {
    let server = TokenServer::start();
    let clock = Arc::new(PanickingClock::default());
    let source = source_with(&server, SENDER, client_credentials(), clock);
    assert_eq!(shown(&source).await, "the request for a token panicked");
    eventually("a token", async || source.token(soon()).await.is_ok()).await;
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_new_refresh_token_is_used_from_then_on() {
    let server = TokenServer::start();
    server.set(TokenAnswer::Rotates("1//second-refresh-token"));
    let grant = OAuthGrant::RefreshToken {
        client_id: "client-id".to_owned(),
        client_secret: None,
        refresh_token: REFRESH_TOKEN.into(),
    };
    let source = source_of(&server, SENDER, grant);
    assert_eq!(shown(&source).await, token(1));
    eventually("the next token", async || shown(&source).await == token(2)).await;
    let requests = server.requests();
    let sent: Vec<_> = requests.iter().take(2).map(|form| form["refresh_token"].as_str()).collect();
    assert_eq!(sent, [REFRESH_TOKEN, "1//second-refresh-token"]);
    let names: Vec<_> = requests[0].keys().map(String::as_str).collect();
    assert_eq!(names, ["client_id", "grant_type", "refresh_token", "scope"], "no secret is sent");
    assert!(!format!("{source:?}").contains("refresh-token"));
}

/// Returns a new RSA key as PEM, and its public half as DER.
fn rsa_key(folder: &Path) -> (String, Vec<u8>) {
    let path = folder.join("key.pem");
    let openssl = |words: &[&str]| {
        let output = Command::new("openssl").args(words).arg(&path).output().expect("openssl");
        assert!(output.status.success(), "{output:?}");
        output.stdout
    };
    openssl(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-quiet", "-out"]);
    let public = openssl(&["rsa", "-RSAPublicKey_out", "-outform", "DER", "-in"]);
    (std::fs::read_to_string(&path).expect("a key"), public)
}

#[tokio::test]
async fn a_service_account_signs_an_assertion_for_the_mailbox() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TokenServer::start();
    let (key, public) = rsa_key(folder.path());
    let file = json!({
        "type": "service_account",
        "client_email": "otpd@project.example",
        "private_key": key,
        "private_key_id": "key-1",
        "token_uri": server.url(),
    });
    let path = folder.path().join("account.json");
    std::fs::write(&path, file.to_string()).expect("written");
    let app = TestApp::builder()
        .oauth(&server, "XOAUTH2", &token(1))
        .set("OTP_SMTP__OAUTH_CLIENT_ID", "")
        .set("OTP_SMTP__OAUTH_CLIENT_SECRET", "")
        .set("OTP_SMTP__OAUTH_TOKEN_URL", "")
        .set("OTP_SMTP__OAUTH_SERVICE_ACCOUNT_FILE", path.to_str().expect("a path"))
        .spawn()
        .await;
    assert_eq!(app.send_otp("a@example.com").await.status, 200);
    let form = server.requests().remove(0);
    assert_eq!(form["grant_type"], "urn:ietf:params:oauth:grant-type:jwt-bearer");
    assert_eq!(form.len(), 2, "{form:?}");
    let (signed, signature) = form["assertion"].rsplit_once('.').expect("a JWT");
    let bytes = |part: &str| URL_SAFE_NO_PAD.decode(part).expect("base64");
    let public = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public);
    public.verify(signed.as_bytes(), &bytes(signature)).expect("its signature");
    let part = |part: &str| -> Value { serde_json::from_slice(&bytes(part)).expect("JSON") };
    let (header, claims) = signed.split_once('.').expect("a JWT");
    assert_eq!(part(header), json!({"alg": "RS256", "typ": "JWT", "kid": "key-1"}));
    let mut claims = part(claims);
    let (issued, ends) = (claims["iat"].take().as_u64().unwrap(), claims["exp"].take().as_u64().unwrap());
    let now = SystemClock.now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    assert!((now - 90..now).contains(&issued) && ends - issued == 600, "{issued} {ends} {now}");
    let expected = json!({
        "iss": "otpd@project.example",
        "sub": SENDER,
        "scope": "https://mail.google.com/",
        "aud": server.url(),
        "iat": null,
        "exp": null,
    });
    assert_eq!(claims, expected);
    assert_nothing_secret(&app.whole_log().await);
    // Without the key, or with another kind of it, the file is refused without its content.
    let shorter = |name: &str, value: Value| {
        let mut file = file.clone();
        file[name] = value;
        ServiceAccount::parse(&file.to_string()).expect_err("a fault")
    };
    assert!(shorter("type", json!("authorized_user")).contains("must be service_account"));
    assert!(shorter("private_key", json!(key.replace("PRIVATE", "PUBLIC"))).contains("not an RSA key"));
    assert!(shorter("private_key", json!(null)).contains("must be the JSON key file"));
    let account = ServiceAccount::parse(&file.to_string()).expect("an account");
    assert_eq!(format!("{account:?}"), "ServiceAccount(***)");
}

#[tokio::test]
async fn an_email_is_sent_with_a_token_over_a_connection_that_stays_logged_in() {
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        let server = TokenServer::start();
        let app = TestApp::builder().oauth(&server, mechanism, &token(1)).spawn().await;
        for number in 0..3 {
            assert_eq!(app.send_otp(&format!("{number}@example.com")).await.status, 200, "{mechanism}");
        }
        assert_eq!((app.smtp.connections(), server.requests().len()), (1, 1), "{mechanism}");
    }
}

#[tokio::test]
async fn many_sends_at_once_cause_one_token_request() {
    let server = TokenServer::start();
    server.set(TokenAnswer::GrantsAfter(Duration::from_millis(300)));
    let app = Arc::new(TestApp::builder().oauth(&server, "XOAUTH2", &token(1)).spawn().await);
    let mut sends = JoinSet::new();
    for number in 0..64 {
        let app = Arc::clone(&app);
        sends.spawn(async move { app.send_otp(&format!("{number}@example.com")).await.status });
    }
    let statuses = sends.join_all().await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!((app.smtp.mails().len(), server.requests().len()), (64, 1));
}

#[tokio::test]
async fn a_revoked_token_is_replaced_and_the_email_is_sent() {
    let server = TokenServer::start();
    let app = TestApp::builder().oauth(&server, "XOAUTH2", &token(1)).spawn().await;
    assert_eq!(app.send_otp("a@example.com").await.status, 200);
    app.smtp.accept(&token(2));
    app.smtp.stop();
    app.smtp.start_again().await;
    assert_eq!(app.send_otp("b@example.com").await.status, 200);
    assert_eq!((app.smtp.mails().len(), server.requests().len()), (2, 2));
    // A relay that refuses the next tokens too gets each email's login refused, and the token
    // endpoint is not asked for each.
    app.smtp.accept("another");
    app.smtp.stop();
    app.smtp.start_again().await;
    for _ in 0..3 {
        assert_eq!(app.send_otp("c@example.com").await.status, 500);
    }
    assert_eq!((app.smtp.mails().len(), server.requests().len()), (2, 2));
    let log = app.whole_log().await;
    assert!(log.contains("AUTH: refused with reply 535 5.7.8"), "{log}");
    assert_nothing_secret(&log);
}

fn assert_nothing_secret(log: &str) {
    for secret in ["granted-token", CLIENT_SECRET, "refresh-token", "client-id", "SECRET"] {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
}

#[tokio::test]
async fn a_token_endpoint_that_is_down_or_lies_is_a_relay_that_is_down() {
    let grants = |token: Value, kind: &str| {
        TokenAnswer::Says(
            200,
            json!({"access_token": token, "token_type": kind, "expires_in": 60}).to_string(),
        )
    };
    let refuses = |error: &str| {
        let said = "AADSTS7000215: SECRET of codes@sender.example";
        TokenAnswer::Says(401, json!({"error": error, "error_description": said}).to_string())
    };
    for (answer, said) in [
        (refuses("invalid_client"), "refused: invalid_client (AADSTS7000215)"),
        (refuses("SECRET text"), "(status 401) is not one of OAuth"),
        (TokenAnswer::Says(200, "<html>SECRET</html>".to_owned()), "(status 200) is not a token in JSON"),
        (
            TokenAnswer::Says(200, format!("{{\"access_token\":\"{}", "SECRET".repeat(100_000))),
            "is not a token in JSON",
        ),
        (grants(json!(["SECRET"]), "Bearer"), "is not a token in JSON"),
        (grants(json!("SECRET\r\nRSET"), "Bearer"), "characters that no bearer token has"),
        (grants(json!("SECRET"), "mac"), "is not a bearer token"),
        (TokenAnswer::Says(503, "SECRET".to_owned()), "answered with status 503"),
        (TokenAnswer::Redirects("/SECRET".to_owned()), "(status 307) is not one of OAuth"),
        (TokenAnswer::Hangs, "no answer in time"),
    ] {
        let server = TokenServer::start();
        server.set(answer.clone());
        let app = TestApp::builder().keyed().oauth(&server, "XOAUTH2 PLAIN LOGIN", "no").spawn().await;
        assert_eq!(app.send_otp("a@example.com").await.status, 500, "{answer:?}");
        let log = app.whole_log().await;
        assert!(log.contains(said) && log.contains("getting an access token"), "{answer:?}: {log}");
        assert_nothing_secret(&log);
        assert_eq!((app.smtp.connections(), app.smtp.mails().len()), (0, 0), "{answer:?}");
    }
}

#[tokio::test]
async fn the_fallback_is_used_while_there_are_no_tokens() {
    let server = TokenServer::start();
    let fallback = SmtpPeer::builder().start().await;
    let app = TestApp::builder()
        .oauth(&server, "XOAUTH2", &token(1))
        .set("OTP_SMTP_FALLBACK__SERVER", "localhost")
        .set("OTP_SMTP_FALLBACK__PORT", &fallback.port().to_string())
        .set("OTP_SMTP_FALLBACK__AUTH", "none")
        .set("OTP_SMTP_FALLBACK__TLS", "none")
        .spawn()
        .await;
    server.stop();
    for number in 0..7 {
        assert_eq!(app.send_otp(&format!("{number}@example.com")).await.status, 200);
    }
    assert_eq!((app.smtp.connections(), fallback.mails().len()), (0, 7));
    assert!(app.whole_log().await.contains("the token endpoint does not answer: connecting"));
}

#[tokio::test]
async fn without_oauth_and_providers_there_are_connections_to_redis_and_the_relay_only() {
    let app = TestApp::builder().tls().single_redis().spawn().await;
    for number in 0..3 {
        assert_eq!(app.send_otp(&format!("{number}@example.com")).await.status, 200);
    }
    let process = Process::new(app.id().cast_signed()).expect("a process");
    let sockets: BTreeSet<u64> = process
        .fd()
        .expect("its files")
        .filter_map(|file| match file.expect("a file").target {
            FDTarget::Socket(inode) => Some(inode),
            _ => None,
        })
        .collect();
    // Those that it opened, not those that its clients opened.
    let own: Vec<_> = process
        .tcp()
        .expect("a table")
        .into_iter()
        .chain(process.tcp6().expect("a table"))
        .filter(|entry| sockets.contains(&entry.inode) && entry.remote_address.port() != 0)
        .filter(|entry| entry.local_address.port() != app.address().port())
        .map(|entry| entry.remote_address.port())
        .collect();
    let redis = app.settings()["REDIS_PORT"].parse().expect("a port");
    let expected = [redis, app.smtp.port()];
    assert!(own.contains(&app.smtp.port()) && own.iter().all(|port| expected.contains(port)), "{own:?}");
}

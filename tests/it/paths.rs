//! Paths: a final slash, the root, a public URL with a prefix, and documentation that is not
//! served.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, Process, TestApp};

fn redirect(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status, answer.header("location"))
}

#[tokio::test]
async fn a_get_with_one_final_slash_is_redirected_to_the_path_without_it() {
    let dev = Process::dev().await;
    for (path, location) in [
        ("/docs/", "../docs"),
        ("/dev/", "../dev"),
        ("/dev/mails/?to=a@example.com", "../mails?to=a@example.com"),
        ("/openapi.json/", "../openapi.json"),
        ("/livez/?", "../livez?"),
        ("/send-otp/", "../send-otp"),
        ("/.well-known/jwks.json/", "../jwks.json"),
        ("/v1/verifications/x/", "../x"),
        ("/v1/verifications/x/check/?a=//b", "../check?a=//b"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let answer = dev.answer(dev.request(method.clone(), path)).await;
            assert_eq!(redirect(&answer), (308, Some(location)), "{method} {path}");
            assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        }
        // Resolved as a client resolves it.
        let base = reqwest::Url::parse(&format!("https://example.org/otp{path}")).expect("a URL");
        let target = base.join(location).expect("a URL");
        assert!(target.as_str().starts_with("https://example.org/otp/"), "{target}");
        assert_eq!(
            target.path(),
            format!("/otp{}", path.split('?').next().expect("a path").trim_end_matches('/'))
        );
    }
}

#[tokio::test]
async fn a_post_or_a_delete_with_one_final_slash_is_served() {
    let app = TestApp::builder().keyed().spawn().await;
    let body = r#"{"email":"a@example.com"}"#;
    assert_eq!(app.post("/send-otp/", body).await.message(), (200, "OTP sent successfully".to_owned()));
    let otp = app.smtp.last_code_to("a@example.com");
    let body = json!({ "email": "a@example.com", "otp": otp }).to_string();
    assert_eq!(app.post("/verify-otp/?x=1", &body).await.status, 200);
    let caller = app.caller(1);
    let created = caller.post("/v1/verifications/", r#"{"email":"b@example.com"}"#).await;
    assert_eq!(created.status, 201, "{created:?}");
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let wrong = caller.post(&format!("/v1/verifications/{id}/check/"), r#"{"code":"x"}"#).await;
    assert_eq!(wrong.json()["code"], "invalid_code");
    let cancel = caller.request(Method::DELETE, &format!("/v1/verifications/{id}/"));
    assert_eq!(app.answer(cancel).await.status, 204);
}

#[tokio::test]
async fn with_a_final_slash_methods_logs_and_limits_are_those_of_the_path() {
    let app = TestApp::limited()
        .set("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "1")
        .set("OTP_LIMITS__IP_REQUESTS_BURST", "2")
        .set("OTP_HTTP__ALLOWED_ORIGINS", "https://app.example")
        .spawn()
        .await;
    let put = app.answer(app.request(Method::PUT, "/send-otp/")).await;
    assert_eq!((put.status, put.header("allow")), (405, Some("POST")));
    let preflight = app
        .request(Method::OPTIONS, "/send-otp/")
        .header("origin", "https://app.example")
        .header("access-control-request-method", "POST");
    assert_eq!(app.answer(preflight).await.status, 204);
    let redirected = app.request(Method::GET, "/docs/").header("origin", "https://app.example");
    let redirected = app.answer(redirected).await;
    assert_eq!(redirected.header("access-control-allow-origin"), Some("https://app.example"));
    for path in ["/docs/", "/send-otp/"] {
        assert_eq!(app.get(path).await.status, 429, "{path}");
    }
    for _ in 0..5 {
        assert_eq!(app.get("/livez/").await.status, 308);
    }
    let log = app.whole_log().await;
    assert!(log.contains(r#""http.route":"/send-otp""#), "{log}");
    assert!(!log.contains("/send-otp/"));
}

#[tokio::test]
async fn no_path_leads_to_another_host() {
    let dev = Process::dev().await;
    for path in [
        "//",
        "//evil.example/",
        "//evil.example/docs/",
        "///docs/",
        "/docs//",
        "/nope/",
        "/%2f/",
        "/%2fevil.example/",
        "/docs/%2e%2e/",
        "/v1/verifications//",
        "/\\evil.example/",
    ] {
        let answer =
            dev.raw(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{path}: {answer}");
        assert!(!answer.contains("location: "), "{path}: {answer}");
    }
}

#[tokio::test]
async fn the_root_of_dev_is_its_page() {
    let dev = Process::dev().await;
    assert_eq!(redirect(&dev.get("/").await), (307, Some("dev")));
    let post = dev.answer(dev.request(Method::POST, "/")).await;
    assert_eq!((post.status, post.header("allow")), (405, Some("GET, HEAD")));
}

#[tokio::test]
async fn the_root_of_serve_names_the_documentation() {
    let app = TestApp::spawn().await;
    let root = app.get("/").await;
    assert_eq!((root.status, root.header("content-type")), (200, Some("application/json")));
    assert_eq!(root.json(), json!({ "service": "otpd", "docs": "/docs", "openapi": "/openapi.json" }));
}

#[tokio::test]
async fn documentation_that_is_off_is_not_found_and_nowhere_named() {
    let app = TestApp::builder().set("OTP_HTTP__DOCS", "off").spawn().await;
    for path in ["/docs", "/docs/", "/openapi.json", "/openapi.yaml"] {
        assert_eq!(app.get(path).await.message(), (404, "Not found".to_owned()), "{path}");
    }
    assert_eq!(app.get("/").await.json(), json!({ "service": "otpd" }));
    let dev = Process::dev_with(&[("OTP_HTTP__DOCS", "off")]).await;
    assert!(!dev.get("/dev").await.body.contains("/docs"));
    assert!(Process::dev_with(&[]).await.get("/dev").await.body.contains("\"/docs\""));
}

#[tokio::test]
async fn what_otpd_links_to_begins_with_the_public_url() {
    let app = TestApp::builder()
        .keyed()
        .set("OTP_HTTP__PUBLIC_URL", "https://example.org/otp/")
        .set("OTP_HTTP__SECURITY_CONTACT", "mailto:security@example.com")
        .spawn()
        .await;
    let created = app.caller(1).create(&json!({ "email": "a@example.com" })).await;
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let location = format!("https://example.org/otp/v1/verifications/{id}");
    assert_eq!(created.header("location"), Some(location.as_str()));
    let root = app.get("/").await.json();
    assert_eq!(root["docs"], "https://example.org/otp/docs");
    assert_eq!(root["openapi"], "https://example.org/otp/openapi.json");
    let document: Value = app.get("/openapi.json").await.json();
    assert_eq!(document["servers"][0]["url"], "https://example.org/otp");
    for path in ["/openapi.yaml", "/docs"] {
        assert!(app.get(path).await.body.contains("https://example.org/otp"), "{path}");
    }
    let contact = app.get("/.well-known/security.txt").await.body;
    assert!(contact.contains("\nCanonical: https://example.org/otp/.well-known/security.txt\n"), "{contact}");
}

//! nginx, Caddy and `HAProxy` in front of otpd, with the configurations of the documents.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::{Builder, Process, TestApp, eventually, within};
use crate::support::proxies::{Client, Product, Proxy, Setup, has_ipv6};
use crate::support::v1::key;

/// Connections to the proxy in the tests of many requests.
const CLIENTS: usize = 16;
/// A request that otpd refuses at once, and that no proxy may repeat.
const EARLY_REFUSED: &str = "POST /verify-otp";

/// Returns the settings that the documents name.
fn builder() -> Builder {
    TestApp::builder().keyed().set("OTP_HTTP__TRUSTED_PROXIES", "127.0.0.1")
}

async fn in_front_of(product: Product, app: &TestApp) -> Proxy {
    product.start(&product.documented(Setup::Plain), &[app.address()]).await
}

/// Sends a code and checks it, over both APIs below a path.
async fn verify_over_both_apis(app: &TestApp, client: &mut Client, prefix: &str) {
    let sent = client.send(&format!("POST {prefix}/send-otp"), &[], r#"{"email":"a@example.com"}"#).await;
    assert_eq!(sent.message(), (200, "OTP sent successfully".to_owned()));
    let body = json!({ "email": "a@example.com", "otp": app.smtp.last_code_to("a@example.com") });
    let checked = client.send(&format!("POST {prefix}/verify-otp"), &[], &body.to_string()).await;
    assert_eq!(checked.message(), (200, "OTP verified successfully".to_owned()));
    assert!(checked.header("otp-proof").is_some(), "{checked:?}");
    let bearer = format!("Bearer {}", key(1));
    let headers = [("Authorization", bearer.as_str()), ("Idempotency-Key", "one")];
    let path = format!("POST {prefix}/v1/verifications");
    let created = client.send(&path, &headers, r#"{"email":"b@example.com"}"#).await;
    assert_eq!(created.status, 201, "{created:?}");
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let location = created.header("location").expect("a location");
    assert!(location.ends_with(&format!("{prefix}/v1/verifications/{id}")), "{location}");
    let body = json!({ "code": app.smtp.last_code_to("b@example.com") }).to_string();
    let checked = client.send(&format!("{path}/{id}/check"), &headers[..1], &body).await;
    assert_eq!((checked.status, &checked.json()["status"]), (200, &json!("approved")), "{checked:?}");
    let wrong = client.send(&format!("{path}/{id}/check"), &headers[..1], &body).await;
    assert_eq!(wrong.problem(), (410, "verification_closed".to_owned()));
}

async fn both_apis_work_over_tls(product: Product) {
    let app = builder().spawn().await;
    let proxy = in_front_of(product, &app).await;
    verify_over_both_apis(&app, &mut proxy.client().await, "").await;
}

async fn otpd_sees_the_address_of_the_client_and_none_that_it_forged(product: Product) {
    let app = builder().set("OTP_LIMITS__IP_SENDS", "2/1h").spawn().await;
    let proxy = in_front_of(product, &app).await;
    let mut clients: Vec<IpAddr> = [[127, 0, 0, 2], [127, 0, 0, 3]].map(IpAddr::from).into();
    // The machine of the proxy is a client like any other.
    clients.push(Ipv4Addr::LOCALHOST.into());
    clients.extend(has_ipv6().then_some(IpAddr::V6(Ipv6Addr::LOCALHOST)));
    let mut number = 0;
    for local in clients {
        let mut client = proxy.client_at(local).await;
        let mut send = async |forged: &str| {
            number += 1;
            let forwarded = format!("for={forged}");
            let lists = [("X-Forwarded-For", forged), ("x-forwarded-for", forged)];
            let all = [lists, [("X-Real-IP", forged), ("Forwarded", &forwarded)]].concat();
            let body = json!({ "email": format!("person{number}@example.com") }).to_string();
            let headers = if forged.is_empty() { &[] } else { &all[..] };
            client.send("POST /send-otp", headers, &body).await.status
        };
        // None of the next clients is charged for this one.
        assert_eq!(send("127.0.0.3").await, 200, "{local}");
        assert_eq!(send("").await, 200, "{local}");
        assert_eq!(send("").await, 429, "{local}");
        for forged in ["198.51.100.7", "127.0.0.1", "198.51.100.7, 127.0.0.1", "no address"] {
            assert_eq!(send(forged).await, 429, "{local} as {forged}");
        }
    }
}

async fn below_a_path_prefix_all_of_it_works(product: Product) {
    // The port is known only once the proxy listens.
    let first = builder().spawn().await;
    let proxy = product.start(&product.documented(Setup::PathPrefix), &[first.address()]).await;
    let public_url = format!("https://localhost:{}/otp", proxy.port);
    let mut settings = first.settings().clone();
    settings.insert("OTP_HTTP__LISTEN".to_owned(), first.address().to_string());
    settings.insert("OTP_HTTP__PUBLIC_URL".to_owned(), public_url.clone());
    assert!(first.stopped().await.success());
    let _app = Process::start("serve", &settings).await;
    let mut client = proxy.client().await;
    verify_over_both_apis(&first, &mut client, "/otp").await;
    let document = client.send("GET /otp/openapi.json", &[], "").await.json();
    assert_eq!(document["servers"][0]["url"], public_url);
    let page = client.send("GET /otp/docs", &[], "").await;
    assert_eq!((page.status, page.body.contains(&public_url)), (200, true));
    // Requests of the page go to its own origin, and nothing else is loaded.
    let policy = page.header("content-security-policy").expect("a policy");
    assert!(policy.contains("default-src 'none'") && policy.contains("connect-src 'self'"), "{policy}");
    assert_eq!(client.send("GET /otp/docs/", &[], "").await.header("location"), Some("../docs"));
    for outside in ["GET /docs", "POST /verify-otp", "GET /otpx/docs"] {
        let answer = client.send(outside, &[], "").await;
        assert_eq!(answer.status, 404, "{outside}: {answer:?}");
    }
}

/// Sends requests over several connections at once; panics at the first that fails.
async fn send_many(proxy: &Proxy, each: usize) {
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let mut client = proxy.client().await;
        clients.spawn(async move {
            for _ in 0..each {
                let refused = client.send(EARLY_REFUSED, &[], "{}").await;
                assert_eq!(refused.message(), (400, "Email and OTP are required".to_owned()));
                assert_eq!(client.send("GET /livez", &[], "").await.status, 200);
            }
        });
    }
    clients.join_all().await;
}

/// Returns the number of connections to a process in the last minute, by the ports of their
/// clients: one that has ended waits for so long.
fn connections_to(process: &Process) -> usize {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of connections");
    let own = format!("{:04X}", process.address().port());
    let port = |address: &str| address.split(':').nth(1).expect("a port").to_owned();
    let ends = table.lines().skip(1).map(|line| {
        let mut columns = line.split_whitespace().skip(1);
        (port(columns.next().expect("an address")), port(columns.next().expect("an address")))
    });
    let clients = ends.filter_map(|(local, remote)| {
        let other = if local == own { Some(remote) } else { (remote == own).then_some(local) };
        other.filter(|port| port != "0000")
    });
    clients.collect::<BTreeSet<_>>().len()
}

async fn ten_thousand_requests_succeed_over_few_connections(product: Product) {
    let app = builder().set("OTP_LOG__LEVEL", "info").spawn().await;
    let proxy = in_front_of(product, &app).await;
    send_many(&proxy, (10_000 / 2_usize).div_ceil(CLIENTS)).await;
    let connections = connections_to(&app);
    assert!((1..=4 * CLIENTS).contains(&connections), "{connections}");
}

/// Returns the number of open connections to the listener.
async fn open_connections(process: &Process) -> usize {
    let metrics = process.admin("/metrics").await.body;
    let value = metrics.lines().find_map(|line| line.strip_prefix("otpd_http_connections "));
    value.expect("the metric").parse().expect("a number")
}

async fn connections_that_otpd_closes_while_they_are_idle_fail_no_request(product: Product) {
    let app = builder().set("OTP_HTTP__KEEP_ALIVE", "1s").spawn().await;
    let proxy = in_front_of(product, &app).await;
    for _ in 0..3 {
        send_many(&proxy, 5).await;
        assert!(open_connections(&app).await > 0);
        eventually("all are closed", async || open_connections(&app).await == 0).await;
    }
}

async fn the_proxy_closes_idle_connections_before_otpd_does(product: Product) {
    let app = builder().spawn().await;
    let config = product.documented(Setup::Plain);
    let (documented, short) = match product {
        Product::Nginx => ("keepalive_timeout 60s;", "keepalive_timeout 2s;"),
        Product::Caddy => ("keepalive 60s", "keepalive 2s"),
        Product::HaProxy => ("pool-purge-delay 5s", "pool-purge-delay 500ms"),
    };
    assert!(config.contains(documented), "{config}");
    let proxy = product.start(&config.replace(documented, short), &[app.address()]).await;
    // The connection of this client stays open.
    let mut idle = proxy.client().await;
    assert_eq!(idle.send("GET /livez", &[], "").await.status, 200);
    send_many(&proxy, 5).await;
    // otpd does so after 75 s.
    within(Duration::from_secs(15), "all are closed", async || open_connections(&app).await == 0).await;
}

async fn a_body_that_is_too_large_or_too_slow_gets_otpds_own_error(product: Product) {
    let app = builder().spawn().await;
    let proxy = in_front_of(product, &app).await;
    for size in [9_000, 100_000, 2_000_000] {
        for _ in 0..5 {
            let answer = proxy.client().await.send("POST /send-otp", &[], &" ".repeat(size)).await;
            assert_eq!(answer.message(), (413, "Payload too large".to_owned()), "{size}");
        }
    }
    let headers = [("Authorization", &*format!("Bearer {}", key(1)))];
    let large = proxy.client().await.send("POST /v1/verifications", &headers, &" ".repeat(100_000)).await;
    assert_eq!(large.problem(), (413, "payload_too_large".to_owned()));
    let begun = "POST /send-otp HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                 Content-Length: 100\r\n\r\n{";
    let mut client = proxy.client().await;
    let slow = client.exchange(begun);
    let slow = tokio::time::timeout(Duration::from_secs(13), slow).await;
    // Caddy passes on a short body only once it is complete.
    let expected = (product != Product::Caddy).then(|| (408, "Request timeout".to_owned()));
    assert_eq!(slow.ok().map(|answer| answer.message()), expected);
}

async fn the_metrics_are_not_reachable(product: Product) {
    let app = builder().spawn().await;
    assert!(app.admin("/metrics").await.body.contains("otpd_http_connections"));
    let admin = app.admin_address();
    for (setup, prefix) in [(Setup::Plain, ""), (Setup::PathPrefix, "/otp")] {
        let proxy = product.start(&product.documented(setup), &[app.address()]).await;
        for (path, host) in [
            (format!("{prefix}/metrics"), "localhost".to_owned()),
            (format!("{prefix}/metrics"), admin.to_string()),
            (format!("{prefix}/../metrics"), "localhost".to_owned()),
            (format!("{prefix}//metrics"), "localhost".to_owned()),
            (format!("http://{admin}{prefix}/metrics"), admin.to_string()),
        ] {
            let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let answer = proxy.client().await.exchange(&request).await;
            assert!(!answer.body.contains("otpd_"), "{path}: {answer:?}");
            assert!((200..500).contains(&answer.status), "{path}: {answer:?}");
        }
    }
}

async fn one_of_two_processes_can_be_stopped(product: Product) {
    let app = builder().set("OTP_HTTP__SHUTDOWN_DELAY", "30s").spawn().await;
    let other = app.another("OTP_LOG__FORMAT", "json").await;
    let servers = [app.address(), other.address()];
    let proxy = product.start(&product.documented(Setup::Several), &servers).await;
    let served = |process: &Process| process.log().matches("/verify-otp").count();
    let (is_over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    let calls = async {
        let mut client = proxy.client().await;
        while !is_over.load(Ordering::Relaxed) {
            assert_eq!(client.send(EARLY_REFUSED, &[], "{}").await.status, 400);
            sent.fetch_add(1, Ordering::Relaxed);
        }
    };
    let is_left_out = async || {
        let (before, first) = (served(&other), sent.load(Ordering::Relaxed));
        eventually("more requests", async || sent.load(Ordering::Relaxed) > first + 100).await;
        served(&other) == before
    };
    let stop = async {
        eventually("both serve", async || served(&app) > 0 && served(&other) > 0).await;
        // nginx does not probe.
        if product != Product::Nginx {
            other.terminate();
            eventually("the other is left out", is_left_out).await;
            // A second signal ends the delay.
            assert!(other.stopped().await.success());
        }
        is_over.store(true, Ordering::Relaxed);
    };
    tokio::join!(calls, stop);
    other.kill();
    other.ended().await;
    send_many(&proxy, 5).await;
}

/// Defines a test of each of these functions for each proxy.
macro_rules! tests {
    ($($name:ident)*) => {
        tests! { @nginx Nginx $($name)* }
        tests! { @caddy Caddy $($name)* }
        tests! { @haproxy HaProxy $($name)* }
    };
    (@$module:ident $product:ident $($name:ident)*) => {
        mod $module {
            use super::Product;
            $(
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name(Product::$product).await;
                }
            )*
        }
    };
}

tests! {
    both_apis_work_over_tls
    otpd_sees_the_address_of_the_client_and_none_that_it_forged
    below_a_path_prefix_all_of_it_works
    ten_thousand_requests_succeed_over_few_connections
    connections_that_otpd_closes_while_they_are_idle_fail_no_request
    the_proxy_closes_idle_connections_before_otpd_does
    a_body_that_is_too_large_or_too_slow_gets_otpds_own_error
    the_metrics_are_not_reachable
    one_of_two_processes_can_be_stopped
}

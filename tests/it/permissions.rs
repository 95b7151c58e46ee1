//! The user of Redis' ACL that the documents name.

use redis::{RedisError, Value};
use serde_json::json;

use crate::commands::run;
use crate::support::app::{Process, TestApp, eventually};
use crate::support::redis::RedisServer;
use crate::support::sentinel::Sentinels;
use crate::support::smtp::SmtpPeer;

const PASSWORD: &str = "a-long-password";

/// Creates the user of docs/operations.md, or that of docs/failover.md for a cluster.
async fn create_user(server: &RedisServer) {
    create_user_without(server, "").await;
}

/// Creates that user without one of its rules.
async fn create_user_without(server: &RedisServer, rule: &str) {
    let document = if server.nodes().count() == 1 {
        include_str!("../../docs/operations.md")
    } else {
        include_str!("../../docs/failover.md")
    };
    let line = document.lines().find_map(|line| line.trim().strip_prefix("user otpd ")).expect("the user");
    let rules = line.split(' ').filter(|other| *other != rule);
    let rules: Vec<_> = rules.map(|rule| rule.replace("PASSWORD", PASSWORD)).collect();
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER").arg("otpd").arg("reset").arg(rules);
    for node in server.nodes() {
        acl.exec_async(&mut node.connection().await).await.expect("a user");
    }
}

#[tokio::test]
async fn the_user_of_the_documents_can_do_what_otpd_needs_and_nothing_else() {
    let app = TestApp::builder().sandboxed().single_redis();
    let app = app.set("REDIS_USERNAME", "otpd").set("REDIS_PASSWORD", PASSWORD).spawn().await;
    create_user(&app.redis).await;
    assert_eq!(app.get("/readyz").await.status, 200);
    let caller = app.caller(1);
    let (email, client) = ("person@example.com", "192.0.2.1");
    let body = json!({ "email": email, "end_user_ip": client });
    for _ in 0..2 {
        assert_eq!(caller.create_under("one", &body).await.status, 201);
    }
    let id = caller.start(email).await;
    assert_eq!(caller.resend(&id).await.status, 200);
    assert_eq!(caller.show(&id).await.status, 200);
    assert_eq!(caller.cancel(&id).await.status, 204);
    app.sandbox(1).start(email).await;
    assert_eq!(app.sandbox(1).mails().await.len(), 1);
    // So many that the ledger of the IP is appended to, and read in pieces.
    for _ in 0..200 {
        assert_eq!(app.verify_otp(email, "000000").await.status, 400);
    }
    let code = app.code_for(email).await;
    assert_eq!(app.verify_otp(email, &code).await.status, 200);
    app.smtp.stop();
    assert_eq!(app.send_otp("refused@example.com").await.status, 500);
    let settings: Vec<_> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let folder = tempfile::tempdir().expect("a folder");
    for command in ["inspect", "unblock", "doctor"] {
        let arguments: &[&str] =
            if command == "doctor" { &[command] } else { &[command, email, "--ip", client] };
        let output = run(folder.path(), &settings, arguments);
        let said = String::from_utf8_lossy(&output.stdout);
        // Without a relay, doctor fails, but not at Redis.
        assert!(output.status.success() || said.contains("ok    redis"), "{command}: {output:?}");
    }
    let log = app.whole_log().await;
    assert!(!log.contains("NOPERM"), "{log}");

    let url = format!("redis://otpd:{PASSWORD}@127.0.0.1:{}", app.redis.port());
    let client = redis::Client::open(url).expect("a URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("a connection");
    for command in ["FLUSHALL", "KEYS *", "GET another", "SET another 1", "CONFIG GET *"] {
        let mut words = command.split(' ');
        let mut refused = redis::cmd(words.next().expect("a command"));
        refused.arg(words.collect::<Vec<_>>());
        let outcome: Result<Value, RedisError> = refused.query_async(&mut connection).await;
        let error = outcome.expect_err(command);
        assert_eq!(error.code(), Some("NOPERM"), "{command}: {error}");
    }
    for call in ["'FLUSHALL'", "'KEYS', '*'", "'GET', 'another'", "'SET', 'another', 1"] {
        let mut script = redis::cmd("EVAL");
        script.arg(format!("return redis.call({call})")).arg(0);
        let outcome: Result<Value, RedisError> = script.query_async(&mut connection).await;
        let error = outcome.expect_err(call).to_string();
        assert!(error.contains("The user executing the script can't"), "{call}: {error}");
    }
}

#[tokio::test]
async fn sentinels_have_a_login_of_their_own() {
    let sentinels = Sentinels::guarded("another password").await;
    let smtp = SmtpPeer::builder().start().await;
    let url = sentinels.url(&[0]).replace("://", "://:locked@");
    let settings = |password| {
        let own = [
            ("REDIS_URL", url.as_str()),
            ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true"),
            ("OTP_REDIS__SENTINEL_PASSWORD", password),
        ];
        TestApp::settings_for(&smtp, &own)
    };
    let process = Process::start("serve", &settings("another password")).await;
    eventually("it is ready", async || process.get("/readyz").await.status == 200).await;
    assert_eq!(process.send_otp("person@example.com").await.status, 200);
    let without = Process::start("serve", &settings("")).await;
    assert_eq!(without.get("/readyz").await.status, 503);
}

#[tokio::test]
async fn the_user_of_the_documents_can_do_what_otpd_needs_in_a_cluster() {
    let redis = RedisServer::start_cluster(3, true).await;
    create_user(&redis).await;
    let smtp = SmtpPeer::builder().start().await;
    let url = redis.url().replace("://", &format!("://otpd:{PASSWORD}@"));
    let own = [("REDIS_URL", url.as_str()), ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true")];
    let settings = TestApp::settings_for(&smtp, &own);
    let process = Process::start("serve", &settings).await;
    eventually("it is ready", async || process.get("/readyz").await.status == 200).await;
    let nodes: Vec<_> = redis.nodes().collect();
    for number in 0..20 {
        let email = format!("person{number}@example.com");
        if number == 10 {
            // Keys of slots that are half moved are asked for with `ASKING`.
            let (source, target) = (nodes[0].cluster(&["MYID"]).await, nodes[1].cluster(&["MYID"]).await);
            for slot in 0..5461 {
                let slot = slot.to_string();
                nodes[1].cluster(&["SETSLOT", &slot, "IMPORTING", &source]).await;
                nodes[0].cluster(&["SETSLOT", &slot, "MIGRATING", &target]).await;
            }
        }
        let id = process.caller(1).start(&email).await;
        assert_eq!(process.caller(1).check(&id, &smtp.last_code_to(&email)).await.status, 200);
    }
    for node in nodes {
        let mut log = redis::cmd("ACL");
        log.arg("LOG");
        let denied: Vec<Value> = log.query_async(&mut node.connection().await).await.expect("a log");
        assert!(denied.is_empty(), "{denied:?}");
    }
}

#[tokio::test]
async fn a_call_that_ran_is_not_sent_again_if_the_user_may_not_wait() {
    let app = TestApp::builder().single_redis().set("OTP_REDIS__WAIT_REPLICAS", "1");
    let app = app.set("REDIS_USERNAME", "otpd").set("REDIS_PASSWORD", PASSWORD).spawn().await;
    create_user_without(&app.redis, "+wait").await;
    let replica = RedisServer::single().await;
    replica.follow(&app.redis).await;
    assert_eq!(app.send_otp("person@example.com").await.status, 503);
    let dump = app.redis.dump().await;
    let ledgers: Vec<_> = dump.iter().filter(|(key, ..)| key.starts_with(b"otp:{n:")).collect();
    assert_eq!(ledgers.len(), 1, "{ledgers:?}");
    assert_eq!(ledgers[0].1.len(), 6, "one entry: {ledgers:?}");
}

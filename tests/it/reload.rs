//! SIGHUP: secrets, keys, templates and the log level change while requests are served.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::commands::{run, text};
use crate::support::app::{TestApp, eventually, new_pepper, one_pepper, rotated_peppers};
use crate::support::v1::hash;

/// Settings with these secrets.
fn settings(peppers: &str, proof_keys: &str, api_keys: &[u8]) -> String {
    let keys: Vec<_> = api_keys.iter().map(|number| hash(*number)).collect();
    format!(
        "[secrets]\npeppers = \"{peppers}\"\nproof_keys = \"{proof_keys}\"\n[tenant]\nkeys = \"{}\"\n",
        keys.join(",")
    )
}

fn proof_key(name: &str, byte: u8) -> String {
    let pepper = new_pepper();
    let secret = pepper.split_once(':').expect("a name").1.to_owned();
    format!("{name}:{}{}", char::from(byte), &secret[1..])
}

/// Returns otpd with secrets in the file of `--config`.
async fn app_with(text: &str) -> TestApp {
    TestApp::builder().set("OTP_SECRETS__PEPPERS", "").config(text).spawn().await
}

/// Reloads and waits until it is applied.
async fn reload(app: &TestApp, text: &str) {
    let applied = || app.log().matches("the settings were reloaded").count();
    let before = applied();
    app.reload(text);
    eventually("the reload is applied", async || applied() > before).await;
}

/// Returns the `kid` in the header of the proof of a right check.
async fn kid_of_a_proof(app: &TestApp, caller: u8, email: &str) -> String {
    let caller = app.caller(caller);
    let id = caller.start(email).await;
    let approved = caller.check(&id, &app.smtp.last_code_to(email)).await;
    assert_eq!(approved.status, 200, "{approved:?}");
    let proof = approved.json()["proof"].as_str().expect("a proof").to_owned();
    let header = proof.split('.').next().expect("a header");
    let header = URL_SAFE_NO_PAD.decode(header);
    let header: Value = serde_json::from_slice(&header.expect("base64")).expect("JSON");
    header["kid"].as_str().expect("a kid").to_owned()
}

#[tokio::test]
async fn secrets_are_rotated_under_load_and_no_request_fails() {
    let (p1, p2) = (proof_key("p1", b'A'), proof_key("p2", b'B'));
    let app = app_with(&settings(&one_pepper(), &p1, &[1])).await;
    let (stop, caller, done) = (AtomicBool::new(false), AtomicUsize::new(1), AtomicUsize::new(0));
    let load = async |worker: usize| {
        let mut round = 0;
        while !stop.load(Ordering::Relaxed) {
            round += 1;
            let email = format!("person{round}@worker{worker}.example");
            // Read once, as a program reads its key for a request.
            let number = u8::try_from(caller.load(Ordering::Relaxed)).expect("a number");
            let created = app.caller(number).create(&json!({ "email": email })).await;
            assert_eq!(created.status, 201, "{created:?}");
            let id = created.json()["id"].as_str().expect("an id").to_owned();
            let number = u8::try_from(caller.load(Ordering::Relaxed)).expect("a number");
            let checked = app.caller(number).check(&id, &app.smtp.last_code_to(&email)).await;
            assert_eq!(checked.status, 200, "{checked:?}");
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let some_more = async |what: &str| {
        let before = done.load(Ordering::Relaxed);
        eventually(what, async || done.load(Ordering::Relaxed) > before + 8).await;
    };
    let rotate = async {
        some_more("load before").await;
        assert_eq!(kid_of_a_proof(&app, 1, "a@b.example").await, "p1");
        reload(&app, &settings(&rotated_peppers(), &format!("{p2},{p1}"), &[1, 2])).await;
        some_more("load with both").await;
        assert_eq!(kid_of_a_proof(&app, 1, "a@b.example").await, "p2");
        let published = app.get("/.well-known/jwks.json").await.json();
        assert_eq!([&published["keys"][0]["kid"], &published["keys"][1]["kid"]], ["p2", "p1"]);
        caller.store(2, Ordering::Relaxed);
        some_more("load with the new key").await;
        reload(&app, &settings(&rotated_peppers(), &p2, &[2])).await;
        some_more("load without the old key").await;
        assert_eq!(app.caller(1).create(&json!({ "email": "a@b.example" })).await.status, 401);
        for bad in ["[secrets]\npeppers = \"k1:x\"", "[tenants", "[smtp]\nport = 0"] {
            let refused = || app.log().matches("the settings were not reloaded").count();
            let before = refused();
            app.reload(bad);
            eventually("the reload is refused", async || refused() > before).await;
            some_more("load after a bad reload").await;
        }
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(rotate, load(1), load(2), load(3), load(4));
}

#[tokio::test]
async fn a_code_is_checked_with_the_pepper_that_it_was_sent_with() {
    let app = app_with(&settings(&one_pepper(), "", &[1])).await;
    let code = app.code_for("a@example.com").await;
    reload(&app, &settings(&rotated_peppers(), "", &[1])).await;
    assert_eq!(app.verify_otp("a@example.com", &code).await.status, 200);
    let code = app.code_for("a@example.com").await;
    reload(&app, &settings(&new_pepper(), "", &[1])).await;
    assert_eq!(app.verify_otp("a@example.com", &code).await.status, 200, "it was sent with k2");
    let code = app.code_for("b@example.com").await;
    reload(&app, &settings(&one_pepper(), "", &[1])).await;
    assert_eq!(app.verify_otp("b@example.com", &code).await.status, 400, "k2 is gone");
}

#[tokio::test]
async fn templates_relay_sender_and_log_level_are_reloaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = |more: &str| format!("{}{more}", settings(&one_pepper(), "", &[1]));
    let app = TestApp::builder()
        .set("OTP_SECRETS__PEPPERS", "")
        .set("EMAIL_SENDER", "")
        .set("OTP_LOG__LEVEL", "")
        .config(&config("[smtp]\nsender = \"codes@one.example\"\n"))
        .spawn()
        .await;
    assert_eq!(app.send_otp("a@example.com").await.status, 200);
    assert!(!app.whole_log().await.contains("an attempt was compared"));
    let german = "[mail]\nsubject = \"Dein Code\"\n";
    std::fs::write(folder.path().join("de.toml"), german).expect("written");
    let broken = format!(
        "[smtp]\nsender = \"codes@two.example\"\n[log]\nlevel = \"trace\"\n[mail]\ntemplates = \"{}\"\n",
        folder.path().display()
    );
    app.reload(&config(&broken));
    app.logged("the settings were not reloaded").await;
    assert_eq!(app.send_otp("a@example.com").await.status, 200);
    assert!(app.smtp.mails()[1].raw.contains("codes@one.example"), "nothing of it is applied");
    reload(
        &app,
        &config(
            "[smtp]\nsender = \"codes@two.example\"\n[log]\nlevel = \"trace\"\n[mail]\nbrand = \"Two\"\n",
        ),
    )
    .await;
    let code = app.code_for("a@example.com").await;
    let mail = app.smtp.mails()[2].raw.clone();
    assert!(mail.contains("codes@two.example") && mail.contains("Two"), "{mail}");
    assert_eq!(app.verify_otp("a@example.com", &code).await.status, 200);
    app.logged("an attempt was compared").await;
}

#[tokio::test]
async fn what_takes_a_restart_is_named() {
    let app = app_with(&settings(&one_pepper(), "", &[1])).await;
    let more = "[http]\ndocs = \"off\"\n[limits]\nip_requests_burst = 7\n[log]\nlevel = \"debug\"\n";
    reload(&app, &format!("{}{more}", settings(&one_pepper(), "", &[1]))).await;
    app.logged(r#""names":"OTP_HTTP__DOCS, OTP_LIMITS__IP_REQUESTS_BURST""#).await;
}

#[tokio::test]
async fn a_protection_is_not_switched_off_by_a_reload() {
    let text = settings(&one_pepper(), "", &[1]);
    let app = TestApp::builder().single_redis().set("OTP_SECRETS__PEPPERS", "").config(&text).spawn().await;
    for name in ["plaintext_smtp", "plaintext_redis", "public_admin"] {
        app.reload(&format!("{}[dangerous]\n{name} = true\n", settings(&one_pepper(), "", &[2])));
        let refused = format!("OTP_DANGEROUS__{} has changed: that takes a restart", name.to_uppercase());
        app.logged(&refused).await;
    }
    assert_eq!(app.caller(1).start("a@example.com").await.len(), 22, "nothing else is reloaded");
}

#[tokio::test]
async fn a_reload_is_tried_without_doing_it() {
    let app = app_with(&settings(&rotated_peppers(), &proof_key("p1", b'A'), &[1, 2])).await;
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("otpd.toml");
    let path = file.display().to_string();
    let env: Vec<_> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let check = || run(folder.path(), &env, &["reload", "--check", "--config", &path]);
    std::fs::write(&file, settings(&rotated_peppers(), &proof_key("p1", b'A'), &[1, 2])).expect("written");
    let passed = check();
    assert_eq!(passed.status.code(), Some(0), "{}", text(&passed.stderr));
    let said = text(&passed.stdout);
    assert!(said.starts_with("a reload would succeed, unless "), "{said}");
    for line in ["peppers      k2, k1", "proof keys   p1", "API keys     2"] {
        assert!(said.lines().any(|said| said == line), "{line}: {said}");
    }
    std::fs::write(&file, format!("{}[mail]\nlocale = \"fi\"", settings(&one_pepper(), "", &[1])))
        .expect("written");
    let refused = check();
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("there is no translation for"), "{}", text(&refused.stderr));
    assert!(!app.whole_log().await.contains("reloaded"), "the running process is not touched");
    let without = run(folder.path(), &env, &["reload"]);
    assert_eq!(without.status.code(), Some(2));
    assert!(text(&without.stderr).contains("--check"), "{}", text(&without.stderr));
}

//! Tenants: a verification of one is unknown to the others, and which keys give access to what.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{Answer, Process, TestApp, eventually, light_hash};
use crate::support::v1::{hash, key};

const EMAIL: &str = "recipient@example.com";

/// Returns two tenants, with the keys 3 and 4. `more` is added to the first.
fn two_tenants(more: &str) -> String {
    format!(
        "[[tenants]]\nname = \"shop\"\nkeys = [\"{}\"]\n{more}\n[[tenants]]\nname = \"bank\"\nkeys = [\"{}\"]\n",
        hash(3),
        hash(4)
    )
}

/// Removes the parts of an answer that are random or a time.
fn unchanging(answer: Answer) -> Answer {
    let mut answer = answer.without_date_and_id();
    answer.headers.retain(|(name, _)| name != "ratelimit-policy");
    answer
}

#[tokio::test]
async fn a_verification_of_one_tenant_is_unknown_to_another_byte_for_byte() {
    let app = TestApp::builder().keyed().config(&two_tenants("")).spawn().await;
    let (shop, bank) = (app.caller(3), app.caller(4));
    let created = without_resend_at(&shop.create_under("k", &json!({ "email": EMAIL })).await);
    let id = created["id"].as_str().expect("an id");
    let code = app.smtp.last_code_to(EMAIL);
    let nobodys = "AAAAAAAAAAAAAAAAAAAAAA";
    for (foreign, unknown) in [
        (bank.show(id).await, bank.show(nobodys).await),
        (bank.check(id, &code).await, bank.check(nobodys, &code).await),
        (bank.check(id, "no code").await, bank.check(nobodys, "no code").await),
        (bank.resend(id).await, bank.resend(nobodys).await),
        (bank.cancel(id).await, bank.cancel(nobodys).await),
        (app.caller(1).show(id).await, app.caller(1).show(nobodys).await),
    ] {
        assert_eq!(foreign.problem(), (404, "verification_not_found".to_owned()));
        assert_eq!(unchanging(foreign), unchanging(unknown));
    }
    // The same idempotency key with another body: each tenant has its own keys.
    let other = bank.create_under("k", &json!({ "email": "other@example.com" })).await;
    assert_eq!(other.status, 201, "{other:?}");
    assert_ne!(other.json()["id"], created["id"]);
    // The other tenant's calls charged and changed nothing here.
    assert_eq!(without_resend_at(&shop.show(id).await), created);
    let approved = shop.check(id, &code).await;
    assert_eq!(approved.status, 200);
    assert_eq!(audience(&approved), "shop");
    let other_id = other.json()["id"].as_str().expect("an id").to_owned();
    let approved = bank.check(&other_id, &app.smtp.last_code_to("other@example.com")).await;
    assert_eq!(audience(&approved), "bank");
}

/// Returns the body without `resend_at`, which is the present time if a code can be resent at once.
fn without_resend_at(answer: &Answer) -> Value {
    let mut body = answer.json();
    body.as_object_mut().expect("an object").remove("resend_at");
    body
}

fn audience(approved: &Answer) -> String {
    use base64::Engine as _;
    let proof = approved.json()["proof"].as_str().expect("a proof").to_owned();
    let claims = proof.split('.').nth(1).expect("claims");
    let claims = base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64");
    serde_json::from_slice::<Value>(&claims).expect("JSON")["aud"].as_str().expect("a tenant").to_owned()
}

#[tokio::test]
async fn ledgers_are_each_tenants_own_but_for_the_one_over_all() {
    let app = TestApp::limited()
        .keyed()
        .config(&two_tenants(""))
        .set("OTP_LIMITS__EMAIL_SENDS_TOTAL", "3/1h")
        .set("OTP_LIMITS__IP_SENDS", "3/1h")
        .spawn()
        .await;
    let body = json!({ "email": EMAIL, "end_user_ip": "192.0.2.1" });
    let (shop, bank) = (app.caller(3), app.caller(4));
    assert_eq!(shop.create(&body).await.status, 201);
    assert_eq!(shop.create(&body).await.json()["policy"], "email_sends");
    // The same recipient and network, for another tenant and on the simple endpoints.
    let of_bank = bank.create(&body).await;
    assert_eq!(of_bank.status, 201, "{of_bank:?}");
    assert!(of_bank.header("ratelimit").expect("told").contains("\"ip_sends\";r=2;"), "{of_bank:?}");
    assert_eq!(app.send_from("192.0.2.1", EMAIL).await.status, 200);
    // The third email of the hour was the last to that address, for all tenants.
    let refused = app.caller(1).create(&body).await;
    assert_eq!((refused.problem().0, &refused.json()["policy"]), (429, &json!("email_sends_total")));
}

#[tokio::test]
async fn a_tenant_has_brand_sender_purposes_and_limits_of_its_own() {
    let more = "brand = \"Söhne & Co\"\nsender = \"codes@shop.example\"\npurposes = [\"login\", \"signup\"]\n\
                limits = { email_sends = \"1/30s 2/1h 9/day\", key_sends_per_minute = 4 }\n";
    let app = TestApp::limited().config(&two_tenants(more)).spawn().await;
    let shop = app.caller(3);
    let created = shop.create(&json!({ "email": EMAIL })).await;
    assert_eq!((created.status, &created.json()["purpose"]), (201, &json!("login")));
    assert_eq!(created.header("ratelimit-policy"), Some("\"key\";q=4;w=60"));
    let mail = app.smtp.await_mail(1).await;
    assert_eq!(mail.from, "codes@shop.example");
    assert!(mail.text().contains("Söhne & Co") && mail.html().contains("Söhne &amp; Co"));
    assert!(mail.header("Message-ID").expect("an id").ends_with("@shop.example>"));
    let refused = shop.create(&json!({ "email": "b@example.com", "purpose": "reset" })).await;
    assert_eq!(refused.problem(), (422, "purpose_not_allowed".to_owned()));
    let limited = shop.create(&json!({ "email": EMAIL, "purpose": "signup" })).await;
    assert!(limited.header("ratelimit-policy").expect("told").ends_with("\"email_sends\";q=1;w=30"));
    // The other tenant uses the settings of the deployment.
    assert_eq!(app.caller(4).create(&json!({ "email": EMAIL, "purpose": "reset" })).await.status, 201);
    assert_eq!(app.smtp.await_mail(2).await.from, crate::support::app::SENDER);
}

#[tokio::test]
async fn only_a_key_that_opens_something_is_let_in() {
    let app = TestApp::builder().keyed().config(&two_tenants("")).spawn().await;
    let path = "/v1/verifications/AAAAAAAAAAAAAAAAAAAAAA";
    let with = async |value: Option<String>| {
        let request = app.request(Method::GET, path);
        let request = match value {
            Some(value) => request.header("authorization", value),
            None => request,
        };
        app.answer(request).await
    };
    for value in [
        None,
        Some(String::new()),
        Some(format!("Bearer {}", key(9))),
        Some(format!("Basic {}", key(1))),
        Some(key(1)),
        Some(format!("Bearer {}x", key(1))),
        Some("Bearer".to_owned()),
    ] {
        let refused = with(value.clone()).await;
        assert_eq!(refused.problem(), (401, "unauthenticated".to_owned()), "{value:?}");
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"), "{value:?}");
    }
    let elsewhere = app.request(Method::GET, &format!("{path}?key={}", key(1)));
    assert_eq!(app.answer(elsewhere).await.status, 401, "a key stands in a header");
    // The key is checked before anything else of the request.
    let broken = app.request(Method::POST, "/v1/verifications").header("content-type", "text/plain");
    assert_eq!(app.answer(broken.body("{")).await.status, 401);
    for number in 1..=4 {
        assert_eq!(app.caller(number).show("AAAAAAAAAAAAAAAAAAAAAA").await.status, 404, "{number}");
    }
}

#[tokio::test]
async fn a_reload_revokes_a_key_and_takes_another() {
    let app = TestApp::builder().config(&two_tenants("")).spawn().await;
    let id = app.caller(3).start(EMAIL).await;
    // Both keys are active during the rotation.
    let both = two_tenants("").replace(&hash(3), &format!("{}, {}", hash(3), hash(5)));
    app.reload(&both);
    app.logged("the settings were reloaded").await;
    assert_eq!(app.caller(5).show(&id).await.status, 200);
    assert_eq!(app.caller(3).show(&id).await.status, 200);
    app.reload(&two_tenants("").replace(&hash(3), &hash(5)));
    eventually("it is revoked", async || app.caller(3).show(&id).await.status == 401).await;
    assert_eq!(app.caller(5).show(&id).await.status, 200, "the verification is the tenant's, not the key's");
    assert_eq!(app.caller(4).start("b@example.com").await.len(), 22);
}

#[tokio::test]
async fn a_reload_of_settings_with_a_fault_changes_nothing() {
    let app = TestApp::builder().config(&two_tenants("")).spawn().await;
    app.reload(&two_tenants("purpose = [\"login\"]"));
    app.logged("were not reloaded").await;
    let log = app.log();
    assert!(log.contains("tenants.1.purpose: is not a setting of a tenant"), "{log}");
    assert!(log.contains("did you mean purposes?"), "{log}");
    app.reload(&two_tenants("limits = { email_sends = \"1/60s 10/700h\" }"));
    app.logged("that takes a restart").await;
    app.reload(&two_tenants("locale = \"fi\""));
    app.logged("there is no translation for").await;
    // An empty list is an error too: the old settings stay in use.
    app.reload("[[tenants]]");
    app.logged("tenants.1.name: is missing").await;
    assert_eq!(app.caller(3).start(EMAIL).await.len(), 22);
}

#[tokio::test]
async fn the_relays_day_is_one_for_every_tenant_before_and_after_a_reload() {
    let limited = |most: &str| format!("[limits]\nrelay_emails_per_day = \"{most}\"\n{}", two_tenants(""));
    let app = TestApp::limited().config(&limited("2")).spawn().await;
    let created =
        async |email: &str| app.caller(3).create(&json!({"email": email, "purpose": "login"})).await.status;
    assert_eq!(app.send_otp("a@example.com").await.status, 200);
    assert_eq!(created("b@example.com").await, 201);
    assert_eq!(created("c@example.com").await, 503);
    assert_eq!(app.send_otp("d@example.com").await.status, 503);
    app.reload(&limited("3"));
    app.logged("the settings were reloaded").await;
    assert_eq!(created("e@example.com").await, 201);
    assert_eq!(app.send_otp("f@example.com").await.status, 503);
}

#[tokio::test]
async fn a_reload_gets_around_no_floor() {
    let strict = |more: &str, own: &str| format!("{more}\n{}", two_tenants(own));
    let app = TestApp::limited().config(&strict("", "")).spawn().await;
    // 45 openings of five attempts would be refused. With one attempt each, or with longer codes,
    // they would be allowed. But this process keeps the settings that it was started with.
    for more in ["[limits]\nattempts = 1", "[codes]\ndigits = 8", "[dangerous]\nweak_limits = true"] {
        let before = app.log().matches("that takes a restart").count();
        app.reload(&strict(more, "limits = { email_sends = \"1/30s 45/day\" }"));
        let refused = || app.log().matches("that takes a restart").count() > before;
        eventually("the reload is refused", async || refused()).await;
    }
    app.reload(&strict("", "limits = { email_sends = \"1/30s 45/day\" }"));
    app.logged("attempts at an address a day").await;
    assert_eq!(app.caller(3).start(EMAIL).await.len(), 22);
}

#[tokio::test]
async fn keyed_simple_endpoints_ask_for_a_key_and_change_nothing_else() {
    let app = TestApp::limited().keyed().set("OTP_SIMPLE__ACCESS", "keyed").spawn().await;
    for path in ["/send-otp", "/verify-otp"] {
        let refused = app.post(path, "{").await;
        assert_eq!(refused.message(), (401, "Unauthorized".to_owned()));
        assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    }
    let body = json!({ "email": EMAIL }).to_string();
    let sent = app.caller(1).post("/send-otp", &body).await;
    assert_eq!(sent.message(), (200, "OTP sent successfully".to_owned()));
    // The tenant is that of the simple endpoints; the client is the peer.
    let told = sent.header("ratelimit-policy").expect("told");
    assert_eq!(told, "\"key\";q=600;w=60, \"ip_sends\";q=30;w=3600");
    let code = app.smtp.last_code_to(EMAIL);
    let body = json!({ "email": EMAIL, "otp": code }).to_string();
    let verified = app.caller(2).post("/verify-otp", &body).await;
    assert_eq!(verified.status, 200);
    assert_eq!(app.caller(1).create(&json!({ "email": EMAIL })).await.status, 201);
}

#[tokio::test]
async fn load_shedding_is_for_those_without_a_key() {
    let app = TestApp::builder()
        .keyed()
        .set("OTP_LIMITS__IP_REQUESTS_PER_SECOND", "1")
        .set("OTP_LIMITS__IP_REQUESTS_BURST", "2")
        .spawn()
        .await;
    let path = "/v1/verifications/AAAAAAAAAAAAAAAAAAAAAA";
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let stranger = app.get(path).await;
        if stranger.status == 429 {
            assert_eq!(
                (stranger.problem().1, &stranger.json()["policy"]),
                ("rate_limited".into(), &json!("ip_requests"))
            );
        }
        statuses.push(stranger.status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    let mut with_no_key_of_ours = Vec::new();
    for _ in 0..6 {
        assert_eq!(app.caller(1).show("AAAAAAAAAAAAAAAAAAAAAA").await.status, 404);
        with_no_key_of_ours.push(app.caller(9).show("AAAAAAAAAAAAAAAAAAAAAA").await.status);
    }
    assert!(with_no_key_of_ours.contains(&429), "{with_no_key_of_ours:?}");
}

#[tokio::test]
async fn dev_prints_a_key_that_opens_its_tenant() {
    let mut settings: std::collections::BTreeMap<_, _> = light_hash().into_iter().collect();
    settings.insert("OTP_TENANT__KEYS".to_owned(), hash(1));
    let dev = Process::start("dev", &settings).await;
    let key = dev.printed("API key").await;
    let id = dev.caller_with(&key).start(EMAIL).await;
    let code = dev.captured_codes(EMAIL).await.remove(0);
    assert_eq!(dev.caller(1).check(&id, &code).await.status, 404, "another tenant's");
    let approved = dev.caller_with(&key).check(&id, &code).await;
    assert_eq!(audience(&approved), "dev");
}

//! The v1 API: each call, each way in which a verification ends, and each problem.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use otpd::domain::proof::ProofKey;
use reqwest::Method;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey};
use serde_json::{Value, json};

use crate::support::app::{Process, TestApp};
use crate::support::smtp::Fault;

const EMAIL: &str = "recipient@example.com";

/// Returns a six-digit code other than this one.
fn other_than(code: &str) -> String {
    let number: u32 = code.parse().expect("digits");
    format!("{:06}", (number + 1) % 1_000_000)
}

fn problem(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

/// Returns the header and the claims of a proof, after verifying its signature with the published
/// keys.
pub async fn proven(app: &Process, proof: &str) -> (Value, Value) {
    let keys = app.get("/.well-known/jwks.json").await.json();
    let (signed, signature) = proof.rsplit_once('.').expect("three parts");
    let decode = |text: &str| BASE64_URL_SAFE_NO_PAD.decode(text).expect("base64");
    let part = |text: &str| serde_json::from_slice::<Value>(&decode(text)).expect("JSON");
    let (header, claims) = signed.split_once('.').expect("two parts");
    let (header, claims) = (part(header), part(claims));
    let key = keys["keys"].as_array().expect("keys").iter().find(|key| key["kid"] == header["kid"]);
    let key = key.expect("the key is published");
    assert_eq!(key["alg"], header["alg"]);
    let coordinate = |name: &str| decode(key[name].as_str().expect("a coordinate"));
    let verified = match header["alg"].as_str() {
        Some("EdDSA") => {
            UnparsedPublicKey::new(&ED25519, coordinate("x")).verify(signed.as_bytes(), &decode(signature))
        }
        Some("ES256") => {
            let point = [vec![4], coordinate("x"), coordinate("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed.as_bytes(), &decode(signature))
        }
        other => panic!("{other:?} is no algorithm of proofs"),
    };
    verified.expect("a good signature");
    (header, claims)
}

#[tokio::test]
async fn a_verification_is_approved_once_by_the_code_in_its_mail() {
    let app = TestApp::builder().keyed().set("OTP_MAIL__BRAND", "Shop").spawn().await;
    let caller = app.caller(1);
    let created = caller.create(&json!({ "email": " Subject@Example.com ", "purpose": "login" })).await;
    assert_eq!(created.status, 201, "{created:?}");
    let body = created.json();
    let id = body["id"].as_str().expect("an id");
    assert_eq!(id.len(), 22);
    assert_eq!(created.header("location"), Some(format!("/v1/verifications/{id}").as_str()));
    assert_eq!(body["status"], "pending");
    assert_eq!(body["email"], "S***@example.com");
    assert_eq!((&body["purpose"], &body["attempts_remaining"]), (&json!("login"), &json!(5)));
    assert!(body.get("proof").is_none());

    let mail = app.smtp.await_mail(1).await;
    let reference = body["reference"].as_str().expect("a reference");
    assert_eq!((mail.to.clone(), reference.len()), (vec!["Subject@example.com".to_owned()], 3));
    for part in [mail.text(), mail.html()] {
        assert_eq!(part.matches(reference).count(), 1, "{part}");
        assert!(part.contains("Shop"), "{part}");
    }

    let code = app.smtp.last_code_to("Subject@example.com");
    let in_arabic: String =
        code[3..].chars().map(|digit| char::from_u32(u32::from(digit) + 0x630).expect("a digit")).collect();
    let approved = caller.check(id, &format!("\u{200e} {}-{in_arabic} ", &code[..3])).await;
    assert_eq!(approved.status, 200, "{approved:?}");
    let approved = approved.json();
    assert_eq!((&approved["id"], &approved["status"]), (&json!(id), &json!("approved")));
    let (header, claims) = proven(&app, approved["proof"].as_str().expect("a proof")).await;
    assert_eq!(header, json!({ "typ": "otp-proof+jwt", "alg": "EdDSA", "kid": "p2" }));
    let iat = claims["iat"].as_u64().expect("a time");
    let expected = json!({
        "iss": "otpd", "aud": "default", "sub": "Subject@example.com", "purpose": "login",
        "method": "mail_code", "jti": id, "iat": iat, "exp": iat + 300,
    });
    assert_eq!(claims, expected);

    let again = caller.check(id, &code).await;
    assert_eq!(again.problem(), problem(410, "verification_closed"));
    assert_eq!(again.json()["verification_status"], "approved");
    let shown = caller.show(id).await;
    assert_eq!((shown.status, &shown.json()["status"]), (200, &json!("approved")));
    // If the answer with the approval is lost, the proof can still be read.
    assert_eq!(shown.json()["proof"], approved["proof"]);
    assert_eq!(shown.json()["attempts_remaining"], 0);
    assert!(shown.json().get("resend_at").is_none());
}

#[tokio::test]
async fn keys_of_both_algorithms_are_published_and_the_first_signs() {
    let eddsa = format!("p1:{}", BASE64_URL_SAFE_NO_PAD.encode([1; 32]));
    let es256 = BASE64_URL_SAFE_NO_PAD.encode(&*ProofKey::generate_p256().expect("a key"));
    let es256 = format!("e1:es256:{es256}");
    for (keys, algorithm, kid) in
        [(format!("{es256},{eddsa}"), "ES256", "e1"), (format!("{eddsa},{es256}"), "EdDSA", "p1")]
    {
        let app = TestApp::builder().keyed().set("OTP_SECRETS__PROOF_KEYS", &keys).spawn().await;
        let caller = app.caller(1);
        let id = caller.start(EMAIL).await;
        let approved = caller.check(&id, &app.smtp.last_code_to(EMAIL)).await.json();
        let (header, claims) = proven(&app, approved["proof"].as_str().expect("a proof")).await;
        assert_eq!(header, json!({ "typ": "otp-proof+jwt", "alg": algorithm, "kid": kid }));
        assert_eq!(claims["method"], "mail_code");
        let published = app.get("/.well-known/jwks.json").await.json();
        assert_eq!(published["keys"].as_array().map(Vec::len), Some(2));
        assert!(!published.to_string().contains("\"d\""), "public halves only");
    }
}

#[tokio::test]
async fn every_answer_says_the_same_of_a_verification() {
    let app = TestApp::builder().keyed().set("OTP_LIMITS__EMAIL_SENDS", "1/60s").spawn().await;
    let caller = app.caller(1);
    let created = caller.create(&json!({ "email": EMAIL })).await.json();
    let id = created["id"].as_str().expect("an id");
    assert_eq!(caller.show(id).await.json(), created);
    assert_eq!(created["purpose"], "verification");
    let time = |name: &str| created[name].as_str().expect("a time").to_owned();
    assert!(time("resend_at") < time("expires_at"), "{created}");
    let form = |time: &str| time.len() == 20 && time.ends_with('Z') && time.as_bytes()[10] == b'T';
    assert!(form(&time("resend_at")) && form(&time("expires_at")), "{created}");
}

#[tokio::test]
async fn a_wrong_code_is_never_a_success_and_tells_what_is_left() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    let code = app.smtp.last_code_to(EMAIL);
    for left in (0..5).rev() {
        let wrong = caller.check(&id, &other_than(&code)).await;
        assert_eq!(wrong.problem(), problem(422, "invalid_code"));
        assert_eq!(wrong.json()["attempts_remaining"], left);
    }
    for typed in [&code, &other_than(&code)] {
        let closed = caller.check(&id, typed).await;
        assert_eq!(closed.problem(), problem(410, "verification_closed"));
        assert_eq!(closed.json()["verification_status"], "exhausted");
    }
    assert_eq!(caller.show(&id).await.json()["status"], "exhausted");
    assert_eq!(app.compared().await, 5);
}

#[tokio::test]
async fn what_cannot_be_a_code_takes_nothing() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    for typed in ["", "12345", "12345678901", "abcdef", "①②③④⑤⑥", "123 456 7890 1"] {
        let refused = caller.check(&id, typed).await;
        assert_eq!(refused.problem(), problem(422, "invalid_code"), "{typed}");
        assert_eq!(refused.json()["attempts_remaining"], 5, "{typed}");
    }
    assert_eq!(caller.check("AAAAAAAAAAAAAAAAAAAAAA", "").await.problem().1, "verification_not_found");
    caller.cancel(&id).await;
    assert_eq!(caller.check(&id, "x").await.json()["verification_status"], "canceled");
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(caller.check(&id, &code).await.status, 410);
}

#[tokio::test]
async fn verifications_of_one_address_are_independent() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let (one, code_of_one) = (caller.start(EMAIL).await, app.smtp.last_code_to(EMAIL));
    let (other, code_of_other) = (caller.start(EMAIL).await, app.smtp.last_code_to(EMAIL));
    let simple = app.code_for(EMAIL).await;
    for _ in 0..5 {
        assert_eq!(caller.check(&other, &other_than(&code_of_other)).await.status, 422);
        assert_eq!(app.verify_otp(EMAIL, &other_than(&simple)).await.status, 400);
    }
    // A code of another verification is wrong, unless it is the same by chance.
    if code_of_other != code_of_one {
        assert_eq!(caller.check(&one, &code_of_other).await.problem().1, "invalid_code");
    }
    assert_eq!(caller.show(&other).await.json()["status"], "exhausted");
    assert_eq!(caller.check(&one, &code_of_one).await.status, 200);
}

#[tokio::test]
async fn a_resend_brings_a_new_code_and_restores_no_attempt() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let created = caller.create(&json!({ "email": EMAIL })).await.json();
    let id = created["id"].as_str().expect("an id");
    let first = app.smtp.last_code_to(EMAIL);
    caller.check(id, &other_than(&first)).await;
    caller.check(id, &other_than(&first)).await;
    let resent = caller.resend(id).await;
    assert_eq!(resent.status, 200, "{resent:?}");
    let resent = resent.json();
    assert_eq!((&resent["attempts_remaining"], &resent["status"]), (&json!(3), &json!("pending")));
    assert_eq!((&resent["id"], &resent["reference"]), (&created["id"], &created["reference"]));
    let mail = app.smtp.await_mail(2).await;
    assert!(mail.text().contains(created["reference"].as_str().expect("a reference")));
    let second = app.smtp.last_code_to(EMAIL);
    // Either is right: the code before stays good for a while.
    assert_eq!(caller.check(id, &first).await.status, 200);
    if first != second {
        assert_eq!(caller.check(id, &second).await.problem(), problem(410, "verification_closed"));
    }
    let closed = caller.resend(id).await;
    assert_eq!(closed.problem(), problem(410, "verification_closed"));
    assert_eq!(caller.resend("AAAAAAAAAAAAAAAAAAAAAA").await.problem().1, "verification_not_found");
    assert_eq!(app.smtp.mails().len(), 2);
}

#[tokio::test]
async fn a_resend_needs_no_body() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    let path = format!("/v1/verifications/{id}/resend");
    let bare = app.answer(caller.request(Method::POST, &path)).await;
    assert_eq!(bare.status, 200, "{bare:?}");
    assert_eq!(caller.post(&path, r#"{"end_user_ip":"2001:db8::1"}"#).await.status, 200);
    // No body, in either framing.
    for framing in ["Content-Length: 00\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let key = crate::support::v1::key(1);
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n"
        );
        let answer = app.raw(format!("{head}{framing}").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{framing}: {answer}");
    }
    let text = caller.request(Method::POST, &path).header("content-type", "text/plain").body("x");
    assert_eq!(app.answer(text).await.problem(), problem(415, "unsupported_media_type"));
}

#[tokio::test]
async fn a_refused_resend_leaves_the_live_code_as_it_is() {
    let app = TestApp::limited().keyed().spawn().await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    let code = app.smtp.last_code_to(EMAIL);
    let refused = caller.resend(&id).await;
    assert_eq!(refused.problem(), problem(429, "rate_limited"));
    let body = refused.json();
    assert_eq!(
        (&body["policy"], &body["violated-policies"]),
        (&json!("email_sends"), &json!(["email_sends"]))
    );
    assert_eq!(body["type"], "https://iana.org/assignments/http-problem-types#quota-exceeded");
    assert!((1..=60).contains(&body["retry_after"].as_u64().expect("seconds")));
    let policies = refused.header("ratelimit-policy").expect("policies");
    assert_eq!(policies, "\"key\";q=600;w=60, \"email_sends\";q=1;w=60");
    // Another start for that recipient is refused in the same way.
    assert_eq!(caller.create(&json!({ "email": EMAIL })).await.json()["policy"], "email_sends");
    assert_eq!(caller.check(&id, &code).await.status, 200);
}

#[tokio::test]
async fn what_is_pending_can_be_canceled_and_done_is_done() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    let code = app.smtp.last_code_to(EMAIL);
    for _ in 0..2 {
        let canceled = caller.cancel(&id).await;
        assert_eq!((canceled.status, canceled.body.as_str()), (204, ""));
    }
    for closed in [caller.check(&id, &code).await, caller.resend(&id).await] {
        assert_eq!(closed.problem(), problem(410, "verification_closed"));
        assert_eq!(closed.json()["verification_status"], "canceled");
    }
    assert_eq!(caller.show(&id).await.json()["status"], "canceled");
    let approved = caller.start(EMAIL).await;
    assert_eq!(caller.check(&approved, &app.smtp.last_code_to(EMAIL)).await.status, 200);
    let late = caller.cancel(&approved).await;
    assert_eq!(late.problem(), problem(410, "verification_closed"));
    assert_eq!(late.json()["verification_status"], "approved");
    for unknown in ["AAAAAAAAAAAAAAAAAAAAAA", "x", "%00", "{id}"] {
        assert_eq!(
            caller.cancel(unknown).await.problem(),
            problem(404, "verification_not_found"),
            "{unknown}"
        );
    }
    assert_eq!(caller.show("%ff").await.problem(), problem(404, "not_found"));
    let encoded = id.bytes().map(|byte| format!("%{byte:02X}")).collect::<Vec<_>>().concat();
    assert_eq!(caller.show(&encoded).await.json()["status"], "canceled");
}

#[tokio::test]
async fn what_is_wrong_with_a_body_is_told() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    for (body, detail) in [
        ("", "The body must be a JSON object in UTF-8 with no member twice."),
        ("[]", "The body must be a JSON object in UTF-8 with no member twice."),
        (
            r#"{"email":"a@b.co","email":"c@d.co"}"#,
            "The body must be a JSON object in UTF-8 with no member twice.",
        ),
        ("{}", "`email` is missing."),
        (r#"{"email":null}"#, "`email` is missing."),
        (r#"{"email":["a@b.co"]}"#, "`email` must be a string."),
        (
            r#"{"email":"a@b.co","emial":"secret"}"#,
            "The body has a member that is none of: email, purpose, locale, end_user_ip.",
        ),
        (
            r#"{"email":"a@b.co","purpose":"Log in"}"#,
            "`purpose` must be 1 to 64 characters of a-z 0-9 _ . -, the first a letter or a digit.",
        ),
        (r#"{"email":"a@b.co","locale":"d"}"#, "`locale` must be a language tag such as pt-BR."),
        (r#"{"email":"a@b.co","end_user_ip":"localhost"}"#, "`end_user_ip` must be an IPv4 or IPv6 address."),
    ] {
        let answer = caller.post("/v1/verifications", body).await;
        assert_eq!(answer.problem(), problem(400, "malformed_request"), "{body}");
        assert_eq!(answer.json()["detail"], detail, "{body}");
    }
    for email in ["", "nobody", "a@localhost", "a@b.co,c@d.co", "mıke@b.co", "a@b.co\r\nBcc: x@y.zz"] {
        let answer = caller.create(&json!({ "email": email })).await;
        assert_eq!(answer.problem(), problem(422, "invalid_email"), "{email}");
    }
    let id = caller.start(EMAIL).await;
    for body in ["{}", r#"{"code":123456}"#, r#"{"code":"1","otp":"1"}"#] {
        let answer = caller.post(&format!("/v1/verifications/{id}/check"), body).await;
        assert_eq!(answer.problem(), problem(400, "malformed_request"), "{body}");
    }
    assert_eq!(app.smtp.mails().len(), 1);
}

#[tokio::test]
async fn null_is_absent_for_every_optional_member() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let unset = json!({ "email": EMAIL, "purpose": null, "locale": null, "end_user_ip": null });
    let created = caller.create(&unset).await;
    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.json()["purpose"], "verification");
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    let check = json!({ "code": app.smtp.last_code_to(EMAIL), "end_user_ip": null }).to_string();
    assert_eq!(caller.post(&format!("/v1/verifications/{id}/check"), &check).await.status, 200);
    let id = caller.start("another@example.com").await;
    let answer = caller.post(&format!("/v1/verifications/{id}/resend"), r#"{"end_user_ip":null}"#).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // A required member that is null counts as missing.
    for (path, body) in
        [("", "null"), ("/x/resend", "null"), ("/x/check", "null"), ("/x/check", r#"{"code":null}"#)]
    {
        let answer = caller.post(&format!("/v1/verifications{path}"), body).await;
        assert_eq!(answer.problem(), problem(400, "malformed_request"), "{path} {body}");
    }
}

#[tokio::test]
async fn the_document_says_that_every_optional_member_of_a_body_may_be_null() {
    let document: Value = serde_json::from_str(&otpd::api::spec_json()).expect("JSON");
    let schemas = document["components"]["schemas"].as_object().expect("schemas");
    let requests = schemas.iter().filter(|(name, _)| name.ends_with("Request"));
    for (name, schema) in requests {
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        for (member, of_member) in schema["properties"].as_object().expect("members") {
            let is_optional = !required.contains(&json!(member));
            assert_eq!(of_member["nullable"] == true, is_optional, "{name}.{member}");
        }
    }
}

#[tokio::test]
async fn the_frameworks_own_rejections_are_problems_too() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let path = "/v1/verifications";
    for unknown in ["/v1", "/v1/", "/v1/nothing", "/v1/verifications/a/b/c", "/v1/verifications//"] {
        assert_eq!(app.get(unknown).await.problem(), problem(404, "not_found"), "{unknown}");
    }
    let put = app.answer(caller.request(Method::PUT, path)).await;
    assert_eq!(put.problem(), problem(405, "method_not_allowed"));
    assert_eq!(put.header("allow"), Some("POST"));
    let trace = app.answer(caller.request(Method::TRACE, &format!("{path}/x"))).await;
    assert_eq!((trace.problem().0, trace.header("allow")), (405, Some("DELETE, GET, HEAD")));
    let huge = format!(r#"{{"email":"{}"}}"#, "a".repeat(9000));
    assert_eq!(caller.post(path, &huge).await.problem(), problem(413, "payload_too_large"));
    let text = caller.request(Method::POST, path).body("{}").header("content-type", "text/plain");
    assert_eq!(app.answer(text).await.problem(), problem(415, "unsupported_media_type"));
    // Outside of v1 they stay messages.
    assert_eq!(app.get("/v2").await.message().0, 404);
    assert_eq!(app.get("/v1x").await.message().0, 404);
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_a_problem_too() {
    let app = TestApp::builder().keyed().spawn().await;
    let head = format!(
        "POST /v1/verifications HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{{",
        crate::support::v1::key(1)
    );
    let answer = app.raw(head.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":"request_timeout""#), "{answer}");
}

#[tokio::test]
async fn a_mail_that_is_refused_or_may_arrive_is_told_apart() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    app.smtp.set(Fault::RefuseRecipient);
    let refused = caller.create(&json!({ "email": EMAIL })).await;
    assert_eq!(refused.problem(), problem(502, "delivery_failed"));
    assert!(refused.json().get("id").is_none());

    app.smtp.set(Fault::CloseAfterContent);
    let unknown = caller.create(&json!({ "email": EMAIL })).await;
    assert_eq!(unknown.problem(), problem(502, "delivery_failed"));
    let id = unknown.json()["id"].as_str().expect("an id").to_owned();
    let shown = async || {
        let shown = caller.show(&id).await.json();
        (shown["status"].clone(), shown["delivery"]["status"].clone())
    };
    assert_eq!(shown().await, (json!("pending"), json!("unknown")));
    let resent = caller.resend(&id).await;
    assert_eq!((resent.problem(), &resent.json()["id"]), (problem(502, "delivery_failed"), &json!(id)));

    app.smtp.set(Fault::None);
    let resent = caller.resend(&id).await;
    assert_eq!((resent.status, &resent.json()["delivery"]["status"]), (200, &json!("accepted")));
    assert_eq!(shown().await, (json!("pending"), json!("accepted")));
    app.smtp.set(Fault::RefuseRecipient);
    let refused = caller.resend(&id).await;
    assert_eq!((refused.problem().0, refused.json().get("id")), (502, None));
    // The code before is the live one again.
    assert_eq!(shown().await, (json!("pending"), json!("refused")));
    assert_eq!(caller.check(&id, &app.smtp.last_code_to(EMAIL)).await.status, 200);
}

#[tokio::test]
async fn without_overlap_a_refused_resend_fails_the_verification() {
    let app = TestApp::builder().keyed().set("OTP_CODES__OVERLAP", "0s").spawn().await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    app.smtp.set(Fault::RefuseRecipient);
    assert_eq!(caller.resend(&id).await.problem().0, 502);
    let shown = caller.show(&id).await.json();
    assert_eq!((&shown["status"], &shown["delivery"]["status"]), (&json!("failed"), &json!("refused")));
}

#[tokio::test]
async fn without_its_store_nothing_is_approved() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let id = caller.start(EMAIL).await;
    let code = app.smtp.last_code_to(EMAIL);
    app.redis.stop();
    for answer in [
        caller.create(&json!({ "email": EMAIL })).await,
        caller.create_under("k", &json!({ "email": EMAIL })).await,
        caller.check(&id, &code).await,
        caller.check(&id, "no code").await,
        caller.resend(&id).await,
        caller.show(&id).await,
        caller.cancel(&id).await,
    ] {
        assert_eq!(answer.problem(), problem(503, "unavailable"));
    }
    assert_eq!(app.smtp.mails().len(), 1);
}

#[tokio::test]
async fn a_network_is_charged_only_where_the_caller_names_one() {
    let app = TestApp::limited()
        .keyed()
        .set("OTP_LIMITS__IP_SENDS", "2/1h")
        .set("OTP_LIMITS__IP_ATTEMPTS", "2/1h")
        .spawn()
        .await;
    let caller = app.caller(1);
    let mut ids = Vec::new();
    for (number, ip) in ["192.0.2.1", "::ffff:192.0.2.1", "192.0.2.1"].into_iter().enumerate() {
        let answer =
            caller.create(&json!({ "email": format!("{number}@example.com"), "end_user_ip": ip })).await;
        if number < 2 {
            assert_eq!(answer.status, 201, "{answer:?}");
            ids.push(answer.json()["id"].as_str().expect("an id").to_owned());
        } else {
            assert_eq!((answer.problem().0, &answer.json()["policy"]), (429, &json!("ip_sends")));
        }
    }
    for number in 10..15 {
        caller.start(&format!("{number}@example.com")).await;
    }
    // The attempts of an IP, at whichever verification. A right attempt is refunded.
    let attempt = async |id: &str, code: &str| {
        let body = json!({ "code": code, "end_user_ip": "192.0.2.1" }).to_string();
        caller.post(&format!("/v1/verifications/{id}/check"), &body).await
    };
    let code = app.smtp.last_code_to("0@example.com");
    assert_eq!(attempt("AAAAAAAAAAAAAAAAAAAAAA", "000000").await.status, 404);
    assert_eq!(attempt(&ids[0], &code).await.status, 200);
    assert_eq!(attempt(&ids[1], &other_than(&app.smtp.last_code_to("1@example.com"))).await.status, 422);
    let refused = attempt(&ids[1], "000000").await;
    assert_eq!((refused.problem().0, &refused.json()["policy"]), (429, &json!("ip_attempts")));
    assert_eq!(caller.check(&ids[1], &app.smtp.last_code_to("1@example.com")).await.status, 200);
}

#[tokio::test]
async fn a_key_that_asks_too_much_waits_and_others_do_not() {
    let app = TestApp::builder()
        .keyed()
        .set("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "2")
        .set("OTP_LIMITS__KEY_CHECKS_PER_MINUTE", "3")
        .spawn()
        .await;
    let (one, other) = (app.caller(1), app.caller(2));
    let id = one.start(EMAIL).await;
    one.start(EMAIL).await;
    for refused in [one.create(&json!({ "email": EMAIL })).await, one.resend(&id).await] {
        assert_eq!((refused.problem().1, &refused.json()["policy"]), ("rate_limited".into(), &json!("key")));
        assert_eq!(refused.header("ratelimit-policy"), Some("\"key\";q=2;w=60"));
    }
    // A token is taken before the body is read.
    assert_eq!(one.post(&format!("/v1/verifications/{id}/check"), "no JSON").await.problem().0, 400);
    for _ in 0..2 {
        assert_eq!(one.show(&id).await.status, 200);
    }
    for refused in [one.show(&id).await, one.check(&id, "000000").await, one.cancel(&id).await] {
        assert_eq!((refused.problem().0, &refused.json()["policy"]), (429, &json!("key")));
    }
    // On the simple endpoints the same key has the same bucket.
    let simple = one.post("/verify-otp", "{}").await;
    assert_eq!(simple.message(), (429, "Too many requests".to_owned()));
    assert!(simple.header("retry-after").is_some(), "{simple:?}");
    assert_eq!(other.show(&id).await.status, 200);
    assert_eq!(other.resend(&id).await.status, 200);
}

#[tokio::test]
async fn of_a_hundred_right_codes_at_once_one_succeeds() {
    let app = TestApp::builder().keyed().set("OTP_HASH__QUEUE", "1000").spawn().await;
    let id = app.caller(1).start(EMAIL).await;
    let code = app.smtp.last_code_to(EMAIL);
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..100 {
        let (process, id, code) = (app.process.clone(), id.clone(), code.clone());
        tasks.spawn(async move { process.caller(1).check(&id, &code).await.status });
    }
    let mut statuses = tasks.join_all().await;
    statuses.sort_unstable();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().skip(1).all(|status| [410, 422].contains(status)), "{statuses:?}");
}

#[tokio::test]
async fn a_code_outlives_the_rotation_of_its_pepper_and_dies_with_it() {
    let app = TestApp::builder().keyed().spawn().await;
    let (lives, dies) = (app.caller(1).start(EMAIL).await, app.caller(1).start("b@example.com").await);
    let rotated = app.another("OTP_SECRETS__PEPPERS", &crate::support::app::rotated_peppers()).await;
    let first = app.smtp.last_code_to(EMAIL);
    assert_eq!(rotated.caller(1).resend(&lives).await.status, 200);
    // Its code before ends, because no digest could be compared with both.
    if app.smtp.last_code_to(EMAIL) != first {
        assert_eq!(rotated.caller(1).check(&lives, &first).await.problem().1, "invalid_code");
    }
    let approved = rotated.caller(1).check(&lives, &app.smtp.last_code_to(EMAIL)).await;
    assert_eq!(approved.status, 200, "{approved:?}");
    let dropped = app.another("OTP_SECRETS__PEPPERS", &crate::support::app::new_pepper()).await;
    let caller = dropped.caller(1);
    assert_eq!(
        caller.check(&dies, &app.smtp.last_code_to("b@example.com")).await.problem().1,
        "invalid_code"
    );
    assert_eq!(caller.show(&dies).await.problem(), problem(404, "verification_not_found"));
}

#[tokio::test]
async fn what_could_not_be_shown_afterwards_is_not_approved() {
    let app = TestApp::builder().keyed().spawn().await;
    let id = app.caller(1).start(EMAIL).await;
    let rotated = app.another("OTP_SECRETS__PEPPERS", &crate::support::app::rotated_peppers()).await;
    assert_eq!(rotated.caller(1).resend(&id).await.status, 200);
    let code = app.smtp.last_code_to(EMAIL);
    // The code is hashed with the new pepper; the details are encrypted under the old one.
    let dropped = app.another("OTP_SECRETS__PEPPERS", &crate::support::app::new_pepper()).await;
    assert_eq!(dropped.caller(1).check(&id, &code).await.problem(), problem(404, "verification_not_found"));
    assert_eq!(rotated.caller(1).show(&id).await.json()["status"], "pending");
    assert_eq!(rotated.caller(1).check(&id, &code).await.status, 200);
}

#[tokio::test]
async fn the_published_keys_are_all_whose_proofs_are_good() {
    let app = TestApp::builder().keyed().spawn().await;
    let keys = app.get("/.well-known/jwks.json").await;
    let names: Vec<_> =
        keys.json()["keys"].as_array().expect("keys").iter().map(|key| key["kid"].clone()).collect();
    assert_eq!(names, ["p2", "p1"]);
    for key in keys.json()["keys"].as_array().expect("keys") {
        let members: Vec<_> = key.as_object().expect("a key").keys().map(String::as_str).collect();
        assert_eq!(members, ["kty", "crv", "x", "kid", "use", "alg"], "no private half");
    }
    let none = TestApp::spawn().await;
    assert_eq!(none.get("/.well-known/jwks.json").await.json(), json!({ "keys": [] }));
}

#[tokio::test]
async fn without_proof_keys_an_approval_has_no_proof() {
    let app = TestApp::builder().keyed().set("OTP_SECRETS__PROOF_KEYS", "").spawn().await;
    let id = app.caller(1).start(EMAIL).await;
    let approved = app.caller(1).check(&id, &app.smtp.last_code_to(EMAIL)).await;
    assert_eq!(approved.json(), json!({ "id": id, "status": "approved" }));
    assert!(app.caller(1).show(&id).await.json().get("proof").is_none());
}

/// Returns the status of a call, and how many scripts it runs in Redis.
async fn round_trips(app: &TestApp, call: impl Future<Output = crate::support::app::Answer>) -> (u16, usize) {
    let mut status = 0;
    let seen = app.redis.monitored(async { status = call.await.status }).await;
    (status, seen.iter().filter(|line| line.contains("] \"EVALSHA\"")).count())
}

/// Makes each call once, and returns its status and its number of round trips to Redis.
async fn each_call(app: &TestApp) -> [(u16, usize); 7] {
    let caller = app.caller(1);
    let with_ip = |code: &str| json!({ "code": code, "end_user_ip": "192.0.2.1" }).to_string();
    let body = json!({ "email": EMAIL, "end_user_ip": "192.0.2.1" });
    let created = round_trips(app, caller.create(&body)).await;
    let id = caller.start(EMAIL).await;
    let path = format!("/v1/verifications/{id}/check");
    let shown = round_trips(app, caller.show(&id)).await;
    let resent = round_trips(app, caller.resend(&id)).await;
    let code = app.smtp.last_code_to(EMAIL);
    let wrong = round_trips(app, caller.post(&path, &with_ip(&other_than(&code)))).await;
    let right = round_trips(app, caller.post(&path, &with_ip(&code))).await;
    let over = round_trips(app, caller.check(&id, &code)).await;
    let canceled = round_trips(app, caller.cancel(&id)).await;
    [created, shown, resent, wrong, right, over, canceled]
}

#[tokio::test]
async fn no_call_asks_redis_more_often_than_it_must() {
    let builder = || TestApp::builder().keyed();
    for (builder, expected) in [
        (builder().single_redis(), [(201, 3), (200, 2), (200, 4), (422, 1), (200, 2), (410, 1), (410, 1)]),
        (builder().clustered(), [(201, 4), (200, 2), (200, 4), (422, 2), (200, 4), (410, 1), (410, 1)]),
    ] {
        let app = builder.spawn().await;
        // The first calls load the scripts.
        each_call(&app).await;
        assert_eq!(each_call(&app).await, expected);
    }
}

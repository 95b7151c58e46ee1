//! The two simple endpoints, row by row of their table.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::json;

use crate::support::app::{Process, TestApp, within};

const SENT: (u16, &str) = (200, "OTP sent successfully");
const VERIFIED: (u16, &str) = (200, "OTP verified successfully");
const INVALID: (u16, &str) = (400, "Invalid or expired OTP");
const MALFORMED: (u16, &str) = (400, "Malformed request");
const NO_EMAIL: (u16, &str) = (400, "Email is required");
const NO_EMAIL_OR_OTP: (u16, &str) = (400, "Email and OTP are required");
const BAD_ADDRESS: (u16, &str) = (400, "Invalid email address");

fn said((status, message): (u16, &str)) -> (u16, String) {
    (status, message.to_owned())
}

/// Returns a six-digit code other than this one.
fn other_than(code: &str) -> String {
    let number: u32 = code.parse().expect("digits");
    format!("{:06}", (number + 1) % 1_000_000)
}

#[tokio::test]
async fn a_mailed_code_verifies_once() {
    let app = TestApp::spawn().await;
    let code = app.code_for("recipient@example.com").await;
    let verified = app.verify_otp("recipient@example.com", &code).await;
    assert_eq!(verified.message(), said(VERIFIED));
    assert_eq!(verified.body, r#"{"message":"OTP verified successfully"}"#);
    assert_eq!(verified.header("otp-proof"), None, "no proof key is set");
    assert_eq!(app.verify_otp("recipient@example.com", &code).await.message(), said(INVALID));
    assert_eq!(app.smtp.mails().len(), 1);
}

#[tokio::test]
async fn the_mail_is_what_the_contract_says() {
    let app = TestApp::builder().set("OTP_MAIL__BRAND", "Übersicht").spawn().await;
    let code = app.code_for("Subject@Example.com").await;
    let mail = app.smtp.await_mail(1).await;
    assert_eq!(mail.to, ["Subject@example.com"]);
    assert_eq!(mail.from, "codes@sender.example");
    assert_eq!(mail.header("Auto-Submitted").as_deref(), Some("auto-generated"));
    assert!(mail.header("Message-ID").expect("a Message-ID").ends_with("@sender.example>"));
    assert!(mail.header("Content-Type").expect("a type").starts_with("multipart/alternative"));
    assert!(!mail.header("Subject").expect("a subject").contains(&code));
    for part in [mail.text(), mail.html()] {
        assert_eq!(part.matches(&code).count(), 1, "{part}");
        assert!(part.contains("Übersicht") && part.contains("5 minutes"), "{part}");
    }
}

#[tokio::test]
async fn a_missing_null_empty_or_blank_email_is_required() {
    let app = TestApp::spawn().await;
    for body in [
        "{}",
        r#"{"email":null}"#,
        r#"{"email":""}"#,
        r#"{"email":" \t\n"}"#,
        r#"{"email":"\u200b\ufeff\u200e"}"#,
        r#"{"mail":"a@b.co"}"#,
    ] {
        assert_eq!(app.post("/send-otp", body).await.message(), said(NO_EMAIL), "{body}");
    }
    for body in [
        "{}",
        r#"{"email":"a@example.com"}"#,
        r#"{"otp":"123456"}"#,
        r#"{"email":null,"otp":null}"#,
        r#"{"email":"","otp":"123456"}"#,
        r#"{"email":"a@example.com","otp":" "}"#,
        r#"{"email":"a@example.com","otp":"\u200b\u2060 "}"#,
        r#"{"email":"\u202e","otp":"123456"}"#,
        r#"{"email":"not an address","otp":""}"#,
    ] {
        assert_eq!(app.post("/verify-otp", body).await.message(), said(NO_EMAIL_OR_OTP), "{body}");
    }
    assert!(app.smtp.mails().is_empty());
}

#[tokio::test]
async fn what_is_no_json_object_of_the_right_types_is_malformed() {
    let app = TestApp::spawn().await;
    let deep = format!(r#"{{"x":{}"#, "[".repeat(5000));
    for body in [
        "",
        "email=a@example.com",
        "{",
        "null",
        "[]",
        r#""a@example.com""#,
        r#"{"email":1}"#,
        r#"{"email":true}"#,
        r#"{"email":["a@example.com","b@example.com"]}"#,
        r#"{"email":{"a":"b"}}"#,
        r#"{"email":"a@example.com","email":"b@example.com"}"#,
        r#"{"email":"a@example.com","x":1,"x":2}"#,
        r#"{"email":"a@example.com"} {}"#,
        r#"{"email":"\ud800@example.com"}"#,
        &deep,
    ] {
        assert_eq!(app.post("/send-otp", body).await.message(), said(MALFORMED), "{body}");
    }
    for otp in ["12345", "1234567", "-123456", "123456.0", "1e5", "true", "[1,2,3,4,5,6]", r#"{"a":1}"#] {
        let body = format!(r#"{{"email":"a@example.com","otp":{otp}}}"#);
        assert_eq!(app.post("/verify-otp", &body).await.message(), said(MALFORMED), "{body}");
    }
    assert!(app.smtp.mails().is_empty());
}

#[tokio::test]
async fn what_we_do_not_mail_to_is_an_invalid_address() {
    let app = TestApp::spawn().await;
    for email in [
        "notanemail",
        "a@localhost",
        "a@[127.0.0.1]",
        "\"a b\"@b.co",
        "a@x.com,b@x.com",
        "a@example.com\r\nBcc: b@example.com",
        "mıke@example.com",
        "a@example.com.",
        "a\u{200b}b@example.com",
        "a@exam\u{200b}ple.com",
        "a@exam\u{ad}ple.com",
        "a@\u{feff}example.com",
        &format!("{}@example.com", "l".repeat(65)),
        &format!("a@{}.com", "d".repeat(250)),
    ] {
        assert_eq!(app.send_otp(email).await.message(), said(BAD_ADDRESS), "{email:?}");
        assert_eq!(app.verify_otp(email, "123456").await.message(), said(BAD_ADDRESS), "{email:?}");
    }
    assert!(app.smtp.mails().is_empty());
}

#[tokio::test]
async fn an_email_is_trimmed_and_unknown_members_are_ignored() {
    let app = TestApp::spawn().await;
    for (number, email) in
        ["  a@example.com\n", "\u{feff}\u{200e}a@example.com\u{200b}", "\u{202a}a@example.com\u{202c}\u{a0}"]
            .iter()
            .enumerate()
    {
        let body = json!({ "email": email, "name": "x", "nested": { "a": [1] } }).to_string();
        assert_eq!(app.post("/send-otp", &body).await.message(), said(SENT), "{email:?}");
        assert_eq!(app.smtp.await_mail(number + 1).await.to, ["a@example.com"]);
    }
    let code = app.smtp.last_code_to("a@example.com");
    assert_eq!(app.verify_otp("\u{200b}a@example.com\u{2060}", &code).await.message(), said(VERIFIED));
}

#[tokio::test]
async fn white_space_dashes_and_what_nobody_sees_in_a_typed_code_are_ignored() {
    let app = TestApp::spawn().await;
    for around in
        ["-", "\u{200b}", "\u{200e}", "\u{feff}", "\u{2011}", "\u{2212}", "\u{30fc}", "\u{ad}\u{2060}"]
    {
        let code = app.code_for("a@example.com").await;
        let (left, right) = code.split_at(3);
        let typed = format!("{around} {left}{around}{right}\n{around}");
        assert_eq!(app.verify_otp("a@example.com", &typed).await.message(), said(VERIFIED), "{typed:?}");
    }
}

#[tokio::test]
async fn a_code_may_be_typed_in_the_digits_of_any_script() {
    let app = TestApp::spawn().await;
    for zero in ['٠', '۰', '०', '０', '๐', '𝟎'] {
        let code = app.code_for("a@example.com").await;
        let digit =
            |c: char| char::from_u32(u32::from(zero) + u32::from(c) - u32::from('0')).expect("a digit");
        let typed: String = code.chars().map(digit).collect();
        assert_eq!(app.verify_otp("a@example.com", &typed).await.message(), said(VERIFIED), "{typed}");
    }
}

#[tokio::test]
async fn an_integer_is_a_code_where_it_has_all_the_digits() {
    let app = TestApp::builder().set("OTP_LIMITS__ATTEMPTS", "10").spawn().await;
    // One code in ten has a leading zero and cannot be given as a JSON number.
    loop {
        let code = app.code_for("a@example.com").await;
        let body = format!(r#"{{"email":"a@example.com","otp":{}}}"#, code.trim_start_matches('0'));
        let answer = app.post("/verify-otp", &body).await.message();
        if code.starts_with('0') {
            assert_eq!(answer, said(MALFORMED));
        } else {
            assert_eq!(answer, said(VERIFIED));
            break;
        }
    }
}

#[tokio::test]
async fn leading_zeros_are_digits_like_any_other() {
    let app = TestApp::spawn().await;
    // One code in ten has one. This loop ends after ten sends on average, each to a different
    // address.
    let mut number = 0;
    loop {
        let email = format!("a{number}@example.com");
        number += 1;
        let code = app.code_for(&email).await;
        if let Some(rest) = code.strip_prefix('0') {
            assert_eq!(app.verify_otp(&email, rest).await.message(), said(INVALID));
            assert_eq!(app.verify_otp(&email, &code).await.message(), said(VERIFIED));
            break;
        }
    }
}

#[tokio::test]
async fn five_wrong_attempts_close_it_and_a_resend_does_not_reset_them() {
    let app = TestApp::spawn().await;
    let email = "a@example.com";
    let first = app.code_for(email).await;
    for _ in 0..3 {
        assert_eq!(app.verify_otp(email, &other_than(&first)).await.message(), said(INVALID));
    }
    let second = app.code_for(email).await;
    let wrong = other_than_both(&first, &second);
    assert_eq!(app.verify_otp(email, &wrong).await.message(), said(INVALID));
    assert_eq!(app.verify_otp(email, &wrong).await.message(), said(INVALID));
    assert_eq!(app.verify_otp(email, &second).await.message(), said(INVALID), "the sixth attempt");
    assert_eq!(app.verify_otp(email, &first).await.message(), said(INVALID), "nor the code before");
    let third = app.code_for(email).await;
    assert_eq!(app.verify_otp(email, &third).await.message(), said(VERIFIED), "a new verification");
}

#[tokio::test]
async fn the_code_before_verifies_too_and_only_one_of_the_two() {
    let app = TestApp::spawn().await;
    for (email, is_first) in [("a@example.com", true), ("b@example.com", false)] {
        let first = app.code_for(email).await;
        let second = app.code_for(email).await;
        let (right, other) = if is_first { (&first, &second) } else { (&second, &first) };
        let wrong = other_than_both(&first, &second);
        assert_eq!(app.verify_otp(email, &wrong).await.message(), said(INVALID));
        assert_eq!(app.verify_otp(email, right).await.message(), said(VERIFIED));
        for used in [right, other] {
            assert_eq!(app.verify_otp(email, used).await.message(), said(INVALID));
        }
    }
}

#[tokio::test]
async fn without_overlap_the_code_before_is_wrong() {
    let app = TestApp::builder().set("OTP_CODES__OVERLAP", "0s").spawn().await;
    let first = app.code_for("a@example.com").await;
    let second = app.code_for("a@example.com").await;
    if first != second {
        assert_eq!(app.verify_otp("a@example.com", &first).await.message(), said(INVALID));
    }
    assert_eq!(app.verify_otp("a@example.com", &second).await.message(), said(VERIFIED));
}

#[tokio::test]
async fn the_fifth_attempt_succeeds_if_it_is_right() {
    let app = TestApp::spawn().await;
    let code = app.code_for("a@example.com").await;
    for _ in 0..4 {
        app.verify_otp("a@example.com", &other_than(&code)).await;
    }
    assert_eq!(app.verify_otp("a@example.com", &code).await.message(), said(VERIFIED));
}

#[tokio::test]
async fn what_cannot_be_a_code_takes_no_attempt() {
    let app = TestApp::spawn().await;
    let code = app.code_for("a@example.com").await;
    for typed in ["1", "12345", "12345678901", "abcdef", "①②③④⑤⑥", "-", "0x12ab"] {
        for _ in 0..2 {
            assert_eq!(app.verify_otp("a@example.com", typed).await.message(), said(INVALID), "{typed}");
        }
    }
    assert_eq!(app.verify_otp("a@example.com", &code).await.message(), said(VERIFIED));
}

#[tokio::test]
async fn a_code_belongs_to_exactly_one_address() {
    let app = TestApp::spawn().await;
    let code = app.code_for("a+x@example.com").await;
    for other in ["a+y@example.com", "a@example.com", "b+x@example.com", "a+x@example.org"] {
        assert_eq!(app.verify_otp(other, &code).await.message(), said(INVALID), "{other}");
    }
    assert_eq!(app.verify_otp("a+x@EXAMPLE.com", &code).await.message(), said(VERIFIED));
}

#[tokio::test]
async fn a_code_is_found_in_whatever_case_its_address_is_typed_and_the_mail_goes_as_typed() {
    let app = TestApp::builder().keyed().set("OTP_CODES__OVERLAP", "0s").spawn().await;
    for (sent, checked) in [("John@ex.com", "john@ex.com"), ("john@ex.com", "JOHN@EX.COM")] {
        assert_eq!(app.send_otp(sent).await.message(), said(SENT));
        let mail = app.smtp.mails().pop().expect("a mail");
        assert_eq!(
            (mail.to.as_slice(), mail.header("To").as_deref()),
            ([sent.to_owned()].as_slice(), Some(sent))
        );
        let verified = app.verify_otp(checked, &mail.code()).await;
        assert_eq!(verified.message(), said(VERIFIED), "{sent} {checked}");
        let proof = verified.header("otp-proof").expect("a proof").to_owned();
        assert_eq!(claims(&proof)["sub"], "john@ex.com", "one name for all spellings");
    }
    // A second send under another spelling replaces the first code, as one under the same spelling
    // does.
    let first = app.code_for("John@ex.com").await;
    let second = app.code_for("john@ex.com").await;
    if first != second {
        assert_eq!(app.verify_otp("John@ex.com", &first).await.message(), said(INVALID));
    }
    assert_eq!(app.verify_otp("John@ex.com", &second).await.message(), said(VERIFIED));
}

/// Returns a code that is neither of these.
fn other_than_both(first: &str, second: &str) -> String {
    let candidates = [other_than(first), other_than(&other_than(first))];
    candidates.into_iter().find(|code| code != first && code != second).expect("one of two")
}

/// Returns the claims of a proof without verifying it.
fn claims(proof: &str) -> serde_json::Value {
    let claims = proof.split('.').nth(1).expect("claims");
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).expect("base64")).expect("JSON")
}

#[tokio::test]
async fn the_rejections_of_verify_are_identical_byte_for_byte() {
    let app = TestApp::builder().set("OTP_CODES__LIFE", "30s").spawn().await;
    let expired = app.code_for("expired@example.com").await;
    let wrong = app.code_for("wrong@example.com").await;
    let used = app.code_for("used@example.com").await;
    let exhausted = app.code_for("exhausted@example.com").await;
    assert_eq!(app.verify_otp("used@example.com", &used).await.message(), said(VERIFIED));
    for _ in 0..5 {
        app.verify_otp("exhausted@example.com", &other_than(&exhausted)).await;
    }
    let mut answers = vec![
        app.verify_otp("wrong@example.com", &other_than(&wrong)).await,
        app.verify_otp("used@example.com", &used).await,
        app.verify_otp("exhausted@example.com", &exhausted).await,
        app.verify_otp("never@example.com", "123456").await,
    ];
    // Redis drops a verification when its code expires. The check comes after that.
    let is_ledger = |key: &[u8]| key.ends_with(b":sends") || key.windows(9).any(|part| part == b":attempts");
    let is_gone = async || app.redis.dump().await.iter().all(|(key, ..)| is_ledger(key));
    within(Duration::from_mins(1), "a code of 30 seconds expires", is_gone).await;
    answers.push(app.verify_otp("expired@example.com", &expired).await);
    let answers: Vec<_> = answers.into_iter().map(super::support::app::Answer::without_date_and_id).collect();
    assert_eq!(answers[0].message(), said(INVALID));
    for answer in &answers {
        assert_eq!(answer, &answers[0]);
    }
}

#[tokio::test]
async fn otpd_dev_does_the_main_job_without_peers() {
    let dev = Process::dev().await;
    assert_eq!(dev.send_otp("a@example.com").await.message(), said(SENT));
    let code = dev.captured_codes("a@example.com").await.remove(0);
    assert!(dev.captured_codes("b@example.com").await.is_empty());
    let verified = dev.verify_otp("a@example.com", &code).await;
    assert_eq!(verified.message(), said(VERIFIED));
    assert!(verified.header("otp-proof").expect("otpd dev has a proof key").split('.').count() == 3);
    assert_eq!(dev.verify_otp("a@example.com", &code).await.message(), said(INVALID));
    assert_eq!(dev.get("/dev").await.status, 200);
    assert_eq!(dev.get("/dev/mails?to=nobody").await.message(), said(MALFORMED));
}

#[tokio::test]
async fn a_service_without_dev_shows_no_mails() {
    let app = TestApp::spawn().await;
    assert_eq!(app.get("/dev").await.message(), said((404, "Not found")));
    assert_eq!(app.get("/dev/mails").await.message(), said((404, "Not found")));
}

#[tokio::test]
async fn captured_mails_are_shown_to_this_machine_only_and_under_any_spelling() {
    let dev = Process::dev().await;
    assert_eq!(dev.send_otp("A+b@example.com").await.message(), said(SENT));
    assert_eq!(dev.captured_codes("a+b@example.com").await.len(), 1);
    assert_eq!(dev.captured_codes("a%2Bb@example.com").await.len(), 1);
    assert_eq!(dev.captured_codes("A%2BB@EXAMPLE.com").await.len(), 1);
    assert_eq!(dev.captured_codes("%E2%80%8Ba+b@example.com%E2%80%8B").await.len(), 1);
    for (host, status) in
        [("localhost:5000", 200), ("[::1]", 200), ("evil.example:5000", 421), ("127.0.0.1.x", 421)]
    {
        let request = dev.request(reqwest::Method::GET, "/dev/mails").header("host", host);
        assert_eq!(dev.answer(request).await.status, status, "{host}");
    }
}

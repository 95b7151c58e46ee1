//! The emails that users receive: their language, their text and their recipients.

use serde_json::json;

use crate::support::app::{Answer, TestApp};
use crate::support::smtp::ReceivedMail;

const NO_ADDRESS: (u16, &str) = (400, "Invalid email address");

async fn send_in(app: &TestApp, languages: &str, email: &str) -> ReceivedMail {
    let request = app.request(reqwest::Method::POST, "/send-otp").header("accept-language", languages);
    let request = request.header("content-type", "application/json");
    let sent = app.answer(request.body(json!({ "email": email }).to_string())).await;
    assert_eq!(sent.status, 200, "{sent:?}");
    app.smtp.mails().pop().expect("a mail")
}

fn language(mail: &ReceivedMail) -> String {
    mail.header("Content-Language").expect("a language")
}

#[tokio::test]
async fn the_simple_endpoint_goes_by_accept_language() {
    let app = TestApp::builder().set("OTP_MAIL__LOCALE", "es").spawn().await;
    for (languages, expected) in [
        ("fr-CH, fr;q=0.9, en;q=0.8, *;q=0.5", "fr"),
        ("xx, pt-BR;q=0.5", "pt"),
        ("de;q=0.1, ja;q=0.2", "ja"),
        ("pt_BR", "pt"),
        ("xx", "es"),
        ("*", "es"),
        ("\"<b>\", ;;;=", "es"),
    ] {
        let mail = send_in(&app, languages, "a@example.com").await;
        assert_eq!(language(&mail), expected, "{languages}");
        let code = mail.code();
        assert!(mail.html().contains(&format!("lang=\"{expected}\"")) && mail.html().contains(&code));
    }
    assert_eq!(app.code_for("b@example.com").await.len(), 6);
    assert_eq!(language(&app.smtp.mails().pop().expect("a mail")), "es");
}

#[tokio::test]
async fn v1_goes_by_its_locale_and_a_resend_by_the_same() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let created = caller.create(&json!({ "email": "a@example.com", "locale": "ar_EG" })).await;
    assert_eq!(created.status, 201, "{created:?}");
    let id = created.json()["id"].as_str().expect("an id").to_owned();
    assert_eq!(caller.resend(&id).await.status, 200);
    let mails = app.smtp.mails();
    assert_eq!(mails.iter().map(language).collect::<Vec<_>>(), ["ar", "ar"]);
    assert!(mails.iter().all(|mail| mail.html().contains("dir=\"rtl\"")));
    assert_eq!(caller.check(&id, &mails[1].code()).await.status, 200);
    caller.start("b@example.com").await;
    assert_eq!(language(&app.smtp.mails()[2]), "en");
}

/// Returns the head of an email with a letter in place of each random or time-dependent value, and
/// those values.
fn head(mail: &ReceivedMail) -> String {
    let head = mail.raw.split("\r\n\r\n").next().expect("a head").replace("\r\n", "\n");
    let (id, date) = (entity_id(mail), mail.header("Date").expect("a date"));
    let boundary = mail.header("Content-Type").expect("a type");
    let boundary = boundary.split('"').nth(1).expect("a boundary").to_owned();
    head.replace(&id, "ID").replace(&date, "DATE").replace(&boundary, "BOUNDARY")
}

fn entity_id(mail: &ReceivedMail) -> String {
    mail.header("X-Entity-Ref-ID").expect("an id against threads")
}

#[tokio::test]
async fn a_mail_of_either_api_has_these_headers() {
    let app = TestApp::builder().keyed().spawn().await;
    app.code_for("John@example.com").await;
    let created = app.caller(1).create(&json!({ "email": "john@example.com" })).await;
    let reference = created.json()["reference"].as_str().expect("a reference").to_owned();
    let [simple, v1] = app.smtp.mails().try_into().expect("two mails");
    insta::assert_snapshot!("head_of_a_mail_of_the_simple_endpoints", head(&simple));
    insta::assert_snapshot!("head_of_a_mail_of_v1", head(&v1).replace(&reference, "REF"));
}

#[tokio::test]
async fn no_two_mails_are_one_thread_to_a_mail_program() {
    let app = TestApp::builder().keyed().spawn().await;
    let caller = app.caller(1);
    let code = app.code_for("a@example.com").await;
    app.code_for("a@example.com").await;
    let id = caller.start("a@example.com").await;
    caller.resend(&id).await;
    let later = caller.create(&serde_json::json!({ "email": "a@example.com" })).await.json();
    let mails = app.smtp.mails();
    let ids: std::collections::HashSet<_> = mails.iter().map(entity_id).collect();
    assert_eq!((mails.len(), ids.len()), (5, 5), "a value of its own for each, also for a resend");
    for value in &ids {
        assert_eq!(value.len(), 22, "128 bits: {value}");
        assert!(!value.contains(&code) && *value != id, "{value}");
    }
    // A later start has another reference. References can collide: there are only 8,000 of them.
    let subjects: Vec<_> = mails[2..].iter().map(|mail| mail.header("Subject").expect("a subject")).collect();
    assert_eq!(subjects[0], subjects[1], "one verification has one reference");
    assert!(subjects[2].contains(later["reference"].as_str().expect("a reference")), "{later} {subjects:?}");
    assert_eq!(mails[0].header("Subject"), mails[1].header("Subject"));
}

#[tokio::test]
async fn in_v1_the_subject_has_the_reference_in_every_language() {
    let app = TestApp::builder().keyed().set("OTP_MAIL__BRAND", "Sö & \"Co\", (قهوة) 店").spawn().await;
    for locale in ["ar", "de", "en", "es", "fr", "ja", "pt"] {
        let asked = json!({ "email": format!("{locale}@example.com"), "locale": locale });
        let created = app.caller(1).create(&asked).await.json();
        let reference = created["reference"].as_str().expect("a reference");
        let mail = app.smtp.mails().pop().expect("a mail");
        let subject = mail.subject();
        assert_eq!(language(&mail), locale);
        assert_eq!(subject.matches(reference).count(), 1, "{subject}");
        assert!(subject.contains("Sö & \"Co\", (قهوة) 店") && !subject.contains(&mail.code()), "{subject}");
    }
    let simple = send_in(&app, "de", "a@example.com").await;
    assert_eq!(simple.subject(), "Ihr Code für Sö & \"Co\", (قهوة) 店");
}

#[tokio::test]
async fn a_tenant_has_words_and_a_language_of_its_own() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("shop")).expect("a folder");
    std::fs::write(folder.path().join("shop/de.toml"), "lead = \"Willkommen im Laden, Ihr Code:\"")
        .expect("written");
    std::fs::write(folder.path().join("de.toml"), "subject = \"Code von {{ brand }}\"").expect("written");
    let config = format!(
        "[[tenants]]\nname = \"shop\"\nlocale = \"de\"\nbrand = \"Laden\"\nkeys = [\"{}\"]\n",
        crate::support::v1::hash(1)
    );
    let app = TestApp::builder()
        .config(&config)
        .set("OTP_MAIL__TEMPLATES", &folder.path().display().to_string())
        .spawn()
        .await;
    app.caller(1).start("a@example.com").await;
    let mail = app.smtp.mails().pop().expect("a mail");
    assert!(mail.text().starts_with("Willkommen im Laden"), "{}", mail.text());
    assert_eq!(mail.header("Subject").as_deref(), Some("Code von Laden"));
    let simple = send_in(&app, "de", "a@example.com").await;
    assert!(simple.text().starts_with("Ihr Code"), "{}", simple.text());
}

fn refused_v1(answer: &Answer) {
    assert_eq!(answer.problem(), (422, "email_not_allowed".to_owned()));
}

#[tokio::test]
async fn domains_are_mailed_to_or_not_as_the_lists_have_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let list = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let config = format!("[tenant]\nkeys = \"{}\"\n", crate::support::v1::hash(1));
    let app = TestApp::builder()
        .config(&config)
        .set("OTP_DOMAINS__ALLOW_FILE", &list("allow", "example.com\n*.example.com\n*.example.org\n"))
        .set("OTP_DOMAINS__BLOCK_FILE", &list("block", "# not them\nbad.example.com\n"))
        .spawn()
        .await;
    let caller = app.caller(1);
    let kept = caller.start("kept@late.example.org").await;
    for refused in ["a@bad.example.com", "a@example.org", "a@BAD.example.com", "a@other.example"] {
        assert_eq!(
            app.send_otp(refused).await.message(),
            (NO_ADDRESS.0, NO_ADDRESS.1.to_owned()),
            "{refused}"
        );
        refused_v1(&caller.create(&json!({ "email": refused })).await);
        assert_eq!(app.verify_otp(refused, "123456").await.message().1, "Invalid or expired OTP");
    }
    for taken in ["a@example.com", "a@sub.example.com", "a@x.example.org"] {
        assert_eq!(app.send_otp(taken).await.status, 200, "{taken}");
    }
    let mails = app.smtp.mails().len();

    list("block", "bad.example.com\n*.example.org\n");
    app.process.signal("HUP");
    app.process.logged("the settings were reloaded").await;
    assert_eq!(app.send_otp("a@x.example.org").await.status, 400);
    refused_v1(&caller.resend(&kept).await);
    assert_eq!(app.smtp.mails().len(), mails, "no mail goes to whom it must not");
    // A code that was sent before can still be checked.
    assert_eq!(caller.check(&kept, &app.smtp.last_code_to("kept@late.example.org")).await.status, 200);

    list("block", "example.com\nno domain\n");
    app.process.signal("HUP");
    app.process.logged("block: line 2 is neither a domain").await;
    assert_eq!(app.send_otp("a@example.com").await.status, 200, "a list with a fault is not taken");
}

#[tokio::test]
async fn brands_and_addresses_are_inert_in_a_mail_to_one() {
    let brand = "\u{22}Shop\u{22} <b>&amp;</b> 'Söhne' {{ 7*7 }} 店 @,;:()";
    let app = TestApp::builder().keyed().set("OTP_MAIL__BRAND", brand).spawn().await;
    let long = format!("{}@{}.example.com", "l".repeat(64), "d".repeat(60));
    let addresses =
        ["o'neil@example.com", "a+b@example.com", "x&y@example.com", "{{7*7}}@example.com", &long];
    for address in addresses {
        app.code_for(address).await;
        app.caller(1).start(address).await;
    }
    for mail in app.smtp.mails() {
        let [to] = mail.to.as_slice() else { panic!("one recipient: {:?}", mail.to) };
        assert!(addresses.contains(&to.as_str()), "{to}");
        let head = mail.raw.split("\r\n\r\n").next().expect("a head");
        for name in ["From:", "To:", "Subject:", "Date:", "Message-ID:"] {
            assert_eq!(head.lines().filter(|line| line.starts_with(name)).count(), 1, "{name} in {head}");
        }
        assert_eq!(mail.header("To").as_deref(), Some(to.as_str()));
        assert!(mail.text().contains(brand), "{}", mail.text());
        assert!(mail.html().contains("&lt;b&gt;") && !mail.html().contains("<b>"), "{}", mail.html());
    }
    for hostile in [
        "a@example.com\r\nBcc: b@example.com",
        "a@example.com\nb@example.com",
        "a@example.com\0",
        "a@example.com,b@example.com",
        "a\u{202e}@example.com",
        "a@example\u{2066}.com",
        "a@exam\u{200b}ple.com",
        "\"a b\"@example.com",
        "<a@example.com>",
        "a<b>@example.com",
        &format!("{}@example.com", "a".repeat(10_000)),
        &format!("a@{}.example.com", "b.".repeat(5_000)),
    ] {
        let before = app.smtp.mails().len();
        assert_eq!(app.send_otp(hostile).await.status / 100, 4, "{hostile:.40?}");
        assert_eq!(
            app.caller(1).create(&json!({ "email": hostile })).await.status / 100,
            4,
            "{hostile:.40?}"
        );
        assert_eq!(app.smtp.mails().len(), before);
    }
}

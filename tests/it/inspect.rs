//! `otpd inspect` and `otpd unblock`, as an operator uses them for one person.

use crate::commands::{run, text};
use crate::support::app::TestApp;

const EMAIL: &str = "quizzical+x@kestrel.example";
const CLIENT: &str = "198.51.100.237";

/// Runs a command with the settings of the process, and returns what it printed.
fn operator(app: &TestApp, arguments: &[&str]) -> (String, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let settings: Vec<(&str, &str)> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let output = run(folder.path(), &settings, arguments);
    let (printed, logged) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {printed}{logged}");
    // The audit log is on standard output too.
    let (audited, printed): (Vec<_>, Vec<_>) = printed.lines().partition(|line| line.starts_with('{'));
    (printed.join("\n"), [logged, audited.join("\n")].concat())
}

/// Returns the line of a limit, without its first words.
fn limit<'a>(printed: &'a str, tenant: &str, policy: &str, window: &str) -> &'a str {
    let lines = printed.lines().filter(|line| line.starts_with("limit") && line.contains(window));
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut found = lines.filter(|line| words(line)[1..3] == [tenant, policy]);
    let line = found.next().unwrap_or_else(|| panic!("{tenant} {policy} {window}: {printed}"));
    line.split_once(policy).expect("the policy").1.trim()
}

#[tokio::test]
async fn one_persons_trouble_is_seen_and_ended() {
    let app = TestApp::limited().keyed().spawn().await;
    let nothing = operator(&app, &["inspect", EMAIL]).0;
    assert!(nothing.contains("verification: none"), "{nothing}");
    assert_eq!(limit(&nothing, "simple", "email_sends", "1m;"), "1 of 1 left in 1m; the next one now");
    let code = app.smtp_code_from(CLIENT, EMAIL).await;
    for _ in 0..2 {
        assert_eq!(app.verify_from(CLIENT, EMAIL, "000000").await.status, 400);
    }
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 429);
    let (seen, logged) = operator(&app, &["inspect", EMAIL, "--ip", CLIENT]);
    assert!(seen.contains("verification: pending, 2 of 5 attempts taken, expires in "), "{seen}");
    let room = limit(&seen, "simple", "email_sends", "1m;");
    assert!(room.starts_with("0 of 1 left in 1m; the next one in "), "{seen}");
    assert!(limit(&seen, "simple", "ip_email_attempts", "").starts_with("8 of 10 left"), "{seen}");
    assert!(limit(&seen, "simple", "ip_attempts", "").starts_with("18 of 20 left"), "{seen}");
    assert!(limit(&seen, "default", "email_sends", "").starts_with("1 of 1 left"), "another tenant: {seen}");
    assert!(seen.contains("; by this IP address"), "{seen}");
    // The name in the keys of Redis, and nothing of the person.
    let hash =
        seen.lines().find_map(|line| line.strip_prefix("email   ")?.split(' ').next()).expect("a hash");
    let keys: Vec<_> = app.redis.dump().await.into_iter().map(|(key, ..)| key).collect();
    let named = |key: &Vec<u8>| String::from_utf8_lossy(key).contains(hash);
    assert_eq!(keys.iter().filter(|key| named(key)).count(), 3, "sends, attempts and the verification");
    for part in ["quizzical", "kestrel", CLIENT, &code] {
        assert!(!seen.contains(part) && !logged.contains(part), "{part}: {seen}{logged}");
    }
    // Without the IP address its own limits stay as they are.
    let (said, logged) = operator(&app, &["unblock", EMAIL]);
    assert_eq!(said.trim(), "2 ledgers were emptied: the person can try again");
    assert!(logged.matches("a limit was emptied by hand").count() == 2 && logged.contains(hash), "{logged}");
    let audited = format!(r#""event":"unblock","outcome":"emptied","email.hash":"{hash}""#);
    assert_eq!(logged.matches(&audited).count(), 1, "{logged}");
    for part in ["quizzical", "kestrel"] {
        assert!(!said.contains(part) && !logged.contains(part), "{part}: {said}{logged}");
    }
    let freed = operator(&app, &["inspect", EMAIL, "--ip", CLIENT]).0;
    assert_eq!(limit(&freed, "simple", "email_sends", "1m;"), "1 of 1 left in 1m; the next one now");
    assert!(!freed.contains("ip_email_attempts"), "{freed}");
    assert!(limit(&freed, "simple", "ip_attempts", "").starts_with("18 of 20 left"), "{freed}");
    assert!(freed.contains("verification: pending, 2 of 5 attempts taken"), "nothing else: {freed}");
    let (said, _) = operator(&app, &["unblock", EMAIL, "--ip", CLIENT]);
    assert_eq!(said.trim(), "2 ledgers were emptied: the person can try again");
    let freed = operator(&app, &["inspect", EMAIL, "--ip", CLIENT]).0;
    assert!(limit(&freed, "simple", "ip_attempts", "").starts_with("20 of 20 left"), "{freed}");
    assert_eq!(operator(&app, &["unblock", EMAIL]).0.trim(), "nothing was counted, so nothing was emptied");
    assert_eq!(app.send_from(CLIENT, EMAIL).await.status, 200);
    let code = app.smtp.last_code_to(EMAIL);
    assert_eq!(app.verify_from(CLIENT, EMAIL, &code).await.status, 200, "the code that the person has now");
}

#[tokio::test]
async fn an_approved_code_is_seen_and_spellings_of_one_mailbox_share_their_limits() {
    let app = TestApp::limited().spawn().await;
    let code = app.smtp_code_from(CLIENT, EMAIL).await;
    assert_eq!(app.verify_from(CLIENT, EMAIL, &code).await.status, 200);
    let seen = operator(&app, &["inspect", EMAIL]).0;
    assert!(seen.contains("verification: approved, 1 of 5 attempts taken"), "{seen}");
    let alike = operator(&app, &["inspect", "QUIZZICAL@kestrel.example"]).0;
    assert!(alike.contains("verification: none"), "another address: {alike}");
    assert!(limit(&alike, "simple", "email_sends", "1m;").starts_with("0 of 1 left"), "{alike}");
}

#[tokio::test]
async fn without_redis_the_operator_is_told_so() {
    let app = TestApp::limited().single_redis().spawn().await;
    let folder = tempfile::tempdir().expect("a folder");
    let mut settings: Vec<(&str, &str)> =
        app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    settings.push(("REDIS_PORT", "1"));
    for command in ["inspect", "unblock"] {
        let output = run(folder.path(), &settings, &[command, EMAIL]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("Redis could not be asked; otpd doctor says more"), "{said}");
        assert!(!said.contains("quizzical"), "{said}");
        let output = run(folder.path(), &settings, &[command, "no address"]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output.stderr));
    }
}

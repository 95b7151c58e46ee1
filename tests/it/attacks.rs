//! Attacks on one-time-code services: one test for each known failure, named by its number in the
//! list in `SECURITY.md`, over HTTP against the real service. If the store makes a difference, both
//! stores are tested.
//!
//! The relay, Redis and the limits are those of `otpd serve`. Clients come through a trusted proxy.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use crate::support::app::{Answer, Process, TestApp, within};
use crate::support::redis::RedisServer;
use crate::support::smtp::Fault;

const VICTIM: &str = "victim@example.com";

/// The service on one of its two stores.
struct Target {
    process: Arc<Process>,
    app: Option<TestApp>,
}

impl Target {
    /// Returns a target on Redis.
    fn on(app: TestApp) -> Self {
        Self { process: Arc::clone(&app.process), app: Some(app) }
    }

    /// Starts a target on Redis. It allows two emails a second instead of one a minute, so that a
    /// test can send again.
    async fn redis() -> Self {
        let fast = TestApp::limited().set("OTP_LIMITS__EMAIL_SENDS", "5/1h 10/day");
        Self::on(fast.set("OTP_DANGEROUS__WEAK_LIMITS", "true").spawn().await)
    }

    /// Starts a target with the store in memory, likewise.
    async fn memory() -> Self {
        Self { process: Arc::new(Process::dev_limited().await), app: None }
    }

    /// Returns the newest code for an address.
    async fn code(&self, email: &str) -> String {
        match &self.app {
            Some(app) => app.smtp.last_code_to(email),
            None => self.process.captured_codes(email).await.remove(0),
        }
    }

    /// Sends a code to this address and returns it.
    async fn code_for(&self, client: &str, email: &str) -> String {
        let sent = self.process.send_from(client, email).await;
        assert_eq!(sent.message(), (200, "OTP sent successfully".to_owned()));
        self.code(email).await
    }

    /// Submits many codes at once, each from a different IP address.
    async fn attempt_at_once(&self, email: &str, codes: impl IntoIterator<Item = String>) -> Vec<u16> {
        let mut calls = JoinSet::new();
        for (number, code) in codes.into_iter().enumerate() {
            let (process, email) = (Arc::clone(&self.process), email.to_owned());
            calls.spawn(async move { process.verify_from(&client(number), &email, &code).await.status });
        }
        calls.join_all().await
    }
}

macro_rules! on_both_stores {
    ($($case:ident,)*) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(&super::Target::memory().await).await;
            })*
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(&super::Target::redis().await).await;
            })*
        }
    };
}

on_both_stores! {
    p01_of_many_right_codes_at_once_one_succeeds,
    p01_p03_p04_p11_of_many_wrong_codes_at_once_five_are_compared,
    p02_a_used_code_stays_used,
    p06_the_sixth_attempt_is_refused_even_if_it_is_right,
    p09_one_network_cannot_spray_one_code_over_many_addresses,
    p10_changing_the_ip_gives_no_more_attempts,
    p12_a_flood_of_attempts_from_one_network_is_limited,
    p16_a_success_refunds_its_own_attempt_and_no_other,
    p17_attempts_of_a_stranger_lock_nobody_out_elsewhere,
    p22_without_a_header_the_proxy_itself_is_limited,
    p23_addresses_of_one_64_are_one_bucket_and_those_of_one_48_meet_a_wider_one,
    p24_an_unreadable_client_is_its_proxy_and_blocks_nobody_else,
    p25_networks_are_limited_whatever_the_address_they_name,
    p26_p27_spellings_of_one_mailbox_are_one_recipient,
    p49_only_all_digits_are_a_code,
}

/// Returns a documentation address (RFC 5737) or a neighbour of one, different for each number.
fn client(number: usize) -> String {
    format!("198.{}.{}.{}", 18 + number / 62_500, number / 250 % 250, 1 + number % 250)
}

/// Returns the same digit as an Arabic keyboard types it.
fn arabic_digit(digit: char) -> char {
    char::from_u32(u32::from(digit) - u32::from('0') + 0x660).expect("a digit")
}

/// Returns a code that is none of these.
fn other_than(codes: &[&str]) -> String {
    let mut candidates = (0..).map(|number| format!("{number:06}"));
    candidates.find(|candidate| !codes.contains(&candidate.as_str())).expect("a million codes")
}

/// Returns this many wrong codes.
fn wrong(code: &str, many: usize) -> impl Iterator<Item = String> + use<> {
    let code: usize = code.parse().expect("digits");
    (1..=many).map(move |step| format!("{:06}", (code + step) % 1_000_000))
}

fn count(statuses: &[u16], status: u16) -> usize {
    statuses.iter().filter(|other| **other == status).count()
}

/// Asserts a complete 429, and returns its wait in seconds and the policy that it names.
fn limited(answer: &Answer) -> (u64, String) {
    assert_eq!(answer.message(), (429, "Too many requests".to_owned()), "{answer:?}");
    let wait: u64 = answer.header("retry-after").expect("a wait").parse().expect("whole seconds");
    assert!(wait > 0, "{answer:?}");
    let policy = answer.header("ratelimit-policy").expect("a policy");
    let state = answer.header("ratelimit").expect("a state");
    let name = policy.split('"').nth(1).expect("a quoted name").to_owned();
    assert!(state.starts_with(&format!("\"{name}\";r=0;t=")), "{state}");
    (wait, name)
}

async fn p01_of_many_right_codes_at_once_one_succeeds(target: &Target) {
    let code = target.code_for("192.0.2.1", VICTIM).await;
    let statuses = target.attempt_at_once(VICTIM, std::iter::repeat_n(code, 20)).await;
    assert_eq!((count(&statuses, 200), count(&statuses, 400)), (1, 19), "{statuses:?}");
}

async fn p01_p03_p04_p11_of_many_wrong_codes_at_once_five_are_compared(target: &Target) {
    let code = target.code_for("192.0.2.1", VICTIM).await;
    // At most as many as can wait for the hash threads. More would be shed, which another test
    // covers.
    for _ in 0..10 {
        let statuses = target.attempt_at_once(VICTIM, wrong(&code, 20)).await;
        assert_eq!(count(&statuses, 200), 0, "{statuses:?}");
    }
    assert_eq!(target.process.compared().await, 5);
    assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, &code).await.status, 400);
}

async fn p02_a_used_code_stays_used(target: &Target) {
    let code = target.code_for("192.0.2.1", VICTIM).await;
    assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, &code).await.status, 200);
    for number in 0..8 {
        assert_eq!(target.process.verify_from(&client(number), VICTIM, &code).await.status, 400);
    }
}

async fn p06_the_sixth_attempt_is_refused_even_if_it_is_right(target: &Target) {
    let code = target.code_for("192.0.2.1", VICTIM).await;
    for guess in wrong(&code, 5) {
        assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, &guess).await.status, 400);
    }
    assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, &code).await.status, 400);
}

async fn p09_one_network_cannot_spray_one_code_over_many_addresses(target: &Target) {
    for number in 0..20 {
        let email = format!("sprayed{number}@example.com");
        assert_eq!(target.process.verify_from("203.0.113.1", &email, "123456").await.status, 400);
    }
    let refused = target.process.verify_from("203.0.113.1", "sprayed20@example.com", "123456").await;
    assert_eq!(limited(&refused).1, "ip_attempts");
    assert_eq!(target.process.verify_from("203.0.113.2", VICTIM, "123456").await.status, 400);
}

async fn p10_changing_the_ip_gives_no_more_attempts(target: &Target) {
    let code = target.code_for("192.0.2.1", VICTIM).await;
    for (number, guess) in wrong(&code, 5).enumerate() {
        assert_eq!(target.process.verify_from(&client(number), VICTIM, &guess).await.status, 400);
    }
    assert_eq!(target.process.verify_from(&client(5), VICTIM, &code).await.status, 400);
}

async fn p12_a_flood_of_attempts_from_one_network_is_limited(target: &Target) {
    let code = target.code_for("192.0.2.1", VICTIM).await;
    let mut calls = JoinSet::new();
    for guess in wrong(&code, 500) {
        let process = Arc::clone(&target.process);
        calls.spawn(async move { process.verify_from("203.0.113.1", VICTIM, &guess).await.status });
    }
    let statuses = calls.join_all().await;
    // One IP has ten attempts at one email address. That limit also refuses the rest of its twenty
    // attempts.
    assert_eq!((count(&statuses, 200), count(&statuses, 400)), (0, 10), "{statuses:?}");
    assert_eq!(count(&statuses, 429), 490, "{statuses:?}");
    assert_eq!(target.process.compared().await, 5);
}

async fn p16_a_success_refunds_its_own_attempt_and_no_other(target: &Target) {
    let guess = async |email: String| target.process.verify_from("203.0.113.1", &email, "000000").await;
    for number in 0..19 {
        assert_eq!(guess(format!("other{number}@example.com")).await.status, 400);
    }
    let own = target.code_for("203.0.113.1", "own@example.com").await;
    let verified = target.process.verify_from("203.0.113.1", "own@example.com", &own).await;
    assert_eq!(verified.status, 200);
    assert_eq!(guess("other19@example.com".to_owned()).await.status, 400, "the twentieth that was wrong");
    assert_eq!(limited(&guess("other20@example.com".to_owned()).await).1, "ip_attempts");
}

async fn p17_attempts_of_a_stranger_lock_nobody_out_elsewhere(target: &Target) {
    let process = &target.process;
    let code = target.code_for("192.0.2.1", VICTIM).await;
    let stranger = "203.0.113.1";
    for guess in wrong(&code, 10) {
        assert_eq!(process.verify_from(stranger, VICTIM, &guess).await.status, 400);
    }
    assert_eq!(limited(&process.verify_from(stranger, VICTIM, &code).await).1, "ip_email_attempts");
    // The live code is lost, but the user can request and use a new one.
    if target.app.is_some() {
        let code = target.code_for("192.0.2.1", VICTIM).await;
        assert_eq!(limited(&process.verify_from(stranger, VICTIM, &code).await).1, "ip_email_attempts");
        assert_eq!(process.verify_from("192.0.2.1", VICTIM, &code).await.status, 200);
    }
}

async fn p22_without_a_header_the_proxy_itself_is_limited(target: &Target) {
    for number in 0..20 {
        assert_eq!(target.process.verify_otp(&format!("a{number}@example.com"), "123456").await.status, 400);
    }
    assert_eq!(limited(&target.process.verify_otp(VICTIM, "123456").await).1, "ip_attempts");
}

async fn p23_addresses_of_one_64_are_one_bucket_and_those_of_one_48_meet_a_wider_one(target: &Target) {
    let guess = async |client: String, number: usize| {
        target.process.verify_from(&client, &format!("a{number}@example.com"), "123456").await
    };
    let mut number = 0;
    for link in 0..5 {
        let mut passed = 0;
        for host in 0..100 {
            number += 1;
            passed += usize::from(guess(format!("2001:db8:1:{link}::{host:x}"), number).await.status == 400);
        }
        assert_eq!(passed, 20, "of a hundred addresses of the /64 number {link}");
    }
    assert_eq!(limited(&guess("2001:db8:1:ffff::1".to_owned(), 0).await).1, "ip_attempts");
    assert_eq!(guess("2001:db8:2::1".to_owned(), 0).await.status, 400, "another /48");
}

async fn p24_an_unreadable_client_is_its_proxy_and_blocks_nobody_else(target: &Target) {
    for number in 0..20 {
        let unreadable = format!("unknown{number}");
        let email = format!("a{number}@example.com");
        assert_eq!(target.process.verify_from(&unreadable, &email, "123456").await.status, 400);
    }
    assert_eq!(limited(&target.process.verify_from("_x", VICTIM, "123456").await).1, "ip_attempts");
    assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, "123456").await.status, 400);
}

async fn p25_networks_are_limited_whatever_the_address_they_name(target: &Target) {
    for number in 0..30 {
        let sent = target.process.send_from("203.0.113.1", &format!("a{number}@example.com")).await;
        assert_eq!(sent.status, 200, "{number}: {sent:?}");
    }
    let refused = target.process.send_from("203.0.113.1", "a30@example.com").await;
    let (wait, name) = limited(&refused);
    assert_eq!(name, "ip_sends");
    assert!((3500..=3600).contains(&wait), "{wait}");
    assert_eq!(target.process.send_from("203.0.113.2", "a30@example.com").await.status, 200);
}

async fn p26_p27_spellings_of_one_mailbox_are_one_recipient(target: &Target) {
    let spellings = [
        "a.b.c@gmail.com",
        "ABC@gmail.com",
        "abc+x@gmail.com",
        "a.b.c+y@googlemail.com",
        "abc@GMAIL.com",
        "abc@gmail.com",
    ];
    let mut sent = 0;
    for (number, spelling) in spellings.iter().enumerate() {
        let answer = target.process.send_from(&client(number), spelling).await;
        sent += usize::from(answer.status == 200);
        assert!(answer.status == 200 || limited(&answer).1 == "email_sends", "{answer:?}");
    }
    // Five in an hour; one if the cooldown applies.
    assert_eq!(sent, if target.app.is_some() { 5 } else { 1 });
}

async fn p49_only_all_digits_are_a_code(target: &Target) {
    let code = target.code_for("192.0.2.1", VICTIM).await;
    for part in [&code[1..], &code[..5], &code[..1], ""] {
        assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, part).await.status, 400, "{part}");
    }
    assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, &code).await.status, 200);
}

#[tokio::test]
async fn p05_an_attempt_counts_even_if_the_process_is_killed() {
    let app =
        TestApp::limited().set("OTP_HASH__MEMORY_KIB", "65536").set("OTP_HASH__PASSES", "3").spawn().await;
    assert_eq!(app.send_from("192.0.2.1", VICTIM).await.status, 200);
    let code = app.smtp.last_code_to(VICTIM);
    let stored = async || app.redis.dump().await.into_iter().map(|(_, value, _)| value).collect::<Vec<_>>();
    let unspent = stored().await;
    let body = serde_json::json!({ "email": VICTIM, "otp": other_than(&[&code]) }).to_string();
    let head = "POST /verify-otp HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let mut interrupted = app.connect().await;
    let request = format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    interrupted.write_all(request.as_bytes()).await.expect("sent");
    // The process is killed after the attempt was taken and before the code is compared.
    let begun = Instant::now();
    while stored().await.iter().filter(|value| unspent.contains(value)).count() == unspent.len() {
        assert!(begun.elapsed() < Duration::from_secs(10), "the guess is never spent");
    }
    app.kill();
    let again = app.another("OTP_LOG__LEVEL", "debug").await;
    for guess in wrong(&code, 4) {
        assert_eq!(again.verify_from("192.0.2.1", VICTIM, &guess).await.status, 400);
    }
    assert_eq!(again.compared().await, 4);
    assert_eq!(again.verify_from("192.0.2.1", VICTIM, &code).await.status, 400);
}

#[tokio::test]
async fn p07_of_two_sends_at_once_the_code_of_one_is_live() {
    let app = TestApp::spawn().await;
    for trial in 1..=10 {
        let email = format!("twice{trial}@example.com");
        let (first, second) = tokio::join!(app.send_otp(&email), app.send_otp(&email));
        assert_eq!((first.status, second.status), (200, 200));
        app.smtp.await_mail(2 * trial).await;
        let mails = app.smtp.mails().into_iter().filter(|mail| mail.to.contains(&email));
        let codes: Vec<String> = mails.map(|mail| mail.code()).collect();
        assert_eq!(codes.len(), 2);
        let mut won = 0;
        for code in &codes {
            won += usize::from(app.verify_otp(&email, code).await.status == 200);
        }
        assert_eq!(won, 1, "{codes:?}");
    }
}

#[tokio::test]
async fn p08_p19_a_resend_restores_no_attempt_and_lifts_no_lock() {
    let target = Target::redis().await;
    let first = target.code_for("192.0.2.1", VICTIM).await;
    for guess in wrong(&first, 3) {
        target.process.verify_from("192.0.2.1", VICTIM, &guess).await;
    }
    let second = target.code_for("192.0.2.1", VICTIM).await;
    for guess in wrong(&second, 2) {
        target.process.verify_from("192.0.2.1", VICTIM, &guess).await;
    }
    assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, &second).await.status, 400);
    assert_eq!(target.process.compared().await, 5);
    // This is the IP's third and last send of the hour to this address. More requests do not lift
    // the lock.
    target.code_for("192.0.2.1", VICTIM).await;
    assert_eq!(limited(&target.process.send_from("192.0.2.1", VICTIM).await).1, "ip_email_sends");
}

#[tokio::test]
async fn p13_p50_a_code_expires() {
    let app = TestApp::builder().set("OTP_CODES__LIFE", "30s").spawn().await;
    let begun = Instant::now();
    let code = app.code_for(VICTIM).await;
    let is_gone = async || app.redis.dump().await.iter().all(|(key, ..)| key.ends_with(b"sends"));
    within(Duration::from_secs(40), "a code of 30 seconds expires", is_gone).await;
    assert!(begun.elapsed() > Duration::from_secs(29), "{:?}", begun.elapsed());
    assert_eq!(app.verify_otp(VICTIM, &code).await.message(), (400, "Invalid or expired OTP".to_owned()));
}

#[tokio::test]
async fn p14_a_recipient_gets_ten_emails_a_day_from_all_networks_together() {
    let limits = TestApp::limited().set("OTP_LIMITS__EMAIL_SENDS", "10/day");
    let app = limits.set("OTP_DANGEROUS__WEAK_LIMITS", "true").spawn().await;
    for number in 0..10 {
        assert_eq!(app.send_from(&client(number), VICTIM).await.status, 200, "{number}");
    }
    for number in 10..30 {
        let (wait, name) = limited(&app.send_from(&client(number), VICTIM).await);
        assert_eq!(name, "email_sends");
        assert!((88_000..=88_210).contains(&wait), "a day is 24 h, 30 min and 10 s: {wait}");
    }
    assert_eq!(app.smtp.mails().len(), 10);
}

#[tokio::test]
async fn p15_an_attempt_counts_in_any_spelling() {
    let in_arabic = |code: &str| code.chars().map(arabic_digit).collect::<String>();
    let app = TestApp::limited().spawn().await;
    assert_eq!(app.send_from("192.0.2.1", VICTIM).await.status, 200);
    let code = app.smtp.last_code_to(VICTIM);
    let mut guesses = wrong(&code, 900_000).filter(|guess| !guess.starts_with('0'));
    let mut next = || guesses.next().expect("a wrong code");
    let bodies = [
        format!(r#"{{"email":"{VICTIM}","otp":{}}}"#, next()),
        format!(r#"{{"email":"\ufeff {VICTIM}\u200b","otp":"{}"}}"#, next()),
        format!(r#"{{"otp":"{}","email":"victim@EXAMPLE.com","x":[]}}"#, next()),
        format!(r#"{{"email":"{}","otp":"{}"}}"#, VICTIM.to_ascii_uppercase(), next().replace("", " -")),
        format!(r#"{{"email":"victim\u0040example.com","otp":"{}"}}"#, in_arabic(&next())),
    ];
    for body in &bodies {
        assert_eq!(app.post("/verify-otp", body).await.status, 400, "{body}");
    }
    assert_eq!(app.compared().await, 5);
    assert_eq!(app.verify_otp(VICTIM, &code).await.status, 400);
}

#[tokio::test]
async fn p18_a_stranger_overwrites_three_codes_an_hour_at_most() {
    let target = Target::redis().await;
    for _ in 0..3 {
        target.code_for("203.0.113.1", VICTIM).await;
    }
    let (wait, name) = limited(&target.process.send_from("203.0.113.1", VICTIM).await);
    assert_eq!(name, "ip_email_sends");
    assert!((3500..=3600).contains(&wait), "{wait}");
    let code = target.code_for("192.0.2.1", VICTIM).await;
    assert_eq!(limited(&target.process.send_from("203.0.113.1", VICTIM).await).1, "ip_email_sends");
    assert_eq!(target.process.verify_from("192.0.2.1", VICTIM, &code).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn p20_p21_ten_thousand_invented_clients_of_one_peer_are_one() {
    let app = TestApp::limited().set("OTP_HTTP__TRUSTED_PROXIES", "").spawn().await;
    let mut calls = JoinSet::new();
    for worker in 0..20 {
        let process = Arc::clone(&app.process);
        calls.spawn(async move {
            let mut statuses = Vec::new();
            for number in 0..500 {
                let invented = client(worker * 500 + number);
                let body = format!(r#"{{"email":"a{worker}.{number}@example.com","otp":"123456"}}"#);
                let request = process.request(reqwest::Method::POST, "/verify-otp");
                let request = request
                    .header("x-forwarded-for", &invented)
                    .header("x-real-ip", &invented)
                    .header("forwarded", format!("for={invented}"));
                let request = request.header("content-type", "application/json").body(body);
                statuses.push(process.answer(request).await.status);
            }
            statuses
        });
    }
    let statuses = calls.join_all().await.concat();
    assert_eq!((count(&statuses, 400), count(&statuses, 429)), (20, 9980));
    let warned = app.whole_log().await.matches("OTP_HTTP__TRUSTED_PROXIES").count();
    assert_eq!(warned, 1, "a private peer that forwards is warned of, once");
}

#[tokio::test]
async fn p44_a_call_touches_only_one_hash_slot() {
    let app = TestApp::limited().clustered().spawn().await;
    for client in ["192.0.2.1", "2001:db8::1"] {
        let email = format!("{}@example.com", client.len());
        assert_eq!(app.send_from(client, &email).await.status, 200);
        let code = app.smtp.last_code_to(&email);
        assert_eq!(app.verify_from(client, &email, &other_than(&[&code])).await.status, 400);
        assert_eq!(app.verify_from(client, &email, &code).await.status, 200);
    }
    // A relay that refuses the message exercises the refunds.
    app.smtp.set(Fault::RefuseContent);
    assert_eq!(app.send_from("192.0.2.1", "refused@example.com").await.status, 500);
}

#[tokio::test]
async fn p45_p46_every_key_has_a_ttl() {
    let app = TestApp::limited().spawn().await;
    for client in ["192.0.2.1", "2001:db8::1"] {
        let email = format!("{}@example.com", client.len());
        assert_eq!(app.send_from(client, &email).await.status, 200);
        let code = app.smtp.last_code_to(&email);
        assert_eq!(app.verify_from(client, &email, &other_than(&[&code])).await.status, 400);
        assert_eq!(app.verify_from(client, &email, &code).await.status, 200);
        assert_eq!(app.verify_from(client, &email, &code).await.status, 400);
    }
    let dump = app.redis.dump().await;
    assert!(dump.len() >= 8, "{}", dump.len());
    for (key, _, ttl) in dump {
        let longest = Duration::from_secs(24 * 3600 + 30 * 60 + 10).as_millis();
        let key = String::from_utf8_lossy(&key).into_owned();
        assert!((1..=i64::try_from(longest).expect("small")).contains(&ttl), "{key}: {ttl}");
        assert!(!key.contains("192.0.2.1") && !key.contains("2001:"), "{key}");
    }
}

#[tokio::test]
async fn p47_limits_hold_when_redis_comes_back_and_nothing_passes_while_it_is_away() {
    let app = TestApp::limited().spawn().await;
    assert_eq!(app.send_from("192.0.2.1", VICTIM).await.status, 200);
    let code = app.smtp.last_code_to(VICTIM);
    app.redis.pause();
    for _ in 0..3 {
        let answers =
            [app.send_from("192.0.2.2", VICTIM).await, app.verify_from("192.0.2.1", VICTIM, &code).await];
        for answer in answers {
            assert_eq!(answer.message(), (503, "Service unavailable".to_owned()));
            assert!(answer.header("retry-after").is_some());
        }
    }
    app.redis.resume();
    let is_ready = async || app.get("/readyz").await.status == 200;
    within(Duration::from_secs(2), "otpd recovers without a restart", is_ready).await;
    assert_eq!(limited(&app.send_from("192.0.2.2", VICTIM).await).1, "email_sends");
    assert_eq!(app.smtp.mails().len(), 1);
}

/// Uses a code on a primary whose replica is already disconnected, and promotes the replica.
/// Returns the replica's status for the same code.
async fn after_a_takeover(fence: &str) -> u16 {
    let app = TestApp::limited().single_redis().set("OTP_REDIS__FENCE", fence).spawn().await;
    let replica = RedisServer::single().await;
    // Attached before the code is sent, because attaching a replica changes the replication history
    // of a Redis that has none.
    replica.follow(&app.redis).await;
    assert_eq!(app.send_from("192.0.2.1", VICTIM).await.status, 200);
    let code = app.smtp.last_code_to(VICTIM);
    // TTLs are left out: they differ by the time that the copying took.
    let values = async |redis: &RedisServer| {
        redis.dump().await.into_iter().map(|(key, value, _)| (key, value)).collect::<Vec<_>>()
    };
    let begun = Instant::now();
    while values(&replica).await != values(&app.redis).await {
        assert!(begun.elapsed() < Duration::from_secs(10), "the replica has it all");
    }
    replica.promote().await;
    assert_eq!(app.verify_from("192.0.2.1", VICTIM, &code).await.status, 200, "used where it was made");
    app.redis.stop();
    let moved = app.another("REDIS_PORT", &replica.port().to_string()).await;
    let again = moved.verify_from("192.0.2.1", VICTIM, &code).await.status;
    // The service still works: a new send yields a code that verifies.
    assert_eq!(moved.send_from("192.0.2.1", "other@example.com").await.status, 200);
    let other = app.smtp.last_code_to("other@example.com");
    assert_eq!(moved.verify_from("192.0.2.1", "other@example.com", &other).await.status, 200);
    again
}

#[tokio::test]
async fn p48_behind_a_fence_a_takeover_revives_no_used_code() {
    assert_eq!(after_a_takeover("true").await, 400);
}

#[tokio::test]
async fn p48_without_a_fence_a_takeover_revives_it_as_the_documents_say() {
    assert_eq!(after_a_takeover("false").await, 200);
}

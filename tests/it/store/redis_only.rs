//! The contract of the store on Redis only: keys expire and reveal nothing, scripts may be lost,
//! the clock is that of Redis, foreign values are errors, and Redis may be unavailable.

use std::time::{Duration, Instant};

use otpd::adapters::redis::ScriptClock;
use otpd::domain::idempotency::BeginOutcome;
use otpd::domain::store_key::StoreKey;
use otpd::domain::time::EntryId;
use otpd::domain::verification::{Status, VerificationRules};
use otpd::domain::verification_id::{ID_BYTES, VerificationId};
use otpd::ports::{AttemptOutcome, Store, StoreError};

use super::{HOUR, LIFE, at_once, attempts_left, both_kinds, end, idempotency, live};
use crate::support::redis::RedisServer;
use crate::support::store::{
    Bench, RULES, TakenAttempt, about, address, code_id, digest, hash, id, store_on, token,
};

/// The longest time that a call may take, whatever Redis does.
const LONGEST_CALL: Duration = Duration::from_millis(1500);
/// How long a test may be delayed between two steps.
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);
/// An entry id that is never too late for an opening, on either clock.
const IN_TIME: EntryId = 4_000_000_000_000;

/// Returns the Redis key that a store key must have.
fn key(store_key: &StoreKey) -> String {
    match store_key {
        StoreKey::Address { recipient, address } => {
            format!("otp:{{s:{}}}:{}:{address}", recipient.email, recipient.tenant.name())
        }
        StoreKey::Id(tag) => format!("otp:{{v:{tag}}}"),
    }
}

pub(super) fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window.eq_ignore_ascii_case(needle))
}

pub(super) async fn ask<T: redis::FromRedisValue>(server: &RedisServer, command: &[&[u8]]) -> T {
    let mut request = redis::cmd(str::from_utf8(command[0]).expect("a command"));
    command[1..].iter().for_each(|arg| {
        request.arg(*arg);
    });
    server.query(&request).await
}

/// Returns the words of a monitored command. Bytes stay escaped.
pub(super) fn words(line: &str) -> Vec<&str> {
    let (_, command) = line.split_once("] \"").expect("a command");
    command.trim_end_matches('"').split("\" \"").collect()
}

/// Makes each call once, on an unused store key.
async fn each_call(bench: &Bench, store_key: &StoreKey) {
    bench.open(store_key, 1).await;
    bench.open(store_key, 2).await;
    bench.replace_code(store_key, 3).await;
    bench.take_attempt(store_key).await;
    bench.approve(store_key, 3, 1).await;
    bench.approve(store_key, 3, 1).await;
    bench.open(store_key, 4).await;
    bench.find(store_key).await;
    bench.cancel(store_key).await;
    bench.open(store_key, 5).await;
    bench.mark_accepted(store_key, 5).await;
    bench.mark_failed(store_key, 5).await;
}

/// Makes all calls at once, and returns whether each was answered.
async fn answers(store: &dyn Store, store_key: &StoreKey) -> [Result<(), StoreError>; 8] {
    let (hash, token, code, about) = (hash(1), token(1, 1), code_id(1), about(store_key));
    let (opened, replaced, attempts, approved, failed, accepted, seen, canceled) = tokio::join!(
        store.open(store_key, &hash, &RULES, IN_TIME, &about),
        store.replace_code(store_key, &hash, &RULES, IN_TIME),
        store.take_attempt(store_key, &RULES, None),
        store.approve(store_key, &token, None, None),
        store.mark_failed(store_key, &code, IN_TIME),
        store.mark_accepted(store_key, &code, None),
        store.find(store_key, &RULES),
        store.cancel(store_key, &RULES),
    );
    [
        opened.map(drop),
        replaced.map(drop),
        attempts.map(drop),
        approved.map(drop),
        failed.map(drop),
        accepted.map(drop),
        seen.map(drop),
        canceled.map(drop),
    ]
}

async fn assert_no_answer_in_time(store: &dyn Store) {
    let (store_key, begun) = (id(1), Instant::now());
    let (answers, ready) = tokio::join!(answers(store, &store_key), store.ready());
    assert!(begun.elapsed() < LONGEST_CALL, "{:?}", begun.elapsed());
    assert!(ready.is_err() && answers.iter().all(Result::is_err), "{answers:?}");
}

async fn until_ready(store: &dyn Store) {
    let begun = Instant::now();
    while store.ready().await.is_err() {
        assert!(begun.elapsed() < TIMEOUT, "it does not recover");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Delays every command for this long: time passes at the server without a sleep here.
async fn pause(server: &RedisServer, time: Duration) {
    let millis = time.as_millis().to_string();
    for node in server.nodes() {
        let pause = redis::cmd("CLIENT").arg("PAUSE").arg(&millis).arg("ALL").clone();
        pause.exec_async(&mut node.connection().await).await.expect("CLIENT PAUSE is answered");
    }
}

async fn record(bench: &Bench, store_key: &StoreKey) -> Vec<u8> {
    ask(bench.server(), &[b"GET", key(store_key).as_bytes()]).await
}

/// Returns values that were never a whole record: short ones, text, and records that were cut,
/// extended or given another version.
async fn no_records(bench: &Bench) -> Vec<Vec<u8>> {
    let mut values =
        vec![vec![], b"x".to_vec(), b"123456".to_vec(), b"{\"code\":1}".repeat(9), vec![0xff; 64]];
    for (store_key, how) in (100..).map(id).zip([Status::Pending, Status::Approved, Status::Failed]) {
        end(bench, &store_key, 1, how).await;
        let record = record(bench, &store_key).await;
        // An open record ends with the pepper's name, and a part of that may be a name too.
        let whole = if how == Status::Pending { record.len() - 1 } else { record.len() };
        values.extend((0..whole).map(|cut| record[..cut].to_vec()));
        // A state that there is not in format 0, and a delivery that there is not in format 1.
        values.push([&[4], &record[1..]].concat());
        values.push([&[0x1c + (record[0] & 3)], &record[1..]].concat());
        if how != Status::Pending {
            values.push([&record[..], b"x"].concat());
        }
    }
    values
}

async fn assert_untouched(bench: &Bench, store_key: &StoreKey) {
    let stored =
        async || -> Option<Vec<u8>> { ask(bench.server(), &[b"DUMP", key(store_key).as_bytes()]).await };
    let before = stored().await;
    let answers = answers(&*bench.store, store_key).await;
    assert!(answers.iter().all(Result::is_err), "{answers:?} to {before:?}");
    assert!(before.is_some() && stored().await == before, "it was changed: {before:?}");
}

#[tokio::test]
async fn a_key_expires_as_soon_as_nobody_can_ask_about_it() {
    let bench = Bench::redis().await;
    for (store_key, remembered) in both_kinds(1).iter().zip([Duration::ZERO, HOUR]) {
        let assert_ttl = async |to_expiry| {
            let ttl: u64 = ask(bench.server(), &[b"PTTL", key(store_key).as_bytes()]).await;
            let (ttl, wanted) = (Duration::from_millis(ttl), to_expiry + remembered);
            assert!(ttl <= wanted && ttl + TIMEOUT > wanted, "{ttl:?} instead of {wanted:?}");
        };
        let step = LIFE / 3;
        bench.open(store_key, 1).await;
        assert_ttl(LIFE).await;
        bench.clock.forward(step);
        bench.take_attempt(store_key).await;
        assert_ttl(LIFE.saturating_sub(step)).await;
        bench.replace_code(store_key, 2).await;
        assert_ttl(LIFE).await;
        bench.clock.forward(step);
        assert!(bench.approve(store_key, 2, 1).await);
        assert_ttl(LIFE.saturating_sub(step)).await;
        bench.open(store_key, 3).await;
        assert_ttl(LIFE).await;
        bench.clock.forward(step);
        bench.open(store_key, 4).await;
        assert_ttl(LIFE).await;
        bench.clock.forward(step);
        bench.mark_failed(store_key, 4).await;
        assert_ttl(LIFE.saturating_sub(step)).await;
    }
}

#[tokio::test]
async fn a_script_touches_its_own_key_only_and_never_writes_without_a_ttl() {
    let bench = Bench::redis().await;
    for store_key in both_kinds(1) {
        let key = key(&store_key);
        let seen = bench.server().monitored(each_call(&bench, &store_key)).await;
        let calls: Vec<_> =
            seen.iter().map(|line| words(line)).filter(|words| words[0] == "EVALSHA").collect();
        assert!(calls.len() >= 8, "{seen:?}");
        for call in calls {
            assert_eq!(call[2..4], ["1", key.as_str()]);
        }
        let inner = || seen.iter().filter(|line| line.contains(" lua] ")).map(|line| words(line));
        for words in inner() {
            assert_eq!(words[1], key, "{words:?}");
            match words[0] {
                "GET" => assert_eq!(words.len(), 2),
                "SET" => assert!(words[3] == "PX" && words[4].parse::<u32>().is_ok_and(|ttl| ttl > 0)),
                other => panic!("{other} is not among a script's commands"),
            }
        }
        assert_eq!(inner().filter(|words| words[0] == "SET").count(), 10, "{seen:?}");
    }
}

#[tokio::test]
async fn all_keys_of_one_recipient_share_a_hash_slot_and_name_nobody() {
    let bench = Bench::redis().await;
    for email in ["Quizzical+x@kestrel.example", "quizzical+y@kestrel.example"] {
        each_call(&bench, &address(email)).await;
    }
    each_call(&bench, &id(1)).await;
    let dump = bench.server().dump().await;
    let keys: Vec<&str> = dump.iter().map(|(key, ..)| str::from_utf8(key).expect("ASCII")).collect();
    // Redis Cluster hashes the part of a key between the first opening brace and its closing one.
    let tag = |key: &str| key.split(['{', '}']).nth(1).map(str::to_owned);
    assert_eq!(keys.len(), 3, "{keys:?}");
    assert_eq!(tag(keys[0]), tag(keys[1]));
    assert_ne!(tag(keys[1]), tag(keys[2]));
    for (key, value, ttl) in &dump {
        assert!(key.starts_with(b"otp:{") && *ttl > 0, "{key:?}: {ttl}");
        for part in ["quizzical", "kestrel", "+x", "+y"] {
            assert!(!contains(key, part.as_bytes()) && !contains(value, part.as_bytes()), "{part}");
        }
    }
}

#[tokio::test]
async fn a_code_that_was_replaced_or_used_or_never_mailed_is_gone() {
    let bench = Bench::redis().await;
    for store_key in both_kinds(1) {
        let stored = async |code| {
            let value: Vec<u8> = ask(bench.server(), &[b"GET", key(&store_key).as_bytes()]).await;
            contains(&value, &digest(code))
        };
        bench.open(&store_key, 1).await;
        assert!(stored(1).await);
        bench.replace_code(&store_key, 2).await;
        assert_eq!((stored(1).await, stored(2).await), (false, true));
        assert!(bench.approve(&store_key, 2, 1).await);
        assert!(!stored(2).await);
        bench.open(&store_key, 3).await;
        bench.mark_failed(&store_key, 3).await;
        assert!(!stored(3).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_may_be_forgotten_at_any_point() {
    let bench = Bench::redis().await;
    let server = bench.server();
    for store_key in both_kinds(1) {
        server.script_flush().await;
        assert_eq!(bench.open(&store_key, 1).await, LIFE);
        server.script_flush().await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
        server.script_flush().await;
        assert_eq!(live(bench.replace_code(&store_key, 2).await), Some(LIFE));
        server.script_flush().await;
        bench.mark_failed(&store_key, 1).await;
        server.script_flush().await;
        assert!(bench.approve(&store_key, 2, 1).await);
        server.script_flush().await;
        assert!(!bench.approve(&store_key, 2, 2).await);
    }
    // During many concurrent calls, none is lost and none runs twice.
    for trial in 10..30 {
        let store_key = id(trial);
        bench.open(&store_key, 1).await;
        let attempts = at_once((0..50).map(|_| {
            let (bench, store_key) = (bench.clone(), store_key.clone());
            async move { bench.take_attempt(&store_key).await }
        }));
        let (attempts, ()) = tokio::join!(attempts, server.script_flush());
        assert_eq!(attempts.iter().filter(|attempt| **attempt == TakenAttempt::Compare(1)).count(), 5);
    }
}

#[tokio::test]
async fn in_production_the_time_is_redis_own() {
    let server = RedisServer::start().await;
    let store = store_on(&server, ScriptClock::Server);
    let each_call = async || {
        let answers = answers(&store, &id(1)).await;
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    };
    // The first calls load the scripts.
    each_call().await;
    let seen = server.monitored(async {
        each_call().await;
        pause(&server, Duration::from_millis(20)).await;
        each_call().await;
    });
    let seen = seen.await;
    let mut calls: Vec<_> =
        seen.iter().map(|line| words(line)).filter(|words| words[0] == "EVALSHA").collect();
    let times = seen.iter().filter(|line| line.contains(r#" lua] "TIME""#)).count();
    assert_eq!((calls.len(), times), (16, 16), "each call asks Redis: {seen:?}");
    calls.sort();
    for twice in calls.chunks(2) {
        assert_eq!(twice[0], twice[1], "two calls some time apart tell Redis the same, so no time");
    }
}

#[tokio::test]
async fn in_production_a_code_expires_by_itself() {
    let server = RedisServer::start().await;
    let store = store_on(&server, ScriptClock::Server);
    let short = VerificationRules { life: Duration::from_millis(50), ..RULES };
    store.open(&id(1), &hash(1), &short, IN_TIME, &about(&id(1))).await.expect("an answer");
    store.open(&id(2), &hash(2), &RULES, IN_TIME, &about(&id(2))).await.expect("an answer");
    pause(&server, Duration::from_millis(60)).await;
    let (dead, live) =
        (store.take_attempt(&id(1), &RULES, None).await, store.take_attempt(&id(2), &RULES, None).await);
    assert!(matches!(dead, Ok(AttemptOutcome::Closed(Status::Expired))), "{dead:?}");
    assert!(matches!(live, Ok(AttemptOutcome::Compare { .. })), "{live:?}");
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_and_left_alone() {
    let bench = Bench::redis().await;
    for store_key in both_kinds(1) {
        let key = key(&store_key);
        let foreign: [&[&[u8]]; 5] = [
            &[b"RPUSH", key.as_bytes(), b"x"],
            &[b"SADD", key.as_bytes(), b"x"],
            &[b"HSET", key.as_bytes(), b"x", b"y"],
            &[b"ZADD", key.as_bytes(), b"1", b"x"],
            &[b"XADD", key.as_bytes(), b"1-1", b"x", b"y"],
        ];
        for command in foreign {
            ask::<redis::Value>(bench.server(), command).await;
            assert_untouched(&bench, &store_key).await;
            ask::<()>(bench.server(), &[b"DEL", key.as_bytes()]).await;
        }
    }
}

#[tokio::test]
async fn a_value_that_is_no_record_is_an_error_and_left_alone() {
    let bench = Bench::redis().await;
    for store_key in both_kinds(1) {
        for value in no_records(&bench).await {
            let key = key(&store_key);
            ask::<()>(bench.server(), &[b"SET", key.as_bytes(), &value]).await;
            assert_untouched(&bench, &store_key).await;
        }
    }
}

#[tokio::test]
async fn a_record_with_no_hash_of_ours_is_an_error() {
    let bench = Bench::redis().await;
    let store_key = id(1);
    bench.open(&store_key, 1).await;
    let mut record = record(&bench, &store_key).await;
    let last = record.last_mut().expect("a record is never empty");
    *last = 0xff;
    ask::<()>(bench.server(), &[b"SET", key(&store_key).as_bytes(), &record]).await;
    let attempts = bench.store.take_attempt(&store_key, &RULES, None).await;
    assert!(attempts.is_err(), "{attempts:?}");
}

#[tokio::test]
async fn a_redis_that_hangs_is_an_error_in_time_and_it_recovers() {
    let bench = Bench::redis().await;
    let stranger = store_on(bench.server(), ScriptClock::Server);
    bench.open(&id(2), 2).await;
    bench.server().pause();
    assert_no_answer_in_time(&*bench.store).await;
    assert_no_answer_in_time(&*bench.store).await;
    // Nor does a call wait longer if its store has no connection yet.
    assert_no_answer_in_time(&stranger).await;
    bench.server().resume();
    until_ready(&*bench.store).await;
    until_ready(&stranger).await;
    assert_eq!(attempts_left(&bench, &id(2)).await, 5);
    assert!(bench.approve(&id(2), 2, 1).await);
}

#[tokio::test]
async fn a_redis_that_was_killed_is_an_error_in_time_and_it_recovers() {
    let bench = Bench::redis().await;
    end(&bench, &id(2), 2, Status::Failed).await;
    bench.server().stop();
    assert_no_answer_in_time(&*bench.store).await;
    assert_no_answer_in_time(&*bench.store).await;
    bench.server().start_again().await;
    until_ready(&*bench.store).await;
    assert_eq!(bench.take_attempt(&id(2)).await, TakenAttempt::Unknown);
    assert_eq!(bench.open(&id(2), 3).await, LIFE);
    assert!(bench.approve(&id(2), 3, 1).await);
}

#[tokio::test]
async fn if_memory_is_full_no_attempt_is_taken_but_an_earlier_one_is_approved() {
    let bench = Bench::redis().await;
    let store_key = address("a@example.com");
    bench.open(&store_key, 1).await;
    assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
    bench.server().configure("maxmemory", "1").await;
    bench.store.take_attempt(&store_key, &bench.rules, None).await.expect_err("nothing can be written");
    assert!(bench.approve(&store_key, 1, 1).await);
}

#[tokio::test]
async fn if_memory_is_full_stored_verifications_and_requests_can_still_be_ended() {
    let bench = Bench::redis().await;
    let idempotency = [1, 2].map(|key| idempotency::request(key, "a", 1));
    bench.open(&id(1), 1).await;
    for request in &idempotency {
        assert_eq!(bench.idempotency.begin(request).await.expect("an answer"), BeginOutcome::Begun);
    }
    bench.server().configure("maxmemory", "1").await;
    bench.idempotency.begin(&idempotency::request(3, "a", 1)).await.expect_err("nothing can be written");
    assert_eq!(bench.cancel(&id(1)).await, Some(Status::Canceled));
    let settled = VerificationId::new([7; ID_BYTES]);
    bench.idempotency.complete(&idempotency[0], &settled).await.expect("an answer");
    bench.idempotency.abandon(&idempotency[1]).await.expect("an answer");
    bench.server().configure("maxmemory", "0").await;
    assert_eq!(
        bench.idempotency.begin(&idempotency[0]).await.expect("an answer"),
        BeginOutcome::Done(settled)
    );
    assert_eq!(bench.idempotency.begin(&idempotency[1]).await.expect("an answer"), BeginOutcome::Begun);
}

#[tokio::test]
async fn an_idempotency_key_is_one_key_that_expires() {
    let bench = Bench::redis().await;
    let request = idempotency::request(1, "a", 1);
    let own = format!("otp:{{i:{}}}", request.key);
    let seen = bench.server().monitored(async {
        bench.idempotency.begin(&request).await.expect("an answer");
        bench.idempotency.complete(&request, &VerificationId::new([7; ID_BYTES])).await.expect("an answer");
        bench.idempotency.abandon(&request).await.expect("an answer");
    });
    let seen = seen.await;
    let all = || seen.iter().map(|line| words(line));
    assert!(all().filter(|words| words[0] == "EVALSHA").all(|words| words[2..4] == ["1", own.as_str()]));
    let inner: Vec<_> = seen.iter().filter(|line| line.contains(" lua] ")).map(|line| words(line)).collect();
    assert!(inner.iter().all(|words| words[1] == own), "{inner:?}");
    let lives = inner.iter().filter(|words| words[0] == "SET").map(|words| (words[3], words[4]));
    assert_eq!(lives.collect::<Vec<_>>(), [("PX", "30000"), ("PX", "86400000")]);
}

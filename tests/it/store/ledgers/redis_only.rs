//! The contract of the ledgers on Redis only: keys expire and reveal nothing, a foreign value is an
//! error that admits nothing, and entries outlive a process.

use std::iter;
use std::time::Duration;

use otpd::adapters::redis::ScriptClock;
use otpd::domain::limit::Policy;
use otpd::domain::limits::Action;
use otpd::ports::{ChargeOutcome, StoreError};

use super::{
    HOUR, IpAction, ROOMY, TICK, admit, another_tenant, at_once, attempt_from, attempt_limits, charge,
    client_prefix, enter, entry, ip_action, ip_limits, is_admitted, refund, refund_send, refused, send_from,
    sends, simple_recipient,
};
use crate::store::redis_only::{TIMEOUT, ask, contains, words};
use crate::support::redis::RedisServer;
use crate::support::store::{Bench, address, attempt_charge, recipient, store_on};

/// Bytes of an entry: an entry id, followed by a partition if the ledger has some.
const ENTRY: usize = 6;
const PARTITIONED_ENTRY: usize = 14;

fn sends_key(email: &str) -> String {
    format!("otp:{{s:{}}}:sends", simple_recipient(email).email)
}

fn attempts_key(email: &str, ip: &str) -> String {
    format!("otp:{{s:{}}}:simple:attempts:{}", simple_recipient(email).email, client_prefix(ip))
}

fn ip_key(own: &IpAction) -> String {
    let what = match own.action {
        Action::Send => "sends",
        Action::Attempt => "attempts",
    };
    let of_prefix48 = if own.network.prefix64.is_some() { ":48" } else { "" };
    format!("otp:{{n:{}}}:{}:{what}{of_prefix48}", own.network.prefix48, own.tenant.name())
}

/// Returns the keys of the ledgers of an IP: that of a /64 is beside that of its /48.
fn ip_keys(own: &IpAction) -> Vec<String> {
    let key = ip_key(own);
    let of_prefix64 = own.network.prefix64.map(|prefix64| key.replace(":48", &format!(":64:{prefix64}")));
    iter::once(key).chain(of_prefix64).collect()
}

async fn assert_ttl(bench: &Bench, key: &str, wanted: Duration) {
    let ttl: i64 = ask(bench.server(), &[b"PTTL", key.as_bytes()]).await;
    let ttl = Duration::from_millis(ttl.try_into().expect("a key that expires"));
    assert!(ttl <= wanted && ttl + TIMEOUT > wanted, "{key}: {ttl:?} instead of {wanted:?}");
}

/// Makes each call on a ledger once. The store key of the recipient goes through a whole send and a
/// whole attempt.
async fn each_call(bench: &Bench, email: &str, ip: &str) {
    let (store_key, limits) = (address(email), sends("9/1h", "9/2h", "9/3h"));
    let (sender, attempter) = (ip_action(ip, Action::Send), ip_action(ip, Action::Attempt));
    charge(bench, &sender, "9/1h").await;
    let [network, of_recipient] = [
        charge(bench, &attempter, "9/1h").await,
        admit(bench, &simple_recipient(email), Some(&client_prefix(ip)), &limits).await,
    ]
    .map(entry);
    bench.open_for(&store_key, 1, of_recipient).await;
    let (_, charged) = attempt_from(bench, &store_key, ip, "9/1h").await;
    let limits = attempt_limits("9/1h");
    let charge = attempt_charge(&limits, &store_key, &client_prefix(ip)).expect("the key of an address");
    let charged = charged.map(|entry| (&charge.ledger, entry));
    assert!(bench.approve_for(&store_key, 1, 1, charged).await);
    refund(bench, &attempter, network).await;
    bench.mark_failed_for(&store_key, 1, of_recipient).await;
    refund_send(bench, &simple_recipient(email), of_recipient).await;
}

#[tokio::test]
async fn a_ledgers_key_expires_once_no_window_holds_its_newest_entry() {
    let bench = Bench::redis().await;
    let (email, limits) = ("a@example.com", sends("9/1h", "9/3h", "9/2h"));
    for _ in 0..3 {
        for ip in ["192.0.2.1", "2001:db8::1"] {
            send_from(&bench, ip, "9/1h 9/2h").await;
            for key in ip_keys(&ip_action(ip, Action::Send)) {
                assert_ttl(&bench, &key, HOUR * 2).await;
            }
        }
        admit(&bench, &simple_recipient(email), Some(&client_prefix("192.0.2.1")), &limits).await;
        assert_ttl(&bench, &sends_key(email), HOUR * 3).await;
        attempt_from(&bench, &address(email), "192.0.2.1", "9/1h").await;
        assert_ttl(&bench, &attempts_key(email, "192.0.2.1"), HOUR).await;
        bench.clock.forward(HOUR / 2);
    }
    // A send without an IP does not shorten how long the entries for the shares of IPs are stored.
    admit(&bench, &simple_recipient(email), None, &limits).await;
    assert_ttl(&bench, &sends_key(email), HOUR * 3).await;
    // If the clock has stepped back, an entry in its future is stored for as long as it counts.
    bench.clock.step(-3_600_000);
    admit(&bench, &simple_recipient(email), None, &limits).await;
    assert_ttl(&bench, &sends_key(email), HOUR * 4 + Duration::from_millis(1)).await;
    // A refund does not shorten the TTL of other entries, and leaves no empty key.
    let own = ip_action("2001:db8::2", Action::Send);
    bench.clear().await;
    let [first, second] = [charge(&bench, &own, "9/1h").await, charge(&bench, &own, "9/1h").await].map(entry);
    refund(&bench, &own, first).await;
    for key in ip_keys(&own) {
        assert_ttl(&bench, &key, HOUR + Duration::from_millis(1)).await;
    }
    refund(&bench, &own, second).await;
    for key in ip_keys(&own) {
        let exists: u8 = ask(bench.server(), &[b"EXISTS", key.as_bytes()]).await;
        assert_eq!(exists, 0, "{key}");
    }
}

#[tokio::test]
async fn a_ledgers_key_forgets_entries_that_no_window_holds() {
    let bench = Bench::redis().await;
    let own = ip_action("192.0.2.1", Action::Send);
    for _ in 0..50 {
        charge(&bench, &own, "9/60s").await;
        bench.clock.forward(Duration::from_secs(10));
    }
    let length: usize = ask(bench.server(), &[b"STRLEN", ip_key(&own).as_bytes()]).await;
    assert_eq!(length, 6 * ENTRY);
}

#[tokio::test]
async fn a_long_ledger_is_appended_to_and_shortened_once_half_of_it_is_old() {
    let bench = Bench::redis().await;
    let own = ip_action("192.0.2.1", Action::Send);
    let key = ip_key(&own);
    let bytes = async || -> usize { ask(bench.server(), &[b"STRLEN", key.as_bytes()]).await };
    let remaining = async || match charge(&bench, &own, "1000/1h").await {
        ChargeOutcome::Admitted { limit_state, .. } => limit_state.remaining,
        ChargeOutcome::Refused(limit_state) => panic!("refused: {limit_state:?}"),
    };
    let first = async || {
        for number in 1..=300 {
            assert_eq!(remaining().await, 1000 - number);
            bench.clock.forward(TICK);
        }
    };
    let seen = bench.server().monitored(first()).await;
    let written: Vec<_> = seen
        .iter()
        .map(|line| words(line)[0])
        .filter(|command| ["SET", "APPEND"].contains(command))
        .collect();
    assert_eq!(written.len(), 300);
    assert!(written.is_sorted_by_key(|command| *command == "APPEND"), "{written:?}");
    assert!(written.contains(&"APPEND"), "{written:?}");
    // A hundred of them are old, and do not count.
    bench.clock.forward(HOUR.saturating_sub(TICK * 201));
    assert_eq!(remaining().await, 1000 - 200 - 1);
    assert_eq!(bytes().await, 301 * ENTRY);
    assert_ttl(&bench, &key, HOUR).await;
    // More than half of them are old, and go.
    bench.clock.forward(TICK * 100);
    assert_eq!(remaining().await, 1000 - 101 - 1);
    assert_eq!(bytes().await, 102 * ENTRY);
    assert_ttl(&bench, &key, HOUR).await;
}

#[tokio::test]
async fn a_long_ledger_is_counted_as_in_memory() {
    let (redis, memory) = (Bench::redis().await, Bench::memory());
    let of_48 = ["2001:db8:0:1::1", "2001:db8:0:2::1", "2001:db8:0:3::1"];
    for ips in [&["192.0.2.1"][..], &of_48] {
        let own: Vec<_> = ips.iter().map(|ip| ip_action(ip, Action::Send)).collect();
        let (mut entries, mut longest, mut seed) = (Vec::new(), 0, 1_u64);
        // A linear congruential generator with Knuth's constants: the same steps each time.
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for step in 0..3000 {
            let pause = if random(20) == 0 { random(180_000) } else { 30 };
            redis.clock.forward(Duration::from_millis(pause));
            memory.clock.forward(Duration::from_millis(pause));
            match random(20) {
                0..3 if !entries.is_empty() => {
                    let at = usize::try_from(random(entries.len() as u64)).expect("an index");
                    let (own, entry) = entries.swap_remove(at);
                    refund(&redis, own, entry).await;
                    refund(&memory, own, entry).await;
                }
                _ => {
                    // In a second, few entries count: those of the last piece.
                    let limit = "40/1s 600/1h 900/3h";
                    // The first has most, so that the limits of one and of all are met.
                    let at = usize::try_from(random(own.len() as u64 * 3)).expect("an index");
                    let own = own.get(at).unwrap_or(&own[0]);
                    let charged = charge(&redis, own, limit).await;
                    let wanted = charge(&memory, own, limit).await;
                    assert_eq!(charged, wanted, "{ips:?}, step {step}");
                    if let ChargeOutcome::Admitted { entry, .. } = charged {
                        entries.push((own, entry));
                    }
                }
            }
            longest = longest.max(entries.len());
        }
        assert!(longest > 600, "{longest} entries");
    }
}

#[tokio::test]
async fn ledgers_name_nobody_and_share_the_hash_slot_of_their_call() {
    let bench = Bench::redis().await;
    let (email, ips) = ("quizzical+x@kestrel.example", ["198.51.100.237", "2001:db8:aced:cafe::babe"]);
    for ip in ips {
        let seen = bench.server().monitored(each_call(&bench, email, ip)).await;
        let calls: Vec<_> =
            seen.iter().map(|line| words(line)).filter(|words| words[0] == "EVALSHA").collect();
        assert!(calls.len() >= 9, "{seen:?}");
        let mut declared = Vec::new();
        for call in calls {
            let count: usize = call[2].parse().expect("a number of keys");
            let keys = &call[3..3 + count];
            let tag = |key: &str| key.split(['{', '}']).nth(1).map(str::to_owned);
            assert!(keys.iter().all(|key| tag(key).is_some() && tag(key) == tag(keys[0])), "{keys:?}");
            declared.extend_from_slice(keys);
        }
        for words in seen.iter().filter(|line| line.contains(" lua] ")).map(|line| words(line)) {
            assert!(declared.contains(&words[1]), "{words:?}");
            match words[0] {
                "GET" | "DEL" => assert_eq!(words.len(), 2),
                "GETRANGE" => assert_eq!(words.len(), 4),
                "SET" if words[3] == "KEEPTTL" => {}
                "SET" => assert!(words[3] == "PX" && words[4].parse::<u32>().is_ok_and(|ttl| ttl > 0)),
                other => panic!("{other} is not among a script's commands"),
            }
        }
        // The refunded entries are gone, so each ledger is charged once more to inspect what is
        // stored.
        send_from(&bench, ip, "9/1h").await;
        charge(&bench, &ip_action(ip, Action::Attempt), "9/1h").await;
        admit(&bench, &simple_recipient(email), Some(&client_prefix(ip)), &sends(ROOMY, ROOMY, ROOMY)).await;
        attempt_from(&bench, &address(email), ip, "9/1h").await;
    }
    let dump = bench.server().dump().await;
    // The sends and the attempts of each network, and of the /64; the recipient's sends, code, and
    // attempts of two IPs.
    assert_eq!(dump.len(), 2 + 4 + 4, "{dump:?}");
    for (key, value, ttl) in &dump {
        assert!(key.starts_with(b"otp:{") && *ttl > 0, "{key:?}: {ttl}");
        for part in ["quizzical", "kestrel", "198.51", "237", "2001:", "db8", "aced", "cafe", "babe"] {
            assert!(!contains(value, part.as_bytes()), "{part} in a value");
            // Three characters of a hash in base64 may occur by chance.
            assert!(part.len() < 4 || !contains(key, part.as_bytes()), "{part} in {key:?}");
        }
        for bytes in [&[198, 51, 100, 237][..], &[0x20, 0x01, 0x0d, 0xb8]] {
            assert!(!contains(key, bytes) && !contains(value, bytes), "an address in bytes");
        }
    }
}

/// Makes each call on a ledger, and returns whether it was answered.
async fn answers(bench: &Bench, email: &str, ip: &str) -> Vec<Result<(), StoreError>> {
    let store = &bench.store;
    let ip_limits = ip_limits(ROOMY);
    let send_limits = sends(ROOMY, ROOMY, ROOMY);
    let client = client_prefix(ip);
    let mut charges: Vec<_> =
        [Action::Send, Action::Attempt].map(|action| ip_action(ip, action).charge(&ip_limits)).into();
    for recipient in [simple_recipient(email), recipient(another_tenant(), email)] {
        for client in [Some(&client), None] {
            charges.push(send_limits.send_charge(&recipient, client));
        }
    }
    let mut answers = Vec::new();
    for charge in charges {
        answers.push(store.charge(&charge).await.map(drop));
        answers.push(store.peek(&charge).await.map(drop));
        answers.push(store.refund(&charge.ledger, charge.of_partition.as_ref(), 1).await);
    }
    let limits = attempt_limits(ROOMY);
    let charge = limits.ip_email_attempt_charge(&simple_recipient(email), &client);
    answers.push(store.take_attempt(&address(email), &bench.rules, Some(&charge)).await.map(drop));
    answers
}

/// Returns all ledgers of one recipient and one network, with the bytes of their entries.
fn ledger_keys(email: &str, ip: &str) -> Vec<(String, usize)> {
    let own = [Action::Send, Action::Attempt].map(|action| ip_action(ip, action));
    let of_network = own.iter().flat_map(ip_keys).map(|key| (key, ENTRY));
    let of_recipient = [(sends_key(email), PARTITIONED_ENTRY), (attempts_key(email, ip), ENTRY)];
    of_network.chain(of_recipient).collect()
}

#[tokio::test]
async fn a_value_that_is_no_ledger_is_an_error_and_admits_nobody() {
    let bench = Bench::redis().await;
    for ip in ["192.0.2.1", "2001:db8::1"] {
        bench.clear().await;
        assert_foreign_values_are_refused(&bench, "a@example.com", ip).await;
    }
}

async fn assert_foreign_values_are_refused(bench: &Bench, email: &str, ip: &str) {
    for answer in answers(bench, email, ip).await {
        answer.expect("an answer");
    }
    let keys = ledger_keys(email, ip);
    let stored =
        async |key: &str| -> Option<Vec<u8>> { ask(bench.server(), &[b"DUMP", key.as_bytes()]).await };
    let assert_refused = async |what: &str| {
        let mut before = Vec::new();
        for (key, _) in &keys {
            before.push(stored(key).await);
        }
        let answers = answers(bench, email, ip).await;
        assert!(answers.iter().all(Result::is_err), "{what}: {answers:?}");
        for ((key, _), before) in keys.iter().zip(before) {
            assert!(before.is_some() && stored(key).await == before, "{what}: {key} was changed");
        }
    };
    for foreign in ["RPUSH", "SADD"] {
        for (key, _) in &keys {
            ask::<()>(bench.server(), &[b"DEL", key.as_bytes()]).await;
            ask::<u8>(bench.server(), &[foreign.as_bytes(), key.as_bytes(), b"x"]).await;
        }
        assert_refused(foreign).await;
    }
    for more in 1..PARTITIONED_ENTRY {
        for (key, entry) in &keys {
            // Two whole entries and a part of one.
            let part = 1 + (more - 1) % (entry - 1);
            ask::<()>(bench.server(), &[b"SET", key.as_bytes(), &vec![1; 2 * entry + part]]).await;
        }
        assert_refused(&format!("a part of {more} bytes")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn scripts_may_be_forgotten_while_ledgers_are_charged() {
    let bench = Bench::redis().await;
    for trial in 0..10 {
        let calls = at_once((0..50).map(|_| {
            let bench = bench.clone();
            async move { is_admitted(send_from(&bench, &format!("192.0.2.{trial}"), "7/1h").await) }
        }));
        let (calls, ()) = tokio::join!(calls, bench.server().script_flush());
        assert_eq!(calls.into_iter().filter(|admitted| *admitted).count(), 7);
    }
}

#[tokio::test]
async fn entries_outlive_the_process_that_made_them() {
    let bench = Bench::redis().await;
    for policy in Policy::ALL {
        assert_eq!(enter(&bench, policy, "1/1h").await, Ok(()));
    }
    let another = bench.restarted();
    for policy in Policy::ALL {
        assert_eq!(enter(&another, policy, "1/1h").await.map_err(|limit_state| limit_state.wait), Err(HOUR));
    }
}

#[tokio::test]
async fn in_production_entries_bear_redis_own_time() {
    let server = RedisServer::start().await;
    let store = store_on(&server, ScriptClock::Server);
    let now = async || {
        let (seconds, micros): (u64, u64) = ask(&server, &[b"TIME"]).await;
        seconds * 1000 + micros / 1000
    };
    let bench = Bench::memory().with(store);
    let before = now().await;
    let charged = send_from(&bench, "192.0.2.1", "1/1h").await;
    let ChargeOutcome::Admitted { entry, .. } = charged else { panic!("refused: {charged:?}") };
    assert!((before..=now().await).contains(&entry), "{before} {entry}");
    assert!(refused(send_from(&bench, "192.0.2.1", "1/1h").await).wait <= HOUR);
}

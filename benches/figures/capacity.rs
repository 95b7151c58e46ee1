//! Measures what a send and an attempt cost in otpd and in Redis, and computes from that what a
//! number of verifications a day takes; simulates how keys spread over the slots of a cluster.
//!
//! docs/capacity.md has the tables, and says what the model assumes.

use std::fs;
use std::sync::Arc;

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::app::TestApp;

const REQUESTS: usize = 4_000;
/// Requests with the default hash, which take longer.
const HASHED: usize = 400;
const AT_ONCE: usize = 16;
/// Ticks per second of the CPU times in `/proc`, on every Linux of today.
const TICKS: f64 = 100.0;

/// What one request takes.
#[derive(Clone, Copy, Default)]
struct Cost {
    /// CPU time in microseconds.
    otpd: f64,
    redis: f64,
    /// Bytes to and from Redis.
    network: f64,
}

/// What the model assumes of a verification.
mod assumed {
    /// Emails for each verification.
    pub const SENDS: f64 = 1.2;
    /// Attempts for each verification, one of which is right.
    pub const ATTEMPTS: f64 = 1.3;
    /// The rate of the busiest minutes, as a multiple of the day's average.
    pub const PEAK: f64 = 4.0;
    /// The share of a core that may be busy at that rate.
    pub const OTPD_LOAD: f64 = 0.6;
    pub const REDIS_LOAD: f64 = 0.4;
    /// Cores of one process.
    pub const CORES: f64 = 8.0;
    /// The longest that a ledger lasts by default: 24 h and 30 min.
    pub const LEDGER_HOURS: f64 = 24.5;
    /// How long a v1 verification is stored after it was opened: 5 min and an hour.
    pub const STORED_HOURS: f64 = 65.0 / 60.0;
    /// Network addresses for each verification of a day.
    pub const NETWORKS: f64 = 0.7;
}

/// Runs the benchmark.
#[tokio::main(flavor = "multi_thread")]
pub async fn run() {
    let [send, wrong, right] = costs(REQUESTS, false).await;
    let [hashed, ..] = costs(HASHED, true).await;
    let hash = hashed.otpd - send.otpd;
    println!("| a request | otpd, CPU | Redis, CPU | bytes to and from Redis |\n|---|---|---|---|");
    for (name, cost) in [("send", send), ("wrong attempt", wrong), ("right attempt", right)] {
        println!("| {name} | {:.0} us + hash | {:.0} us | {:.0} |", cost.otpd, cost.redis, cost.network);
    }
    println!("| the hash of each | {:.1} ms | | |", hash / 1e3);
    let bytes = Bytes::measure().await;
    println!(
        "bytes: a recipient's ledger {:.0}, a v1 verification {:.0}, an IP's ledgers {:.0}",
        bytes.recipient, bytes.verification, bytes.network
    );
    model(send, wrong, right, hash, &bytes);
    spread();
    spray().await;
}

async fn costs(requests: usize, hashed: bool) -> [Cost; 3] {
    let app = TestApp::builder()
        .keyed()
        .set("OTP_LIMITS__KEY_SENDS_PER_MINUTE", "10000000")
        .set("OTP_LIMITS__KEY_CHECKS_PER_MINUTE", "10000000")
        .set("OTP_LIMITS__EMAIL_SENDS", "5/1h 10/day")
        .set("OTP_HASH__QUEUE", "1000")
        .set("OTP_LOG__LEVEL", "info");
    let app = if hashed {
        app.set("OTP_HASH__MEMORY_KIB", "7168").set("OTP_HASH__PASSES", "5").spawn().await
    } else {
        app.spawn().await
    };
    let body = |number: usize| {
        let ip = format!("10.{}.{}.{}", number / 65536, number / 256 % 256, number % 256);
        json!({ "email": format!("recipient{number}@example.com"), "end_user_ip": ip })
    };
    let ids = Arc::new(std::sync::Mutex::new(vec![String::new(); requests]));
    let created = Arc::clone(&ids);
    let send = measured(&app, requests, move |process, number| {
        let (created, body) = (Arc::clone(&created), body(number));
        async move {
            let answer = process.caller(1).create(&body).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            let id = answer.json()["id"].as_str().expect("an id").to_owned();
            created.lock().expect("no panic")[number] = id;
        }
    })
    .await;
    let codes: Vec<_> = {
        let mut codes = vec![String::new(); requests];
        for mail in app.smtp.mails() {
            let number = mail.to[0].trim_start_matches("recipient").split('@').next().expect("a name");
            codes[number.parse::<usize>().expect("a number")] = mail.code();
        }
        codes
    };
    let ids = Arc::new(ids.lock().expect("no panic").clone());
    let codes = Arc::new(codes);
    let check = async |is_right: bool, status: u16| {
        let (ids, codes) = (Arc::clone(&ids), Arc::clone(&codes));
        measured(&app, requests, move |process, number| {
            let code = if is_right { codes[number].clone() } else { "000000".to_owned() };
            let path = format!("/v1/verifications/{}/check", ids[number]);
            let ip = format!("10.{}.{}.{}", number / 65536, number / 256 % 256, number % 256);
            let body = json!({ "code": code, "end_user_ip": ip }).to_string();
            async move {
                let answer = process.caller(1).post(&path, &body).await;
                assert_eq!(answer.status, status, "{answer:?}");
            }
        })
        .await
    };
    [send, check(false, 422).await, check(true, 200).await]
}

async fn measured<F: Future<Output = ()> + Send>(
    app: &TestApp,
    requests: usize,
    act: impl Fn(Arc<crate::support::app::Process>, usize) -> F + Send + Sync + 'static,
) -> Cost {
    let before = used(app).await;
    let act = Arc::new(act);
    let mut tasks = JoinSet::new();
    for task in 0..AT_ONCE {
        let (act, process) = (Arc::clone(&act), Arc::clone(&app.process));
        tasks.spawn(async move {
            for number in (task..requests).step_by(AT_ONCE) {
                act(Arc::clone(&process), number).await;
            }
        });
    }
    tasks.join_all().await;
    let after = used(app).await;
    let each = |figure: fn(&Cost) -> f64| (figure(&after) - figure(&before)) / requests as f64;
    Cost { otpd: each(|cost| cost.otpd), redis: each(|cost| cost.redis), network: each(|cost| cost.network) }
}

/// Returns what was used so far.
async fn used(app: &TestApp) -> Cost {
    let stat = fs::read_to_string(format!("/proc/{}/stat", app.id())).expect("a process");
    let fields: Vec<_> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    let ticks: f64 = [11, 12].iter().map(|at| fields[*at].parse::<f64>().expect("ticks")).sum();
    let mut connection = app.redis.connection().await;
    let mut info = redis::cmd("INFO");
    info.arg("cpu").arg("stats");
    let info: String = info.query_async(&mut connection).await.expect("figures");
    let figure = |name: &str| -> f64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)).expect(name);
        line.trim().parse().expect("a number")
    };
    Cost {
        otpd: ticks / TICKS * 1e6,
        redis: (figure("used_cpu_user:") + figure("used_cpu_sys:")) * 1e6,
        network: figure("total_net_input_bytes:") + figure("total_net_output_bytes:"),
    }
}

/// Bytes in Redis.
struct Bytes {
    recipient: f64,
    verification: f64,
    network: f64,
}

impl Bytes {
    /// Measures by `MEMORY USAGE`, with what the allocator and the dictionaries take in addition.
    async fn measure() -> Self {
        let app = TestApp::builder().keyed().set("OTP_LIMITS__EMAIL_SENDS", "5/1h 10/day").spawn().await;
        let body =
            json!({ "email": "recipient@example.com", "purpose": "login", "end_user_ip": "192.0.2.1" });
        let created = app.caller(1).create(&body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let id = created.json()["id"].as_str().expect("an id").to_owned();
        let body = json!({ "code": "000000", "end_user_ip": "192.0.2.1" }).to_string();
        app.caller(1).post(&format!("/v1/verifications/{id}/check"), &body).await;
        let of = async |prefix: &[u8]| {
            let mut connection = app.redis.connection().await;
            let mut bytes = 0.0;
            for (key, ..) in app.redis.dump().await.iter().filter(|(key, ..)| key.starts_with(prefix)) {
                let usage: u64 = redis::cmd("MEMORY")
                    .arg("USAGE")
                    .arg(key)
                    .query_async(&mut connection)
                    .await
                    .expect("a figure");
                bytes += usage as f64 + OVERHEAD;
            }
            bytes
        };
        Self {
            recipient: of(b"otp:{s:").await,
            verification: of(b"otp:{v:").await,
            network: of(b"otp:{n:").await,
        }
    }
}

/// What a key takes in addition to `MEMORY USAGE`, by `used_memory` over 20,000 recipients
/// (`redis_cost`): entries of two dictionaries and what the allocator rounds up to.
const OVERHEAD: f64 = 65.0;

fn model(send: Cost, wrong: Cost, right: Cost, hash: f64, bytes: &Bytes) {
    let of = |figure: fn(&Cost) -> f64, hash: f64| {
        assumed::SENDS * (figure(&send) + hash)
            + (assumed::ATTEMPTS - 1.0) * (figure(&wrong) + hash)
            + figure(&right)
            + hash
    };
    let otpd = of(|cost| cost.otpd, hash);
    let redis = of(|cost| cost.redis, 0.0);
    let network = of(|cost| cost.network, 0.0);
    println!(
        "a verification: {:.1} ms of otpd, {redis:.0} us of Redis, {network:.0} bytes to and from Redis",
        otpd / 1e3
    );
    println!(
        "| verifications a day | at the peak | processes of 8 cores | shards | memory of Redis | to and from Redis | emails |\n|---|---|---|---|---|---|---|"
    );
    for exponent in 5..=9 {
        let day = 10_f64.powi(exponent);
        let rate = day / 86_400.0 * assumed::PEAK;
        let processes = (rate * otpd / 1e6 / assumed::OTPD_LOAD / assumed::CORES).ceil().max(2.0);
        let shards = (rate * redis / 1e6 / assumed::REDIS_LOAD).ceil();
        let ledgers =
            day * assumed::LEDGER_HOURS / 24.0 * (bytes.recipient + bytes.network * assumed::NETWORKS);
        let open = day * assumed::STORED_HOURS / 24.0 * assumed::PEAK * bytes.verification;
        println!(
            "| 10^{exponent} | {rate:.0}/s | {processes:.0} | {shards:.0} | {:.2} GB | {:.1} Mbit/s | {:.0}/s |",
            (ledgers + open) / 1e9,
            rate * network * 8.0 / 1e6,
            rate * assumed::SENDS
        );
    }
}

/// Prints how the keys of many addresses spread over slots and shards, and how often the busiest
/// key is asked in a spray of attempts.
fn spread() {
    const KEYS: usize = 1_000_000;
    let mut slots = vec![0_u32; 16_384];
    for number in 0..KEYS {
        slots[usize::from(slot(number))] += 1;
    }
    let mean = KEYS as f64 / slots.len() as f64;
    let most = f64::from(*slots.iter().max().expect("slots"));
    println!("spread of 10^6 keys: the fullest of 16384 slots has {:.2} x the mean", most / mean);
    for shards in [3, 10, 100] {
        let mut load = vec![0_f64; shards];
        for (slot, keys) in slots.iter().enumerate() {
            load[slot * shards / slots.len()] += f64::from(*keys);
        }
        let most = load.iter().copied().fold(0.0, f64::max);
        println!(
            "  the fullest of {shards} shards has {:.3} x the mean",
            most / (KEYS as f64 / shards as f64)
        );
    }
}

/// Returns the slot of the ledger of an address, whose hash is as good as random.
fn slot(number: usize) -> u16 {
    use sha2::{Digest as _, Sha256};
    let digest = Sha256::digest(number.to_be_bytes());
    // Redis hashes what is in braces: here `n:` and a hash.
    crc16(&[b"n:", &digest[..16]].concat()) % 16_384
}

/// CRC-16/XMODEM, by which Redis Cluster assigns keys to slots.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(*byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 }
        })
    })
}

/// Prints what a spray of attempts at one address costs, each from a network of its own: all of its
/// ledgers share one slot.
async fn spray() {
    const ATTEMPTS: usize = 20_000;
    let app = TestApp::limited().set("OTP_LOG__LEVEL", "info").spawn().await;
    let memory = async || {
        let mut connection = app.redis.connection().await;
        let info: String =
            redis::cmd("INFO").arg("memory").query_async(&mut connection).await.expect("figures");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a figure");
        line.trim().parse::<f64>().expect("a number")
    };
    let before = memory().await;
    let cost = measured(&app, ATTEMPTS, |process, number| async move {
        let client = format!("10.{}.{}.{}", number / 65536, number / 256 % 256, number % 256);
        let status = process.verify_from(&client, "victim@example.com", "000000").await.status;
        assert_eq!(status, 400);
    })
    .await;
    let bytes = (memory().await - before) / ATTEMPTS as f64;
    println!(
        "a spray at one address: {:.0} us of Redis an attempt, {bytes:.0} bytes for each network, all in one slot but for \
         its own ledger",
        cost.redis
    );
}

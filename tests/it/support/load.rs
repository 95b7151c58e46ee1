//! Clients that start verifications and check codes, and write down what they see.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use reqwest::{Client, Method};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::app::Process;
use super::history::{Act, End, Operation, Rules, Seen};
use super::smtp::SmtpPeer;
use super::v1::key;

/// The attempts of a verification.
const ATTEMPTS: u8 = 5;
/// How long the clients of one verification take for its operations, in milliseconds: longer than a
/// failover, so that some operations are before it and some behind.
const SPAN: u64 = 5000;

/// The operations on one verification, in random order.
const ACTS: [Act; 9] = [
    Act::CheckRight,
    Act::CheckRight,
    Act::CheckRight,
    Act::CheckWrong,
    Act::CheckWrong,
    Act::CheckWrong,
    Act::CheckWrong,
    Act::CheckWrong,
    Act::Cancel,
];

/// What all clients share.
pub struct Load {
    urls: Vec<String>,
    smtp: Arc<SmtpPeer>,
    client: Client,
    begun: Instant,
    is_over: AtomicBool,
    number: AtomicU64,
    /// How many verifications were started.
    count: AtomicU64,
    /// How many codes were compared.
    compared: AtomicU64,
    /// When a verification was last started, in microseconds since the begin.
    started: AtomicU64,
    histories: Mutex<Vec<Vec<Operation>>>,
    refused: AtomicU64,
}

/// What was seen, counted.
#[derive(Debug, Default)]
pub struct Tally {
    pub verifications: usize,
    pub approved: usize,
    pub invalid: usize,
    pub ended: usize,
    pub unavailable: usize,
    /// Verifications that could not be started.
    pub refused: u64,
    /// Verifications that were approved more than once.
    pub twice: usize,
    /// Verifications that were compared more often than allowed, or with a count that was seen
    /// before.
    pub over: usize,
    /// Verifications whose history no order explains.
    pub unexplained: usize,
    /// One of them.
    pub example: Vec<Operation>,
}

impl Load {
    /// Starts clients that send to these processes until the load is over.
    pub fn start(processes: &[&Process], smtp: Arc<SmtpPeer>, clients: u64) -> (Arc<Self>, JoinSet<()>) {
        let load = Arc::new(Self {
            urls: processes.iter().map(|process| format!("http://{}", process.address())).collect(),
            smtp,
            client: Client::builder().no_proxy().build().expect("a client"),
            begun: Instant::now(),
            is_over: AtomicBool::new(false),
            number: AtomicU64::new(0),
            count: AtomicU64::new(0),
            compared: AtomicU64::new(0),
            started: AtomicU64::new(0),
            histories: Mutex::default(),
            refused: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        for seed in 0..clients {
            let load = Arc::clone(&load);
            tasks.spawn(async move {
                let mut random = SmallRng::seed_from_u64(seed);
                while !load.is_over.load(Ordering::Relaxed) {
                    load.verify(&mut random).await;
                }
            });
        }
        (load, tasks)
    }

    /// Ends the load, and returns what was seen.
    pub async fn end(self: Arc<Self>, mut tasks: JoinSet<()>, may_expire: bool) -> Tally {
        self.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no client panics");
        }
        let histories = std::mem::take(&mut *self.histories.lock().expect("no client panics"));
        let mut tally = Tally::of(&histories, may_expire);
        tally.refused = self.refused.load(Ordering::Relaxed);
        tally
    }

    /// Waits until a verification is started by a request that was sent after this moment, and
    /// returns how long that took.
    pub async fn serves_again(&self, since: Instant, limit: Duration) -> Duration {
        let moment = self.micros(since);
        let begun = Instant::now();
        loop {
            let started = self.started.load(Ordering::Relaxed);
            if started > moment {
                return Duration::from_micros(started - moment);
            }
            assert!(begun.elapsed() < limit, "no verification was started within {limit:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until so many more codes were compared.
    pub async fn compares(&self, more: u64, limit: Duration) {
        let (begun, before) = (Instant::now(), self.compared.load(Ordering::Relaxed));
        while self.compared.load(Ordering::Relaxed) < before + more {
            assert!(begun.elapsed() < limit, "fewer than {more} codes were compared within {limit:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until so many verifications were started in a row, and returns when the first of them
    /// was.
    pub async fn in_a_row(&self, wanted: u64, limit: Duration) -> Instant {
        let seen = || (self.refused.load(Ordering::Relaxed), self.count.load(Ordering::Relaxed));
        let begun = Instant::now();
        let (mut first, (mut refused, mut count)) = (begun, seen());
        loop {
            let now = seen();
            if now.0 != refused {
                (first, (refused, count)) = (Instant::now(), now);
            }
            if now.1 >= count + wanted {
                return first;
            }
            assert!(begun.elapsed() < limit, "requests fail even after {limit:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn micros(&self, moment: Instant) -> u64 {
        moment.duration_since(self.begun).as_micros().try_into().expect("a short time")
    }

    async fn verify(self: &Arc<Self>, random: &mut SmallRng) {
        let email = format!("person{}@example.com", self.number.fetch_add(1, Ordering::Relaxed));
        let sent = Instant::now();
        let (status, created) =
            self.send(Method::POST, self.url(random), "/v1/verifications", json!({ "email": email })).await;
        if status != 201 {
            self.refused.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(20)).await;
            return;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        // Only a request that began after a failure shows that it is over.
        self.started.fetch_max(self.micros(sent), Ordering::Relaxed);
        let id = created["id"].as_str().expect("an id").to_owned();
        let code = self.smtp.take_code_to(&email);
        let mut acts = ACTS.to_vec();
        acts.shuffle(random);
        let mut operations = JoinSet::new();
        for act in acts {
            let delay = Duration::from_millis(random.random_range(0..SPAN));
            let url = self.url(random).to_owned();
            let (load, id, code) = (Arc::clone(self), id.clone(), code.clone());
            operations.spawn(async move {
                tokio::time::sleep(delay).await;
                load.operate(act, &url, &id, &code).await
            });
        }
        let history = operations.join_all().await;
        self.histories.lock().expect("no client panics").push(history);
    }

    async fn operate(&self, act: Act, url: &str, id: &str, code: &str) -> Operation {
        let path = format!("/v1/verifications/{id}");
        let start = self.micros(Instant::now());
        let (status, answer) = match act {
            Act::Cancel => self.send(Method::DELETE, url, &path, Value::Null).await,
            Act::CheckRight => {
                self.send(Method::POST, url, &format!("{path}/check"), json!({ "code": code })).await
            }
            Act::CheckWrong => {
                let other = if code == "000000" { "000001" } else { "000000" };
                self.send(Method::POST, url, &format!("{path}/check"), json!({ "code": other })).await
            }
        };
        let end = self.micros(Instant::now());
        let seen = match (status, answer["code"].as_str()) {
            (200, _) => Seen::Approved,
            (204, _) => Seen::Canceled,
            (422, Some("invalid_code")) => {
                let left = answer["attempts_remaining"].as_u64().expect("a count");
                Seen::Invalid(left.try_into().expect("a small number"))
            }
            // A store that lost it answers as one in which it expired long ago.
            (404, _) => Seen::Ended(End::Expired),
            (410, _) => Seen::Ended(match answer["verification_status"].as_str() {
                Some("approved") => End::Approved,
                Some("canceled") => End::Canceled,
                Some("exhausted") => End::Exhausted,
                Some("expired") => End::Expired,
                other => panic!("{other:?}: {answer}"),
            }),
            (503 | 0, _) => Seen::Unknown,
            other => panic!("{other:?}: {answer}"),
        };
        if matches!(seen, Seen::Approved | Seen::Invalid(_)) {
            self.compared.fetch_add(1, Ordering::Relaxed);
        }
        Operation { act, seen, start, end }
    }

    /// Returns status and body; status 0 if there was no answer.
    async fn send(&self, method: Method, url: &str, path: &str, body: Value) -> (u16, Value) {
        let request = self.client.request(method, format!("{url}{path}")).bearer_auth(key(1));
        let request = if body.is_null() { request } else { request.json(&body) };
        match request.send().await {
            Ok(answer) => (answer.status().as_u16(), answer.json().await.unwrap_or_default()),
            Err(_) => (0, Value::Null),
        }
    }

    fn url(&self, random: &mut SmallRng) -> &str {
        &self.urls[random.random_range(0..self.urls.len())]
    }
}

impl Tally {
    fn of(histories: &[Vec<Operation>], may_expire: bool) -> Self {
        let rules = Rules { attempts: ATTEMPTS, may_expire };
        let mut tally = Self { verifications: histories.len(), ..Self::default() };
        for history in histories {
            let count = |wanted: fn(&Seen) -> bool| history.iter().filter(|one| wanted(&one.seen)).count();
            let approved = count(|seen| *seen == Seen::Approved);
            let invalid = count(|seen| matches!(seen, Seen::Invalid(_)));
            tally.approved += approved;
            tally.invalid += invalid;
            tally.ended += count(|seen| matches!(seen, Seen::Ended(_)));
            tally.unavailable += count(|seen| *seen == Seen::Unknown);
            tally.twice += usize::from(approved > 1);
            let mut counts: HashMap<u8, usize> = HashMap::new();
            for operation in history {
                if let Seen::Invalid(left @ 1..) = operation.seen {
                    *counts.entry(left).or_default() += 1;
                }
            }
            let compared = counts.values().sum::<usize>() + approved;
            let is_over = compared > ATTEMPTS.into() || counts.values().any(|times| *times > 1);
            tally.over += usize::from(is_over);
            if !rules.allow(history) {
                tally.unexplained += 1;
                tally.example.clone_from(history);
                tally.example.sort_by_key(|operation| operation.start);
            }
        }
        tally
    }

    /// Fails if a code was accepted twice, or a verification compared more often than allowed, or
    /// if nothing was seen.
    pub fn assert_safe(&self) {
        assert!(self.verifications > 0 && self.approved > 0 && self.invalid > 0, "{self:?}");
        assert_eq!((self.twice, self.over, self.unexplained), (0, 0, 0), "{self:#?}");
    }

    /// Returns the heading of the rows of a table.
    pub fn heading() -> &'static str {
        "| | verifications | not started | approved | wrong or lost | ended | unavailable | accepted twice \
         | compared too often | unexplained |\n|---|---|---|---|---|---|---|---|---|---|"
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} | {} | {} | {} | {} | {} | {} | {} | {} |",
            self.verifications,
            self.refused,
            self.approved,
            self.invalid,
            self.ended,
            self.unavailable,
            self.twice,
            self.over,
            self.unexplained
        )
    }
}

//! Failovers that sentinels decide on, under load: primaries that are killed, and ones that are cut
//! off from their replicas while clients still reach them.
//!
//! `OTPD_FAILOVERS` is how many of each; `make nightly` sets it, and prints the tables.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::commands::{run, text};
use crate::support::app::{Process, TestApp, eventually};
use crate::support::host::{Host, Network};
use crate::support::load::{Load, Tally};
use crate::support::of_run;
use crate::support::redis::RedisServer;
use crate::support::sentinel::Sentinels;
use crate::support::smtp::SmtpPeer;

/// How long after the failover the service may take to be back.
const RECOVERY: Duration = Duration::from_secs(2);
/// How long a failover may take, with what the clients do in between.
const TIMEOUT: Duration = Duration::from_secs(30);
const CLIENTS: u64 = 48;
/// How many codes are compared before each failover.
const COMPARED: u64 = 60;

/// What is done about writes that a failover loses.
#[derive(Debug, Clone, Copy)]
struct Guard {
    fence: bool,
    replicas: &'static str,
}

const FENCE: Guard = Guard { fence: true, replicas: "0" };
const BOTH: Guard = Guard { fence: true, replicas: "1" };
/// With all replicas, whichever is chosen has each write that was acknowledged.
const ALL_REPLICAS: Guard = Guard { fence: false, replicas: "2" };
/// Guards that narrow what is lost, or do not even that. The replica that has acknowledged a write
/// need not be the one that is chosen: what follows is shown, and not asserted.
const UNFENCED: [Guard; 2] = [Guard { fence: false, replicas: "1" }, Guard { fence: false, replicas: "0" }];

/// Two processes that share three Redis servers, and their clients.
struct Rig {
    sentinels: Sentinels,
    load: Arc<Load>,
    tasks: JoinSet<()>,
    guard: Guard,
    _processes: [Process; 2],
}

/// What the clients saw.
struct Outcome {
    tally: Tally,
    /// How many failovers there were. Sentinels that hear nothing from a primary for other reasons
    /// make more than were asked for.
    failovers: usize,
    /// The longest time from a failover until the service was back.
    slowest: Duration,
}

impl Rig {
    /// Starts the servers on these hosts, and a process on each of `on`.
    async fn start(
        hosts: [Host; 3],
        machine: Ipv4Addr,
        on: [(&Host, &'static [usize]); 2],
        guard: Guard,
    ) -> Self {
        let sentinels = Sentinels::start(hosts).await;
        let smtp = Arc::new(SmtpPeer::builder().on(machine).start().await);
        let start = async |(host, asks): (&Host, &'static [usize])| {
            let server = machine.to_string();
            let settings = TestApp::settings_for(
                &smtp,
                &[
                    ("SMTP_SERVER", &server),
                    ("REDIS_URL", &sentinels.url(asks)),
                    ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true"),
                    ("OTP_DANGEROUS__PLAINTEXT_SMTP", "true"),
                    ("OTP_REDIS__FENCE", if guard.fence { "true" } else { "false" }),
                    ("OTP_REDIS__WAIT_REPLICAS", guard.replicas),
                    ("OTP_ADMIN__LISTEN", "off"),
                    ("OTP_LOG__LEVEL", "info"),
                ],
            );
            Process::start_on(host, "serve", &settings).await
        };
        let processes = [start(on[0]).await, start(on[1]).await];
        let (load, tasks) = Load::start(&[&processes[0], &processes[1]], smtp, CLIENTS);
        Self { sentinels, load, tasks, guard, _processes: processes }
    }

    async fn end(self, slowest: Duration) -> Outcome {
        let failovers = self.sentinels.failovers().await;
        Outcome { tally: self.load.end(self.tasks, self.guard.fence).await, failovers, slowest }
    }
}

fn failovers() -> usize {
    of_run("OTPD_FAILOVERS").map_or(1, |number| number.parse().expect("a number"))
}

fn is_nightly() -> bool {
    of_run("OTPD_FAILOVERS").is_some()
}

/// Kills primaries, which come back as replicas without data.
async fn kill(guard: Guard) -> Outcome {
    on_one_host(guard, async |sentinels, old| sentinels.servers[old].stop()).await
}

/// Replaces healthy primaries, as operators do.
async fn replace(guard: Guard) -> Outcome {
    on_one_host(guard, async |sentinels, _| sentinels.replace_primary().await).await
}

/// Fails primaries over, each by `fail`, with everything on one host.
async fn on_one_host(guard: Guard, fail: impl AsyncFn(&Sentinels, usize)) -> Outcome {
    let here = Host::here();
    let hosts = [here.clone(), here.clone(), here.clone()];
    let all: &[usize] = &[0, 1, 2];
    let rig = Rig::start(hosts, Ipv4Addr::LOCALHOST, [(&here, all), (&here, all)], guard).await;
    let Rig { sentinels, load, .. } = &rig;
    let mut slowest = Duration::ZERO;
    for _ in 0..failovers() {
        load.compares(COMPARED, TIMEOUT).await;
        let old = sentinels.primary(0).await.expect("a primary");
        fail(sentinels, old).await;
        let new = sentinels.successor(old, all).await;
        slowest = slowest.max(load.serves_again(Instant::now(), TIMEOUT).await);
        if !sentinels.servers[old].is_running() {
            sentinels.rejoin(old, new).await;
        }
        sentinels.whole().await;
    }
    rig.end(slowest).await
}

/// Cuts primaries off from the other hosts. One process is on a host, and the other is outside and
/// reaches all of them, as long as its sentinel names one.
async fn cut_off(guard: Guard) -> Outcome {
    let network = Network::create();
    let hosts = network.hosts();
    let outside = Host { ip: network.machine().to_string(), namespace: None };
    let processes: [(&Host, &'static [usize]); 2] = [(&outside, &[0]), (&hosts[1], &[1, 2])];
    let rig = Rig::start(hosts.clone(), network.machine(), processes, guard).await;
    let Rig { sentinels, load, .. } = &rig;
    let mut slowest = Duration::ZERO;
    for _ in 0..failovers() {
        load.compares(COMPARED, TIMEOUT).await;
        let old = sentinels.primary(0).await.expect("a primary");
        network.cut(old);
        let others: Vec<_> = (0..3).filter(|other| *other != old).collect();
        sentinels.successor(old, &others).await;
        // One of the processes asks a sentinel that knows of the new primary.
        slowest = slowest.max(load.serves_again(Instant::now(), TIMEOUT).await);
        network.mend(old);
        sentinels.whole().await;
    }
    rig.end(slowest).await
}

/// Returns a row of the table.
fn row(what: &str, guard: Guard, outcome: &Outcome) -> String {
    let fence = if guard.fence { "on" } else { "off" };
    let Outcome { tally, failovers, slowest } = outcome;
    let back = slowest.as_secs_f64();
    let replicas = guard.replicas;
    format!(
        "| {what}, fence {fence}, WAIT {replicas}, {failovers} failovers, back after {back:.1} s | {tally}"
    )
}

fn assert_safe(guard: Guard, Outcome { tally, slowest, .. }: &Outcome) {
    tally.assert_safe();
    assert!(tally.unavailable > 0 || tally.refused > 0, "nobody noticed: {tally:?}");
    // All replicas are there once the old primary is one of them.
    let limit = if guard.replicas == ALL_REPLICAS.replicas { TIMEOUT } else { RECOVERY };
    assert!(*slowest < limit, "{slowest:?}");
}

/// Returns a table with a row for each of these guards, which must keep codes from being accepted
/// twice, and in `make nightly` one for each that need not.
async fn check(what: &str, safe: &[Guard], fail: impl AsyncFn(Guard) -> Outcome) -> String {
    let mut rows = vec![Tally::heading().to_owned()];
    for guard in safe {
        let outcome = fail(*guard).await;
        rows.push(row(what, *guard, &outcome));
        assert_safe(*guard, &outcome);
    }
    for guard in UNFENCED.into_iter().filter(|_| is_nightly()) {
        rows.push(row(what, guard, &fail(guard).await));
    }
    rows.join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn no_code_is_accepted_twice_when_a_primary_is_killed() {
    let guards: &[_] = if is_nightly() { &[FENCE, BOTH] } else { &[BOTH] };
    println!("{}", check("killed", guards, kill).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_code_is_accepted_twice_when_a_primary_is_cut_off() {
    let guards: &[_] = if is_nightly() { &[FENCE, BOTH] } else { &[FENCE] };
    println!("{}", check("cut off", guards, cut_off).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_code_is_accepted_twice_when_a_primary_is_replaced() {
    let guards: &[_] = if is_nightly() { &[FENCE, BOTH, ALL_REPLICAS] } else { &[FENCE] };
    println!("{}", check("replaced", guards, replace).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_was_idle_finds_the_new_primary_at_once() {
    let here = Host::here();
    let sentinels = Sentinels::start([here.clone(), here.clone(), here]).await;
    let smtp = SmtpPeer::builder().start().await;
    let url = sentinels.url(&[0, 1, 2]);
    let own = [("REDIS_URL", url.as_str()), ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true")];
    let process = Process::start("serve", &TestApp::settings_for(&smtp, &own)).await;
    eventually("it is ready", async || process.get("/readyz").await.status == 200).await;
    sentinels.servers[0].stop();
    let new = sentinels.successor(0, &[0, 1, 2]).await;
    let has_replica = async || sentinels.servers[new].replicas_online().await == 1;
    eventually("the other replica follows", has_replica).await;
    // A sentinel may be told of the new primary by the others.
    eventually("all know it", async || {
        let mut known = true;
        for sentinel in 0..3 {
            known &= sentinels.primary(sentinel).await == Some(new);
        }
        known
    })
    .await;
    for number in 0..4 {
        assert_eq!(process.send_otp(&format!("person{number}@example.com")).await.status, 200, "{number}");
    }

    // A command that ends soon waits for an answer all the same.
    sentinels.pause_sentinel(0);
    let folder = tempfile::tempdir().expect("a folder");
    let settings = TestApp::settings_for(&smtp, &own);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let said = text(&run(folder.path(), &settings, &["doctor"]).stdout);
    assert!(said.contains("ok    redis"), "{said}");
    let output = run(folder.path(), &settings, &["inspect", "person1@example.com"]);
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn a_wait_that_no_replica_can_meet_is_not_ready() {
    let app = TestApp::builder().single_redis().set("OTP_REDIS__WAIT_REPLICAS", "1").spawn().await;
    assert_eq!(app.get("/readyz").await.status, 503);
    assert_eq!(app.send_otp("person@example.com").await.status, 503);
    let replica = RedisServer::single().await;
    replica.follow(&app.redis).await;
    eventually("it is ready", async || app.get("/readyz").await.status == 200).await;
    app.code_for("person@example.com").await;
    replica.pause();
    eventually("it is not ready", async || app.get("/readyz").await.status == 503).await;
    let folder = tempfile::tempdir().expect("a folder");
    let settings: Vec<_> = app.settings().iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
    let said = text(&run(folder.path(), &settings, &["doctor"]).stdout);
    assert!(said.contains("0 of 1 replicas have acknowledged a write"), "{said}");
    replica.resume();
}

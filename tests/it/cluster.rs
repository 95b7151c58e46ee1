//! A cluster of three primaries with a replica each, under load: slots that move to another
//! primary, and primaries that die.
//!
//! The whole suite runs on such a cluster if `OTPD_TEST_CLUSTER` is set; `make nightly` does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::support::app::{Process, TestApp, eventually};
use crate::support::load::{Load, Tally};
use crate::support::of_run;
use crate::support::redis::RedisServer;
use crate::support::smtp::SmtpPeer;

/// How long the cluster may take to replace a primary.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How long after the failover the service may take to be back.
const RECOVERY: Duration = Duration::from_secs(2);
/// So many verifications in a row show that all slots are served.
const IN_A_ROW: u64 = 40;
const CLIENTS: u64 = 48;
/// How many codes are compared before anything happens to the cluster.
const COMPARED: u64 = 60;
/// The slots that move in the test.
const SLOTS: std::ops::Range<u16> = 0..400;

async fn process(smtp: &SmtpPeer, redis: &RedisServer, fence: &str, replicas: &str) -> Process {
    let url = redis.url();
    let settings = TestApp::settings_for(
        smtp,
        &[
            ("REDIS_URL", &url),
            ("OTP_DANGEROUS__PLAINTEXT_REDIS", "true"),
            ("OTP_REDIS__FENCE", fence),
            ("OTP_REDIS__WAIT_REPLICAS", replicas),
            ("OTP_LOG__LEVEL", "info"),
        ],
    );
    Process::start("serve", &settings).await
}

/// Moves slots with their keys from one primary to another, as `redis-cli --cluster reshard` does.
async fn reshard(from: &RedisServer, to: &RedisServer) {
    let (source, target) = (from.cluster(&["MYID"]).await, to.cluster(&["MYID"]).await);
    let mut connection = from.connection().await;
    for slot in SLOTS {
        let slot = slot.to_string();
        to.cluster(&["SETSLOT", &slot, "IMPORTING", &source]).await;
        from.cluster(&["SETSLOT", &slot, "MIGRATING", &target]).await;
        loop {
            let mut keys = redis::cmd("CLUSTER");
            keys.arg("GETKEYSINSLOT").arg(&slot).arg(100);
            let keys: Vec<String> = keys.query_async(&mut connection).await.expect("keys");
            if keys.is_empty() {
                break;
            }
            let mut migrate = redis::cmd("MIGRATE");
            migrate.arg(to.ip()).arg(to.port()).arg("").arg(0).arg(5000).arg("KEYS").arg(keys);
            migrate.exec_async(&mut connection).await.expect("the keys are moved");
        }
        to.cluster(&["SETSLOT", &slot, "NODE", &target]).await;
        from.cluster(&["SETSLOT", &slot, "NODE", &target]).await;
    }
}

/// Waits until a node is a primary with slots.
async fn promoted(node: &RedisServer) {
    eventually("the replica takes over", async || {
        let nodes = node.cluster(&["NODES"]).await;
        nodes.lines().any(|line| line.contains("myself,master") && line.split(' ').count() > 8)
    })
    .await;
}

fn rounds() -> usize {
    of_run("OTPD_FAILOVERS").map_or(1, |number| number.parse().expect("a number"))
}

/// Starts a cluster, and two processes with clients.
async fn start(fence: &str, replicas: &str) -> (RedisServer, [Process; 2], Arc<Load>, JoinSet<()>) {
    let redis = RedisServer::start_cluster(3, true).await;
    let smtp = Arc::new(SmtpPeer::builder().start().await);
    let processes =
        [process(&smtp, &redis, fence, replicas).await, process(&smtp, &redis, fence, replicas).await];
    let (load, tasks) = Load::start(&[&processes[0], &processes[1]], smtp, CLIENTS);
    load.compares(COMPARED, TIMEOUT).await;
    (redis, processes, load, tasks)
}

async fn assert_one_slot_a_call(processes: &[Process]) {
    for process in processes {
        let log = process.whole_log().await;
        assert!(!log.contains("CROSSSLOT"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn slots_move_under_load_and_nothing_is_accepted_twice() {
    // Without the fence, which would end the codes of slots that move.
    let (redis, processes, load, tasks) = start("false", "1").await;
    let nodes: Vec<_> = redis.nodes().collect();
    for round in 0..rounds() {
        let (from, to) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        reshard(nodes[from], nodes[to]).await;
    }
    let tally = load.end(tasks, false).await;
    println!("{}\n| slots moved | {tally}", Tally::heading());
    tally.assert_safe();
    assert_one_slot_a_call(&processes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn primaries_of_a_cluster_die_under_load_and_nothing_is_accepted_twice() {
    let (redis, processes, load, tasks) = start("true", "0").await;
    let nodes: Vec<_> = redis.nodes().collect();
    let mut slowest = Duration::ZERO;
    for round in 0..rounds() {
        let (old, new) = if round % 2 == 0 { (nodes[0], nodes[3]) } else { (nodes[3], nodes[0]) };
        old.stop_node();
        promoted(new).await;
        let switched = Instant::now();
        slowest = slowest.max(load.in_a_row(IN_A_ROW, TIMEOUT).await.duration_since(switched));
        old.start_node_again().await;
        eventually("it follows", async || new.replicas_online().await == 1).await;
    }
    for process in &processes {
        eventually("it is ready", async || process.get("/readyz").await.status == 200).await;
    }
    let tally = load.end(tasks, true).await;
    println!("{}\n| a primary killed, back after {:.1} s | {tally}", Tally::heading(), slowest.as_secs_f64());
    tally.assert_safe();
    assert!(slowest < RECOVERY, "{slowest:?}");
    assert_one_slot_a_call(&processes).await;
}

//! Calls that charge an IP first do what two calls do, step by step, and an approval refunds the IP
//! once.

use otpd::domain::limit::Policy;
use otpd::domain::limits::{Action, Charge, Limits};
use otpd::domain::store_key::{ClientNetwork, StoreKey};
use otpd::domain::tenant::Tenant;
use otpd::ports::{ChargeOutcome, IpEntry};

use crate::support::store::{
    Bench, TakenAttempt, address, attempt_charge, id, limits, network, recipient, token,
};

on_both_stores! {
    one_call_does_what_two_do,
    an_approval_refunds_the_ip_once,
    a_lost_approval_refunds_the_ip_nothing,
}

/// One of two callers that do the same with keys of their own.
struct Twin {
    keys: [StoreKey; 2],
    email: &'static str,
    networks: Vec<ClientNetwork>,
}

fn twins() -> [Twin; 2] {
    let twin = |email, number, ips: [&str; 3]| Twin {
        keys: [address(email), id(number)],
        email,
        networks: ips.map(network).into(),
    };
    [
        twin("a@example.com", 1, ["192.0.2.1", "2001:db8:1::1", "2001:db8:1:1::1"]),
        twin("b@example.com", 2, ["192.0.2.2", "2001:db8:2::1", "2001:db8:2:1::1"]),
    ]
}

fn narrow() -> Limits {
    limits(&[
        (Policy::IpSends, "4/1h"),
        (Policy::IpAttempts, "5/1h"),
        (Policy::EmailSends, "1/60s 6/1h"),
        (Policy::EmailSendsTotal, "30/1h"),
        (Policy::IpEmailSends, "3/1h"),
        (Policy::IpEmailAttempts, "4/1h"),
    ])
}

async fn one_call_does_what_two_do(bench: &Bench) {
    let (limits, [one, other]) = (narrow(), twins());
    // A fixed sequence that looks random, the same on each run.
    let mut state = 1_u64;
    let mut next = |most: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % most
    };
    let mut seen = [0; 4];
    for code in 0..400 {
        let (which, ip, what) =
            (usize::from(next(2) == 1), usize::try_from(next(3)).expect("a small number"), next(8));
        bench.clock.step([0, 1, 7_000, 61_000][usize::try_from(next(4)).expect("a small number")]);
        if what < 3 {
            let sent = send_at_once(bench, &limits, &one, which, ip).await;
            assert_eq!(sent, send_in_two_steps(bench, &limits, &other, which, ip).await, "{code}");
            seen[usize::from(sent.1.is_some())] += 1;
            if let Some((ChargeOutcome::Admitted { entry, .. }, _)) = sent.1 {
                for twin in [&one, &other] {
                    bench.open_for(&twin.keys[which], code, entry).await;
                }
            }
        } else {
            let charge = |twin: &Twin| twin.networks[ip].prefix48;
            let (first, second) = (charge(&one), charge(&other));
            let own = attempt_charge(&limits, &one.keys[which], &first);
            let attempt = ip_charge(&limits, Action::Attempt, &one, ip);
            let taken = bench.charge_ip_and_take_attempt(&attempt, own.as_ref(), &one.keys[which]).await;
            let own = attempt_charge(&limits, &other.keys[which], &second);
            let attempt = ip_charge(&limits, Action::Attempt, &other, ip);
            let charged = bench.store.charge(&attempt).await.expect("an answer");
            let then = match charged {
                ChargeOutcome::Refused(_) => None,
                ChargeOutcome::Admitted { .. } => {
                    Some(bench.take_attempt_for(own.as_ref(), &other.keys[which]).await)
                }
            };
            assert_eq!(taken, (charged, then), "{code}");
            seen[2 + usize::from(taken.1.is_some())] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 10), "refused and admitted, sends and attempts: {seen:?}");
}

type Sent = (ChargeOutcome, Option<(ChargeOutcome, bool)>);

async fn send_at_once(bench: &Bench, limits: &Limits, twin: &Twin, which: usize, ip: usize) -> Sent {
    let (attempt, recipient) =
        (ip_charge(limits, Action::Send, twin, ip), recipient(Tenant::Simple, twin.email));
    let charge = limits.send_charge(&recipient, Some(&twin.networks[ip].prefix48));
    let pending = (which == 0).then_some((&twin.keys[0], &bench.rules));
    let (charged, then) =
        bench.store.charge_ip_and_send(&attempt, &charge, pending).await.expect("an answer");
    (charged, then.map(|(outcome, salt)| (outcome, salt.is_some())))
}

async fn send_in_two_steps(bench: &Bench, limits: &Limits, twin: &Twin, which: usize, ip: usize) -> Sent {
    let charged = bench.store.charge(&ip_charge(limits, Action::Send, twin, ip)).await.expect("an answer");
    if let ChargeOutcome::Refused(_) = charged {
        return (charged, None);
    }
    let recipient = recipient(Tenant::Simple, twin.email);
    let charge = limits.send_charge(&recipient, Some(&twin.networks[ip].prefix48));
    let then = if which == 0 {
        let (outcome, salt) =
            bench.store.charge_send(&charge, &twin.keys[0], &bench.rules).await.expect("an answer");
        (outcome, salt.is_some())
    } else {
        (bench.store.charge(&charge).await.expect("an answer"), false)
    };
    (charged, Some(then))
}

fn ip_charge<'a>(limits: &'a Limits, action: Action, twin: &Twin, ip: usize) -> Charge<'a> {
    limits.ip_charge(action, &Tenant::Simple, &twin.networks[ip])
}

/// Charges an attempt, and returns the entry.
async fn charged<'a>(bench: &Bench, charge: &'a Charge<'a>) -> IpEntry<'a> {
    match bench.store.charge(charge).await.expect("an answer") {
        ChargeOutcome::Admitted { entry: id, .. } => IpEntry { charge, id },
        ChargeOutcome::Refused(_) => panic!("it is refused"),
    }
}

fn attempt_of<'a>(limits: &'a Limits, ip: &str) -> Charge<'a> {
    limits.ip_charge(Action::Attempt, &Tenant::Simple, &network(ip))
}

/// Returns how many attempts the IP has left.
async fn left(bench: &Bench, limits: &Limits, ip: &str) -> u32 {
    let charge = attempt_of(limits, ip);
    bench.store.peek(&charge).await.expect("an answer").remaining
}

async fn an_approval_refunds_the_ip_once(bench: &Bench) {
    let limits = narrow();
    for (number, ip) in [(1, "192.0.2.1"), (2, "2001:db8::1")] {
        let store_key = id(number);
        bench.open(&store_key, 1).await;
        let charge = attempt_of(&limits, ip);
        let entry = charged(bench, &charge).await;
        assert!(matches!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1)));
        assert_eq!(left(bench, &limits, ip).await, 4);
        let approve = async || {
            bench
                .store
                .approve(&store_key, &token(1, 1), None, Some(entry))
                .await
                .expect("an answer")
                .is_some()
        };
        assert!(approve().await);
        assert_eq!(left(bench, &limits, ip).await, 5, "{ip}");
        // The next entry of the same moment has the same id: it is not the winner's.
        assert_eq!(charged(bench, &charge).await.id, entry.id);
        assert!(approve().await, "the same token again");
        assert_eq!(left(bench, &limits, ip).await, 4, "{ip}");
        bench.clock.step(60_000);
    }
}

async fn a_lost_approval_refunds_the_ip_nothing(bench: &Bench) {
    let (limits, store_key, ip) = (narrow(), id(1), "192.0.2.1");
    bench.open(&store_key, 1).await;
    let charge = attempt_of(&limits, ip);
    let entry = charged(bench, &charge).await;
    let lost = bench.store.approve(&store_key, &token(2, 1), None, Some(entry)).await.expect("an answer");
    assert_eq!((lost, left(bench, &limits, ip).await), (None, 4));
}

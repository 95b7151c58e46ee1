//! What every memory of idempotency keys promises.

use std::time::Duration;

use otpd::domain::idempotency::{CLAIM_LIFE, Claim, Claimed, IdempotencyKey, KEPT};
use otpd::domain::verification_id::{ID_OCTETS, VerificationId};

use super::{TICK, at_once};
use crate::support::store::{Bench, index_key, tenant};

on_both_stores! {
    a_key_is_its_claimants_until_its_time_is_up,
    what_came_of_a_key_is_remembered_for_a_day,
    a_key_that_was_released_is_free,
    only_its_claimant_settles_or_releases_a_key,
    a_key_belongs_to_one_body_and_one_tenant,
    of_a_hundred_claims_at_once_one_begins,
}

/// A claim of a key by its number, with a body and by a claimant.
pub(super) fn claim(key: u8, body: &str, claimant: u8) -> Claim {
    claim_of("keyed", key, body, claimant)
}

fn claim_of(name: &str, key: u8, body: &str, claimant: u8) -> Claim {
    let parsed = IdempotencyKey::parse(&format!("key-{key}")).expect("a key");
    Claim {
        key: index_key().idempotency_key(&tenant(name), "create", &parsed),
        fingerprint: index_key().fingerprint(&[Some(body)]),
        claimant: [claimant; 16],
    }
}

fn id(number: u8) -> VerificationId {
    VerificationId::new([number; ID_OCTETS])
}

async fn claimed(bench: &Bench, claim: &Claim) -> Claimed {
    bench.claims.claim(claim).await.expect("an answer")
}

async fn settle(bench: &Bench, claim: &Claim, number: u8) {
    bench.claims.settle(claim, &id(number)).await.expect("an answer");
}

async fn release(bench: &Bench, claim: &Claim) {
    bench.claims.release(claim).await.expect("an answer");
}

async fn a_key_is_its_claimants_until_its_time_is_up(bench: &Bench) {
    assert_eq!(claimed(bench, &claim(1, "a", 1)).await, Claimed::Begun);
    assert_eq!(claimed(bench, &claim(1, "a", 2)).await, Claimed::InProgress);
    assert_eq!(claimed(bench, &claim(2, "a", 2)).await, Claimed::Begun, "another key");
    bench.clock.forward(CLAIM_LIFE.saturating_sub(TICK));
    assert_eq!(claimed(bench, &claim(1, "a", 2)).await, Claimed::InProgress);
    bench.clock.forward(TICK);
    assert_eq!(claimed(bench, &claim(1, "a", 2)).await, Claimed::Begun);
    // The one before is too late: the key is another's by now.
    settle(bench, &claim(1, "a", 1), 1).await;
    assert_eq!(claimed(bench, &claim(1, "a", 3)).await, Claimed::InProgress);
}

async fn what_came_of_a_key_is_remembered_for_a_day(bench: &Bench) {
    claimed(bench, &claim(1, "a", 1)).await;
    bench.clock.forward(Duration::from_secs(10));
    settle(bench, &claim(1, "a", 1), 7).await;
    assert_eq!(claimed(bench, &claim(1, "a", 2)).await, Claimed::Done(id(7)));
    bench.clock.forward(KEPT.saturating_sub(TICK));
    assert_eq!(claimed(bench, &claim(1, "a", 2)).await, Claimed::Done(id(7)));
    bench.clock.forward(TICK);
    assert_eq!(claimed(bench, &claim(1, "a", 2)).await, Claimed::Begun);
}

async fn a_key_that_was_released_is_free(bench: &Bench) {
    claimed(bench, &claim(1, "a", 1)).await;
    release(bench, &claim(1, "a", 1)).await;
    assert_eq!(claimed(bench, &claim(1, "b", 2)).await, Claimed::Begun, "also for another body");
    release(bench, &claim(3, "a", 1)).await;
    assert_eq!(claimed(bench, &claim(3, "a", 1)).await, Claimed::Begun);
}

async fn only_its_claimant_settles_or_releases_a_key(bench: &Bench) {
    let own = claim(1, "a", 1);
    claimed(bench, &own).await;
    for other in [claim(1, "a", 2), claim(1, "b", 1), claim(2, "a", 1)] {
        settle(bench, &other, 9).await;
        release(bench, &other).await;
        assert_eq!(claimed(bench, &claim(1, "a", 3)).await, Claimed::InProgress);
    }
    settle(bench, &own, 7).await;
    settle(bench, &own, 8).await;
    release(bench, &own).await;
    assert_eq!(claimed(bench, &claim(1, "a", 3)).await, Claimed::Done(id(7)));
}

async fn a_key_belongs_to_one_body_and_one_tenant(bench: &Bench) {
    claimed(bench, &claim(1, "a", 1)).await;
    assert_eq!(claimed(bench, &claim(1, "b", 2)).await, Claimed::Mismatch);
    settle(bench, &claim(1, "a", 1), 7).await;
    assert_eq!(claimed(bench, &claim(1, "b", 2)).await, Claimed::Mismatch);
    assert_eq!(claimed(bench, &claim_of("another", 1, "b", 2)).await, Claimed::Begun);
}

async fn of_a_hundred_claims_at_once_one_begins(bench: &Bench) {
    let calls = (0..100).map(|claimant| {
        let bench = bench.clone();
        async move { claimed(&bench, &claim(1, "a", claimant)).await }
    });
    let answers = at_once(calls).await;
    let count = |what| answers.iter().filter(|answer| **answer == what).count();
    assert_eq!((count(Claimed::Begun), count(Claimed::InProgress)), (1, 99));
}

//! The contract of every idempotency store.

use std::time::Duration;

use otpd::domain::idempotency::{
    BeginOutcome, IN_PROGRESS_TIMEOUT, IdempotencyKey, IdempotentRequest, RETENTION,
};
use otpd::domain::verification_id::{ID_BYTES, VerificationId};

use super::{TICK, at_once};
use crate::support::store::{Bench, index_key, tenant};

on_both_stores! {
    a_key_is_in_progress_until_its_time_is_up,
    the_result_of_a_key_is_stored_for_a_day,
    a_key_that_was_abandoned_is_free,
    only_the_token_that_began_completes_or_abandons_a_key,
    a_key_belongs_to_one_body_and_one_tenant,
    of_a_hundred_requests_at_once_one_begins,
}

/// Returns a request under a key by its number, with this body and token.
pub(super) fn request(key: u8, body: &str, token: u8) -> IdempotentRequest {
    request_of("keyed", key, body, token)
}

fn request_of(name: &str, key: u8, body: &str, token: u8) -> IdempotentRequest {
    let parsed = IdempotencyKey::parse(&format!("key-{key}")).expect("a key");
    IdempotentRequest {
        key: index_key().idempotency_key(&tenant(name), "create", &parsed),
        fingerprint: index_key().fingerprint(&[Some(body)]),
        token: [token; 16],
    }
}

fn id(number: u8) -> VerificationId {
    VerificationId::new([number; ID_BYTES])
}

async fn begin(bench: &Bench, request: &IdempotentRequest) -> BeginOutcome {
    bench.idempotency.begin(request).await.expect("an answer")
}

async fn complete(bench: &Bench, request: &IdempotentRequest, number: u8) {
    bench.idempotency.complete(request, &id(number)).await.expect("an answer");
}

async fn abandon(bench: &Bench, request: &IdempotentRequest) {
    bench.idempotency.abandon(request).await.expect("an answer");
}

async fn a_key_is_in_progress_until_its_time_is_up(bench: &Bench) {
    assert_eq!(begin(bench, &request(1, "a", 1)).await, BeginOutcome::Begun);
    assert_eq!(begin(bench, &request(1, "a", 2)).await, BeginOutcome::InProgress);
    assert_eq!(begin(bench, &request(2, "a", 2)).await, BeginOutcome::Begun, "another key");
    bench.clock.forward(IN_PROGRESS_TIMEOUT.saturating_sub(TICK));
    assert_eq!(begin(bench, &request(1, "a", 2)).await, BeginOutcome::InProgress);
    bench.clock.forward(TICK);
    assert_eq!(begin(bench, &request(1, "a", 2)).await, BeginOutcome::Begun);
    // The earlier request is too late: another request holds the key by now.
    complete(bench, &request(1, "a", 1), 1).await;
    assert_eq!(begin(bench, &request(1, "a", 3)).await, BeginOutcome::InProgress);
}

async fn the_result_of_a_key_is_stored_for_a_day(bench: &Bench) {
    begin(bench, &request(1, "a", 1)).await;
    bench.clock.forward(Duration::from_secs(10));
    complete(bench, &request(1, "a", 1), 7).await;
    assert_eq!(begin(bench, &request(1, "a", 2)).await, BeginOutcome::Done(id(7)));
    bench.clock.forward(RETENTION.saturating_sub(TICK));
    assert_eq!(begin(bench, &request(1, "a", 2)).await, BeginOutcome::Done(id(7)));
    bench.clock.forward(TICK);
    assert_eq!(begin(bench, &request(1, "a", 2)).await, BeginOutcome::Begun);
}

async fn a_key_that_was_abandoned_is_free(bench: &Bench) {
    begin(bench, &request(1, "a", 1)).await;
    abandon(bench, &request(1, "a", 1)).await;
    assert_eq!(begin(bench, &request(1, "b", 2)).await, BeginOutcome::Begun, "also for another body");
    abandon(bench, &request(3, "a", 1)).await;
    assert_eq!(begin(bench, &request(3, "a", 1)).await, BeginOutcome::Begun);
}

async fn only_the_token_that_began_completes_or_abandons_a_key(bench: &Bench) {
    let own = request(1, "a", 1);
    begin(bench, &own).await;
    for other in [request(1, "a", 2), request(1, "b", 1), request(2, "a", 1)] {
        complete(bench, &other, 9).await;
        abandon(bench, &other).await;
        assert_eq!(begin(bench, &request(1, "a", 3)).await, BeginOutcome::InProgress);
    }
    complete(bench, &own, 7).await;
    complete(bench, &own, 8).await;
    abandon(bench, &own).await;
    assert_eq!(begin(bench, &request(1, "a", 3)).await, BeginOutcome::Done(id(7)));
}

async fn a_key_belongs_to_one_body_and_one_tenant(bench: &Bench) {
    begin(bench, &request(1, "a", 1)).await;
    assert_eq!(begin(bench, &request(1, "b", 2)).await, BeginOutcome::Mismatch);
    complete(bench, &request(1, "a", 1), 7).await;
    assert_eq!(begin(bench, &request(1, "b", 2)).await, BeginOutcome::Mismatch);
    assert_eq!(begin(bench, &request_of("another", 1, "b", 2)).await, BeginOutcome::Begun);
}

async fn of_a_hundred_requests_at_once_one_begins(bench: &Bench) {
    let calls = (0..100).map(|token| {
        let bench = bench.clone();
        async move { begin(&bench, &request(1, "a", token)).await }
    });
    let answers = at_once(calls).await;
    let count = |what| answers.iter().filter(|answer| **answer == what).count();
    assert_eq!((count(BeginOutcome::Begun), count(BeginOutcome::InProgress)), (1, 99));
}

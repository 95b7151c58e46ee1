//! The code that was replaced, and what is known of emails, on both stores.

use std::time::Duration;

use otpd::domain::delivery::DeliveryStatus;
use otpd::domain::store_key::StoreKey;
use otpd::domain::verification::Status;

use super::{LIFE, OVERLAP, TICK, attempts_left, both_kinds, end, live};
use crate::support::store::{Bench, TakenAttempt, address, hash, id, provider_id};

/// A code that is hashed with another salt than those with low numbers.
const OTHER_SALT: u32 = 1 << 16;

on_both_stores! {
    the_code_before_stays_good_for_the_overlap,
    the_code_before_stays_good_until_its_own_end_at_most,
    of_three_codes_the_last_two_are_good,
    without_overlap_a_replaced_code_ends_at_once,
    an_attempt_at_two_codes_is_one_attempt,
    either_code_is_approved_once_and_ends_both,
    an_attempt_at_the_code_before_loses_once_that_has_ended,
    a_code_of_another_salt_ends_the_one_before,
    what_the_next_code_is_hashed_with_is_known_while_it_is_pending,
    a_refused_resend_makes_the_code_before_the_live_one_again,
    a_refused_resend_after_the_overlap_fails_the_verification,
    a_refused_mail_of_the_code_before_ends_that_code_only,
    the_delivery_is_that_of_the_newest_email,
    a_delivery_that_is_known_late_is_recorded,
}

fn with_overlap(bench: &Bench) -> Bench {
    let mut bench = bench.clone();
    bench.rules.overlap = OVERLAP;
    bench
}

/// Opens with code 1 and replaces it by code 2 a second later.
async fn two_codes(bench: &Bench, store_key: &StoreKey) {
    bench.open(store_key, 1).await;
    bench.clock.forward(Duration::from_secs(1));
    assert_eq!(live(bench.replace_code(store_key, 2).await), Some(LIFE));
}

async fn the_code_before_stays_good_for_the_overlap(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        two_codes(bench, &store_key).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::CompareBoth(2, 1));
        bench.clock.forward(OVERLAP.saturating_sub(TICK));
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::CompareBoth(2, 1));
        bench.clock.forward(TICK);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2));
        assert!(!bench.approve(&store_key, 1, 1).await);
        assert!(bench.approve(&store_key, 2, 1).await);
    }
    // Opening again is the same for an address.
    let store_key = address("again@example.com");
    bench.open(&store_key, 1).await;
    bench.open(&store_key, 2).await;
    assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::CompareBoth(2, 1));
    assert!(bench.approve(&store_key, 1, 1).await);
}

async fn the_code_before_stays_good_until_its_own_end_at_most(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        bench.clock.forward(LIFE.saturating_sub(OVERLAP / 2));
        bench.replace_code(&store_key, 2).await;
        bench.clock.forward((OVERLAP / 2).saturating_sub(TICK));
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::CompareBoth(2, 1));
        bench.clock.forward(TICK);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2));
        assert!(!bench.approve(&store_key, 1, 1).await);
    }
}

async fn of_three_codes_the_last_two_are_good(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        two_codes(bench, &store_key).await;
        bench.replace_code(&store_key, 3).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::CompareBoth(3, 2));
        assert!(!bench.approve(&store_key, 1, 1).await);
        assert!(bench.approve(&store_key, 2, 1).await);
    }
}

async fn without_overlap_a_replaced_code_ends_at_once(bench: &Bench) {
    for store_key in both_kinds(0) {
        two_codes(bench, &store_key).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2));
        assert!(!bench.approve(&store_key, 1, 1).await);
    }
}

async fn an_attempt_at_two_codes_is_one_attempt(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        bench.take_attempt(&store_key).await;
        bench.replace_code(&store_key, 2).await;
        for _ in 0..4 {
            assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::CompareBoth(2, 1));
        }
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Exhausted));
    }
}

async fn either_code_is_approved_once_and_ends_both(bench: &Bench) {
    let bench = &with_overlap(bench);
    for (first, other) in [(1, 2), (2, 1)] {
        for store_key in both_kinds(u8::try_from(first).expect("a few")) {
            two_codes(bench, &store_key).await;
            assert!(bench.approve(&store_key, first, 1).await);
            assert!(bench.approve(&store_key, first, 1).await, "the same token again");
            assert!(!bench.approve(&store_key, first, 2).await);
            assert!(!bench.approve(&store_key, other, 3).await);
            assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Approved));
        }
    }
}

async fn an_attempt_at_the_code_before_loses_once_that_has_ended(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        two_codes(bench, &store_key).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::CompareBoth(2, 1));
        bench.clock.forward(OVERLAP);
        assert!(!bench.approve(&store_key, 1, 1).await);
        assert_eq!(attempts_left(bench, &store_key).await, 4);
    }
}

async fn a_code_of_another_salt_ends_the_one_before(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        bench.replace_code(&store_key, OTHER_SALT).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(OTHER_SALT));
        assert!(!bench.approve(&store_key, 1, 1).await);
        bench.replace_code(&store_key, OTHER_SALT + 1).await;
        assert_eq!(
            bench.take_attempt(&store_key).await,
            TakenAttempt::CompareBoth(OTHER_SALT + 1, OTHER_SALT)
        );
    }
}

async fn what_the_next_code_is_hashed_with_is_known_while_it_is_pending(bench: &Bench) {
    for how in [Status::Approved, Status::Expired, Status::Exhausted, Status::Failed] {
        let store_key = address(&format!("{how:?}@example.com"));
        assert_eq!(bench.code_salt(&store_key).await, None);
        bench.open(&store_key, 1).await;
        assert_eq!(bench.code_salt(&store_key).await, Some(hash(1).code_salt()));
        bench.replace_code(&store_key, OTHER_SALT).await;
        assert_eq!(bench.code_salt(&store_key).await, Some(hash(OTHER_SALT).code_salt()));
        end(bench, &store_key, 1, how).await;
        assert_eq!(bench.code_salt(&store_key).await, None, "{how:?}");
        let store_key = id(how as u8);
        bench.open(&store_key, 1).await;
        let seen = bench.find(&store_key).await.expect("it is there");
        assert_eq!(seen.code_salt, Some(hash(1).code_salt()));
        end(bench, &store_key, 1, how).await;
        assert_eq!(bench.find(&store_key).await.expect("it is there").code_salt, None, "{how:?}");
    }
}

async fn a_refused_resend_makes_the_code_before_the_live_one_again(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        two_codes(bench, &store_key).await;
        bench.mark_failed(&store_key, 2).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
        assert!(!bench.approve(&store_key, 2, 1).await);
        // It lives until its own end, beyond the overlap.
        bench.clock.forward(LIFE.saturating_sub(Duration::from_secs(1)).saturating_sub(TICK));
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
        assert!(bench.approve(&store_key, 1, 1).await);
    }
    for store_key in both_kinds(1) {
        two_codes(bench, &store_key).await;
        bench.mark_failed(&store_key, 2).await;
        // It can be replaced, and stays good, as before.
        bench.replace_code(&store_key, 3).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::CompareBoth(3, 1));
        bench.mark_failed(&store_key, 3).await;
        bench.mark_failed(&store_key, 1).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
    }
}

async fn a_refused_resend_after_the_overlap_fails_the_verification(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        two_codes(bench, &store_key).await;
        bench.clock.forward(OVERLAP);
        bench.mark_failed(&store_key, 2).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
        assert!(!bench.approve(&store_key, 1, 1).await);
    }
}

async fn a_refused_mail_of_the_code_before_ends_that_code_only(bench: &Bench) {
    let bench = &with_overlap(bench);
    for store_key in both_kinds(0) {
        two_codes(bench, &store_key).await;
        bench.mark_failed(&store_key, 1).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2));
        assert!(!bench.approve(&store_key, 1, 1).await);
        bench.mark_failed(&store_key, 2).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
    }
}

async fn the_delivery_is_that_of_the_newest_email(bench: &Bench) {
    let bench = &with_overlap(bench);
    let store_key = id(1);
    let known = async || {
        let delivery = bench.find(&store_key).await.expect("it is there").delivery;
        (delivery.status, bench.clock.millis() - delivery.at, delivery.provider_id)
    };
    assert_eq!(bench.mark_accepted(&store_key, 1).await, None, "there is nothing");
    bench.open(&store_key, 1).await;
    bench.clock.forward(TICK);
    assert_eq!(known().await, (DeliveryStatus::Unknown, 1, None));
    assert_eq!(bench.mark_accepted(&store_key, 1).await, Some(bench.clock.millis()));
    assert_eq!(known().await, (DeliveryStatus::Accepted, 0, Some(provider_id(1))));
    bench.replace_code(&store_key, 2).await;
    bench.clock.forward(TICK);
    assert_eq!(known().await, (DeliveryStatus::Unknown, 1, None));
    assert_eq!(bench.mark_accepted(&store_key, 1).await, None, "the email of the code before");
    assert_eq!(known().await, (DeliveryStatus::Unknown, 1, None));
    bench.mark_failed(&store_key, 2).await;
    assert_eq!(known().await, (DeliveryStatus::Refused, 0, None));
    let seen = bench.find(&store_key).await.expect("it is there");
    assert_eq!(seen.status, Status::Pending, "the code before is live");
    bench.mark_failed(&store_key, 1).await;
    bench.clock.forward(TICK);
    assert_eq!(known().await, (DeliveryStatus::Refused, 1, None));
}

async fn a_delivery_that_is_known_late_is_recorded(bench: &Bench) {
    for how in [Status::Approved, Status::Expired, Status::Exhausted, Status::Canceled] {
        let store_key = id(how as u8);
        end(bench, &store_key, 1, how).await;
        assert!(bench.mark_accepted(&store_key, 1).await.is_some(), "{how:?}");
        let seen = bench.find(&store_key).await.expect("it is there");
        assert_eq!((seen.status, seen.delivery.status), (how, DeliveryStatus::Accepted));
        assert_eq!(seen.delivery.provider_id, Some(provider_id(1)));
    }
}

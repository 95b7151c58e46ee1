//! The contract of a store, tested on both: in memory and on a real Redis.
//!
//! The rules are those of the ports and of ARCHITECTURE.md. The tests set the clock.

use std::iter;
use std::time::Duration;

use otpd::domain::store_key::StoreKey;
use otpd::domain::verification::Status;
use otpd::ports::{OpenOutcome, ReplaceOutcome};
use tokio::task::JoinSet;

use crate::support::store::{Bench, RULES, TakenAttempt, about, address, id};

const LIFE: Duration = RULES.life;
const HOUR: Duration = Duration::from_hours(1);
const OVERLAP: Duration = Duration::from_mins(2);
const TICK: Duration = Duration::from_millis(1);

/// Every way in which a verification ends.
const ENDS: [Status; 5] =
    [Status::Approved, Status::Expired, Status::Exhausted, Status::Canceled, Status::Failed];

macro_rules! on_both_stores {
    ($($case:ident,)*) => {
        mod in_memory {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(&super::Bench::memory()).await;
            })*
        }

        mod on_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $case() {
                super::$case(&super::Bench::redis().await).await;
            })*
        }
    };
}

mod formats;
mod idempotency;
mod ip_first;
mod ledgers;
mod overlap;
mod redis_only;
mod test_mails;

on_both_stores! {
    a_code_is_live_for_the_policys_life,
    opening_again_replaces_the_code_and_restores_no_attempt,
    a_resend_replaces_the_code_and_restores_no_attempt,
    a_resend_restarts_the_life_but_never_beyond_thirty_minutes,
    after_any_end_a_new_verification_begins,
    a_new_verification_has_thirty_minutes_of_its_own,
    a_resend_leaves_what_has_ended_as_it_is,
    no_more_than_the_policys_attempts_are_taken,
    no_attempt_is_taken_once_it_has_ended,
    to_its_last_moment_a_code_is_live,
    right_at_its_expiry_a_code_is_dead,
    one_token_is_approved_once_and_may_repeat_its_call,
    a_token_of_another_code_is_never_approved,
    nothing_is_approved_after_a_failure_or_if_there_is_nothing,
    the_last_attempt_may_be_approved_until_the_code_expires,
    what_is_pending_is_canceled_and_what_has_ended_is_not,
    find_changes_nothing_and_returns_the_encrypted_details,
    a_failed_send_ends_its_own_code_only,
    a_failed_send_changes_nothing_once_it_has_ended,
    an_id_is_stored_with_its_end_for_an_hour,
    an_address_is_not_stored_after_its_end,
    store_keys_are_independent,
    of_a_hundred_tokens_at_once_one_is_approved,
    of_a_thousand_attempts_at_once_five_are_taken,
    resends_at_the_same_time_restore_no_attempt,
    it_is_ready,
}

/// Returns one store key of either kind.
fn both_kinds(number: u8) -> [StoreKey; 2] {
    [address(&format!("a+{number}@example.com")), id(number)]
}

/// Returns how long a resent code is valid, if it is.
fn live(replaced: ReplaceOutcome) -> Option<Duration> {
    match replaced {
        ReplaceOutcome::Opened(OpenOutcome::Live(live)) => Some(live.valid_for),
        _ => None,
    }
}

/// Opens a verification with this code and ends it. For an expiry, moves the clock exactly to it.
async fn end(bench: &Bench, store_key: &StoreKey, code: u32, how: Status) {
    bench.open(store_key, code).await;
    match how {
        Status::Pending => {}
        Status::Approved => assert!(bench.approve(store_key, code, 1).await),
        Status::Expired => bench.clock.forward(LIFE),
        Status::Exhausted => assert_eq!(attempts_left(bench, store_key).await, 5),
        Status::Failed => bench.mark_failed(store_key, code).await,
        Status::Canceled => assert_eq!(bench.cancel(store_key).await, Some(Status::Canceled)),
    }
}

/// Takes all attempts that are left, and returns how many there were.
async fn attempts_left(bench: &Bench, store_key: &StoreKey) -> usize {
    let mut attempts = 0;
    while matches!(bench.take_attempt(store_key).await, TakenAttempt::Compare(_)) {
        attempts += 1;
        assert!(attempts <= 255, "no rules allow so many");
    }
    attempts
}

/// Returns the expected outcome of an attempt at a verification that ended. An address is unknown
/// once its code has expired.
fn ended(store_key: &StoreKey, how: Status) -> TakenAttempt {
    match (store_key, how) {
        (StoreKey::Address { .. }, Status::Expired) => TakenAttempt::Unknown,
        _ => TakenAttempt::Closed(how),
    }
}

async fn at_once<C>(calls: impl Iterator<Item = C>) -> Vec<C::Output>
where
    C: Future<Output: Send + 'static> + Send + 'static,
{
    calls.collect::<JoinSet<_>>().join_all().await
}

async fn a_code_is_live_for_the_policys_life(bench: &Bench) {
    for store_key in both_kinds(0) {
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Unknown);
        assert_eq!(bench.open(&store_key, 1).await, LIFE);
        bench.clock.forward(LIFE.saturating_sub(TICK));
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
    }
}

async fn opening_again_replaces_the_code_and_restores_no_attempt(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        for _ in 0..3 {
            assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
        }
        bench.clock.forward(LIFE / 2);
        assert_eq!(bench.open(&store_key, 2).await, LIFE);
        assert!(!bench.approve(&store_key, 1, 1).await);
        bench.clock.forward(LIFE / 2);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2));
        assert_eq!(attempts_left(bench, &store_key).await, 1);
        assert!(bench.approve(&store_key, 2, 1).await);
    }
}

async fn a_resend_replaces_the_code_and_restores_no_attempt(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        for _ in 0..3 {
            assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
        }
        bench.clock.forward(LIFE / 2);
        assert_eq!(live(bench.replace_code(&store_key, 2).await), Some(LIFE));
        assert!(!bench.approve(&store_key, 1, 1).await);
        bench.clock.forward(LIFE / 2);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2));
        assert_eq!(attempts_left(bench, &store_key).await, 1);
        assert!(bench.approve(&store_key, 2, 1).await);
    }
}

async fn a_resend_restarts_the_life_but_never_beyond_thirty_minutes(bench: &Bench) {
    for (store_key, opens) in both_kinds(0).into_iter().chain(both_kinds(1)).zip([true, true, false, false]) {
        let again = async |code| {
            if opens {
                Some(bench.open(&store_key, code).await)
            } else {
                live(bench.replace_code(&store_key, code).await)
            }
        };
        bench.open(&store_key, 0).await;
        for minute in (4..=24).step_by(4) {
            bench.clock.forward(Duration::from_mins(4));
            assert_eq!(again(minute).await, Some(LIFE));
        }
        bench.clock.forward(Duration::from_mins(4));
        assert_eq!(again(28).await, Some(Duration::from_mins(2)));
        bench.clock.forward(Duration::from_mins(2).saturating_sub(TICK));
        assert_eq!(again(29).await, Some(TICK));
        bench.clock.forward(TICK);
        assert!(!bench.approve(&store_key, 29, 1).await);
        assert_eq!(bench.take_attempt(&store_key).await, ended(&store_key, Status::Expired));
    }
}

async fn after_any_end_a_new_verification_begins(bench: &Bench) {
    for how in ENDS {
        for store_key in both_kinds(how as u8) {
            end(bench, &store_key, 1, how).await;
            assert_eq!(bench.take_attempt(&store_key).await, ended(&store_key, how));
            assert_eq!(bench.open(&store_key, 2).await, LIFE, "{how:?}");
            assert!(!bench.approve(&store_key, 1, 1).await, "{how:?}");
            assert_eq!(attempts_left(bench, &store_key).await, 5, "{how:?}");
            assert!(bench.approve(&store_key, 2, 1).await, "{how:?}");
        }
    }
}

async fn a_new_verification_has_thirty_minutes_of_its_own(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.open(&store_key, 0).await;
        for minute in (4..=28).step_by(4) {
            bench.clock.forward(Duration::from_mins(4));
            bench.open(&store_key, minute).await;
        }
        bench.mark_failed(&store_key, 28).await;
        assert_eq!(bench.open(&store_key, 29).await, LIFE);
        bench.clock.forward(Duration::from_mins(4));
        assert_eq!(live(bench.replace_code(&store_key, 30).await), Some(LIFE));
    }
}

async fn a_resend_leaves_what_has_ended_as_it_is(bench: &Bench) {
    for how in ENDS {
        for store_key in both_kinds(how as u8) {
            assert_eq!(bench.replace_code(&store_key, 9).await, ReplaceOutcome::Unknown);
            assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Unknown, "a resend opens nothing");
            end(bench, &store_key, 1, how).await;
            match ended(&store_key, how) {
                TakenAttempt::Unknown => {
                    assert_eq!(bench.replace_code(&store_key, 2).await, ReplaceOutcome::Unknown);
                }
                _ => assert_eq!(bench.replace_code(&store_key, 2).await, ReplaceOutcome::Closed(how)),
            }
            assert_eq!(bench.take_attempt(&store_key).await, ended(&store_key, how));
            assert!(!bench.approve(&store_key, 2, 1).await, "{how:?}");
            let still_wins = matches!(how, Status::Approved | Status::Exhausted);
            assert_eq!(bench.approve(&store_key, 1, 1).await, still_wins, "{how:?}");
        }
    }
}

async fn no_more_than_the_policys_attempts_are_taken(bench: &Bench) {
    for attempts in [1, 5, 100] {
        let mut bench = bench.clone();
        bench.rules.attempts = attempts;
        for store_key in both_kinds(attempts) {
            bench.open(&store_key, 0).await;
            for attempt in 1..=u32::from(attempts) {
                assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(attempt - 1));
                if attempt < u32::from(attempts) {
                    assert_eq!(live(bench.replace_code(&store_key, attempt).await), Some(LIFE));
                }
            }
            assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Exhausted));
            assert_eq!(bench.replace_code(&store_key, 1000).await, ReplaceOutcome::Closed(Status::Exhausted));
            assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Exhausted));
        }
    }
}

async fn no_attempt_is_taken_once_it_has_ended(bench: &Bench) {
    for how in ENDS {
        for store_key in both_kinds(how as u8) {
            end(bench, &store_key, 1, how).await;
            for _ in 0..6 {
                assert_eq!(bench.take_attempt(&store_key).await, ended(&store_key, how));
            }
        }
    }
    // After the clock steps back, the code is live again: the refused attempts were not counted.
    let store_key = id(9);
    end(bench, &store_key, 1, Status::Expired).await;
    assert_eq!(attempts_left(bench, &store_key).await, 0);
    assert_eq!(attempts_left(bench, &store_key).await, 0);
    bench.clock.step(-1000);
    assert_eq!(attempts_left(bench, &store_key).await, 5);
}

/// Opens a verification, takes one attempt, and moves the clock to its expiry or this much before
/// it.
async fn expiring(bench: &Bench, store_key: &StoreKey, early: Duration) {
    bench.open(store_key, 1).await;
    bench.take_attempt(store_key).await;
    bench.clock.forward(LIFE.saturating_sub(early));
}

// Each call has a different store key, because Redis soon drops a key with a TTL of one
// millisecond.
async fn to_its_last_moment_a_code_is_live(bench: &Bench) {
    for store_key in both_kinds(0) {
        expiring(bench, &store_key, TICK).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
    }
    for store_key in both_kinds(1) {
        expiring(bench, &store_key, TICK).await;
        assert_eq!(live(bench.replace_code(&store_key, 2).await), Some(LIFE));
        assert_eq!(attempts_left(bench, &store_key).await, 4);
    }
    for store_key in both_kinds(2) {
        expiring(bench, &store_key, TICK).await;
        assert_eq!(bench.open(&store_key, 2).await, LIFE);
        assert_eq!(attempts_left(bench, &store_key).await, 4);
    }
    for store_key in both_kinds(3) {
        expiring(bench, &store_key, TICK).await;
        assert!(bench.approve(&store_key, 1, 1).await);
    }
    let store_key = id(4);
    expiring(bench, &store_key, TICK).await;
    bench.mark_failed(&store_key, 1).await;
    bench.clock.forward(TICK);
    assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
}

async fn right_at_its_expiry_a_code_is_dead(bench: &Bench) {
    for store_key in both_kinds(0) {
        expiring(bench, &store_key, Duration::ZERO).await;
        assert_eq!(bench.take_attempt(&store_key).await, ended(&store_key, Status::Expired));
        assert_ne!(live(bench.replace_code(&store_key, 2).await), Some(LIFE));
        assert!(!bench.approve(&store_key, 1, 1).await);
        bench.mark_failed(&store_key, 1).await;
        assert_eq!(bench.take_attempt(&store_key).await, ended(&store_key, Status::Expired));
        assert_eq!(bench.open(&store_key, 2).await, LIFE);
        assert_eq!(attempts_left(bench, &store_key).await, 5);
    }
}

async fn one_token_is_approved_once_and_may_repeat_its_call(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
        assert!(bench.approve(&store_key, 1, 1).await);
        for _ in 0..3 {
            assert!(bench.approve(&store_key, 1, 1).await, "the same token again");
            assert!(!bench.approve(&store_key, 1, 2).await, "another attempt at the same code");
            assert!(!bench.approve(&store_key, 2, 1).await, "the same attempt at another code");
            assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Approved));
        }
    }
    // The token may repeat its call for as long as the ended verification is stored.
    bench.clock.forward((LIFE + HOUR).saturating_sub(TICK));
    assert!(bench.approve(&id(0), 1, 1).await);
    assert!(!bench.approve(&id(0), 1, 2).await);
    bench.clock.forward(TICK);
    assert!(!bench.approve(&id(0), 1, 1).await);
}

async fn a_token_of_another_code_is_never_approved(bench: &Bench) {
    for (store_key, other) in both_kinds(0).into_iter().zip(both_kinds(1)) {
        bench.open(&store_key, 1).await;
        bench.open(&other, 2).await;
        assert!(!bench.approve(&store_key, 2, 1).await, "of another store_key");
        assert!(!bench.approve(&store_key, 3, 1).await, "of no store_key");
        bench.replace_code(&store_key, 4).await;
        assert!(!bench.approve(&store_key, 1, 1).await, "of before the resend");
        assert!(bench.approve(&store_key, 4, 1).await);
        bench.open(&store_key, 5).await;
        assert!(!bench.approve(&store_key, 4, 1).await, "of the verification before");
        assert!(bench.approve(&store_key, 5, 2).await);
        assert!(bench.approve(&other, 2, 1).await);
    }
}

async fn nothing_is_approved_after_a_failure_or_if_there_is_nothing(bench: &Bench) {
    for store_key in both_kinds(0) {
        assert!(!bench.approve(&store_key, 1, 1).await);
        end(bench, &store_key, 1, Status::Failed).await;
        assert!(!bench.approve(&store_key, 1, 1).await);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
    }
}

async fn the_last_attempt_may_be_approved_until_the_code_expires(bench: &Bench) {
    for [in_time, late] in [[address("a@example.com"), address("b@example.com")], [id(0), id(1)]] {
        end(bench, &in_time, 1, Status::Exhausted).await;
        end(bench, &late, 2, Status::Exhausted).await;
        bench.clock.forward(LIFE.saturating_sub(TICK));
        assert!(bench.approve(&in_time, 1, 5).await);
        assert!(!bench.approve(&in_time, 1, 4).await);
        bench.clock.forward(TICK);
        assert!(!bench.approve(&late, 2, 5).await);
    }
    assert_eq!(bench.take_attempt(&id(0)).await, TakenAttempt::Closed(Status::Approved));
    assert_eq!(bench.take_attempt(&id(1)).await, TakenAttempt::Closed(Status::Exhausted));
}

async fn what_is_pending_is_canceled_and_what_has_ended_is_not(bench: &Bench) {
    for (number, how) in (0..).zip(ENDS) {
        let store_key = id(number);
        end(bench, &store_key, 1, how).await;
        assert_eq!(bench.cancel(&store_key).await, Some(how));
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(how));
    }
    let store_key = id(100);
    assert_eq!(bench.cancel(&store_key).await, None);
    bench.open(&store_key, 1).await;
    assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(1));
    assert_eq!(bench.cancel(&store_key).await, Some(Status::Canceled));
    assert!(!bench.approve(&store_key, 1, 1).await, "an attempt that was on its way");
    assert_eq!(bench.replace_code(&store_key, 2).await, ReplaceOutcome::Closed(Status::Canceled));
    // The last attempt is taken and may still be approved, so nothing is left to cancel.
    let store_key = id(101);
    bench.open(&store_key, 1).await;
    attempts_left(bench, &store_key).await;
    assert_eq!(bench.cancel(&store_key).await, Some(Status::Exhausted));
    assert!(bench.approve(&store_key, 1, 5).await);
}

async fn find_changes_nothing_and_returns_the_encrypted_details(bench: &Bench) {
    let store_key = id(1);
    assert_eq!(bench.find(&store_key).await, None);
    bench.open(&store_key, 1).await;
    bench.take_attempt(&store_key).await;
    bench.replace_code(&store_key, 2).await;
    let seen = bench.find(&store_key).await.expect("it is there");
    assert_eq!((seen.status, seen.attempts, seen.approved_at), (Status::Pending, 1, None));
    assert_eq!(seen.encrypted, about(&store_key), "as it was opened");
    for _ in 0..10 {
        assert_eq!(bench.find(&store_key).await.as_ref(), Some(&seen));
    }
    bench.clock.forward(TICK);
    assert!(bench.approve(&store_key, 2, 1).await);
    bench.clock.forward(TICK);
    let seen = bench.find(&store_key).await.expect("it is there");
    assert_eq!((seen.status, seen.approved_at), (Status::Approved, Some(bench.clock.millis() - 1)));
    assert_eq!(
        bench.approved_at(&store_key, 2, 1, None).await,
        seen.approved_at,
        "the same to who asks again"
    );
}

async fn a_failed_send_ends_its_own_code_only(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.mark_failed(&store_key, 1).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Unknown);
        bench.open(&store_key, 1).await;
        bench.replace_code(&store_key, 2).await;
        bench.mark_failed(&store_key, 1).await;
        bench.mark_failed(&store_key, 7).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(2));
        bench.mark_failed(&store_key, 2).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
        // Nor does it affect the next verification.
        bench.open(&store_key, 3).await;
        bench.mark_failed(&store_key, 2).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(3));
        assert!(bench.approve(&store_key, 3, 1).await);
    }
}

async fn a_failed_send_changes_nothing_once_it_has_ended(bench: &Bench) {
    for how in [Status::Approved, Status::Expired, Status::Failed] {
        for store_key in both_kinds(how as u8) {
            end(bench, &store_key, 1, how).await;
            bench.mark_failed(&store_key, 1).await;
            assert_eq!(bench.take_attempt(&store_key).await, ended(&store_key, how));
            assert_eq!(bench.approve(&store_key, 1, 1).await, how == Status::Approved);
        }
    }
    // A code whose attempts are all taken is live until the last of them is decided, and so it can
    // fail.
    for store_key in both_kinds(9) {
        end(bench, &store_key, 1, Status::Exhausted).await;
        bench.mark_failed(&store_key, 1).await;
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(Status::Failed));
        assert!(!bench.approve(&store_key, 1, 5).await);
    }
}

async fn an_id_is_stored_with_its_end_for_an_hour(bench: &Bench) {
    for how in ENDS {
        let store_key = id(how as u8);
        end(bench, &store_key, 1, how).await;
        let to_expiry = if how == Status::Expired { Duration::ZERO } else { LIFE };
        bench.clock.forward((to_expiry + HOUR).saturating_sub(TICK));
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(how));
        assert_eq!(bench.replace_code(&store_key, 2).await, ReplaceOutcome::Closed(how));
        bench.clock.forward(TICK);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Unknown);
        assert_eq!(bench.replace_code(&store_key, 2).await, ReplaceOutcome::Unknown);
    }
}

async fn an_address_is_not_stored_after_its_end(bench: &Bench) {
    let store_key = address("a@example.com");
    for how in [Status::Approved, Status::Exhausted, Status::Failed] {
        end(bench, &store_key, 1, how).await;
        bench.clock.forward(LIFE.saturating_sub(TICK));
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Closed(how));
        bench.clock.forward(TICK);
        assert_eq!(bench.take_attempt(&store_key).await, TakenAttempt::Unknown);
        assert_eq!(bench.replace_code(&store_key, 2).await, ReplaceOutcome::Unknown);
        assert!(!bench.approve(&store_key, 1, 1).await);
    }
}

async fn store_keys_are_independent(bench: &Bench) {
    // Two of them are addresses of one recipient, whose keys differ only in the last part.
    let store_keys = [address("a+x@example.com"), address("a+y@example.com"), id(1), id(2)];
    for (code, store_key) in (0..).zip(&store_keys) {
        assert_eq!(bench.take_attempt(store_key).await, TakenAttempt::Unknown);
        bench.open(store_key, code).await;
    }
    assert_eq!(attempts_left(bench, &store_keys[0]).await, 5);
    assert!(bench.approve(&store_keys[2], 2, 1).await);
    for (code, store_key) in [(1, &store_keys[1]), (3, &store_keys[3])] {
        bench.mark_failed(store_key, code - 1).await;
        assert_eq!(bench.take_attempt(store_key).await, TakenAttempt::Compare(code));
        assert_eq!(attempts_left(bench, store_key).await, 4);
        assert!(bench.approve(store_key, code, 1).await);
    }
}

async fn of_a_hundred_tokens_at_once_one_is_approved(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        let winners = at_once((0..100).map(|attempt| {
            let (bench, store_key) = (bench.clone(), store_key.clone());
            async move { bench.approve(&store_key, 1, attempt).await.then_some(attempt) }
        }));
        let winners: Vec<u32> = winners.await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        let again = at_once(iter::repeat_n(winners[0], 100).map(|attempt| {
            let (bench, store_key) = (bench.clone(), store_key.clone());
            async move { bench.approve(&store_key, 1, attempt).await }
        }));
        assert_eq!(again.await, vec![true; 100]);
    }
}

async fn of_a_thousand_attempts_at_once_five_are_taken(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.open(&store_key, 1).await;
        let attempts = at_once((0..1000).map(|_| {
            let (bench, store_key) = (bench.clone(), store_key.clone());
            async move { bench.take_attempt(&store_key).await }
        }));
        let attempts = attempts.await;
        let count = |wanted| attempts.iter().filter(|attempt| **attempt == wanted).count();
        assert_eq!(
            (count(TakenAttempt::Compare(1)), count(TakenAttempt::Closed(Status::Exhausted))),
            (5, 995)
        );
    }
}

async fn resends_at_the_same_time_restore_no_attempt(bench: &Bench) {
    for store_key in both_kinds(0) {
        bench.open(&store_key, 0).await;
        let handed_out = at_once((1..=300).map(|call| {
            let (bench, store_key) = (bench.clone(), store_key.clone());
            async move {
                if call % 3 == 0 {
                    bench.replace_code(&store_key, call).await;
                    return false;
                }
                matches!(bench.take_attempt(&store_key).await, TakenAttempt::Compare(_))
            }
        }));
        let handed_out = handed_out.await.into_iter().filter(|compared| *compared).count();
        assert_eq!(handed_out, 5);
    }
}

async fn it_is_ready(bench: &Bench) {
    bench.store.ready().await.expect("an answer");
}

#[tokio::test]
async fn sweeping_the_memory_forgets_only_what_nobody_can_ask_about() {
    let bench = Bench::memory();
    end(&bench, &id(1), 1, Status::Failed).await;
    bench.clock.forward(LIFE / 2);
    bench.open(&address("live@example.com"), 2).await;
    for number in 0..3000 {
        bench.open(&address(&format!("{number}@example.com")), number).await;
    }
    assert_eq!(bench.take_attempt(&id(1)).await, TakenAttempt::Closed(Status::Failed));
    assert_eq!(bench.take_attempt(&address("live@example.com")).await, TakenAttempt::Compare(2));
}

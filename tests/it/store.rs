//! What every store promises, each promise kept by both: in memory and on a real Redis.
//!
//! Ports and the ledgers' document say the rules; time is the test's to set.

use std::iter;
use std::time::Duration;

use otpd::domain::slot::Slot;
use otpd::domain::verification::Status;
use otpd::ports::{Opened, Recoded};
use tokio::task::JoinSet;

use crate::support::store::{Bench, POLICY, Spent, about, address, id};

const LIFE: Duration = POLICY.life;
const HOUR: Duration = Duration::from_hours(1);
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

mod claims;
mod ledgers;
mod redis_only;

on_both_stores! {
    a_code_is_live_for_the_policys_life,
    opening_again_replaces_the_code_and_keeps_what_was_spent,
    a_resend_replaces_the_code_and_keeps_what_was_spent,
    a_resend_restarts_the_life_but_never_beyond_thirty_minutes,
    after_any_end_a_new_verification_begins,
    a_new_verification_has_thirty_minutes_of_its_own,
    a_resend_leaves_what_has_ended_as_it_is,
    no_more_than_the_policys_guesses_are_handed_out,
    nothing_is_spent_once_it_has_ended,
    to_its_last_moment_a_code_is_live,
    right_at_its_expiry_a_code_is_dead,
    one_token_wins_once_and_may_ask_again,
    a_token_of_another_code_never_wins,
    nothing_wins_after_a_failure_or_where_there_is_nothing,
    the_last_guess_may_still_win_until_the_code_expires,
    what_is_pending_is_canceled_and_what_has_ended_is_not,
    looking_changes_nothing_and_tells_what_was_sealed,
    a_failed_send_ends_its_own_code_only,
    a_failed_send_changes_nothing_once_it_has_ended,
    an_id_is_remembered_with_its_end_for_an_hour,
    an_address_is_not_remembered,
    slots_know_nothing_of_each_other,
    of_a_hundred_tokens_at_once_one_wins,
    of_a_thousand_guesses_at_once_five_are_handed_out,
    resends_at_the_same_time_bring_no_guess_back,
    it_is_ready,
}

/// One slot of either kind.
fn both_kinds(number: u8) -> [Slot; 2] {
    [address(&format!("a+{number}@example.com")), id(number)]
}

/// How long a resent code is valid, if it is.
fn live(recoded: Recoded) -> Option<Duration> {
    match recoded {
        Recoded::Opened(Opened::Live(live)) => Some(live.valid_for),
        _ => None,
    }
}

/// Opens a verification with this code, ends it, and leaves the clock at the end or on it.
async fn end(bench: &Bench, slot: &Slot, code: u32, how: Status) {
    bench.open(slot, code).await;
    match how {
        Status::Pending => {}
        Status::Approved => assert!(bench.consume(slot, code, 1).await),
        Status::Expired => bench.clock.forward(LIFE),
        Status::Exhausted => assert_eq!(guesses_left(bench, slot).await, 5),
        Status::Failed => bench.fail(slot, code).await,
        Status::Canceled => assert_eq!(bench.cancel(slot).await, Some(Status::Canceled)),
    }
}

/// Spends all that is left, and says how much it was.
async fn guesses_left(bench: &Bench, slot: &Slot) -> usize {
    let mut spent = 0;
    while matches!(bench.spend(slot).await, Spent::Compare(_)) {
        spent += 1;
        assert!(spent <= 255, "no policy allows so many");
    }
    spent
}

/// An address cannot be asked about once its code has expired.
fn ended(slot: &Slot, how: Status) -> Spent {
    match (slot, how) {
        (Slot::Address { .. }, Status::Expired) => Spent::Unknown,
        _ => Spent::Closed(how),
    }
}

async fn at_once<C>(calls: impl Iterator<Item = C>) -> Vec<C::Output>
where
    C: Future<Output: Send + 'static> + Send + 'static,
{
    calls.collect::<JoinSet<_>>().join_all().await
}

async fn a_code_is_live_for_the_policys_life(bench: &Bench) {
    for slot in both_kinds(0) {
        assert_eq!(bench.spend(&slot).await, Spent::Unknown);
        assert_eq!(bench.open(&slot, 1).await, LIFE);
        bench.clock.forward(LIFE.saturating_sub(TICK));
        assert_eq!(bench.spend(&slot).await, Spent::Compare(1));
    }
}

async fn opening_again_replaces_the_code_and_keeps_what_was_spent(bench: &Bench) {
    for slot in both_kinds(0) {
        bench.open(&slot, 1).await;
        for _ in 0..3 {
            assert_eq!(bench.spend(&slot).await, Spent::Compare(1));
        }
        bench.clock.forward(LIFE / 2);
        assert_eq!(bench.open(&slot, 2).await, LIFE);
        assert!(!bench.consume(&slot, 1, 1).await);
        bench.clock.forward(LIFE / 2);
        assert_eq!(bench.spend(&slot).await, Spent::Compare(2));
        assert_eq!(guesses_left(bench, &slot).await, 1);
        assert!(bench.consume(&slot, 2, 1).await);
    }
}

async fn a_resend_replaces_the_code_and_keeps_what_was_spent(bench: &Bench) {
    for slot in both_kinds(0) {
        bench.open(&slot, 1).await;
        for _ in 0..3 {
            assert_eq!(bench.spend(&slot).await, Spent::Compare(1));
        }
        bench.clock.forward(LIFE / 2);
        assert_eq!(live(bench.recode(&slot, 2).await), Some(LIFE));
        assert!(!bench.consume(&slot, 1, 1).await);
        bench.clock.forward(LIFE / 2);
        assert_eq!(bench.spend(&slot).await, Spent::Compare(2));
        assert_eq!(guesses_left(bench, &slot).await, 1);
        assert!(bench.consume(&slot, 2, 1).await);
    }
}

async fn a_resend_restarts_the_life_but_never_beyond_thirty_minutes(bench: &Bench) {
    for (slot, opens) in both_kinds(0).into_iter().chain(both_kinds(1)).zip([true, true, false, false]) {
        let again = async |code| {
            if opens { Some(bench.open(&slot, code).await) } else { live(bench.recode(&slot, code).await) }
        };
        bench.open(&slot, 0).await;
        for minute in (4..=24).step_by(4) {
            bench.clock.forward(Duration::from_mins(4));
            assert_eq!(again(minute).await, Some(LIFE));
        }
        bench.clock.forward(Duration::from_mins(4));
        assert_eq!(again(28).await, Some(Duration::from_mins(2)));
        bench.clock.forward(Duration::from_mins(2).saturating_sub(TICK));
        assert_eq!(again(29).await, Some(TICK));
        bench.clock.forward(TICK);
        assert!(!bench.consume(&slot, 29, 1).await);
        assert_eq!(bench.spend(&slot).await, ended(&slot, Status::Expired));
    }
}

async fn after_any_end_a_new_verification_begins(bench: &Bench) {
    for how in ENDS {
        for slot in both_kinds(how as u8) {
            end(bench, &slot, 1, how).await;
            assert_eq!(bench.spend(&slot).await, ended(&slot, how));
            assert_eq!(bench.open(&slot, 2).await, LIFE, "{how:?}");
            assert!(!bench.consume(&slot, 1, 1).await, "{how:?}");
            assert_eq!(guesses_left(bench, &slot).await, 5, "{how:?}");
            assert!(bench.consume(&slot, 2, 1).await, "{how:?}");
        }
    }
}

async fn a_new_verification_has_thirty_minutes_of_its_own(bench: &Bench) {
    for slot in both_kinds(0) {
        bench.open(&slot, 0).await;
        for minute in (4..=28).step_by(4) {
            bench.clock.forward(Duration::from_mins(4));
            bench.open(&slot, minute).await;
        }
        bench.fail(&slot, 28).await;
        assert_eq!(bench.open(&slot, 29).await, LIFE);
        bench.clock.forward(Duration::from_mins(4));
        assert_eq!(live(bench.recode(&slot, 30).await), Some(LIFE));
    }
}

async fn a_resend_leaves_what_has_ended_as_it_is(bench: &Bench) {
    for how in ENDS {
        for slot in both_kinds(how as u8) {
            assert_eq!(bench.recode(&slot, 9).await, Recoded::Unknown);
            assert_eq!(bench.spend(&slot).await, Spent::Unknown, "a resend opens nothing");
            end(bench, &slot, 1, how).await;
            match ended(&slot, how) {
                Spent::Unknown => assert_eq!(bench.recode(&slot, 2).await, Recoded::Unknown),
                _ => assert_eq!(bench.recode(&slot, 2).await, Recoded::Closed(how)),
            }
            assert_eq!(bench.spend(&slot).await, ended(&slot, how));
            assert!(!bench.consume(&slot, 2, 1).await, "{how:?}");
            let still_wins = matches!(how, Status::Approved | Status::Exhausted);
            assert_eq!(bench.consume(&slot, 1, 1).await, still_wins, "{how:?}");
        }
    }
}

async fn no_more_than_the_policys_guesses_are_handed_out(bench: &Bench) {
    for guesses in [1, 5, 255] {
        let mut bench = bench.clone();
        bench.policy.guesses = guesses;
        for slot in both_kinds(guesses) {
            bench.open(&slot, 0).await;
            for guess in 1..=u32::from(guesses) {
                assert_eq!(bench.spend(&slot).await, Spent::Compare(guess - 1));
                if guess < u32::from(guesses) {
                    assert_eq!(live(bench.recode(&slot, guess).await), Some(LIFE));
                }
            }
            assert_eq!(bench.spend(&slot).await, Spent::Closed(Status::Exhausted));
            assert_eq!(bench.recode(&slot, 1000).await, Recoded::Closed(Status::Exhausted));
            assert_eq!(bench.spend(&slot).await, Spent::Closed(Status::Exhausted));
        }
    }
}

async fn nothing_is_spent_once_it_has_ended(bench: &Bench) {
    for how in ENDS {
        for slot in both_kinds(how as u8) {
            end(bench, &slot, 1, how).await;
            for _ in 0..6 {
                assert_eq!(bench.spend(&slot).await, ended(&slot, how));
            }
        }
    }
    // A clock that steps back shows that the refused guesses were not counted.
    let slot = id(9);
    end(bench, &slot, 1, Status::Expired).await;
    assert_eq!(guesses_left(bench, &slot).await, 0);
    assert_eq!(guesses_left(bench, &slot).await, 0);
    bench.clock.step(-1000);
    assert_eq!(guesses_left(bench, &slot).await, 5);
}

/// Opens a verification, spends one guess, and goes to its expiry, or to a little before.
async fn expiring(bench: &Bench, slot: &Slot, early: Duration) {
    bench.open(slot, 1).await;
    bench.spend(slot).await;
    bench.clock.forward(LIFE.saturating_sub(early));
}

// A key that Redis was given with one millisecond to go is gone soon after, so each call has a slot of its own.
async fn to_its_last_moment_a_code_is_live(bench: &Bench) {
    for slot in both_kinds(0) {
        expiring(bench, &slot, TICK).await;
        assert_eq!(bench.spend(&slot).await, Spent::Compare(1));
    }
    for slot in both_kinds(1) {
        expiring(bench, &slot, TICK).await;
        assert_eq!(live(bench.recode(&slot, 2).await), Some(LIFE));
        assert_eq!(guesses_left(bench, &slot).await, 4);
    }
    for slot in both_kinds(2) {
        expiring(bench, &slot, TICK).await;
        assert_eq!(bench.open(&slot, 2).await, LIFE);
        assert_eq!(guesses_left(bench, &slot).await, 4);
    }
    for slot in both_kinds(3) {
        expiring(bench, &slot, TICK).await;
        assert!(bench.consume(&slot, 1, 1).await);
    }
    let slot = id(4);
    expiring(bench, &slot, TICK).await;
    bench.fail(&slot, 1).await;
    bench.clock.forward(TICK);
    assert_eq!(bench.spend(&slot).await, Spent::Closed(Status::Failed));
}

async fn right_at_its_expiry_a_code_is_dead(bench: &Bench) {
    for slot in both_kinds(0) {
        expiring(bench, &slot, Duration::ZERO).await;
        assert_eq!(bench.spend(&slot).await, ended(&slot, Status::Expired));
        assert_ne!(live(bench.recode(&slot, 2).await), Some(LIFE));
        assert!(!bench.consume(&slot, 1, 1).await);
        bench.fail(&slot, 1).await;
        assert_eq!(bench.spend(&slot).await, ended(&slot, Status::Expired));
        assert_eq!(bench.open(&slot, 2).await, LIFE);
        assert_eq!(guesses_left(bench, &slot).await, 5);
    }
}

async fn one_token_wins_once_and_may_ask_again(bench: &Bench) {
    for slot in both_kinds(0) {
        bench.open(&slot, 1).await;
        assert_eq!(bench.spend(&slot).await, Spent::Compare(1));
        assert!(bench.consume(&slot, 1, 1).await);
        for _ in 0..3 {
            assert!(bench.consume(&slot, 1, 1).await, "the same token again");
            assert!(!bench.consume(&slot, 1, 2).await, "another guess at the same code");
            assert!(!bench.consume(&slot, 2, 1).await, "the same guess at another code");
            assert_eq!(bench.spend(&slot).await, Spent::Closed(Status::Approved));
        }
    }
    // It may ask for as long as the end is remembered.
    bench.clock.forward((LIFE + HOUR).saturating_sub(TICK));
    assert!(bench.consume(&id(0), 1, 1).await);
    assert!(!bench.consume(&id(0), 1, 2).await);
    bench.clock.forward(TICK);
    assert!(!bench.consume(&id(0), 1, 1).await);
}

async fn a_token_of_another_code_never_wins(bench: &Bench) {
    for (slot, other) in both_kinds(0).into_iter().zip(both_kinds(1)) {
        bench.open(&slot, 1).await;
        bench.open(&other, 2).await;
        assert!(!bench.consume(&slot, 2, 1).await, "of another slot");
        assert!(!bench.consume(&slot, 3, 1).await, "of no slot");
        bench.recode(&slot, 4).await;
        assert!(!bench.consume(&slot, 1, 1).await, "of before the resend");
        assert!(bench.consume(&slot, 4, 1).await);
        bench.open(&slot, 5).await;
        assert!(!bench.consume(&slot, 4, 1).await, "of the verification before");
        assert!(bench.consume(&slot, 5, 2).await);
        assert!(bench.consume(&other, 2, 1).await);
    }
}

async fn nothing_wins_after_a_failure_or_where_there_is_nothing(bench: &Bench) {
    for slot in both_kinds(0) {
        assert!(!bench.consume(&slot, 1, 1).await);
        end(bench, &slot, 1, Status::Failed).await;
        assert!(!bench.consume(&slot, 1, 1).await);
        assert_eq!(bench.spend(&slot).await, Spent::Closed(Status::Failed));
    }
}

async fn the_last_guess_may_still_win_until_the_code_expires(bench: &Bench) {
    for [in_time, late] in [[address("a@example.com"), address("b@example.com")], [id(0), id(1)]] {
        end(bench, &in_time, 1, Status::Exhausted).await;
        end(bench, &late, 2, Status::Exhausted).await;
        bench.clock.forward(LIFE.saturating_sub(TICK));
        assert!(bench.consume(&in_time, 1, 5).await);
        assert!(!bench.consume(&in_time, 1, 4).await);
        bench.clock.forward(TICK);
        assert!(!bench.consume(&late, 2, 5).await);
    }
    assert_eq!(bench.spend(&id(0)).await, Spent::Closed(Status::Approved));
    assert_eq!(bench.spend(&id(1)).await, Spent::Closed(Status::Exhausted));
}

async fn what_is_pending_is_canceled_and_what_has_ended_is_not(bench: &Bench) {
    for (number, how) in (0..).zip(ENDS) {
        let slot = id(number);
        end(bench, &slot, 1, how).await;
        assert_eq!(bench.cancel(&slot).await, Some(how));
        assert_eq!(bench.spend(&slot).await, Spent::Closed(how));
    }
    let slot = id(100);
    assert_eq!(bench.cancel(&slot).await, None);
    bench.open(&slot, 1).await;
    assert_eq!(bench.spend(&slot).await, Spent::Compare(1));
    assert_eq!(bench.cancel(&slot).await, Some(Status::Canceled));
    assert!(!bench.consume(&slot, 1, 1).await, "a guess that was on its way");
    assert_eq!(bench.recode(&slot, 2).await, Recoded::Closed(Status::Canceled));
    // The last guess is spent: it may still win, so that nothing is left to be canceled.
    let slot = id(101);
    bench.open(&slot, 1).await;
    guesses_left(bench, &slot).await;
    assert_eq!(bench.cancel(&slot).await, Some(Status::Exhausted));
    assert!(bench.consume(&slot, 1, 5).await);
}

async fn looking_changes_nothing_and_tells_what_was_sealed(bench: &Bench) {
    let slot = id(1);
    assert_eq!(bench.look(&slot).await, None);
    bench.open(&slot, 1).await;
    bench.spend(&slot).await;
    bench.recode(&slot, 2).await;
    let seen = bench.look(&slot).await.expect("it is there");
    assert_eq!((seen.status, seen.spent, seen.won_at), (Status::Pending, 1, None));
    assert_eq!(seen.sealed, about(&slot), "as it was opened");
    for _ in 0..10 {
        assert_eq!(bench.look(&slot).await.as_ref(), Some(&seen));
    }
    bench.clock.forward(TICK);
    assert!(bench.consume(&slot, 2, 1).await);
    bench.clock.forward(TICK);
    let seen = bench.look(&slot).await.expect("it is there");
    assert_eq!((seen.status, seen.won_at), (Status::Approved, Some(bench.clock.millis() - 1)));
    assert_eq!(bench.won_at(&slot, 2, 1, None).await, seen.won_at, "the same to who asks again");
}

async fn a_failed_send_ends_its_own_code_only(bench: &Bench) {
    for slot in both_kinds(0) {
        bench.fail(&slot, 1).await;
        assert_eq!(bench.spend(&slot).await, Spent::Unknown);
        bench.open(&slot, 1).await;
        bench.recode(&slot, 2).await;
        bench.fail(&slot, 1).await;
        bench.fail(&slot, 7).await;
        assert_eq!(bench.spend(&slot).await, Spent::Compare(2));
        bench.fail(&slot, 2).await;
        assert_eq!(bench.spend(&slot).await, Spent::Closed(Status::Failed));
        // The next verification is none of its business either.
        bench.open(&slot, 3).await;
        bench.fail(&slot, 2).await;
        assert_eq!(bench.spend(&slot).await, Spent::Compare(3));
        assert!(bench.consume(&slot, 3, 1).await);
    }
}

async fn a_failed_send_changes_nothing_once_it_has_ended(bench: &Bench) {
    for how in [Status::Approved, Status::Expired, Status::Failed] {
        for slot in both_kinds(how as u8) {
            end(bench, &slot, 1, how).await;
            bench.fail(&slot, 1).await;
            assert_eq!(bench.spend(&slot).await, ended(&slot, how));
            assert_eq!(bench.consume(&slot, 1, 1).await, how == Status::Approved);
        }
    }
    // A code whose guesses are all spent is live for the last of them, and so can fail.
    for slot in both_kinds(9) {
        end(bench, &slot, 1, Status::Exhausted).await;
        bench.fail(&slot, 1).await;
        assert_eq!(bench.spend(&slot).await, Spent::Closed(Status::Failed));
        assert!(!bench.consume(&slot, 1, 5).await);
    }
}

async fn an_id_is_remembered_with_its_end_for_an_hour(bench: &Bench) {
    for how in ENDS {
        let slot = id(how as u8);
        end(bench, &slot, 1, how).await;
        let to_expiry = if how == Status::Expired { Duration::ZERO } else { LIFE };
        bench.clock.forward((to_expiry + HOUR).saturating_sub(TICK));
        assert_eq!(bench.spend(&slot).await, Spent::Closed(how));
        assert_eq!(bench.recode(&slot, 2).await, Recoded::Closed(how));
        bench.clock.forward(TICK);
        assert_eq!(bench.spend(&slot).await, Spent::Unknown);
        assert_eq!(bench.recode(&slot, 2).await, Recoded::Unknown);
    }
}

async fn an_address_is_not_remembered(bench: &Bench) {
    let slot = address("a@example.com");
    for how in [Status::Approved, Status::Exhausted, Status::Failed] {
        end(bench, &slot, 1, how).await;
        bench.clock.forward(LIFE.saturating_sub(TICK));
        assert_eq!(bench.spend(&slot).await, Spent::Closed(how));
        bench.clock.forward(TICK);
        assert_eq!(bench.spend(&slot).await, Spent::Unknown);
        assert_eq!(bench.recode(&slot, 2).await, Recoded::Unknown);
        assert!(!bench.consume(&slot, 1, 1).await);
    }
}

async fn slots_know_nothing_of_each_other(bench: &Bench) {
    // One person's addresses among them, which share all but the last part of a key.
    let slots = [address("a+x@example.com"), address("a+y@example.com"), id(1), id(2)];
    for (code, slot) in (0..).zip(&slots) {
        assert_eq!(bench.spend(slot).await, Spent::Unknown);
        bench.open(slot, code).await;
    }
    assert_eq!(guesses_left(bench, &slots[0]).await, 5);
    assert!(bench.consume(&slots[2], 2, 1).await);
    for (code, slot) in [(1, &slots[1]), (3, &slots[3])] {
        bench.fail(slot, code - 1).await;
        assert_eq!(bench.spend(slot).await, Spent::Compare(code));
        assert_eq!(guesses_left(bench, slot).await, 4);
        assert!(bench.consume(slot, code, 1).await);
    }
}

async fn of_a_hundred_tokens_at_once_one_wins(bench: &Bench) {
    for slot in both_kinds(0) {
        bench.open(&slot, 1).await;
        let winners = at_once((0..100).map(|guess| {
            let (bench, slot) = (bench.clone(), slot.clone());
            async move { bench.consume(&slot, 1, guess).await.then_some(guess) }
        }));
        let winners: Vec<u32> = winners.await.into_iter().flatten().collect();
        assert_eq!(winners.len(), 1, "{winners:?}");
        let again = at_once(iter::repeat_n(winners[0], 100).map(|guess| {
            let (bench, slot) = (bench.clone(), slot.clone());
            async move { bench.consume(&slot, 1, guess).await }
        }));
        assert_eq!(again.await, vec![true; 100]);
    }
}

async fn of_a_thousand_guesses_at_once_five_are_handed_out(bench: &Bench) {
    for slot in both_kinds(0) {
        bench.open(&slot, 1).await;
        let guesses = at_once((0..1000).map(|_| {
            let (bench, slot) = (bench.clone(), slot.clone());
            async move { bench.spend(&slot).await }
        }));
        let guesses = guesses.await;
        let count = |wanted| guesses.iter().filter(|guess| **guess == wanted).count();
        assert_eq!((count(Spent::Compare(1)), count(Spent::Closed(Status::Exhausted))), (5, 995));
    }
}

async fn resends_at_the_same_time_bring_no_guess_back(bench: &Bench) {
    for slot in both_kinds(0) {
        bench.open(&slot, 0).await;
        let handed_out = at_once((1..=300).map(|call| {
            let (bench, slot) = (bench.clone(), slot.clone());
            async move {
                if call % 3 == 0 {
                    bench.recode(&slot, call).await;
                    return false;
                }
                matches!(bench.spend(&slot).await, Spent::Compare(_))
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
    assert_eq!(bench.spend(&id(1)).await, Spent::Closed(Status::Failed));
    assert_eq!(bench.spend(&address("live@example.com")).await, Spent::Compare(2));
}

//! The checker of histories, on histories that are right and on ones that are wrong.

use crate::support::history::{Act, End, Operation, Rules, Seen};

const RULES: Rules = Rules { attempts: 5, may_expire: false };

fn operation(act: Act, seen: Seen, start: u64, end: u64) -> Operation {
    Operation { act, seen, start, end }
}

/// Returns operations one after another.
fn in_turn(operations: &[(Act, Seen)]) -> Vec<Operation> {
    let times = (0..).step_by(2);
    times.zip(operations).map(|(start, (act, seen))| operation(*act, *seen, start, start + 1)).collect()
}

/// Returns operations at the same time.
fn at_once(operations: &[(Act, Seen)]) -> Vec<Operation> {
    operations.iter().map(|(act, seen)| operation(*act, *seen, 0, 9)).collect()
}

const RIGHT: (Act, Seen) = (Act::CheckRight, Seen::Approved);
const LATER: (Act, Seen) = (Act::CheckRight, Seen::Ended(End::Approved));
const CANCEL: (Act, Seen) = (Act::Cancel, Seen::Canceled);

fn wrong(left: u8) -> (Act, Seen) {
    (Act::CheckWrong, Seen::Invalid(left))
}

#[test]
fn what_a_verification_does_is_allowed() {
    for history in [
        in_turn(&[wrong(4), wrong(3), RIGHT, LATER]),
        in_turn(&[wrong(4), wrong(3), wrong(2), wrong(1), wrong(0), wrong(0), wrong(0)]),
        in_turn(&[wrong(4), wrong(3), wrong(2), wrong(1), RIGHT]),
        in_turn(&[CANCEL, CANCEL, (Act::CheckRight, Seen::Ended(End::Canceled))]),
        in_turn(&[(Act::CheckRight, Seen::Unknown), RIGHT]),
        in_turn(&[(Act::CheckRight, Seen::Unknown), LATER]),
        in_turn(&[(Act::CheckWrong, Seen::Unknown), wrong(3)]),
        at_once(&[wrong(3), wrong(4), RIGHT, (Act::CheckRight, Seen::Invalid(1))]),
        // The fourth began to be compared before the cancel, and lost.
        at_once(&[(Act::CheckRight, Seen::Invalid(4)), CANCEL]),
        // An unanswered check takes effect long after its end.
        in_turn(&[(Act::CheckRight, Seen::Unknown), wrong(4), LATER]),
    ] {
        assert!(RULES.allow(&history), "{history:?}");
    }
}

#[test]
fn what_a_verification_never_does_is_found() {
    let mut overlapping = in_turn(&[wrong(4), RIGHT]);
    overlapping.push(operation(Act::CheckRight, Seen::Approved, 0, 9));
    for history in [
        in_turn(&[RIGHT, RIGHT]),
        at_once(&[RIGHT, RIGHT]),
        overlapping,
        // An attempt was given back.
        in_turn(&[wrong(4), wrong(4)]),
        at_once(&[wrong(4), wrong(4)]),
        in_turn(&[wrong(3), wrong(4)]),
        in_turn(&[wrong(4), (Act::CheckWrong, Seen::Unknown), wrong(2), wrong(2)]),
        // A sixth was compared.
        in_turn(&[wrong(4), wrong(3), wrong(2), wrong(1), wrong(0), RIGHT]),
        at_once(&[wrong(4), wrong(3), wrong(2), wrong(1), RIGHT, RIGHT]),
        // Ended, and yet compared.
        in_turn(&[CANCEL, wrong(4)]),
        in_turn(&[CANCEL, RIGHT]),
        in_turn(&[RIGHT, CANCEL]),
        in_turn(&[RIGHT, wrong(3)]),
        // The right code was refused.
        in_turn(&[(Act::CheckRight, Seen::Invalid(4)), RIGHT]),
        in_turn(&[(Act::CheckWrong, Seen::Approved)]),
        // It ended before anything ended it.
        in_turn(&[LATER, RIGHT]),
        in_turn(&[(Act::CheckWrong, Seen::Ended(End::Expired))]),
    ] {
        assert!(!RULES.allow(&history), "{history:?}");
    }
}

#[test]
fn what_has_expired_elsewhere_is_accepted_once_all_the_same() {
    let rules = Rules { may_expire: true, ..RULES };
    let expired = (Act::CheckWrong, Seen::Ended(End::Expired));
    for history in [
        in_turn(&[wrong(4), expired, expired]),
        in_turn(&[(Act::CheckRight, Seen::Invalid(4)), expired]),
        in_turn(&[expired, wrong(4), RIGHT, expired, LATER]),
    ] {
        assert!(rules.allow(&history), "{history:?}");
    }
    for history in [
        in_turn(&[RIGHT, expired, RIGHT]),
        in_turn(&[RIGHT, expired, wrong(3)]),
        in_turn(&[CANCEL, expired, RIGHT]),
        in_turn(&[wrong(4), expired, wrong(4)]),
        in_turn(&[wrong(4), wrong(3), wrong(2), wrong(1), expired, wrong(0), RIGHT]),
    ] {
        assert!(!rules.allow(&history), "{history:?}");
    }
}

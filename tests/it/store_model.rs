//! Any sequence of calls, clock steps and losses of state: both stores answer as a naive model
//! does.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use otpd::domain::delivery::{DeliveryRecord, DeliveryStatus};
use otpd::domain::provider_id::ProviderId;
use otpd::domain::store_key::StoreKey;
use otpd::domain::verification::{Status, VerificationRules};
use otpd::ports::{OpenOutcome, ReplaceOutcome};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestRunner};
use tokio::runtime::{self, Runtime};

use crate::support::model::{
    Answer, Code, Delivered, End, Entry, Millis, Model, Op, Place, Rules, SALT_SHIFT, Seen, Token, Which,
};
use crate::support::store::{Bench, TakenAttempt, address, id};

const CASES_IN_MEMORY: u32 = 10_000;
const CASES_ON_REDIS: u32 = 1_000;

const NEVER_APPROVED: Seen =
    Seen { end: None, attempts: 0, expires_at: 0, approved_at: None, delivery: (Delivered::Unknown, 0) };
/// Answers that must each have been given at least once; otherwise the sequences prove nothing.
const ALL_KINDS: [Answer; 23] = [
    Answer::Live(0),
    Answer::Compare(0),
    Answer::CompareBoth(0, 0),
    Answer::Closed(End::Approved),
    Answer::Closed(End::Expired),
    Answer::Closed(End::Exhausted),
    Answer::Closed(End::Canceled),
    Answer::Closed(End::Failed),
    Answer::Unknown,
    Answer::Approved(Some(0)),
    Answer::Approved(None),
    Answer::Canceled(Some(End::Canceled)),
    Answer::Canceled(Some(End::Approved)),
    Answer::Seen(NEVER_APPROVED),
    Answer::Seen(Seen { end: Some(End::Approved), approved_at: Some(0), ..NEVER_APPROVED }),
    Answer::Seen(Seen { end: Some(End::Canceled), ..NEVER_APPROVED }),
    Answer::Seen(Seen { delivery: (Delivered::Accepted(0), 0), ..NEVER_APPROVED }),
    Answer::Seen(Seen { delivery: (Delivered::Refused, 0), ..NEVER_APPROVED }),
    Answer::Accepted(Some(0)),
    Answer::Accepted(None),
    Answer::Failed(true),
    Answer::Failed(false),
    Answer::Done,
];

#[derive(Debug, Clone)]
struct Case {
    rules: Rules,
    ops: Vec<Op>,
}

fn case() -> impl Strategy<Value = Case> {
    let rules = (select(&[300, 600, 1800][..]), select(&[1, 2, 5][..]), overlap());
    let rules = rules.prop_map(|(life, attempts, overlap)| Rules { life: life * 1000, attempts, overlap });
    (rules, prop::collection::vec(op(), 1..60)).prop_map(|(rules, ops)| Case { rules, ops })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => place().prop_map(Op::Open),
        4 => place().prop_map(Op::ReplaceCode),
        8 => place().prop_map(Op::TakeAttempt),
        3 => (place(), which(), 0..3_u32).prop_map(|(place, which, attempt)| Op::Approve(place, which, attempt)),
        2 => (place(), which()).prop_map(|(place, which)| Op::MarkFailed(place, which)),
        2 => (place(), which()).prop_map(|(place, which)| Op::MarkAccepted(place, which)),
        1 => place().prop_map(Op::Cancel),
        3 => place().prop_map(Op::Find),
        5 => step().prop_map(Op::Step),
        1 => Just(Op::Flush),
        1 => overlap().prop_map(Op::Restart),
        1 => Just(Op::Rotate),
    ]
}

fn overlap() -> impl Strategy<Value = Millis> {
    select(&[0, 10, 120, 120, 300][..]).prop_map(|seconds| seconds * 1000)
}

/// Returns mostly one place of each kind. The two addresses belong to one recipient.
fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        4 => Just(Place::Address(0)),
        1 => Just(Place::Address(1)),
        4 => Just(Place::Id(0)),
        1 => Just(Place::Id(1)),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![
        3 => Just(Which::Newest),
        3 => (1..3_usize).prop_map(Which::Older),
        1 => Just(Which::Foreign),
        1 => Just(Which::Never),
    ]
}

/// Returns tens of seconds, forward or back. Such steps meet expiries exactly, and no key is so
/// close to its expiry that Redis, whose own clock keeps running, drops it while a case runs.
fn step() -> impl Strategy<Value = Millis> {
    let time = select(&[10, 50, 100, 290, 300, 600, 1200, 3590, 3600][..]);
    (time, prop_oneof![3 => Just(1), 1 => Just(-1)]).prop_map(|(time, sign)| time * 1000 * sign)
}

/// What one case has observed, to be asserted without the model's rules.
#[derive(Default)]
struct Tally {
    generated: Vec<(Place, Code, Entry)>,
    rotations: Code,
    taken: HashMap<(Place, usize), usize>,
    approvals: HashMap<(Place, usize), HashSet<Token>>,
}

impl Tally {
    fn generate(&mut self, place: Place, entry: Entry) -> Code {
        let number: Code = self.generated.len().try_into().expect("a short case");
        let code = number + (self.rotations << SALT_SHIFT);
        self.generated.push((place, code, entry));
        code
    }

    fn find(&self, place: Place, which: Which) -> (Code, Entry) {
        let newest_first =
            |own| self.generated.iter().rev().filter(move |generated| (generated.0 == place) == own);
        let found = match which {
            Which::Newest => newest_first(true).next(),
            Which::Older(back) => newest_first(true).nth(back),
            Which::Foreign => newest_first(false).next(),
            Which::Never => None,
        };
        found.map_or((Code::MAX, 0), |(_, code, entry)| (*code, *entry))
    }

    /// Asserts that a verification allows no more attempts than its limit and that at most one
    /// token approves it.
    fn check(&self, attempts: usize) -> Result<(), TestCaseError> {
        prop_assert!(self.taken.values().all(|count| *count <= attempts), "{:?}", self.taken);
        prop_assert!(self.approvals.values().all(|tokens| tokens.len() == 1), "{:?}", self.approvals);
        Ok(())
    }
}

/// A store and the model, run side by side.
struct Pair {
    bench: Bench,
    model: Model,
    tally: Tally,
}

impl Pair {
    fn new(mut bench: Bench, rules: Rules) -> Self {
        let life = Duration::from_millis(rules.life.unsigned_abs());
        let attempts = rules.attempts.try_into().expect("a few");
        bench.rules = VerificationRules { life, attempts, overlap: millis(rules.overlap) };
        let now = bench.clock.millis().cast_signed();
        Self { bench, model: Model::new(rules, now), tally: Tally::default() }
    }

    /// Returns the store's answer and the model's.
    async fn run(&mut self, op: Op) -> (Answer, Answer) {
        let Self { bench, model, tally } = self;
        match op {
            Op::Open(place) => {
                let entry = bench.fresh_entry();
                let code = tally.generate(place, entry);
                (
                    open_answer(bench.open_for(&store_key(place), code, entry).await),
                    model.open(place, code, entry),
                )
            }
            Op::ReplaceCode(place) => {
                let entry = bench.fresh_entry();
                let code = tally.generate(place, entry);
                (
                    replace_answer(bench.replace_code_for(&store_key(place), code, entry).await),
                    model.replace_code(place, code, entry),
                )
            }
            Op::TakeAttempt(place) => {
                let answer = attempt_answer(bench.take_attempt(&store_key(place)).await);
                if let Answer::Compare(_) | Answer::CompareBoth(..) = answer {
                    *tally.taken.entry((place, model.count(place))).or_default() += 1;
                }
                (answer, model.take_attempt(place))
            }
            Op::Approve(place, which, attempt) => {
                let (code, _) = tally.find(place, which);
                // No two attempts have the same number.
                let attempt = code.wrapping_mul(3).wrapping_add(attempt);
                let approved =
                    bench.approved_at(&store_key(place), code, attempt, None).await.map(u64::cast_signed);
                if approved.is_some() {
                    tally.approvals.entry((place, model.count(place))).or_default().insert((code, attempt));
                }
                (Answer::Approved(approved), model.approve(place, (code, attempt)))
            }
            Op::MarkFailed(place, which) => {
                let (code, entry) = tally.find(place, which);
                let back = bench.mark_failed_for(&store_key(place), code, entry).await;
                (Answer::Failed(back), model.fail(place, code, entry))
            }
            Op::MarkAccepted(place, which) => {
                let (code, _) = tally.find(place, which);
                let at = bench.mark_accepted(&store_key(place), code).await.map(u64::cast_signed);
                (Answer::Accepted(at), model.accept(place, code))
            }
            Op::Cancel(place) => {
                let answer = match bench.cancel(&store_key(place)).await {
                    None => Answer::Unknown,
                    Some(status) => Answer::Canceled(end(status)),
                };
                (answer, model.cancel(place))
            }
            Op::Find(place) => {
                let answer = match bench.find(&store_key(place)).await {
                    None => Answer::Unknown,
                    Some(view) => Answer::Seen(Seen {
                        end: end(view.status),
                        attempts: view.attempts.into(),
                        expires_at: view.expires_at.cast_signed(),
                        approved_at: view.approved_at.map(u64::cast_signed),
                        delivery: delivered(&view.delivery),
                    }),
                };
                (answer, model.find(place))
            }
            Op::Step(time) => {
                bench.clock.step(time);
                model.step(time);
                (Answer::Done, Answer::Done)
            }
            Op::Flush => {
                bench.forget_scripts().await;
                (Answer::Done, Answer::Done)
            }
            Op::Restart(overlap) => {
                *bench = bench.restarted();
                bench.rules.overlap = millis(overlap);
                model.set_overlap(overlap);
                (Answer::Done, Answer::Done)
            }
            Op::Rotate => {
                tally.rotations = (tally.rotations + 1) % 3;
                (Answer::Done, Answer::Done)
            }
        }
    }
}

fn millis(time: Millis) -> Duration {
    Duration::from_millis(time.unsigned_abs())
}

fn delivered(delivery: &DeliveryRecord) -> (Delivered, Millis) {
    let id = delivery.provider_id.as_ref().map(ProviderId::as_str);
    let delivered = match (delivery.status, id) {
        (DeliveryStatus::Unknown, None) => Delivered::Unknown,
        (DeliveryStatus::Refused, None) => Delivered::Refused,
        (DeliveryStatus::Accepted, Some(id)) => {
            let code = id.strip_prefix("mail-").and_then(|code| code.parse().ok());
            Delivered::Accepted(code.expect("the number of a code"))
        }
        other => panic!("{other:?}"),
    };
    (delivered, delivery.at.cast_signed())
}

fn store_key(place: Place) -> StoreKey {
    match place {
        Place::Address(number) => address(&format!("a+{number}@example.com")),
        Place::Id(number) => id(number),
    }
}

pub fn open_answer(answer: OpenOutcome) -> Answer {
    match answer {
        OpenOutcome::Live(live) => Answer::Live(live.valid_for.as_millis().try_into().expect("a short time")),
        OpenOutcome::Late => Answer::Late,
    }
}

pub fn replace_answer(answer: ReplaceOutcome) -> Answer {
    match answer {
        ReplaceOutcome::Opened(answer) => open_answer(answer),
        ReplaceOutcome::Closed(status) => closed(status),
        ReplaceOutcome::Unknown => Answer::Unknown,
    }
}

pub fn attempt_answer(answer: TakenAttempt) -> Answer {
    match answer {
        TakenAttempt::Compare(code) => Answer::Compare(code),
        TakenAttempt::CompareBoth(newest, earlier) => Answer::CompareBoth(newest, earlier),
        TakenAttempt::Limited(limit_state) => panic!("nobody is charged: {limit_state:?}"),
        TakenAttempt::Closed(status) => closed(status),
        TakenAttempt::Unknown => Answer::Unknown,
    }
}

fn closed(status: Status) -> Answer {
    Answer::Closed(end(status).expect("what is pending is not closed"))
}

fn end(status: Status) -> Option<End> {
    match status {
        Status::Pending => None,
        Status::Approved => Some(End::Approved),
        Status::Expired => Some(End::Expired),
        Status::Exhausted => Some(End::Exhausted),
        Status::Canceled => Some(End::Canceled),
        Status::Failed => Some(End::Failed),
    }
}

fn kind(answer: Answer) -> Answer {
    match answer {
        Answer::Live(_) => Answer::Live(0),
        Answer::Compare(_) => Answer::Compare(0),
        Answer::CompareBoth(..) => Answer::CompareBoth(0, 0),
        Answer::Accepted(at) => Answer::Accepted(at.map(|_| 0)),
        Answer::Approved(at) => Answer::Approved(at.map(|_| 0)),
        // All ends are treated alike here, except cancellation.
        Answer::Canceled(Some(End::Canceled)) => answer,
        Answer::Canceled(_) => Answer::Canceled(Some(End::Approved)),
        Answer::Seen(Seen { end, approved_at, delivery: (delivered, _), .. }) => {
            let end = end.filter(|end| [End::Approved, End::Canceled].contains(end));
            let delivered = match delivered {
                _ if end.is_some() => Delivered::Unknown,
                Delivered::Accepted(_) => Delivered::Accepted(0),
                other => other,
            };
            let approved_at = approved_at.map(|_| 0);
            Answer::Seen(Seen { end, approved_at, delivery: (delivered, 0), ..NEVER_APPROVED })
        }
        other => other,
    }
}

/// Runs many cases, each on an empty store.
fn compare(cases: u32, runtime: &Runtime, empty_store: impl AsyncFn() -> Bench) {
    let seen = RefCell::new(HashSet::new());
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&case(), |Case { rules, ops }| {
        runtime.block_on(async {
            let mut pair = Pair::new(empty_store().await, rules);
            for (step, op) in ops.into_iter().enumerate() {
                let (store, model) = pair.run(op).await;
                prop_assert_eq!(store, model, "at step {}, {:?}", step, op);
                pair.tally.check(rules.attempts)?;
                seen.borrow_mut().insert(kind(store));
            }
            Ok(())
        })
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(seen.into_inner(), HashSet::from(ALL_KINDS));
}

pub fn one_thread() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

#[test]
fn the_store_in_memory_answers_as_the_model_does() {
    compare(CASES_IN_MEMORY, &one_thread(), async || Bench::memory());
}

#[test]
fn the_store_on_redis_answers_as_the_model_does() {
    let runtime = one_thread();
    let bench = runtime.block_on(Bench::redis());
    compare(CASES_ON_REDIS, &runtime, async || {
        bench.clear().await;
        bench.clone()
    });
}

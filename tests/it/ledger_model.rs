//! Whole sends and attempts in any order, with clock steps and losses of state: the ledgers of both
//! stores answer as naive ones do.
//!
//! In addition to the model, the tests assert directly what the ledgers are for, without its rules.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use otpd::domain::keyed_hash::KeyedHash;
use otpd::domain::ledger_key::LedgerKey;
use otpd::domain::limit::{Limit, Policy};
use otpd::domain::limits::{self, Action, Charge};
use otpd::domain::store_key::{self, Recipient, StoreKey};
use otpd::domain::tenant::Tenant;
use otpd::domain::verification::{Status, VerificationRules};
use otpd::ports::ChargeOutcome;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestCaseResult, TestRunner};
use tokio::runtime::Runtime;

use crate::store_model;
use crate::support::ledgers::{ClientNetwork, Ledger, Ledgers, LimitState, Verdict, Windows};
use crate::support::model::{Answer, Code, Entry, Millis, Model, Place, Rules};
use crate::support::store::{Bench, TakenAttempt, address, attempt_charge, id, network, recipient};

const CASES_IN_MEMORY: u32 = 10_000;
const CASES_ON_REDIS: u32 = 1_000;

const SECOND: Millis = 1000;
const HOUR: Millis = 3600 * SECOND;
const DAY: Millis = 24 * HOUR + 30 * 60 * SECOND + 10 * SECOND;
const LIFE: Millis = 300 * SECOND;
const OVERLAP: Millis = 120 * SECOND;
/// While a case runs, Redis, whose own clock keeps running, may drop a key that was written this
/// shortly before its expiry. So no operation touches a code in its last seconds.
const LAST_SECONDS: Millis = 5 * SECOND;

/// Number of networks of an attacker.
const MANY: u8 = 100;

/// The tenant of the simple endpoints, and the tenant of the ids.
const SIMPLE: u8 = 0;
const KEYED: u8 = 1;

/// Outcomes that must each have happened at least once; otherwise the sequences prove nothing.
const ALL_KINDS: [&str; 13] = [
    "refused by ip_sends",
    "refused by ip_attempts",
    "refused by email_sends",
    "refused by ip_email_sends",
    "refused by ip_email_attempts",
    "refused by email_sends_total",
    "late",
    "a refused mail, given back: true",
    "a refused mail, given back: false",
    "approved: true",
    "approved: false",
    "asked again, early: true",
    "asked again, early: false",
];

/// The network of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Origin {
    Ipv4,
    /// Two /64 networks of one /48.
    SubnetA,
    SubnetB,
    OtherPrefix,
    /// One of many IPv4 addresses.
    OneOf(u8),
}

/// A request that a limit can refuse and that can then be repeated.
#[derive(Debug, Clone, Copy)]
enum Request {
    Charge(u8, Origin, Action),
    Admit(Place, Option<Origin>),
    Attempt(Place, Origin),
}

#[derive(Debug, Clone, Copy)]
enum Op {
    /// Charges an IP for a send or an attempt that is not completed.
    Charge(Origin, Action),
    /// Refunds the charge made this many charges ago.
    Refund(usize),
    /// A whole send, including its email: this much time passes between its entry and the opening.
    Send(Place, Option<Origin>, Millis),
    /// The same for a resend, possibly of an unknown id.
    Resend(Place, Option<Origin>, Millis),
    /// The relay refuses the email sent this many emails ago.
    Refuse(usize),
    /// An attempt, up to the code that it is to be compared with.
    Attempt(Place, Origin),
    /// The attempt made this many attempts ago was right.
    Approve(usize),
    /// Repeats the request that was just refused: after the wait, or a millisecond before its end.
    AskAgain {
        early: bool,
    },
    Step(Millis),
    Flush,
    Restart,
}

#[derive(Debug, Clone)]
struct Case {
    limits: Limits,
    attempts: usize,
    ops: Vec<Op>,
}

#[derive(Debug, Clone)]
struct Limits {
    ip_sends: Windows,
    ip_attempts: Windows,
    email_sends: Windows,
    ip_email_sends: Windows,
    ip_email_attempts: Windows,
    email_sends_total: Windows,
}

fn limits() -> impl Strategy<Value = Limits> {
    let small = Limits {
        ip_sends: vec![(2, 60 * SECOND), (4, HOUR)],
        ip_attempts: vec![(3, 60 * SECOND), (6, HOUR)],
        email_sends: vec![(1, 60 * SECOND), (3, HOUR)],
        ip_email_sends: vec![(2, HOUR)],
        ip_email_attempts: vec![(4, HOUR)],
        email_sends_total: vec![(4, HOUR)],
    };
    let alike = vec![(2, 60 * SECOND), (4, HOUR)];
    let tied = Limits {
        ip_sends: alike.clone(),
        ip_attempts: alike.clone(),
        email_sends: alike.clone(),
        ip_email_sends: alike.clone(),
        ip_email_attempts: alike.clone(),
        email_sends_total: alike,
    };
    // Over the cases, each ledger of sends to a recipient has the longest window once. The ledgers
    // of an IP share their entries with no other.
    let long_ip_window = Limits {
        ip_sends: vec![(9, 600 * SECOND)],
        email_sends: vec![(2, 60 * SECOND)],
        ip_email_sends: vec![(2, 2 * HOUR)],
        ip_email_attempts: vec![(2, 60 * SECOND), (3, 600 * SECOND)],
        email_sends_total: vec![(3, 600 * SECOND)],
        ..tied.clone()
    };
    let narrow_address = Limits {
        ip_attempts: vec![(9, HOUR)],
        email_sends: vec![(2, 60 * SECOND)],
        ip_email_sends: vec![(1, 10 * SECOND), (5, 60 * SECOND)],
        ip_email_attempts: vec![(6, DAY)],
        email_sends_total: vec![(2, 600 * SECOND), (5, DAY)],
        ..small.clone()
    };
    select(vec![small, tied, long_ip_window, narrow_address, the_defaults()])
}

fn the_defaults() -> Limits {
    Limits {
        ip_sends: vec![(30, HOUR), (100, 24 * HOUR)],
        ip_attempts: vec![(20, HOUR), (100, 24 * HOUR)],
        email_sends: vec![(1, 60 * SECOND), (5, HOUR), (10, DAY)],
        ip_email_sends: vec![(3, HOUR), (4, DAY)],
        ip_email_attempts: vec![(10, DAY)],
        email_sends_total: vec![(30, DAY)],
    }
}

fn case() -> impl Strategy<Value = Case> {
    // If the clock never steps back, more can be asserted.
    let ops = any::<bool>().prop_flat_map(|back| prop::collection::vec(op(back), 1..50));
    (limits(), select(&[1, 2, 5][..]), ops).prop_map(|(limits, attempts, ops)| Case { limits, attempts, ops })
}

fn op(back: bool) -> impl Strategy<Value = Op> {
    let pause = || prop_oneof![6 => Just(0), 1 => select(&[SECOND, 10_000, 10_001, 11_000][..])];
    let from = || prop_oneof![4 => origin().prop_map(Some), 1 => Just(None)];
    let action = select(&[Action::Send, Action::Attempt][..]);
    prop_oneof![
        3 => (origin(), action).prop_map(|(origin, action)| Op::Charge(origin, action)),
        2 => (0..4_usize).prop_map(Op::Refund),
        8 => (place(), from(), pause()).prop_map(|(place, from, pause)| Op::Send(place, from, pause)),
        2 => (place(), from(), pause()).prop_map(|(place, from, pause)| Op::Resend(place, from, pause)),
        3 => (0..3_usize).prop_map(Op::Refuse),
        10 => (place(), origin()).prop_map(|(place, origin)| Op::Attempt(place, origin)),
        3 => (0..3_usize).prop_map(Op::Approve),
        6 => any::<bool>().prop_map(|early| Op::AskAgain { early }),
        6 => step(back).prop_map(Op::Step),
        1 => Just(Op::Flush),
        1 => Just(Op::Restart),
    ]
}

/// Returns two addresses of one recipient, an id for that same recipient, or another recipient.
fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        5 => Just(Place::Address(0)),
        2 => Just(Place::Address(1)),
        1 => Just(Place::Address(2)),
        2 => Just(Place::Id(0)),
    ]
}

fn origin() -> impl Strategy<Value = Origin> {
    prop_oneof![
        4 => Just(Origin::Ipv4),
        3 => Just(Origin::SubnetA),
        2 => Just(Origin::SubnetB),
        2 => Just(Origin::OtherPrefix),
    ]
}

fn step(back: bool) -> impl Strategy<Value = Millis> {
    let forward =
        select(&[1, 999, 10_000, 30_000, 59_999, 60_000, 300_000, 600_000, HOUR, 2 * HOUR, DAY][..]);
    let backward = select(&[-1, -999, -10_000, -60_000, -600_000, -HOUR][..]);
    if back { prop_oneof![3 => forward, 1 => backward].boxed() } else { forward.boxed() }
}

/// The keyed hashes of recipients, addresses and networks in a store, derived once.
struct Names {
    store_keys: HashMap<Place, (StoreKey, Recipient)>,
    networks: HashMap<Origin, store_key::ClientNetwork>,
}

impl Names {
    fn new() -> Self {
        let texts = ["a+0@example.com", "a+1@example.com", "b@example.com"];
        let addresses = (0_u8..)
            .zip(texts)
            .map(|(number, text)| (Place::Address(number), (address(text), recipient(Tenant::Simple, text))));
        let ids = (0..2).map(|number| (Place::Id(number), (id(number), recipient(tenant(KEYED), texts[0]))));
        let networks = [
            (Origin::Ipv4, "192.0.2.1".to_owned()),
            (Origin::SubnetA, "2001:db8:1:a::1".to_owned()),
            (Origin::SubnetB, "2001:db8:1:b::1".to_owned()),
            (Origin::OtherPrefix, "2001:db8:2::1".to_owned()),
        ];
        let many = (0..MANY).map(|number| (Origin::OneOf(number), format!("198.51.100.{number}")));
        let networks = networks.into_iter().chain(many).map(|(origin, ip)| (origin, network(&ip)));
        Self { store_keys: addresses.chain(ids).collect(), networks: networks.collect() }
    }

    fn store_key(&self, place: Place) -> &StoreKey {
        &self.store_keys[&place].0
    }

    fn recipient(&self, place: Place) -> &Recipient {
        &self.store_keys[&place].1
    }

    fn client_prefix(&self, origin: Origin) -> KeyedHash {
        self.networks[&origin].prefix48
    }

    /// Returns the charge of a request, unless it is an attempt at an id.
    fn charge<'a>(&self, request: Request, limits: &'a limits::Limits) -> Option<Charge<'a>> {
        Some(match request {
            Request::Charge(of, origin, action) => {
                limits.ip_charge(action, &tenant(of), &self.networks[&origin])
            }
            Request::Admit(place, from) => {
                let client = from.map(|origin| self.client_prefix(origin));
                limits.send_charge(self.recipient(place), client.as_ref())
            }
            Request::Attempt(place, origin) => {
                attempt_charge(limits, self.store_key(place), &self.client_prefix(origin))?
            }
        })
    }
}

fn tenant(number: u8) -> Tenant {
    if number == SIMPLE { Tenant::Simple } else { Tenant::parse("keyed").expect("a name") }
}

fn tenant_of(place: Place) -> u8 {
    match place {
        Place::Address(_) => SIMPLE,
        Place::Id(_) => KEYED,
    }
}

fn recipient_of(place: Place) -> u8 {
    u8::from(place == Place::Address(2))
}

fn prefix_of(origin: Origin) -> u8 {
    match origin {
        Origin::Ipv4 => 0,
        Origin::SubnetA | Origin::SubnetB => 1,
        Origin::OtherPrefix => 2,
        Origin::OneOf(number) => 10 + number,
    }
}

impl Request {
    /// Returns the ledgers that the request is entered in, each with its windows.
    fn ledgers(self, limits: &Limits) -> Vec<(Ledger, Windows)> {
        match self {
            Self::Charge(tenant, origin, action) => {
                let (of, windows): (fn(u8, ClientNetwork) -> Ledger, _) = match action {
                    Action::Send => (Ledger::IpSends, &limits.ip_sends),
                    Action::Attempt => (Ledger::IpAttempts, &limits.ip_attempts),
                };
                let (prefix, subnet) = match origin {
                    Origin::Ipv4 | Origin::OneOf(_) => {
                        return vec![(
                            of(tenant, ClientNetwork::Prefix48(prefix_of(origin))),
                            windows.clone(),
                        )];
                    }
                    Origin::SubnetA | Origin::OtherPrefix => (prefix_of(origin), 0),
                    Origin::SubnetB => (prefix_of(origin), 1),
                };
                let wider = windows.iter().map(|(most, span)| (most * 5, *span)).collect();
                vec![
                    (of(tenant, ClientNetwork::Prefix64(prefix, subnet)), windows.clone()),
                    (of(tenant, ClientNetwork::Prefix48(prefix)), wider),
                ]
            }
            Self::Admit(place, from) => {
                let (tenant, recipient) = (tenant_of(place), recipient_of(place));
                let mut ledgers = vec![(Ledger::EmailSends(tenant, recipient), limits.email_sends.clone())];
                if let Some(origin) = from {
                    let prefix = Ledger::IpEmailSends(tenant, recipient, prefix_of(origin));
                    ledgers.push((prefix, limits.ip_email_sends.clone()));
                }
                ledgers.push((Ledger::EmailSendsTotal(recipient), limits.email_sends_total.clone()));
                ledgers
            }
            Self::Attempt(place, origin) => {
                let ledger =
                    Ledger::IpEmailAttempts(tenant_of(place), recipient_of(place), prefix_of(origin));
                vec![(ledger, limits.ip_email_attempts.clone())]
            }
        }
    }

    fn keep(self, limits: &Limits) -> Millis {
        let of: &[&Windows] = match self {
            Self::Charge(_, _, Action::Send) => &[&limits.ip_sends],
            Self::Charge(_, _, Action::Attempt) => &[&limits.ip_attempts],
            Self::Admit(..) => &[&limits.email_sends, &limits.ip_email_sends, &limits.email_sends_total],
            Self::Attempt(..) => &[&limits.ip_email_attempts],
        };
        of.iter().flat_map(|windows| windows.iter()).map(|(_, span)| *span).max().expect("a window")
    }
}

/// Returns a limit in the syntax of the settings.
fn limit(windows: &Windows) -> Limit {
    let texts: Vec<_> = windows.iter().map(|(most, span)| format!("{most}/{}s", span / SECOND)).collect();
    texts.join(" ").parse().expect("a limit")
}

fn store_limits(limits: &Limits) -> limits::Limits {
    let limits = [
        (Policy::IpSends, &limits.ip_sends),
        (Policy::IpAttempts, &limits.ip_attempts),
        (Policy::EmailSends, &limits.email_sends),
        (Policy::IpEmailSends, &limits.ip_email_sends),
        (Policy::IpEmailAttempts, &limits.ip_email_attempts),
        (Policy::EmailSendsTotal, &limits.email_sends_total),
    ];
    limits.map(|(policy, windows)| (policy, limit(windows))).into_iter().collect()
}

/// A request that a store admitted, and the id of its entry.
#[derive(Debug, Clone)]
struct Entered {
    request: Request,
    ledgers: Vec<Ledger>,
    entry: Entry,
}

struct Mail {
    place: Place,
    code: Code,
    entered: Entered,
}

struct Attempt {
    place: Place,
    code: Code,
    number: u32,
    network: Entered,
    prefix: Option<Entered>,
}

/// What one case has observed, to be asserted without the model's rules.
#[derive(Default)]
struct Tally {
    went_back: bool,
    /// The entries of each ledger, with the times at which they were really admitted.
    admitted: HashMap<Ledger, Vec<(Millis, Entry)>>,
    codes: Code,
    attempts: u32,
    charges: VecDeque<Entered>,
    mails: VecDeque<Mail>,
    open_attempts: VecDeque<Attempt>,
    last_refusal: Option<(Request, Millis)>,
    /// The attempts that were compared, for each tenant and recipient.
    compared: HashMap<(u8, u8), Vec<Compared>>,
    seen: HashSet<String>,
}

/// An attempt that was compared with so many codes.
struct Compared {
    at: Millis,
    codes: usize,
}

fn codes_in(attempt: TakenAttempt) -> usize {
    match attempt {
        TakenAttempt::Compare(_) => 1,
        TakenAttempt::CompareBoth(..) => 2,
        TakenAttempt::Limited(_) | TakenAttempt::Closed(_) | TakenAttempt::Unknown => 0,
    }
}

/// A store and the model, run side by side.
struct Pair<'a> {
    names: &'a Names,
    bench: Bench,
    model: Model,
    ledgers: Ledgers,
    limits: Limits,
    store_limits: limits::Limits,
    tally: Tally,
}

impl<'a> Pair<'a> {
    fn new(names: &'a Names, mut bench: Bench, limits: Limits, attempts: usize) -> Self {
        let life = Duration::from_millis(LIFE.unsigned_abs());
        let overlap = Duration::from_millis(OVERLAP.unsigned_abs());
        bench.rules = VerificationRules { life, attempts: attempts.try_into().expect("a few"), overlap };
        Self {
            names,
            model: Model::new(
                Rules { life: LIFE, attempts, overlap: OVERLAP },
                bench.clock.millis().cast_signed(),
            ),
            bench,
            ledgers: Ledgers::default(),
            store_limits: store_limits(&limits),
            limits,
            tally: Tally::default(),
        }
    }

    fn now(&self) -> Millis {
        self.bench.clock.millis().cast_signed()
    }

    fn step(&mut self, time: Millis) {
        self.bench.clock.step(time);
        self.model.step(time);
        self.tally.went_back |= time < 0;
    }

    fn skip_the_last_seconds(&mut self, place: Place) {
        let left = self.model.left(place);
        if (1..LAST_SECONDS).contains(&left) {
            self.step(left);
        }
    }

    async fn run(&mut self, op: Op) -> TestCaseResult {
        let last_refusal = self.tally.last_refusal.take();
        match op {
            Op::Charge(origin, action) => {
                if let Some(entered) = self.charge(Request::Charge(SIMPLE, origin, action)).await? {
                    self.tally.charges.push_front(entered);
                }
            }
            Op::Refund(back) => {
                if let Some(entered) = self.tally.charges.remove(back) {
                    self.refund(&entered).await;
                }
            }
            Op::Send(place, from, pause) => self.send(place, from, pause, false).await?,
            Op::Resend(place, from, pause) => self.send(place, from, pause, true).await?,
            Op::Refuse(back) => {
                if let Some(mail) = self.tally.mails.remove(back) {
                    self.refuse(mail).await?;
                }
            }
            Op::Attempt(place, origin) => self.attempt(place, origin).await?,
            Op::Approve(back) => {
                if let Some(attempt) = self.tally.open_attempts.remove(back) {
                    self.approve(attempt).await?;
                }
            }
            Op::AskAgain { early } => {
                if let Some((request, wait)) = last_refusal {
                    self.ask_again(request, wait, early).await?;
                }
            }
            Op::Step(time) => self.step(time),
            Op::Flush => self.bench.forget_scripts().await,
            Op::Restart => self.bench = self.bench.restarted(),
        }
        Ok(())
    }

    /// Charges the store and the model. Returns `None` if they refuse.
    async fn charge(&mut self, request: Request) -> Result<Option<Entered>, TestCaseError> {
        let charge = self.names.charge(request, &self.store_limits).expect("not an attempt");
        let charged = self.bench.store.charge(&charge).await;
        let store = verdict(charged.expect("an answer"));
        let (step, keep, now) = (request.ledgers(&self.limits), request.keep(&self.limits), self.now());
        prop_assert_eq!(store, self.ledgers.charge(&step, keep, now), "{:?}", request);
        self.complete(request, store)
    }

    /// Records what the store admitted or refused.
    fn complete(&mut self, request: Request, verdict: Verdict) -> Result<Option<Entered>, TestCaseError> {
        match verdict {
            Verdict::Refused(limit_state) => {
                self.tally.seen.insert(format!("refused by {}", limit_state.policy));
                self.tally.last_refusal = Some((request, limit_state.wait));
                Ok(None)
            }
            Verdict::Admitted(entry, _) => Ok(Some(self.admitted(request, entry)?)),
        }
    }

    fn admitted(&mut self, request: Request, entry: Entry) -> Result<Entered, TestCaseError> {
        let now = self.now();
        let step = request.ledgers(&self.limits);
        for (ledger, windows) in &step {
            let admitted = self.tally.admitted.entry(*ledger).or_default();
            admitted.push((now, entry));
            for (most, span) in windows.iter().filter(|_| !self.tally.went_back) {
                let within = admitted.iter().filter(|(at, _)| *at > now - span).count();
                prop_assert!(within <= *most, "{:?} admitted {} in {} ms", ledger, within, span);
            }
        }
        let ledgers = step.into_iter().map(|(ledger, _)| ledger).collect();
        Ok(Entered { request, ledgers, entry })
    }

    fn refunded(&mut self, entered: &Entered) {
        self.ledgers.refund(&entered.ledgers, entered.entry);
        for ledger in &entered.ledgers {
            let admitted = self.tally.admitted.entry(*ledger).or_default();
            admitted.retain(|(_, entry)| *entry != entered.entry);
        }
    }

    async fn refund(&mut self, entered: &Entered) {
        let charge = self.names.charge(entered.request, &self.store_limits).expect("an entry");
        let refunded = self.bench.store.refund(&charge.ledger, charge.of_partition.as_ref(), entered.entry);
        refunded.await.expect("an answer");
        self.refunded(entered);
    }

    fn ledger(&self, request: Request) -> LedgerKey {
        self.names.charge(request, &self.store_limits).expect("an entry").ledger
    }

    async fn send(
        &mut self,
        place: Place,
        from: Option<Origin>,
        pause: Millis,
        again: bool,
    ) -> TestCaseResult {
        if let Some(origin) = from
            && self.charge(Request::Charge(tenant_of(place), origin, Action::Send)).await?.is_none()
        {
            return Ok(());
        }
        let Some(entered) = self.charge(Request::Admit(place, from)).await? else { return Ok(()) };
        self.step(pause);
        self.skip_the_last_seconds(place);
        let (code, store_key, entry) = (self.tally.codes, self.names.store_key(place), entered.entry);
        self.tally.codes += 1;
        let (store, model) = if again {
            (
                store_model::replace_answer(self.bench.replace_code_for(store_key, code, entry).await),
                self.model.replace_code(place, code, entry),
            )
        } else {
            (
                store_model::open_answer(self.bench.open_for(store_key, code, entry).await),
                self.model.open(place, code, entry),
            )
        };
        prop_assert_eq!(store, model, "{:?}, sent again: {}", place, again);
        match store {
            Answer::Live(_) => self.tally.mails.push_front(Mail { place, code, entered }),
            Answer::Late => drop(self.tally.seen.insert("late".to_owned())),
            _ => {}
        }
        Ok(())
    }

    async fn refuse(&mut self, Mail { place, code, entered }: Mail) -> TestCaseResult {
        self.skip_the_last_seconds(place);
        let back = self.bench.mark_failed_for(self.names.store_key(place), code, entered.entry).await;
        prop_assert_eq!(Answer::Failed(back), self.model.fail(place, code, entered.entry));
        if back {
            self.refund(&entered).await;
        }
        self.tally.seen.insert(format!("a refused mail, given back: {back}"));
        Ok(())
    }

    async fn attempt(&mut self, place: Place, origin: Origin) -> TestCaseResult {
        let request = Request::Charge(tenant_of(place), origin, Action::Attempt);
        let Some(network) = self.charge(request).await? else { return Ok(()) };
        let (taken, prefix) = self.take_attempt(place, origin).await?;
        if let TakenAttempt::Compare(code) | TakenAttempt::CompareBoth(_, code) = taken {
            let number = self.tally.attempts;
            self.tally.attempts += 1;
            self.tally.open_attempts.push_front(Attempt { place, code, number, network, prefix });
        }
        Ok(())
    }

    /// Takes an attempt. For an attempt at an address, also returns what its IP was charged.
    async fn take_attempt(
        &mut self,
        place: Place,
        origin: Origin,
    ) -> Result<(TakenAttempt, Option<Entered>), TestCaseError> {
        self.skip_the_last_seconds(place);
        let request = Request::Attempt(place, origin);
        let charge = self.names.charge(request, &self.store_limits);
        let (attempts, charged) =
            self.bench.take_attempt_for(charge.as_ref(), self.names.store_key(place)).await;
        let mut entered = None;
        if let Place::Address(_) = place {
            let (step, keep, now) = (request.ledgers(&self.limits), request.keep(&self.limits), self.now());
            let model = self.ledgers.charge(&step, keep, now);
            if let TakenAttempt::Limited(limit_state) = attempts {
                let verdict = Verdict::Refused(limit_state_of(&limit_state));
                prop_assert_eq!(verdict, model);
                self.complete(request, verdict)?;
                return Ok((attempts, None));
            }
            let Verdict::Admitted(entry, _) = model else {
                return Err(TestCaseError::fail(format!("{attempts:?} instead of {model:?}")));
            };
            prop_assert!(charged.is_none_or(|charged| charged == entry));
            entered = Some(self.admitted(request, entry)?);
        }
        let codes = codes_in(attempts);
        if codes > 0 {
            let recipient = (tenant_of(place), recipient_of(place));
            let compared = Compared { at: self.now(), codes };
            self.tally.compared.entry(recipient).or_default().push(compared);
        }
        prop_assert_eq!(store_model::attempt_answer(attempts), self.model.take_attempt(place), "{:?}", place);
        prop_assert_eq!(charged.is_some(), matches!(place, Place::Address(_)) && codes > 0);
        Ok((attempts, entered))
    }

    async fn approve(&mut self, attempt: Attempt) -> TestCaseResult {
        let Attempt { place, code, number, network, prefix } = attempt;
        self.skip_the_last_seconds(place);
        let charged = prefix.as_ref().map(|entered| (self.ledger(entered.request), entered.entry));
        let charged = charged.as_ref().map(|(ledger, entry)| (ledger, *entry));
        let approved = self.bench.approve_for(self.names.store_key(place), code, number, charged).await;
        prop_assert_eq!(
            approved,
            matches!(self.model.approve(place, (code, number)), Answer::Approved(Some(_)))
        );
        if approved {
            if let Some(prefix) = &prefix {
                self.refunded(prefix);
            }
            self.refund(&network).await;
        }
        self.tally.seen.insert(format!("approved: {approved}"));
        Ok(())
    }

    /// A request passes right after the wait that it was given, and does not pass a millisecond
    /// earlier.
    async fn ask_again(&mut self, request: Request, wait: Millis, early: bool) -> TestCaseResult {
        self.step(if early { wait - 1 } else { wait });
        // Skipping the last seconds of a code would skip this moment too.
        if let Request::Attempt(place, _) = request
            && (1..LAST_SECONDS).contains(&self.model.left(place))
        {
            return Ok(());
        }
        let admitted = match request {
            Request::Attempt(place, origin) => {
                !matches!(self.take_attempt(place, origin).await?, (TakenAttempt::Limited(_), _))
            }
            request => self.charge(request).await?.is_some(),
        };
        prop_assert_eq!(admitted, !early, "{:?} after {} ms", request, wait);
        self.tally.seen.insert(format!("asked again, early: {early}"));
        Ok(())
    }
}

fn verdict(charged: ChargeOutcome) -> Verdict {
    match charged {
        ChargeOutcome::Admitted { entry, limit_state } => {
            Verdict::Admitted(entry, limit_state_of(&limit_state))
        }
        ChargeOutcome::Refused(limit_state) => Verdict::Refused(limit_state_of(&limit_state)),
    }
}

fn limit_state_of(limit_state: &otpd::domain::ledger::LimitState) -> LimitState {
    let millis = |time: Duration| time.as_millis().try_into().expect("a short time");
    LimitState {
        policy: limit_state.policy.name(),
        window: (limit_state.window.most.get() as usize, millis(limit_state.window.span)),
        remaining: limit_state.remaining as usize,
        reset: millis(limit_state.reset),
        wait: millis(limit_state.wait),
    }
}

fn check<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> TestCaseResult) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(config).run(strategy, test).unwrap_or_else(|error| panic!("{error}"));
}

/// Runs many cases, each on an empty store.
fn compare(cases: u32, runtime: &Runtime, empty_store: impl AsyncFn() -> Bench) {
    let (names, seen) = (Names::new(), RefCell::new(HashSet::new()));
    check(cases, &case(), |Case { limits, attempts, ops }| {
        runtime.block_on(async {
            let mut pair = Pair::new(&names, empty_store().await, limits, attempts);
            for op in ops {
                pair.run(op).await?;
            }
            seen.borrow_mut().extend(pair.tally.seen);
            Ok(())
        })
    });
    assert_eq!(seen.into_inner(), HashSet::from(ALL_KINDS.map(str::to_owned)));
}

/// One round of an attack from as many networks as needed: a send, attempts, and a pause.
#[derive(Debug, Clone)]
struct Round {
    sender: Origin,
    place: Place,
    attempters: Vec<Origin>,
    pause: Millis,
}

fn round() -> impl Strategy<Value = Round> {
    let one_of_many = || (0..MANY).prop_map(Origin::OneOf);
    let attempters = prop_oneof![
        9 => prop::collection::vec(one_of_many(), 6..7),
        1 => prop::collection::vec(one_of_many(), 0..6),
    ];
    let pauses = select(&[61, 61, 240, 290, 760, 1700, 3600, 7200][..]);
    (one_of_many(), select(&[Place::Address(0), Place::Address(1)][..]), attempters, pauses).prop_map(
        |(sender, place, attempters, pause)| Round { sender, place, attempters, pause: pause * SECOND },
    )
}

/// With the default limits at most 50 attempts at one recipient are compared in any 24 hours. An
/// attempt may be compared with two codes, but a code is compared with the attempts of its own
/// verification only: so there are at most 50 comparisons as well.
fn attack(cases: u32, runtime: &Runtime, empty_store: impl AsyncFn() -> Bench) {
    const BOUND: usize = 50;
    let (names, most, with_two) = (Names::new(), RefCell::new((0, 0)), RefCell::new(0));
    check(cases, &prop::collection::vec(round(), 60..120), |rounds| {
        runtime.block_on(async {
            let mut pair = Pair::new(&names, empty_store().await, the_defaults(), 5);
            for Round { sender, place, attempters, pause } in rounds {
                pair.send(place, Some(sender), 0, false).await?;
                for attempter in attempters {
                    pair.attempt(place, attempter).await?;
                }
                pair.step(pause);
            }
            let compared = &pair.tally.compared[&(SIMPLE, 0)];
            for Compared { at: last, .. } in compared {
                let in_a_day = compared.iter().filter(|one| (last - 24 * HOUR..=*last).contains(&one.at));
                let codes = in_a_day.clone().map(|one| one.codes).sum::<usize>();
                let attempts = in_a_day.count();
                prop_assert!(attempts <= BOUND, "{} attempts in 24 hours", attempts);
                prop_assert!(codes <= BOUND, "{} codes in 24 hours", codes);
                let seen = *most.borrow();
                most.replace((attempts.max(seen.0), codes.max(seen.1)));
            }
            *with_two.borrow_mut() += compared.iter().filter(|one| one.codes == 2).count();
            Ok(())
        })
    });
    assert_eq!(most.into_inner(), (BOUND, BOUND), "the bounds are met, so the rounds are an attack");
    assert!(with_two.into_inner() > 0, "some attempts are compared with two codes");
}

/// Returns an operation of other clients without a clock step, or `None` for an attempt by the
/// holder of the id.
fn at_one_moment() -> impl Strategy<Value = Option<Op>> {
    let others = op(false).prop_map(|op| match op {
        Op::Send(place, from, _) => Op::Send(place, from, 0),
        Op::Resend(place, from, _) => Op::Resend(place, from, 0),
        Op::Step(_) | Op::AskAgain { .. } => Op::Flush,
        op => op,
    });
    prop_oneof![6 => others.prop_map(Some), 1 => Just(None)]
}

/// Nothing that another network does, even for the same recipient, takes an attempt from the holder
/// of an id.
fn disturb(cases: u32, runtime: &Runtime, empty_store: impl AsyncFn() -> Bench) {
    let names = Names::new();
    let ops = (limits(), select(&[1, 2, 5][..]), prop::collection::vec(at_one_moment(), 1..60));
    check(cases, &ops, |(limits, attempts, ops)| {
        runtime.block_on(async {
            let (own, holder) = (Place::Id(1), Origin::OneOf(0));
            let mut pair = Pair::new(&names, empty_store().await, limits, attempts);
            pair.send(own, Some(holder), 0, false).await?;
            // The holder's email has arrived: the relay refuses only the emails of others.
            pair.tally.mails.clear();
            let mut made = 0;
            for op in ops.into_iter().chain(vec![None; attempts + 1]) {
                if let Some(op) = op {
                    pair.run(op).await?;
                    continue;
                }
                let (taken, _) = pair.take_attempt(own, holder).await?;
                let wanted = if made < attempts {
                    // Nobody else sends to this id, so there is one code.
                    TakenAttempt::Compare(0)
                } else {
                    TakenAttempt::Closed(Status::Exhausted)
                };
                prop_assert_eq!(taken, wanted, "after {} attempts of {}", made, attempts);
                made += 1;
            }
            Ok(())
        })
    });
}

async fn emptied(bench: &Bench) -> Bench {
    bench.clear().await;
    bench.clone()
}

#[test]
fn the_ledgers_in_memory_answer_as_the_model_does() {
    compare(CASES_IN_MEMORY, &store_model::one_thread(), async || Bench::memory());
}

#[test]
fn the_ledgers_on_redis_answer_as_the_model_does() {
    let runtime = store_model::one_thread();
    let bench = runtime.block_on(Bench::redis());
    compare(CASES_ON_REDIS, &runtime, async || emptied(&bench).await);
}

#[test]
fn an_attack_on_the_memory_store_gets_fifty_attempts_a_day() {
    attack(CASES_IN_MEMORY / 25, &store_model::one_thread(), async || Bench::memory());
}

#[test]
fn an_attack_on_redis_gets_fifty_attempts_a_day() {
    let runtime = store_model::one_thread();
    let bench = runtime.block_on(Bench::redis());
    attack(CASES_ON_REDIS / 25, &runtime, async || emptied(&bench).await);
}

#[test]
fn in_memory_nobody_takes_an_attempt_from_the_holder_of_an_id() {
    disturb(CASES_IN_MEMORY / 10, &store_model::one_thread(), async || Bench::memory());
}

#[test]
fn on_redis_nobody_takes_an_attempt_from_the_holder_of_an_id() {
    let runtime = store_model::one_thread();
    let bench = runtime.block_on(Bench::redis());
    disturb(CASES_ON_REDIS / 10, &runtime, async || emptied(&bench).await);
}

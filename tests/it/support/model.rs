//! A second implementation of a verification's rules, as naive as possible: it stores everything
//! that happened, and computes the state of a verification at each call. Shares nothing with the
//! code that it checks.

use std::collections::HashMap;

/// A duration or a point in time.
pub type Millis = i64;
/// A code, by its sequence number.
pub type Code = u32;
/// The id of the entry that a send was charged: its time.
pub type Entry = u64;
/// A right attempt: the code and the number of the attempt.
pub type Token = (Code, u32);

/// A verification ends this long after its opening, even if its code is resent.
const MAX_LIFETIME: Millis = 30 * 60 * 1000;
/// The longest time from a send's entry to its opening.
const MAX_OPEN_DELAY: Millis = 10 * 1000;
/// How long the end of a verification can be read by its id.
const RETENTION: Millis = 60 * 60 * 1000;

/// The place where a verification is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    Address(u8),
    Id(u8),
}

/// The configurable rules.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub life: Millis,
    pub attempts: usize,
}

/// A call on a store, or an event.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    Open(Place),
    ReplaceCode(Place),
    TakeAttempt(Place),
    Approve(Place, Which, u32),
    MarkFailed(Place, Which),
    Cancel(Place),
    Find(Place),
    /// The clock steps forward or back.
    Step(Millis),
    /// The store loses state that it must not depend on.
    Flush,
}

/// A selection among the codes generated so far.
#[derive(Debug, Clone, Copy)]
pub enum Which {
    /// The newest code of this place.
    Newest,
    /// An older code of this place, counted back from the newest.
    Older(usize),
    /// The newest code of all other places.
    Foreign,
    /// A code that was never generated.
    Never,
}

/// An answer of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The code is live for this long.
    Live(Millis),
    /// The send took too long, and nothing was done.
    Late,
    /// An attempt is taken; compare it with this code.
    Compare(Code),
    Closed(End),
    Unknown,
    /// The time of its approval, if it was approved.
    Approved(Option<Millis>),
    /// The end of the verification after the call; `None` if it is still pending.
    Canceled(Option<End>),
    Seen(Seen),
    /// Whether the charge of the failed send may be refunded.
    Failed(bool),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    Approved,
    Expired,
    Exhausted,
    Canceled,
    Failed,
}

/// The observable state of a verification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Seen {
    /// `None` if it is pending.
    pub end: Option<End>,
    pub attempts: usize,
    pub expires_at: Millis,
    pub approved_at: Option<Millis>,
}

pub struct Model {
    rules: Rules,
    now: Millis,
    verifications: HashMap<Place, Vec<Verification>>,
}

/// Everything that happened to one verification.
struct Verification {
    opened_at: Millis,
    /// Each code, the time at which it became live, and the entry of its send.
    codes: Vec<(Millis, Code, Entry)>,
    taken: usize,
    approval: Option<(Token, Millis)>,
    failed: bool,
    canceled: bool,
}

impl Model {
    pub fn new(rules: Rules, now: Millis) -> Self {
        Self { rules, now, verifications: HashMap::new() }
    }

    pub fn step(&mut self, time: Millis) {
        self.now += time;
    }

    /// Returns how long the code of a place is still valid; zero or less if it has expired.
    pub fn left(&self, place: Place) -> Millis {
        let newest = self.verifications.get(&place).and_then(|of_place| of_place.last());
        newest.map_or(0, |newest| newest.expires_at(&self.rules) - self.now)
    }

    /// Returns how many verifications a place has had, which identifies the present one.
    pub fn count(&self, place: Place) -> usize {
        self.verifications.get(&place).map_or(0, Vec::len)
    }

    pub fn open(&mut self, place: Place, code: Code, entry: Entry) -> Answer {
        if let done @ (Answer::Live(_) | Answer::Late) = self.replace_code(place, code, entry) {
            return done;
        }
        let begun = Verification {
            opened_at: self.now,
            codes: vec![(self.now, code, entry)],
            taken: 0,
            approval: None,
            failed: false,
            canceled: false,
        };
        let valid_for = begun.expires_at(&self.rules) - self.now;
        self.verifications.entry(place).or_default().push(begun);
        Answer::Live(valid_for)
    }

    pub fn replace_code(&mut self, place: Place, code: Code, entry: Entry) -> Answer {
        let (rules, now) = (self.rules, self.now);
        if now - entry.cast_signed() > MAX_OPEN_DELAY {
            return Answer::Late;
        }
        let Some(verification) = self.present(place) else { return Answer::Unknown };
        if let Some(end) = verification.end(&rules, now) {
            return Answer::Closed(end);
        }
        verification.codes.push((now, code, entry));
        Answer::Live(verification.expires_at(&rules) - now)
    }

    pub fn take_attempt(&mut self, place: Place) -> Answer {
        let (rules, now) = (self.rules, self.now);
        let Some(verification) = self.present(place) else { return Answer::Unknown };
        if let Some(end) = verification.end(&rules, now) {
            return Answer::Closed(end);
        }
        verification.taken += 1;
        Answer::Compare(verification.live_code())
    }

    pub fn approve(&mut self, place: Place, token: Token) -> Answer {
        let (rules, now) = (self.rules, self.now);
        let Some(verification) = self.present(place) else { return Answer::Approved(None) };
        if verification.approval.is_none() && verification.may_be_approved(token.0, &rules, now) {
            verification.approval = Some((token, now));
        }
        Answer::Approved(verification.approval.filter(|(approval, _)| *approval == token).map(|(_, at)| at))
    }

    pub fn cancel(&mut self, place: Place) -> Answer {
        let (rules, now) = (self.rules, self.now);
        let Some(verification) = self.present(place) else { return Answer::Unknown };
        if verification.end(&rules, now).is_none() {
            verification.canceled = true;
        }
        Answer::Canceled(verification.end(&rules, now))
    }

    pub fn find(&mut self, place: Place) -> Answer {
        let (rules, now) = (self.rules, self.now);
        let Some(verification) = self.present(place) else { return Answer::Unknown };
        Answer::Seen(Seen {
            end: verification.end(&rules, now),
            attempts: verification.taken,
            expires_at: verification.expires_at(&rules),
            approved_at: verification.approval.map(|(_, at)| at),
        })
    }

    pub fn fail(&mut self, place: Place, code: Code, entry: Entry) -> Answer {
        let (rules, now) = (self.rules, self.now);
        let Some(verification) = self.present(place) else { return Answer::Failed(false) };
        if verification.approval.is_none() && verification.may_be_approved(code, &rules, now) {
            verification.failed = true;
        }
        // The first code replaced none, and every attempt came after it.
        let (_, _, of_the_first) = verification.codes[0];
        Answer::Failed(entry == of_the_first && verification.taken == 0)
    }

    /// Returns the verification of a place that can still be read.
    fn present(&mut self, place: Place) -> Option<&mut Verification> {
        let retention = match place {
            Place::Address(_) => 0,
            Place::Id(_) => RETENTION,
        };
        let newest = self.verifications.get_mut(&place)?.last_mut()?;
        (self.now < newest.expires_at(&self.rules) + retention).then_some(newest)
    }
}

impl Verification {
    fn live_code(&self) -> Code {
        self.codes[self.codes.len() - 1].1
    }

    fn expires_at(&self, rules: &Rules) -> Millis {
        let (sent_at, ..) = self.codes[self.codes.len() - 1];
        (sent_at + rules.life).min(self.opened_at + MAX_LIFETIME)
    }

    fn end(&self, rules: &Rules, now: Millis) -> Option<End> {
        if self.approval.is_some() {
            Some(End::Approved)
        } else if self.failed {
            Some(End::Failed)
        } else if self.canceled {
            Some(End::Canceled)
        } else if self.taken == rules.attempts {
            Some(End::Exhausted)
        } else if now >= self.expires_at(rules) {
            Some(End::Expired)
        } else {
            None
        }
    }

    /// Returns whether an attempt at this code may be approved. The last attempt may, while it is
    /// being compared.
    fn may_be_approved(&self, code: Code, rules: &Rules, now: Millis) -> bool {
        !self.failed && !self.canceled && code == self.live_code() && now < self.expires_at(rules)
    }
}

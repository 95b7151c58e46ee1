//! A second implementation of a verification's rules, as naive as possible: it stores everything
//! that happened, and computes the state of a verification at each call. Shares nothing with the
//! code that it checks.

use std::collections::HashMap;

/// A duration or a point in time.
pub type Millis = i64;
/// A code, by its sequence number. What is above [`SALT_SHIFT`] bits names the salt and the pepper
/// that it is hashed with.
pub type Code = u32;
/// The bits of a code's sequence number.
pub const SALT_SHIFT: u32 = 16;
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
    pub overlap: Millis,
}

/// A call on a store, or an event.
#[derive(Debug, Clone, Copy)]
pub enum Op {
    Open(Place),
    ReplaceCode(Place),
    TakeAttempt(Place),
    Approve(Place, Which, u32),
    MarkFailed(Place, Which),
    MarkAccepted(Place, Which),
    Cancel(Place),
    Find(Place),
    /// The clock steps forward or back.
    Step(Millis),
    /// The store loses state that it must not depend on.
    Flush,
    /// Another process goes on, with this overlap.
    Restart(Millis),
    /// The next codes are hashed with another salt, as after the rotation of a pepper.
    Rotate,
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
    /// An attempt is taken; compare it with the newest code, and with the one before.
    CompareBoth(Code, Code),
    Closed(End),
    Unknown,
    /// The time of its approval, if it was approved.
    Approved(Option<Millis>),
    /// The end of the verification after the call; `None` if it is still pending.
    Canceled(Option<End>),
    Seen(Seen),
    /// Whether the charge of the failed send may be refunded.
    Failed(bool),
    /// The time at which an accepted email was recorded, if it was.
    Accepted(Option<Millis>),
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
    pub delivery: (Delivered, Millis),
}

/// What became of an email. An accepted one is named by its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivered {
    Unknown,
    Accepted(Code),
    Refused,
}

pub struct Model {
    rules: Rules,
    now: Millis,
    verifications: HashMap<Place, Vec<Verification>>,
}

/// Everything that happened to one verification.
struct Verification {
    entry: Entry,
    opened_at: Millis,
    happened: Vec<Happened>,
    taken: usize,
    approval: Option<(Token, Millis)>,
    canceled: bool,
}

#[derive(Debug, Clone, Copy)]
enum Happened {
    Sent { at: Millis, code: Code, rules: Rules },
    Refused { at: Millis, code: Code },
    RefusedAfterTheEnd { at: Millis },
    Accepted { at: Millis, code: Code },
}

/// What all that happened has led to.
struct State {
    /// What counts as the time of the opening: the clock may have been stepped back before it.
    opened_at: Millis,
    newest: LiveCode,
    earlier: Option<EarlierCode>,
    failed: bool,
    delivery: (Delivered, Millis),
}

#[derive(Debug, Clone, Copy)]
struct LiveCode {
    code: Code,
    ends: Millis,
}

#[derive(Debug, Clone, Copy)]
struct EarlierCode {
    live: LiveCode,
    good_until: Millis,
}

impl Model {
    pub fn new(rules: Rules, now: Millis) -> Self {
        Self { rules, now, verifications: HashMap::new() }
    }

    pub fn step(&mut self, time: Millis) {
        self.now += time;
    }

    pub fn set_overlap(&mut self, overlap: Millis) {
        self.rules.overlap = overlap;
    }

    /// Returns how long the code of a place is still valid; zero or less if it has expired.
    pub fn left(&self, place: Place) -> Millis {
        let newest = self.verifications.get(&place).and_then(|of_place| of_place.last());
        newest.map_or(0, |newest| newest.expires_at() - self.now)
    }

    /// Returns how many verifications a place has had, which identifies the present one.
    pub fn count(&self, place: Place) -> usize {
        self.verifications.get(&place).map_or(0, Vec::len)
    }

    pub fn open(&mut self, place: Place, code: Code, entry: Entry) -> Answer {
        if let done @ (Answer::Live(_) | Answer::Late) = self.replace_code(place, code, entry) {
            return done;
        }
        let (at, rules) = (self.now, self.rules);
        let begun = Verification {
            entry,
            opened_at: at,
            happened: vec![Happened::Sent { at, code, rules }],
            taken: 0,
            approval: None,
            canceled: false,
        };
        let valid_for = begun.expires_at() - at;
        self.verifications.entry(place).or_default().push(begun);
        Answer::Live(valid_for)
    }

    pub fn replace_code(&mut self, place: Place, code: Code, entry: Entry) -> Answer {
        let (rules, at) = (self.rules, self.now);
        if at - entry.cast_signed() > MAX_OPEN_DELAY {
            return Answer::Late;
        }
        let Some(verification) = self.present(place) else { return Answer::Unknown };
        if let Some(end) = verification.end(&rules, at) {
            return Answer::Closed(end);
        }
        verification.happened.push(Happened::Sent { at, code, rules });
        Answer::Live(verification.expires_at() - at)
    }

    pub fn take_attempt(&mut self, place: Place) -> Answer {
        let (rules, now) = (self.rules, self.now);
        let Some(verification) = self.present(place) else { return Answer::Unknown };
        if let Some(end) = verification.end(&rules, now) {
            return Answer::Closed(end);
        }
        verification.taken += 1;
        let State { newest, earlier, .. } = verification.state();
        match earlier.filter(|earlier| now < earlier.good_until) {
            None => Answer::Compare(newest.code),
            Some(earlier) => Answer::CompareBoth(newest.code, earlier.live.code),
        }
    }

    pub fn approve(&mut self, place: Place, token: Token) -> Answer {
        let now = self.now;
        let Some(verification) = self.present(place) else { return Answer::Approved(None) };
        if verification.approval.is_none() && verification.may_be_approved(token.0, now) {
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
            expires_at: verification.expires_at(),
            approved_at: verification.approval.map(|(_, at)| at),
            delivery: verification.state().delivery,
        })
    }

    pub fn fail(&mut self, place: Place, code: Code, entry: Entry) -> Answer {
        let at = self.now;
        let Some(verification) = self.present(place) else { return Answer::Failed(false) };
        if !verification.is_closed() {
            verification.happened.push(Happened::Refused { at, code });
        } else if verification.may_record(code) {
            verification.happened.push(Happened::RefusedAfterTheEnd { at });
        }
        Answer::Failed(entry == verification.entry && verification.taken == 0)
    }

    pub fn accept(&mut self, place: Place, code: Code) -> Answer {
        let at = self.now;
        let Some(verification) = self.present(place) else { return Answer::Accepted(None) };
        let is_recorded = verification.may_record(code);
        if is_recorded {
            verification.happened.push(Happened::Accepted { at, code });
        }
        Answer::Accepted(is_recorded.then(|| verification.state().delivery.1))
    }

    /// Returns the verification of a place that can still be read.
    fn present(&mut self, place: Place) -> Option<&mut Verification> {
        let retention = match place {
            Place::Address(_) => 0,
            Place::Id(_) => RETENTION,
        };
        let newest = self.verifications.get_mut(&place)?.last_mut()?;
        (self.now < newest.expires_at() + retention).then_some(newest)
    }
}

impl Verification {
    fn state(&self) -> State {
        let never = LiveCode { code: Code::MAX, ends: Millis::MIN };
        let mut state = State {
            opened_at: self.opened_at,
            newest: never,
            earlier: None,
            failed: false,
            delivery: (Delivered::Unknown, 0),
        };
        for happened in &self.happened {
            state.then(*happened);
        }
        state
    }

    fn expires_at(&self) -> Millis {
        self.state().newest.ends
    }

    /// Returns whether no code of it is left.
    fn is_closed(&self) -> bool {
        self.approval.is_some() || self.canceled || self.state().failed
    }

    /// Returns whether what becomes of this code's email is recorded: it is the newest, or nothing
    /// tells whether it is, and nothing is known.
    fn may_record(&self, code: Code) -> bool {
        let state = self.state();
        if self.is_closed() { state.delivery.0 == Delivered::Unknown } else { state.newest.code == code }
    }

    fn end(&self, rules: &Rules, now: Millis) -> Option<End> {
        if self.approval.is_some() {
            Some(End::Approved)
        } else if self.state().failed {
            Some(End::Failed)
        } else if self.canceled {
            Some(End::Canceled)
        } else if self.taken >= rules.attempts {
            Some(End::Exhausted)
        } else if now >= self.expires_at() {
            Some(End::Expired)
        } else {
            None
        }
    }

    /// Returns whether an attempt at this code may be approved. The last attempt may, while it is
    /// being compared.
    fn may_be_approved(&self, code: Code, now: Millis) -> bool {
        let State { newest, earlier, .. } = self.state();
        let is_earlier = earlier.is_some_and(|earlier| earlier.live.code == code && now < earlier.good_until);
        !self.is_closed() && (newest.code == code || is_earlier) && now < newest.ends
    }
}

impl State {
    fn then(&mut self, happened: Happened) {
        match happened {
            Happened::Sent { at, code, rules } => {
                self.opened_at = self.opened_at.min(at);
                let last = self.opened_at + MAX_LIFETIME;
                let ends = (at + rules.life).min(last);
                let before = LiveCode { ends: self.newest.ends.min(last), ..self.newest };
                let good_until = before.ends.min(at + rules.overlap).min(ends);
                let is_good = at < good_until && before.code >> SALT_SHIFT == code >> SALT_SHIFT;
                self.earlier = is_good.then_some(EarlierCode { live: before, good_until });
                self.newest = LiveCode { code, ends };
                self.delivery = (Delivered::Unknown, at);
            }
            Happened::Accepted { at, code } => {
                self.delivery = (Delivered::Accepted(code), at.max(self.opened_at));
            }
            Happened::Refused { at, code } => self.refused(at, code),
            Happened::RefusedAfterTheEnd { at } => {
                self.delivery = (Delivered::Refused, at.max(self.opened_at));
            }
        }
    }

    fn refused(&mut self, at: Millis, code: Code) {
        if self.newest.code != code {
            self.earlier = self.earlier.filter(|earlier| earlier.live.code != code);
            return;
        }
        self.delivery = (Delivered::Refused, at.max(self.opened_at));
        if at >= self.newest.ends {
            return;
        }
        match self.earlier.take().filter(|earlier| at < earlier.good_until) {
            Some(earlier) => self.newest = earlier.live,
            None => self.failed = true,
        }
    }
}

//! Holds what clients saw of one verification against a model of it.
//!
//! Each operation took effect at some moment between its start and its end. A history is
//! linearizable if there is an order of such moments in which a verification that does one thing at
//! a time gives all the answers that were seen (Herlihy and Wing, 1990). The search is that of Wing
//! and Gong: depth first, without visiting a state twice.

use std::collections::HashSet;

/// What a client asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    CheckRight,
    CheckWrong,
    Cancel,
}

/// What a client was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Approved,
    /// A code was not the right one; so many attempts are left.
    Invalid(u8),
    Canceled,
    /// The verification had ended in this way.
    Ended(End),
    /// No answer, or that the service is not available: it took effect, will, or never does.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum End {
    Approved,
    Canceled,
    /// It expired, or its store has lost it.
    Expired,
    Exhausted,
}

/// An operation of a client on one verification.
#[derive(Debug, Clone, Copy)]
pub struct Operation {
    pub act: Act,
    pub seen: Seen,
    /// On a clock that all clients share.
    pub start: u64,
    pub end: u64,
}

/// A verification that does one thing at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct State {
    attempts: u8,
    end: Option<End>,
}

/// How far an operation has taken effect. A check takes an attempt first, and is decided later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Progress {
    Begun,
    Taken,
    Done,
}

/// What clients may see of a verification.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    pub attempts: u8,
    /// Whether there may be a second server on which the verification has expired, as there is at
    /// a failover behind a fence: a client may be told so at any time, while the first server goes
    /// on.
    pub may_expire: bool,
}

impl Rules {
    /// Returns whether there is an order of effects that explains what was seen.
    pub fn allow(self, history: &[Operation]) -> bool {
        let mut visited = HashSet::new();
        let state = State { attempts: 0, end: None };
        self.search(history, &vec![Progress::Begun; history.len()], state, &mut visited)
    }

    fn search(
        self,
        history: &[Operation],
        progress: &[Progress],
        state: State,
        visited: &mut HashSet<(Vec<Progress>, State)>,
    ) -> bool {
        let is_open = |at: usize| progress[at] != Progress::Done && history[at].seen != Seen::Unknown;
        if !(0..history.len()).any(is_open) {
            return true;
        }
        if !visited.insert((progress.to_vec(), state)) {
            return false;
        }
        (0..history.len()).any(|at| {
            // What ended before this began has taken effect before it.
            let is_next = progress[at] != Progress::Done
                && (0..history.len())
                    .all(|other| other == at || !is_open(other) || history[other].end >= history[at].start);
            is_next
                && self.steps(history[at], progress[at], state).into_iter().flatten().any(|(next, state)| {
                    let mut progress = progress.to_vec();
                    progress[at] = next;
                    self.search(history, &progress, state, visited)
                })
        })
    }

    /// Returns the next effects of an operation that lead to what was seen.
    fn steps(self, operation: Operation, progress: Progress, state: State) -> [Option<(Progress, State)>; 2] {
        let Operation { act, seen, .. } = operation;
        let done = |state| Some((Progress::Done, state));
        match (act, progress) {
            (Act::Cancel, _) => {
                let canceled = state.end.is_none().then_some(State { end: Some(End::Canceled), ..state });
                match seen {
                    Seen::Canceled if state.end == Some(End::Canceled) => [done(state), None],
                    Seen::Canceled | Seen::Unknown => [canceled.and_then(done), None],
                    Seen::Ended(end) => [self.has_ended(state, end).then_some(state).and_then(done), None],
                    _ => [None, None],
                }
            }
            (_, Progress::Begun) => {
                let is_takeable = state.end.is_none() && state.attempts < self.attempts;
                let taken = is_takeable.then_some(State { attempts: state.attempts + 1, ..state });
                let next = if act == Act::CheckRight { Progress::Taken } else { Progress::Done };
                let taken = taken.map(|state| (next, state));
                match seen {
                    Seen::Approved if act == Act::CheckWrong => [None, None],
                    Seen::Approved | Seen::Unknown => [taken, None],
                    Seen::Invalid(left) => {
                        let is_exhausted = state.end.is_none() && state.attempts == self.attempts;
                        let refused = (left == 0 && is_exhausted).then_some(state).and_then(done);
                        [taken.filter(|(_, state)| state.attempts + left == self.attempts), refused]
                    }
                    Seen::Ended(end) => [self.has_ended(state, end).then_some(state).and_then(done), None],
                    Seen::Canceled => [None, None],
                }
            }
            (_, Progress::Taken) => {
                let won = state.end.is_none().then_some(State { end: Some(End::Approved), ..state });
                match seen {
                    Seen::Approved | Seen::Unknown => [won.and_then(done), None],
                    // Another one was approved first, or it ended otherwise.
                    Seen::Invalid(_) => {
                        let is_lost = state.end.is_some() || self.may_expire;
                        [is_lost.then_some(state).and_then(done), None]
                    }
                    _ => [None, None],
                }
            }
            (_, Progress::Done) => [None, None],
        }
    }

    fn has_ended(self, state: State, end: End) -> bool {
        match end {
            End::Expired => self.may_expire,
            End::Exhausted => state.end.is_none() && state.attempts == self.attempts,
            end => state.end == Some(end),
        }
    }
}

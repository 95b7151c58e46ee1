//! The store of `otpd dev`: verifications and ledgers in the memory of one process, gone when it ends.
//!
//! Must not be used where more than one process serves, or where a restart must not lose what was counted.

mod claims;
mod logs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;

use self::logs::{Kept, LogName, logs_of};
use crate::domain::code_hash::{CodeHash, Salt};
use crate::domain::ledger::{MARK_OCTETS, Mark, Quota, Stamp, Standing};
use crate::domain::limit::{Ledger, IpLimit, SLOWEST_OPENING, SendLimits};
use crate::domain::relay_day::RelayDay;
use crate::domain::sealed::Sealed;
use crate::domain::slot::{Slot, Subject, Tag};
use crate::domain::verification::{GuessToken, Millis, Policy, Status, Verification, View, Win, millis};
use crate::ports::{
    Charged, Clock, Guesser, Live, NetworkAccount, Opened, Recoded, SiteEntry, Spend, Store, StoreError,
};

/// After this many additions, what nobody can ask about any more is swept out.
const SWEEP_EVERY: usize = 1024;

/// Verifications and ledgers behind one lock: each call is atomic because it holds it.
pub struct MemoryStore {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    verifications: HashMap<Slot, Verification>,
    logs: HashMap<LogName, Kept>,
    relay_day: RelayDay,
    held: HashMap<Tag, claims::Held>,
    additions: usize,
}

impl MemoryStore {
    /// An empty store that runs on `clock`.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default() }
    }

    /// Forgets all of it: verifications, ledgers and idempotency keys.
    pub fn reset(&self) {
        let (mut state, _) = self.lock();
        *state = State::default();
    }

    fn lock(&self) -> (MutexGuard<'_, State>, Millis) {
        // Nothing in here can panic halfway through a change, so a poisoned lock still guards a whole state.
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now().duration_since(UNIX_EPOCH).map_or(0, millis);
        (guard, now)
    }
}

impl State {
    /// The verification of a slot, as long as it can be asked about.
    fn find(&mut self, slot: &Slot, now: Millis) -> Option<&mut Verification> {
        self.verifications.get_mut(slot).filter(|verification| !is_forgotten(slot, verification, now))
    }

    fn sweep_now_and_then(&mut self, now: Millis) {
        self.additions += 1;
        if self.additions.is_multiple_of(SWEEP_EVERY) {
            self.verifications.retain(|slot, verification| !is_forgotten(slot, verification, now));
            self.logs.retain(|_, kept| !kept.log.is_forgotten(kept.keep, now));
            self.held.retain(|_, held| !held.is_over(now));
        }
    }
}

fn is_forgotten(slot: &Slot, verification: &Verification, now: Millis) -> bool {
    now >= verification.expires_at() + millis(slot.remembrance())
}

fn is_late(entry: Stamp, now: Millis) -> bool {
    now > entry + millis(SLOWEST_OPENING)
}

fn live(verification: &Verification, now: Millis) -> Opened {
    let expires_at = verification.expires_at();
    let valid_for = Duration::from_millis(expires_at.saturating_sub(now));
    Opened::Live(Live { valid_for, expires_at, spent: verification.spent() })
}

/// A step over no ledger at all has nothing to answer.
fn no_ledger() -> StoreError {
    StoreError::new("a limit has no window")
}

#[async_trait]
impl Store for MemoryStore {
    async fn charge(&self, account: &NetworkAccount, limit: &IpLimit) -> Result<Charged, StoreError> {
        let (mut state, now) = self.lock();
        state.charge(&logs_of(account, limit), Mark::default(), limit.longest(), now).ok_or_else(no_ledger)
    }

    async fn refund(&self, account: &NetworkAccount, entry: Stamp) -> Result<(), StoreError> {
        let (mut state, _) = self.lock();
        let site = NetworkAccount { network: account.network.site_alone(), ..account.clone() };
        state.remove(&LogName::Link(account.clone()), entry);
        state.remove(&LogName::Site(site), entry);
        Ok(())
    }

    async fn admit(
        &self,
        subject: &Subject,
        site: Option<&Tag>,
        limits: &SendLimits,
    ) -> Result<Charged, StoreError> {
        let (mut state, now) = self.lock();
        let logs = [(LogName::Person(subject.person), limits.quotas(site.is_some()))];
        state.charge(&logs, subject.mark(site), limits.kept, now).ok_or_else(no_ledger)
    }

    async fn outlook(&self, subject: &Subject, limits: &SendLimits) -> Result<Standing, StoreError> {
        let (state, now) = self.lock();
        let logs = [(LogName::Person(subject.person), limits.quotas(false))];
        state.tightest(&logs, subject.mark(None), now).ok_or_else(no_ledger)
    }

    async fn withdraw(&self, subject: &Subject, entry: Stamp) -> Result<(), StoreError> {
        let (mut state, _) = self.lock();
        state.remove(&LogName::Person(subject.person), entry);
        Ok(())
    }

    async fn open(
        &self,
        slot: &Slot,
        hash: &CodeHash,
        policy: &Policy,
        entry: Stamp,
        sealed: &Sealed,
    ) -> Result<Opened, StoreError> {
        let (mut state, now) = self.lock();
        if is_late(entry, now) {
            return Ok(Opened::Late);
        }
        if let Some(verification) = state.find(slot, now)
            && verification.recode(hash.clone(), policy, now).is_ok()
        {
            return Ok(live(verification, now));
        }
        let verification = Verification::open(hash.clone(), policy, entry, sealed.clone(), now);
        let answer = live(&verification, now);
        state.verifications.insert(slot.clone(), verification);
        state.sweep_now_and_then(now);
        Ok(answer)
    }

    async fn recode(
        &self,
        slot: &Slot,
        hash: &CodeHash,
        policy: &Policy,
        entry: Stamp,
    ) -> Result<Recoded, StoreError> {
        let (mut state, now) = self.lock();
        if is_late(entry, now) {
            return Ok(Recoded::Opened(Opened::Late));
        }
        Ok(match state.find(slot, now) {
            None => Recoded::Unknown,
            Some(verification) => match verification.recode(hash.clone(), policy, now) {
                Ok(()) => Recoded::Opened(live(verification, now)),
                Err(closed) => Recoded::Closed(closed),
            },
        })
    }

    async fn spend(
        &self,
        slot: &Slot,
        policy: &Policy,
        guesser: Option<&Guesser<'_>>,
    ) -> Result<Spend, StoreError> {
        let (mut state, now) = self.lock();
        let mut charged = None;
        if let (Slot::Address { subject, .. }, Some(Guesser { site, limit })) = (slot, guesser) {
            let quota = Quota { ledger: Ledger::IpEmailAttempts, limit, shared: MARK_OCTETS };
            let logs = [(LogName::Guesses(subject.clone(), *site), vec![quota])];
            match state.charge(&logs, Mark::default(), limit.longest(), now).ok_or_else(no_ledger)? {
                Charged::Admitted { entry, .. } => charged = Some(SiteEntry { site: *site, entry }),
                Charged::Refused(standing) => return Ok(Spend::Limited(standing)),
            }
        }
        Ok(match state.find(slot, now) {
            None => Spend::Unknown,
            Some(verification) => match verification.spend(policy.guesses, now) {
                Ok(hash) => Spend::Compare {
                    hash,
                    spent: verification.spent(),
                    sealed: verification.sealed().clone(),
                    charged,
                },
                Err(closed) => Spend::Closed(closed),
            },
        })
    }

    async fn consume(
        &self,
        slot: &Slot,
        token: &GuessToken,
        charged: Option<&SiteEntry>,
    ) -> Result<Option<Millis>, StoreError> {
        let (mut state, now) = self.lock();
        let win = state.find(slot, now).map_or(Win::Lost, |verification| verification.consume(token, now));
        // Only once: by then another guess may bear the entry's name.
        if let (Win::Taken(_), Slot::Address { subject, .. }, Some(SiteEntry { site, entry })) =
            (win, slot, charged)
        {
            state.remove(&LogName::Guesses(subject.clone(), *site), *entry);
        }
        Ok(match win {
            Win::Taken(at) | Win::Repeated(at) => Some(at),
            Win::Lost => None,
        })
    }

    async fn look(&self, slot: &Slot, policy: &Policy) -> Result<Option<View>, StoreError> {
        let (mut state, now) = self.lock();
        Ok(state.find(slot, now).map(|verification| verification.view(policy.guesses, now)))
    }

    async fn cancel(&self, slot: &Slot, policy: &Policy) -> Result<Option<Status>, StoreError> {
        let (mut state, now) = self.lock();
        Ok(state.find(slot, now).map(|verification| verification.cancel(policy.guesses, now)))
    }

    async fn fail(&self, slot: &Slot, code: &Salt, entry: Stamp) -> Result<bool, StoreError> {
        let (mut state, now) = self.lock();
        Ok(state.find(slot, now).is_some_and(|verification| verification.fail(code, entry, now)))
    }

    async fn relay_has_room(&self, most: u32) -> Result<bool, StoreError> {
        let (state, now) = self.lock();
        Ok(state.relay_day.mails(now) < most)
    }

    async fn count_mail(&self) -> Result<(), StoreError> {
        let (mut state, now) = self.lock();
        state.relay_day.count(now);
        Ok(())
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

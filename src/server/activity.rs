//! Tracks what a connection is doing, how long it may take, and which connections can be closed for
//! another client.
//!
//! A connection is idle, receiving a head, or serving a request. The timeout for a head starts with
//! its first byte, so an idle connection and a slow head have separate timeouts. Must not touch the
//! connection itself.

use std::collections::BTreeMap;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// How long a head may take to arrive, and how long a new connection may send nothing.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection must have been idle before it can be closed for another client: bytes that
/// its client has just sent may still be in flight.
const GRACE: Duration = Duration::from_secs(1);

/// The connections without a request, ordered by when they may be closed for another client.
#[derive(Default)]
pub(super) struct Idle {
    entries: Mutex<IdleEntries>,
    /// Notified when a connection is added.
    added: Notify,
}

#[derive(Default)]
struct IdleEntries {
    next: u64,
    /// The token that closes each connection.
    closers: BTreeMap<IdleEntry, CancellationToken>,
}

/// When the connection may be closed for another client, and a number that makes the entry unique.
type IdleEntry = (Instant, u64);

/// What one connection is doing.
pub(super) struct Activity {
    state: Mutex<ConnectionState>,
    /// Whether bytes of the request body may still arrive after the answer.
    is_body_unread: AtomicBool,
    idle: Arc<Idle>,
    keep_alive: Duration,
    closer: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ConnectionState {
    /// Idle, with its entry in [`Idle`], until this deadline.
    Idle(IdleEntry, Instant),
    /// Receiving a head, until this deadline.
    Head(Instant),
    /// Serving a request, which has its own timeout.
    Busy,
    /// The answer is complete but not yet written; the write timeout applies.
    Writing,
    /// The last answer is written, and bytes that still arrive are discarded. Has an entry in
    /// [`Idle`].
    Lingering(IdleEntry),
}

/// A guard for a request in progress; the request ends when it is dropped.
pub(super) struct UnderWay(Arc<Activity>);

impl Idle {
    fn entries(&self) -> MutexGuard<'_, IdleEntries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, closer: &CancellationToken, closable_after: Duration) -> IdleEntry {
        let mut entries = self.entries();
        let entry = (Instant::now() + closable_after, entries.next);
        entries.next += 1;
        entries.closers.insert(entry, closer.clone());
        drop(entries);
        self.added.notify_one();
        entry
    }

    /// Removes an entry. Returns `false` if it was missing, in which case the connection is being
    /// closed.
    fn remove(&self, entry: IdleEntry) -> bool {
        self.entries().closers.remove(&entry).is_some()
    }

    /// Closes the connection that has been idle for longest, waiting until one has been idle for
    /// [`GRACE`].
    pub(super) async fn close_oldest(&self) {
        while !self.try_close_oldest(Instant::now()) {
            let next = self.entries().closers.first_key_value().map(|((at, _), _)| *at);
            let closable = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    // The notification may go to another listener.
                    None => sleep(GRACE).await,
                }
            };
            tokio::select! {
                () = closable => {}
                () = self.added.notified() => {}
            }
        }
    }

    fn try_close_oldest(&self, now: Instant) -> bool {
        let mut entries = self.entries();
        let Some(oldest) = entries.closers.first_entry() else { return false };
        let is_closable = oldest.key().0 <= now;
        if is_closable {
            oldest.remove().cancel();
        }
        is_closable
    }
}

impl Activity {
    /// Starts tracking a new connection, which `closer` closes.
    pub(super) fn new(idle: Arc<Idle>, keep_alive: Duration, closer: CancellationToken) -> Arc<Self> {
        let first = ConnectionState::Idle(idle.add(&closer, GRACE), Instant::now() + HEAD_TIMEOUT);
        Arc::new(Self {
            state: Mutex::new(first),
            is_body_unread: AtomicBool::new(false),
            idle,
            keep_alive,
            closer,
        })
    }

    /// Records that bytes arrived. Returns whether the connection may continue: not if it is being
    /// closed.
    pub(super) fn heard(&self) -> bool {
        let mut state = self.state();
        let ConnectionState::Idle(entry, _) = *state else { return true };
        *state = ConnectionState::Head(Instant::now() + HEAD_TIMEOUT);
        self.idle.remove(entry)
    }

    /// Records that a request's head is complete. The answer is complete when the guard is dropped,
    /// and the connection is idle again once that answer is written.
    pub(super) fn begin(self: &Arc<Self>, has_body: bool) -> UnderWay {
        self.is_body_unread.store(has_body, Ordering::Relaxed);
        self.enter(ConnectionState::Busy);
        UnderWay(Arc::clone(self))
    }

    /// Records that all output has been written.
    pub(super) fn note_written(&self) {
        let mut state = self.state();
        if *state == ConnectionState::Writing {
            let until = Instant::now() + self.keep_alive;
            *state = ConnectionState::Idle(self.idle.add(&self.closer, GRACE), until);
        }
    }

    /// Records that the body was read to its end.
    pub(super) fn note_body_read(&self) {
        self.is_body_unread.store(false, Ordering::Relaxed);
    }

    /// Returns whether bytes of the body may still arrive.
    pub(super) fn is_body_unread(&self) -> bool {
        self.is_body_unread.load(Ordering::Relaxed)
    }

    /// Records that no further request is answered. Returns whether the client may still be sending
    /// one.
    pub(super) fn begin_lingering(&self) -> bool {
        // The head was rejected or is incomplete.
        let is_in_head = matches!(*self.state(), ConnectionState::Head(_));
        self.enter(ConnectionState::Lingering(self.idle.add(&self.closer, Duration::ZERO)));
        is_in_head || self.is_body_unread()
    }

    /// Completes once the connection has been idle, or its head has been arriving, for too long.
    /// Must be polled by the task of the connection, after the connection: nothing wakes it when
    /// the state changes.
    pub(super) async fn expired(&self) {
        let mut timer = pin!(sleep_until(Instant::now() + HEAD_TIMEOUT));
        poll_fn(|cx| {
            let Some(deadline) = self.deadline() else { return Poll::Pending };
            // A timer that ends too early is set again only then: most deadlines are replaced by
            // later ones.
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if Instant::now() < deadline {
                timer.as_mut().reset(deadline);
                ready!(timer.as_mut().poll(cx));
            }
            Poll::Ready(())
        })
        .await;
    }

    fn deadline(&self) -> Option<Instant> {
        match *self.state() {
            ConnectionState::Idle(_, deadline) | ConnectionState::Head(deadline) => Some(deadline),
            ConnectionState::Busy | ConnectionState::Writing | ConnectionState::Lingering(_) => None,
        }
    }

    fn state(&self) -> MutexGuard<'_, ConnectionState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the state.
    fn enter(&self, new: ConnectionState) {
        let mut state = self.state();
        self.leave(*state);
        *state = new;
    }

    fn leave(&self, state: ConnectionState) {
        if let ConnectionState::Idle(entry, _) | ConnectionState::Lingering(entry) = state {
            self.idle.remove(entry);
        }
    }
}

impl Drop for Activity {
    fn drop(&mut self) {
        let state = *self.state();
        self.leave(state);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Self(activity) = self;
        activity.enter(ConnectionState::Writing);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(75);

    #[derive(Debug, Clone, Copy)]
    enum Event {
        Bytes,
        Answered,
        Closed,
        AnotherClient,
    }

    /// Ends a request whose answer is written at once.
    fn answered(activity: &Activity, request: UnderWay) {
        drop(request);
        activity.note_written();
    }

    fn connection(idle: &Arc<Idle>, keep_alive: Duration) -> (Arc<Activity>, CancellationToken) {
        let closer = CancellationToken::new();
        (Activity::new(Arc::clone(idle), keep_alive, closer.clone()), closer)
    }

    #[tokio::test]
    async fn between_requests_a_connection_lives_for_the_keep_alive_time_and_during_one_without_end() {
        let (activity, _) = connection(&Arc::default(), SHORT);
        assert!(timeout(3 * SHORT, activity.expired()).await.is_err(), "it is new");
        let request = activity.begin(false);
        assert!(timeout(3 * SHORT, activity.expired()).await.is_err(), "a request is under way");
        drop(request);
        assert!(timeout(3 * SHORT, activity.expired()).await.is_err(), "the answer is being written");
        activity.note_written();
        let begun = Instant::now();
        activity.expired().await;
        assert!(begun.elapsed() < HEAD_TIMEOUT / 2, "{:?}", begun.elapsed());
        // The timeout of a head starts once; further bytes do not extend it.
        answered(&activity, activity.begin(false));
        let idle = activity.deadline();
        assert!(activity.heard());
        let head = activity.deadline();
        assert!(activity.heard() && idle < head && activity.deadline() == head);
    }

    #[tokio::test]
    async fn a_new_client_waits_until_there_is_an_idle_connection() {
        let idle = Arc::default();
        let (activity, closer) = connection(&idle, LONG);
        let request = activity.begin(false);
        assert!(timeout(SHORT, idle.close_oldest()).await.is_err());
        assert!(!closer.is_cancelled());
        let closing = tokio::spawn({
            let idle = Arc::clone(&idle);
            async move { idle.close_oldest().await }
        });
        answered(&activity, request);
        let begun = Instant::now();
        closing.await.unwrap();
        assert!(begun.elapsed() >= GRACE, "it was in use a moment ago");
        assert!(closer.is_cancelled() && !activity.heard());
    }

    proptest! {
        #[test]
        fn the_one_that_was_idle_for_longest_is_closed_and_none_with_a_request(
            events in proptest::collection::vec((0..5_usize, prop_oneof![
                Just(Event::Bytes), Just(Event::Answered), Just(Event::Closed), Just(Event::AnotherClient)
            ]), 0..60)
        ) {
            let idle: Arc<Idle> = Arc::default();
            let mut all: Vec<_> = (0..5).map(|_| Some(connection(&idle, LONG))).collect();
            let mut requests: Vec<_> = (0..5).map(|_| None).collect();
            let mut waiting: Vec<usize> = (0..5).collect();
            for (which, event) in events {
                let Some((activity, closer)) = &all[which] else { continue };
                match event {
                    Event::Bytes if closer.is_cancelled() => prop_assert!(!activity.heard()),
                    Event::Bytes => {
                        prop_assert!(activity.heard());
                        requests[which].get_or_insert_with(|| activity.begin(false));
                        waiting.retain(|other| *other != which);
                    }
                    Event::Answered => {
                        if let Some(request) = requests[which].take() {
                            answered(activity, request);
                            waiting.push(which);
                        }
                    }
                    Event::Closed => {
                        requests[which] = None;
                        all[which] = None;
                        waiting.retain(|other| *other != which);
                    }
                    Event::AnotherClient => {
                        let oldest = (!waiting.is_empty()).then(|| waiting.remove(0));
                        prop_assert_eq!(idle.try_close_oldest(Instant::now() + GRACE), oldest.is_some());
                        if let Some(oldest) = oldest {
                            prop_assert!(all[oldest].as_ref().unwrap().1.is_cancelled());
                            all[oldest] = None;
                        }
                    }
                }
                let open: Vec<_> = all.iter().flatten().map(|(_, closer)| closer.is_cancelled()).collect();
                prop_assert!(open.iter().all(|is_closed| !is_closed));
                prop_assert_eq!(idle.entries().closers.len(), waiting.len());
            }
        }
    }
}

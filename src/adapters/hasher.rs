//! Hashing threads: a fixed number, each of which reuses its own work memory.
//!
//! Runs argon2id outside of the async threads. Memory is bounded by the number of threads times the
//! block size, and waiting by the number of permits. Must not decide anything: it only computes
//! hashes.

mod measurement;

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use crate::domain::code::Code;
use crate::domain::code_hash::{CodeId, HashCost, HashError, HashQueue, WorkMemory};
use crate::domain::test_recipients::TestCode;
use crate::metrics::metrics;
use crate::ports::{HashPermit, HashWork, Hasher, HasherError, PendingDigest, PendingPlace, Priority};
use crate::traces;

pub use measurement::{HashRate, hash_rate};
use measurement::{length_for, time_a_hash, times_of};

/// How long a job may wait for a thread; afterwards it fails. Exceeds the time of
/// a measured queue, because the machine may be busier than during the measurement.
///
/// With the 10 seconds of the mailer and a second of DNS, it exceeds the 15 seconds of a request
/// only if each takes its longest.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long it takes to wake a thread, in nanoseconds.
const WAKE_TIME: u64 = 100_000;
/// How long a job may run once a thread has begun it.
const HASH_TIMEOUT: Duration = Duration::from_secs(1);

/// Number of threads, and of jobs that may wait for them.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Number of threads, each with one block of work memory.
    pub threads: NonZeroUsize,
    /// Number of jobs that may wait, besides those that are running.
    pub queue: HashQueue,
}

/// The threads and their queue. The threads end when this is dropped.
pub struct HashThreads {
    places: usize,
    free: Arc<Semaphore>,
    queue: Arc<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
    /// How long the last hash took, in nanoseconds; 0: there was none.
    hash_time: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    checks: VecDeque<Job>,
    sends: VecDeque<Job>,
    threads: usize,
    /// Threads that wait for a job.
    idle: usize,
    closed: bool,
}

struct Job {
    work: Work,
    deadline: Instant,
    reply: oneshot::Sender<Result<CodeId, HasherError>>,
    /// Released once the job is done or dropped.
    guard: Box<dyn Any + Send>,
}

/// One digest to derive.
enum Work {
    Code(HashWork),
    /// A submitted code, and the test code to compare it with.
    TestCode(Code, TestCode),
}

impl Work {
    fn digest(&self, cost: HashCost, work_memory: &mut WorkMemory) -> Result<CodeId, HashError> {
        match self {
            Self::Code(HashWork { code, salt, associated_data, pepper }) => {
                cost.digest(code, salt, associated_data, pepper, work_memory)
            }
            Self::TestCode(code, test_code) => {
                test_code.cost().unkeyed_digest(code, test_code.salt(), work_memory)
            }
        }
    }
}

impl HashThreads {
    /// Starts the threads; each allocates its work memory once. If the queue's length is to be
    /// measured, each thread first times a hash.
    ///
    /// # Errors
    /// The system's error if a thread cannot be started.
    pub fn start(cost: HashCost, capacity: Capacity) -> io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let (times, measured) = mpsc::channel();
        for number in 1..=capacity.threads.get() {
            let queue = Arc::clone(&queue);
            let times = times.clone();
            let thread = move || {
                let mut work_memory = cost.work_memory();
                if capacity.queue == HashQueue::Measured {
                    // Fails only if the measurement is already over.
                    let _ = times.send(time_a_hash(cost, &mut work_memory));
                }
                drop(times);
                work(&queue, cost, work_memory);
            };
            thread::Builder::new().name(format!("hash-{number}")).spawn(thread)?;
        }
        drop(times);
        let length = match capacity.queue {
            HashQueue::Places(places) => places.get(),
            HashQueue::Measured => length_for(&times_of(&measured)),
        };
        let places = capacity.threads.get() + length;
        metrics().hash_queue_max.set(i64::try_from(places).unwrap_or(i64::MAX));
        Ok(Self { places, free: Arc::new(Semaphore::new(places)), queue })
    }

    /// Returns the number of jobs that may run or wait in total.
    #[must_use]
    pub fn places(&self) -> usize {
        self.places
    }
}

/// Runs one thread until the queue is closed.
fn work(queue: &Queue, cost: HashCost, mut work_memory: WorkMemory) {
    queue.lock().threads += 1;
    while let Some(job) = queue.next(&mut work_memory) {
        let Job { work, deadline, reply, guard } = job;
        let begun = Instant::now();
        metrics().hash_queue.dec();
        metrics().hash_waited((begun + QUEUE_TIMEOUT).saturating_duration_since(deadline));
        if reply.is_closed() {
            continue;
        }
        let outcome = if begun >= deadline {
            Err(HasherError::Late)
        } else {
            // Nothing in the work memory is used by the next job, so a panic cannot leave it
            // inconsistent. A panic must not end the thread, because other jobs wait for it.
            let digest = catch_unwind(AssertUnwindSafe(|| work.digest(cost, &mut work_memory)));
            let took = begun.elapsed();
            metrics().hashed(took);
            queue.hash_time.store(took.as_nanos().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
            match digest {
                Ok(digest) => digest.map_err(|error| HasherError::Failed(error.into())),
                Err(_) => Err(HasherError::Failed("the derivation panicked".into())),
            }
        };
        // Dropped before the reply, so that the permit is free once the caller has its answer.
        drop(guard);
        // Fails only if the caller has gone.
        let _ = reply.send(outcome);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, priority: Priority, job: Job) {
        let mut waiting = self.lock();
        match priority {
            Priority::Check => waiting.checks.push_back(job),
            Priority::Send => waiting.sends.push_back(job),
        }
        metrics().hash_queue.inc();
        let is_needed = waiting.is_idle_thread_needed(self.hash_time.load(Ordering::Relaxed));
        drop(waiting);
        if is_needed {
            self.more.notify_one();
        }
    }

    /// Waits for the next job and returns it, or `None` once the queue is closed. Wipes the work
    /// memory of the thread before it waits, because the next job would overwrite it.
    ///
    /// Checks come before sends. Sends past their deadline come before both: they fail without
    /// being computed, which frees their permits.
    fn next(&self, work_memory: &mut WorkMemory) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
            }
            let now = Instant::now();
            if let Some(late) = waiting.sends.pop_front_if(|job| job.deadline <= now) {
                return Some(late);
            }
            if let Some(job) = waiting.checks.pop_front() {
                return Some(job);
            }
            if let Some(job) = waiting.sends.pop_front() {
                return Some(job);
            }
            if work_memory.is_used() {
                drop(waiting);
                work_memory.wipe();
                waiting = self.lock();
                continue;
            }
            waiting.idle += 1;
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        }
    }
}

impl Waiting {
    /// Returns whether a job must wake a thread: not if a busy thread takes it as soon as another
    /// would wake up. Hashes of the default cost take far longer than that.
    fn is_idle_thread_needed(&self, hash_time: u64) -> bool {
        let jobs = (self.checks.len() + self.sends.len()) as u64;
        let is_soon = hash_time > 0 && hash_time.saturating_mul(jobs) < WAKE_TIME;
        self.idle > 0 && (self.idle == self.threads || !is_soon)
    }
}

impl Hasher for HashThreads {
    fn reserve(&self, priority: Priority) -> Option<HashPermit> {
        let permit = Arc::clone(&self.free).try_acquire_owned().ok()?;
        Some(HashPermit { priority, guard: Box::new(permit) })
    }

    fn reserve_within(&self, priority: Priority, limit: Duration) -> PendingPlace {
        let free = Arc::clone(&self.free);
        Box::pin(async move {
            let Ok(Ok(permit)) = timeout(limit, free.acquire_owned()).await else {
                metrics().hash_queue_rejected.inc();
                return None;
            };
            Some(HashPermit { priority, guard: Box::new(permit) })
        })
    }

    fn digest(&self, place: HashPermit, work: HashWork) -> PendingDigest {
        self.submit(place, Work::Code(work))
    }

    fn test_digest(&self, place: HashPermit, code: Code, test_code: TestCode) -> PendingDigest {
        self.submit(place, Work::TestCode(code, test_code))
    }
}

impl HashThreads {
    fn submit(&self, place: HashPermit, work: Work) -> PendingDigest {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + QUEUE_TIMEOUT;
        let span = traces::hash();
        self.queue.push(place.priority, Job { work, deadline, reply, guard: place.guard });
        Box::pin(async move {
            // A job that was begun in time may finish.
            let outcome = match timeout_at(deadline + HASH_TIMEOUT, answer).await {
                Ok(answer) => answer.unwrap_or_else(|gone| Err(HasherError::Failed(gone.into()))),
                Err(_) => Err(HasherError::Late),
            };
            match &outcome {
                Ok(_) => {}
                Err(HasherError::Late) => traces::fail(&span, "late"),
                Err(HasherError::Failed(_)) => traces::fail(&span, "failed"),
            }
            outcome
        })
    }
}

impl Drop for HashThreads {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.more.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::code_hash::{AssociatedData, Salt};
    use crate::domain::key_name::KeyName;
    use crate::domain::pepper::Pepper;

    fn threads(threads: usize, queue: usize) -> HashThreads {
        let queue = HashQueue::Places(NonZeroUsize::new(queue).unwrap());
        let capacity = Capacity { threads: NonZeroUsize::new(threads).unwrap(), queue };
        HashThreads::start(HashCost::new(64, 1).unwrap(), capacity).unwrap()
    }

    fn job() -> HashWork {
        HashWork {
            code: Code::parse("123456").unwrap(),
            salt: Salt::new([0; 16]),
            associated_data: AssociatedData::new([0; 32]),
            pepper: Pepper::new(KeyName::parse("k1").unwrap(), [0; 32]),
        }
    }

    fn work(code: &str) -> Work {
        Work::Code(HashWork { code: Code::parse(code).unwrap(), ..job() })
    }

    fn code_of(job: &Job) -> &str {
        let (Work::Code(HashWork { code, .. }) | Work::TestCode(code, _)) = &job.work;
        code.expose()
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_done_job_gives_its_place_back() {
        let hasher = threads(1, 1);
        let first = hasher.reserve(Priority::Check).unwrap();
        let second = hasher.reserve(Priority::Send).unwrap();
        assert!(hasher.reserve(Priority::Check).is_none());
        hasher.digest(first, job()).await.unwrap();
        let third = hasher.reserve(Priority::Check).unwrap();
        assert!(hasher.reserve(Priority::Check).is_none());
        drop((second, third));
        assert!(hasher.reserve(Priority::Send).is_some());
    }

    #[tokio::test]
    async fn checks_are_taken_before_sends() {
        let (queue, mut memory) = (Queue::default(), HashCost::new(64, 1).unwrap().work_memory());
        let mut answers = Vec::new();
        for (priority, code) in [(Priority::Send, "111111"), (Priority::Check, "222222")] {
            let (reply, answer) = oneshot::channel();
            let deadline = Instant::now() + QUEUE_TIMEOUT;
            queue.push(priority, Job { work: work(code), deadline, reply, guard: Box::new(()) });
            answers.push(answer);
        }
        assert_eq!(code_of(&queue.next(&mut memory).unwrap()), "222222");
        assert_eq!(code_of(&queue.next(&mut memory).unwrap()), "111111");
    }

    #[tokio::test]
    async fn a_late_job_is_answered_undone() {
        let hasher = threads(1, 1);
        let (reply, answer) = oneshot::channel();
        hasher.queue.push(
            Priority::Check,
            Job { work: work("123456"), deadline: Instant::now(), reply, guard: Box::new(()) },
        );
        assert!(matches!(answer.await.unwrap(), Err(HasherError::Late)));
    }

    #[tokio::test]
    async fn a_send_whose_time_is_up_gives_its_place_back_while_checks_keep_coming() {
        let (queue, mut memory) = (Queue::default(), HashCost::new(64, 1).unwrap().work_memory());
        let late = Instant::now();
        let mut answers = Vec::new();
        for (priority, deadline) in [(Priority::Check, late + QUEUE_TIMEOUT), (Priority::Send, late)] {
            let (reply, answer) = oneshot::channel();
            queue.push(priority, Job { work: work("123456"), deadline, reply, guard: Box::new(()) });
            answers.push(answer);
        }
        assert!(
            queue.next(&mut memory).unwrap().deadline <= late,
            "the send is answered before the check is hashed"
        );
        assert!(queue.next(&mut memory).unwrap().deadline > late);
    }

    #[tokio::test]
    async fn work_memory_is_wiped_before_a_thread_waits_and_not_between_two_jobs() {
        let queue = Arc::new(Queue::default());
        let cost = HashCost::new(64, 1).unwrap();
        let mut memory = cost.work_memory();
        let mut answers = Vec::new();
        for _ in 0..2 {
            let (reply, answer) = oneshot::channel();
            let deadline = Instant::now() + QUEUE_TIMEOUT;
            queue.push(Priority::Check, Job { work: work("123456"), deadline, reply, guard: Box::new(()) });
            answers.push(answer);
        }
        for _ in 0..2 {
            queue.next(&mut memory).unwrap().work.digest(cost, &mut memory).unwrap();
            assert!(memory.is_used());
        }
        let thread = thread::spawn({
            let queue = Arc::clone(&queue);
            move || queue.next(&mut memory).map_or_else(|| memory.is_used(), |_| true)
        });
        while queue.lock().idle == 0 {
            thread::yield_now();
        }
        queue.lock().closed = true;
        queue.more.notify_all();
        assert!(!thread.join().unwrap());
    }

    #[test]
    fn the_length_of_the_queue_is_measured_unless_it_is_set() {
        let start = |queue| {
            let capacity = Capacity { threads: NonZeroUsize::new(2).unwrap(), queue };
            HashThreads::start(HashCost::new(64, 1).unwrap(), capacity).unwrap().places()
        };
        assert!(start(HashQueue::Measured) > 320 + 2, "a light hash leaves room for many");
        assert_eq!(start(HashQueue::Places(NonZeroUsize::new(7).unwrap())), 9);
    }
}

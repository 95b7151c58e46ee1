//! Hashing threads: a fixed number, each of which reuses its own work memory.
//!
//! Runs argon2id outside of the async threads. Memory is bounded by the number of threads times the
//! block size, and waiting by the number of permits. Must not decide anything: it only computes
//! hashes.

use std::any::Any;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use argon2::Block;
use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::domain::code::Code;
use crate::domain::code_hash::{AssociatedData, DIGEST_BYTES, Digest, HashCost, HashQueue, SALT_BYTES, Salt};
use crate::domain::key_name::KeyName;
use crate::domain::pepper::{PEPPER_BYTES, Pepper};
use crate::metrics::metrics;
use crate::ports::{HashPermit, HashWork, Hasher, HasherError, Priority};
use crate::traces;

/// Amount of work in a queue of measured length, as the time that a client can wait.
const QUEUE_TIME: Duration = Duration::from_secs(3);
/// Minimum and maximum length of a measured queue. A waiting request takes about 50 KiB, with its
/// connection.
const MEASURED: std::ops::RangeInclusive<usize> = 320..=10_000;
/// Time limit for the measurement. If a hash takes longer, the queue has its minimum length.
const MEASURING: Duration = Duration::from_millis(500);
/// How long a job may wait for a thread; afterwards it fails. Exceeds [`QUEUE_TIME`], because the
/// machine may be busier than during the measurement.
///
/// With the 10 seconds of the mailer and a second of DNS, it exceeds the 15 seconds of a request
/// only if each takes its longest.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(4);
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
}

#[derive(Default)]
struct Waiting {
    checks: VecDeque<Job>,
    sends: VecDeque<Job>,
    closed: bool,
}

struct Job {
    work: HashWork,
    deadline: Instant,
    reply: oneshot::Sender<Result<Digest, HasherError>>,
    /// Released once the job is done or dropped.
    guard: Box<dyn Any + Send>,
}

impl HashThreads {
    /// Starts the threads; each allocates its work memory once. If the queue's length is to be
    /// measured, each thread first times a hash.
    ///
    /// # Errors
    /// The system's error if a thread cannot be started.
    pub fn start(cost: HashCost, capacity: Capacity) -> std::io::Result<Self> {
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

/// Returns the time of one hash while the other threads hash too, or `None` if it failed.
fn time_a_hash(cost: HashCost, work_memory: &mut [Block]) -> Option<Duration> {
    let code = Code::parse("000000")?;
    let pepper = Pepper::new(KeyName::parse("measured")?, [0; PEPPER_BYTES]);
    let salt = Salt::new([0; SALT_BYTES]);
    let associated_data = AssociatedData::new([0; DIGEST_BYTES]);
    let mut time = |cost: HashCost| {
        let begun = Instant::now();
        cost.digest(&code, &salt, &associated_data, &pepper, work_memory).ok()?;
        Some(begun.elapsed())
    };
    // The first pass runs with cold caches and at a low clock rate. If it is slow enough to decide,
    // the full measurement is skipped.
    let estimate = time(cost.single_pass())?.saturating_mul(cost.passes());
    if estimate > MEASURING / 2 { Some(estimate) } else { time(cost) }
}

/// Returns the measurements that arrived in time.
fn times_of(measured: &mpsc::Receiver<Option<Duration>>) -> Vec<Duration> {
    let end = Instant::now() + MEASURING;
    let left = || end.saturating_duration_since(Instant::now());
    std::iter::from_fn(|| measured.recv_timeout(left()).ok()).flatten().collect()
}

/// Returns how many hashes the threads compute in [`QUEUE_TIME`], within [`MEASURED`].
fn length_for(times: &[Duration]) -> usize {
    let hashes = times.iter().map(|time| QUEUE_TIME.as_nanos() / time.as_nanos().max(1));
    let hashes = usize::try_from(hashes.sum::<u128>()).unwrap_or(usize::MAX);
    hashes.clamp(*MEASURED.start(), *MEASURED.end())
}

/// Runs one thread until the queue is closed.
fn work(queue: &Queue, cost: HashCost, mut work_memory: Box<[Block]>) {
    while let Some(job) = queue.next() {
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
            let HashWork { code, salt, associated_data, pepper } = &work;
            // Nothing in the work memory is used by the next job, so a panic cannot leave it
            // inconsistent. A panic must not end the thread, because other jobs wait for it.
            let digest =
                AssertUnwindSafe(|| cost.digest(code, salt, associated_data, pepper, &mut work_memory));
            let digest = catch_unwind(digest);
            metrics().hashed(begun.elapsed());
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
        self.more.notify_one();
    }

    /// Waits for the next job and returns it, or `None` once the queue is closed. Checks come
    /// before sends. Sends past their deadline come before both: they fail without being computed,
    /// which frees their permits.
    fn next(&self) -> Option<Job> {
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
            waiting = self.more.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

#[async_trait]
impl Hasher for HashThreads {
    fn reserve(&self, priority: Priority) -> Option<HashPermit> {
        let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() else {
            metrics().hash_queue_rejected.inc();
            return None;
        };
        Some(HashPermit { priority, guard: Box::new(permit) })
    }

    async fn digest(&self, place: HashPermit, work: HashWork) -> Result<Digest, HasherError> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + QUEUE_TIMEOUT;
        let span = traces::hash();
        self.queue.push(place.priority, Job { work, deadline, reply, guard: place.guard });
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
        let queue = Queue::default();
        let mut answers = Vec::new();
        for (priority, code) in [(Priority::Send, "111111"), (Priority::Check, "222222")] {
            let (reply, answer) = oneshot::channel();
            let work = HashWork { code: Code::parse(code).unwrap(), ..job() };
            let deadline = Instant::now() + QUEUE_TIMEOUT;
            queue.push(priority, Job { work, deadline, reply, guard: Box::new(()) });
            answers.push(answer);
        }
        assert_eq!(queue.next().unwrap().work.code.expose(), "222222");
        assert_eq!(queue.next().unwrap().work.code.expose(), "111111");
    }

    #[tokio::test]
    async fn a_late_job_is_answered_undone() {
        let hasher = threads(1, 1);
        let (reply, answer) = oneshot::channel();
        hasher
            .queue
            .push(Priority::Check, Job { work: job(), deadline: Instant::now(), reply, guard: Box::new(()) });
        assert!(matches!(answer.await.unwrap(), Err(HasherError::Late)));
    }

    #[tokio::test]
    async fn a_send_whose_time_is_up_gives_its_place_back_while_checks_keep_coming() {
        let queue = Queue::default();
        let late = Instant::now();
        let mut answers = Vec::new();
        for (priority, deadline) in [(Priority::Check, late + QUEUE_TIMEOUT), (Priority::Send, late)] {
            let (reply, answer) = oneshot::channel();
            queue.push(priority, Job { work: job(), deadline, reply, guard: Box::new(()) });
            answers.push(answer);
        }
        assert!(queue.next().unwrap().deadline <= late, "the send is answered before the check is hashed");
        assert!(queue.next().unwrap().deadline > late);
    }

    #[test]
    fn a_measured_queue_holds_three_seconds_of_work_within_bounds() {
        let millis = |times: &[u64]| -> Vec<Duration> {
            times.iter().map(|time| Duration::from_millis(*time)).collect()
        };
        assert_eq!(length_for(&millis(&[10, 10])), 600, "3 s of two threads");
        assert_eq!(length_for(&millis(&[10, 5])), 900, "each thread by its own time");
        assert_eq!(length_for(&millis(&[100, 100])), 320, "never fewer");
        assert_eq!(length_for(&[]), 320, "what could not be measured in time");
        assert_eq!(length_for(&[Duration::from_micros(50)]), 10_000, "memory is bounded");
        assert_eq!(length_for(&[Duration::ZERO]), 10_000);
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

//! The hashing threads: a fixed number, each with work memory of its own that it uses again and again.
//!
//! Keeps argon2 off the async threads. Memory is bounded by threads times block size, waiting by the number of
//! places. Must not decide anything: it derives digests.

use std::any::Any;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::domain::code_hash::{Digest, HashCost};
use crate::ports::{HashWork, Hasher, HasherError, Place, Urgency};

/// A job that no thread came to within this time is answered without being done: its caller is about to leave.
const PATIENCE: Duration = Duration::from_secs(3);

/// How many threads, and how many jobs may wait for them.
#[derive(Debug, Clone, Copy)]
pub struct Capacity {
    /// Threads, each with one block of work memory.
    pub threads: NonZeroUsize,
    /// Places beyond those being worked on.
    pub queue: usize,
}

/// The threads and their queue; the threads end when this is dropped.
pub struct HashThreads {
    places: Arc<Semaphore>,
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
    /// Given back once the job is done or dropped.
    guard: Box<dyn Any + Send>,
}

impl HashThreads {
    /// Starts the threads; each allocates its work memory once.
    ///
    /// # Errors
    /// The system's, where a thread cannot be started.
    pub fn start(cost: HashCost, capacity: Capacity) -> std::io::Result<Self> {
        let queue = Arc::new(Queue::default());
        let places = Arc::new(Semaphore::new(capacity.threads.get() + capacity.queue));
        let threads = Self { places, queue: Arc::clone(&queue) };
        for number in 1..=capacity.threads.get() {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || work(&queue, cost))?;
        }
        Ok(threads)
    }
}

/// The life of one thread.
fn work(queue: &Queue, cost: HashCost) {
    let mut work_memory = cost.work_memory();
    while let Some(job) = queue.next() {
        let Job { work, deadline, reply, guard } = job;
        if reply.is_closed() {
            continue;
        }
        let outcome = if Instant::now() >= deadline {
            Err(HasherError::Late)
        } else {
            let HashWork { code, salt, binding, pepper } = &work;
            // The work memory holds nothing between two jobs, so a panic leaves nothing half done in it; and it must
            // not end the thread, which others wait for.
            let digest = AssertUnwindSafe(|| cost.digest(code, salt, binding, pepper, &mut work_memory));
            match catch_unwind(digest) {
                Ok(digest) => digest.map_err(|error| HasherError::Failed(error.into())),
                Err(_) => Err(HasherError::Failed("the derivation panicked".into())),
            }
        };
        // Before the answer, so that whoever has it finds the place free.
        drop(guard);
        // Refused only where the caller is gone.
        let _ = reply.send(outcome);
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, urgency: Urgency, job: Job) {
        let mut waiting = self.lock();
        match urgency {
            Urgency::Check => waiting.checks.push_back(job),
            Urgency::Send => waiting.sends.push_back(job),
        }
        self.more.notify_one();
    }

    /// The next job, checks first; waits for one, and gives `None` once the queue is closed.
    fn next(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if waiting.closed {
                return None;
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
    fn place(&self, urgency: Urgency) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { urgency, guard: Box::new(permit) })
    }

    async fn digest(&self, place: Place, work: HashWork) -> Result<Digest, HasherError> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + PATIENCE;
        self.queue.push(place.urgency, Job { work, deadline, reply, guard: place.guard });
        // Checks go first, so a send might wait for ever while they keep coming.
        match timeout_at(deadline + PATIENCE, answer).await {
            Ok(answer) => answer.unwrap_or_else(|gone| Err(HasherError::Failed(gone.into()))),
            Err(_) => Err(HasherError::Late),
        }
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
    use crate::domain::code::Code;
    use crate::domain::code_hash::{Binding, Salt};
    use crate::domain::key_name::KeyName;
    use crate::domain::pepper::Pepper;

    fn threads(threads: usize, queue: usize) -> HashThreads {
        let capacity = Capacity { threads: NonZeroUsize::new(threads).unwrap(), queue };
        HashThreads::start(HashCost::new(64, 1).unwrap(), capacity).unwrap()
    }

    fn job() -> HashWork {
        HashWork {
            code: Code::parse("123456").unwrap(),
            salt: Salt::new([0; 16]),
            binding: Binding::new([0; 32]),
            pepper: Pepper::new(KeyName::parse("k1").unwrap(), [0; 32]),
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_a_done_job_gives_its_place_back() {
        let hasher = threads(1, 1);
        let first = hasher.place(Urgency::Check).unwrap();
        let second = hasher.place(Urgency::Send).unwrap();
        assert!(hasher.place(Urgency::Check).is_none());
        hasher.digest(first, job()).await.unwrap();
        let third = hasher.place(Urgency::Check).unwrap();
        assert!(hasher.place(Urgency::Check).is_none());
        drop((second, third));
        assert!(hasher.place(Urgency::Send).is_some());
    }

    #[tokio::test]
    async fn checks_are_taken_before_sends() {
        let queue = Queue::default();
        let mut answers = Vec::new();
        for (urgency, code) in [(Urgency::Send, "111111"), (Urgency::Check, "222222")] {
            let (reply, answer) = oneshot::channel();
            let work = HashWork { code: Code::parse(code).unwrap(), ..job() };
            queue.push(urgency, Job { work, deadline: Instant::now(), reply, guard: Box::new(()) });
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
            .push(Urgency::Check, Job { work: job(), deadline: Instant::now(), reply, guard: Box::new(()) });
        assert!(matches!(answer.await.unwrap(), Err(HasherError::Late)));
    }
}

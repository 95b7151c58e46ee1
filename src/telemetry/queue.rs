//! A queue of lines and the thread that writes them, so that no request waits for whoever reads a
//! log.
//!
//! Own code, because the usual crate prints to standard output, and waits for it, if a queue is
//! full at the end.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::audit;
use crate::metrics::metrics;

/// The name of the log that must not report its own faults.
const LOG: &str = "log";

/// A queue of limited length. Clones share it.
#[derive(Clone)]
pub(super) struct LineQueue {
    lines: SyncSender<Vec<u8>>,
    state: Arc<State>,
    /// The most lines that may wait when one is added.
    room: usize,
}

#[derive(Default)]
struct State {
    counts: Mutex<Counts>,
    /// Notified when no line waits.
    empty: Condvar,
}

#[derive(Default)]
struct Counts {
    waiting: usize,
    lost: u64,
}

impl LineQueue {
    /// Starts the thread that writes to `to`. `name` is that of the log in the metrics.
    ///
    /// # Errors
    /// Returns the system's error if the thread cannot be started.
    pub(super) fn start(
        name: &'static str,
        length: usize,
        to: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let (lines, waiting) = sync_channel(length);
        let queue = Self { lines, state: Arc::default(), room: length };
        let state = Arc::clone(&queue.state);
        thread::Builder::new().name(name.to_owned()).spawn(move || write(name, &waiting, to, &state))?;
        let state = Arc::clone(&queue.state);
        metrics().lost_lines(name, move || state.counts().lost);
        Ok(queue)
    }

    /// Returns the same queue for lines that may take half of it only.
    fn half(&self) -> Self {
        Self { room: self.room / 2, ..self.clone() }
    }

    /// Waits until all lines are written, until the deadline at most.
    pub(super) fn flush(&self, deadline: Instant) {
        let counts = self.state.counts();
        let is_waiting = |counts: &mut Counts| counts.waiting > 0;
        let limit = deadline.saturating_duration_since(Instant::now());
        drop(self.state.empty.wait_timeout_while(counts, limit, is_waiting));
    }
}

impl State {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for LineQueue {
    /// Adds a line. Never waits: if the queue is full, the line is lost.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut counts = self.state.counts();
        if counts.waiting >= self.room {
            counts.lost += 1;
            return Ok(line.len());
        }
        counts.waiting += 1;
        drop(counts);
        if self.lines.try_send(line.to_vec()).is_err() {
            let mut counts = self.state.counts();
            counts.waiting -= 1;
            counts.lost += 1;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineQueue {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }

    fn make_writer_for(&self, metadata: &Metadata<'_>) -> Self {
        if metadata.target() == audit::REJECTIONS { self.half() } else { self.clone() }
    }
}

fn write(name: &'static str, lines: &Receiver<Vec<u8>>, mut to: impl Write, state: &State) {
    let mut is_failing = false;
    for line in lines {
        // After a failure, the line before may be there in part.
        let begun = if is_failing { to.write_all(b"\n") } else { Ok(()) };
        let written = begun.and_then(|()| to.write_all(&line)).and_then(|()| to.flush());
        if let (Err(error), false) = (&written, is_failing || name == LOG) {
            tracing::error!(%error, "the {name} log cannot be written; its lines are lost until it can");
        }
        is_failing = written.is_err();
        let mut counts = state.counts();
        counts.waiting -= 1;
        counts.lost += u64::from(is_failing);
        if counts.waiting == 0 {
            state.empty.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    /// A writer that hands on each line, and waits until it is allowed to.
    struct Held(Receiver<()>, Sender<Vec<u8>>);

    impl Write for Held {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            self.1.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_flood_of_rejections_leaves_room_and_what_is_lost_is_counted() {
        let ((allow, allowed), (written, lines)) = (channel(), channel());
        let mut queue = LineQueue::start("log", 8, Held(allowed, written)).unwrap();
        let mut rejections = queue.half();
        for _ in 0..100 {
            rejections.write_all(b"rejection").unwrap();
        }
        assert_eq!(queue.state.counts().lost, 96);
        for _ in 0..5 {
            queue.write_all(b"decision").unwrap();
        }
        assert_eq!(queue.state.counts().lost, 97);
        (0..8).for_each(|_| allow.send(()).unwrap());
        let written: Vec<_> = lines.iter().take(8).collect();
        assert_eq!(written.iter().filter(|line| *line == b"decision").count(), 4);
        queue.flush(Instant::now() + std::time::Duration::from_secs(20));
        assert_eq!(queue.state.counts().waiting, 0);
    }
}

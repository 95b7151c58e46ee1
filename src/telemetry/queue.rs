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

use tracing_subscriber::fmt::MakeWriter;

use crate::metrics::metrics;

/// The name of the log that must not report its own faults.
const LOG: &str = "log";

/// A queue of limited length. Clones share it.
#[derive(Clone)]
pub(super) struct LineQueue {
    lines: SyncSender<Vec<u8>>,
    state: Arc<State>,
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
        let queue = Self { lines, state: Arc::default() };
        let state = Arc::clone(&queue.state);
        thread::Builder::new().name(name.to_owned()).spawn(move || write(name, &waiting, to, &state))?;
        let state = Arc::clone(&queue.state);
        metrics().lost_lines(name, move || state.counts().lost);
        Ok(queue)
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
        self.state.counts().waiting += 1;
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

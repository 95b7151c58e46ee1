//! A queue of lines and the thread that writes them, so that no request waits for the reader of a
//! log.
//!
//! Own code, because the usual crate prints to standard output, and waits for it, if a queue is
//! full at the end.

use std::io::{self, Write};
use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing::Metadata;
use tracing_subscriber::fmt::MakeWriter;

use crate::audit;
use crate::metrics::metrics;

/// The name of the log that must not report its own faults.
const LOG: &str = "log";
/// How long lines are collected after those before were written, so that a busy service does not
/// wake the thread for each.
const COLLECT_TIME: Duration = Duration::from_millis(5);

/// A queue of limited length. Clones share it.
#[derive(Clone)]
pub(super) struct LineQueue {
    state: Arc<State>,
    /// The most lines that may wait when one is added.
    room: usize,
}

#[derive(Default)]
struct State {
    lines: Mutex<Lines>,
    /// Notified when a line is added to none, and when somebody waits for [`Self::empty`].
    more: Condvar,
    /// Notified when no line waits.
    empty: Condvar,
}

#[derive(Default)]
struct Lines {
    text: Vec<u8>,
    /// How many lines `text` has. In the log for people, a line has line breaks of its own.
    count: usize,
    /// How many lines wait, including those that are being written.
    waiting: usize,
    lost: u64,
    /// Whether the thread must not collect more lines before it writes.
    is_urgent: bool,
}

impl LineQueue {
    /// Starts the thread that writes to `to`, which runs as long as the process. `name` is that of
    /// the log in the metrics.
    ///
    /// # Errors
    /// Returns the system's error if the thread cannot be started.
    pub(super) fn start(
        name: &'static str,
        length: usize,
        to: impl Write + Send + 'static,
    ) -> io::Result<Self> {
        let queue = Self { state: Arc::default(), room: length };
        let state = Arc::clone(&queue.state);
        thread::Builder::new().name(name.to_owned()).spawn(move || write(name, to, &state))?;
        let state = Arc::clone(&queue.state);
        metrics().lost_lines(name, move || state.lines().lost);
        Ok(queue)
    }

    /// Adds a line. Never waits: if the queue is full, the line is lost. Rejections may take half
    /// of the queue only.
    pub(super) fn push(&self, line: &[u8], is_rejection: bool) {
        let mut lines = self.state.lines();
        let room = if is_rejection { self.room / 2 } else { self.room };
        if lines.waiting >= room {
            lines.lost += 1;
            return;
        }
        lines.waiting += 1;
        lines.count += 1;
        lines.text.extend_from_slice(line);
        let is_first = lines.text.len() == line.len();
        drop(lines);
        if is_first {
            self.state.more.notify_one();
        }
    }

    /// Waits until all lines are written, until the deadline at most.
    pub(super) fn flush(&self, deadline: Instant) {
        let mut lines = self.state.lines();
        lines.is_urgent = true;
        self.state.more.notify_one();
        let limit = deadline.saturating_duration_since(Instant::now());
        drop(self.state.empty.wait_timeout_while(lines, limit, |lines| lines.waiting > 0));
    }
}

impl State {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for lines, takes them and returns their number. `text` is empty.
    fn take(&self, text: &mut Vec<u8>) -> usize {
        let lines = self.lines();
        let lines = self.more.wait_while(lines, |lines| lines.text.is_empty());
        let mut lines = lines.unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut lines.text, text);
        mem::take(&mut lines.count)
    }

    /// Records that lines were taken and written, except those that are lost.
    fn done(&self, taken: usize, lost: usize) {
        let mut lines = self.lines();
        lines.waiting -= taken;
        lines.lost += lost as u64;
        if lines.waiting == 0 {
            self.empty.notify_all();
        }
        let is_calm = |lines: &mut Lines| !lines.is_urgent;
        drop(self.more.wait_timeout_while(lines, COLLECT_TIME, is_calm));
    }
}

/// A writer of text for [`LineQueue::push`], which gets each line in one call.
pub(super) struct LineWriter<'a> {
    queue: &'a LineQueue,
    is_rejection: bool,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(line, self.is_rejection);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LineQueue {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter { queue: self, is_rejection: false }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        LineWriter { queue: self, is_rejection: metadata.target() == audit::REJECTIONS }
    }
}

fn write(name: &'static str, mut to: impl Write, state: &State) {
    let mut text = Vec::new();
    let mut is_failing = false;
    loop {
        let taken = state.take(&mut text);
        // After a failure, the line before may be there in part.
        let begun = if is_failing { to.write_all(b"\n") } else { Ok(()) };
        let (written, outcome) = match begun {
            Ok(()) => write_most(&mut to, &text),
            Err(error) => (0, Err(error)),
        };
        if let (Err(error), false) = (&outcome, is_failing || name == LOG) {
            tracing::error!(%error, "the {name} log cannot be written; its lines are lost until it can");
        }
        is_failing = outcome.is_err();
        // Of lines with breaks of their own, at most all are lost.
        let lost = line_breaks(text.get(written..).unwrap_or_default()).min(taken);
        state.done(taken, lost);
        text.clear();
    }
}

/// Writes until an error, and returns how many bytes were written.
fn write_most(to: &mut impl Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while let Some(rest) = text.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, to.flush())
}

/// Returns the number of lines, the last of which can be without its break.
fn line_breaks(text: &[u8]) -> usize {
    text.split_inclusive(|byte| *byte == b'\n').count()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// A writer that hands on what it is given, and waits until it is allowed to.
    struct Held(Receiver<io::Result<()>>, Sender<Vec<u8>>);

    impl Write for Held {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)??;
            self.1.send(lines.to_vec()).map_err(io::Error::other)?;
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(20)
    }

    #[test]
    fn a_flood_of_rejections_leaves_room_and_what_is_lost_is_counted() {
        let ((allow, allowed), (written, texts)) = (channel(), channel());
        let queue = LineQueue::start("log", 8, Held(allowed, written)).unwrap();
        for _ in 0..100 {
            queue.push(b"rejection\n", true);
        }
        assert_eq!(queue.state.lines().lost, 96);
        for _ in 0..5 {
            queue.push(b"decision\n", false);
        }
        assert_eq!(queue.state.lines().lost, 97);
        (0..8).for_each(|_| allow.send(Ok(())).unwrap());
        queue.flush(soon());
        assert_eq!(queue.state.lines().waiting, 0);
        let text = String::from_utf8(texts.try_iter().flatten().collect()).unwrap();
        assert_eq!(text.lines().filter(|line| *line == "decision").count(), 4);
        assert_eq!(text.lines().filter(|line| *line == "rejection").count(), 4);
    }

    #[test]
    fn a_line_with_breaks_of_its_own_counts_once() {
        let ((allow, allowed), (written, texts)) = (channel(), channel());
        let queue = LineQueue::start("log", 2, Held(allowed, written)).unwrap();
        for line in [&b"one\nof three\nbreaks\n"[..], b"two\n"] {
            allow.send(Ok(())).unwrap();
            queue.push(line, false);
            queue.flush(soon());
            assert_eq!(queue.state.lines().waiting, 0);
        }
        assert_eq!(queue.state.lines().lost, 0);
        assert_eq!(texts.try_iter().flatten().collect::<Vec<_>>(), b"one\nof three\nbreaks\ntwo\n");
    }

    #[test]
    fn lines_that_cannot_be_written_are_lost_and_the_next_begins_anew() {
        let ((allow, allowed), (written, texts)) = (channel(), channel());
        let queue = LineQueue::start("log", 8, Held(allowed, written)).unwrap();
        allow.send(Err(io::ErrorKind::StorageFull.into())).unwrap();
        queue.push(b"one\n", false);
        queue.flush(soon());
        assert_eq!(queue.state.lines().lost, 1);
        (0..2).for_each(|_| allow.send(Ok(())).unwrap());
        queue.push(b"two\n", false);
        queue.flush(soon());
        assert_eq!(texts.try_iter().flatten().collect::<Vec<_>>(), b"\ntwo\n");
        assert_eq!(queue.state.lines().lost, 1);
    }
}

//! Logging: the log, one line for each event on standard error, as JSON or as text for people, and
//! the audit log, one line of JSON for each decision.
//!
//! Lines are written by threads of their own, so that no request waits for whoever reads them. If a
//! thread falls behind by more lines than its queue holds, further lines are dropped and counted.
//! Must not let events of other crates below a warning through: they may contain data that otpd
//! never logs.

mod file;
mod queue;

use std::io::{self, IsTerminal as _};
use std::panic;
use std::time::{Duration, Instant};

use tracing::Level;
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, reload};

use self::file::LogFile;
pub use self::file::check;
use self::queue::LineQueue;
use crate::audit;
use crate::config::audit::AuditOutput;
use crate::config::log::{LogFormat, LogSettings};

/// How long the lines in the queues may take to be written at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The most lines of the log that wait to be written; some hundred bytes each.
const LOG_QUEUE: usize = 4096;
/// The most lines of the audit log that wait to be written.
const AUDIT_QUEUE: usize = 16_384;

/// The running logs. When dropped, waits until what is queued is written, for a second at most.
#[must_use = "lines in the queues may be lost unless it is dropped at the end"]
pub struct Telemetry {
    handle: TelemetryHandle,
    queues: Vec<LineQueue>,
}

/// Changes the running logs.
#[derive(Clone)]
pub struct TelemetryHandle {
    level: reload::Handle<Targets, Registry>,
    audit_file: Option<LogFile>,
}

/// Starts logging; a second call has no effect.
///
/// # Errors
/// Returns the system's error if the file of the audit log cannot be opened, or no thread started.
pub fn start(log: LogSettings, output: &AuditOutput) -> io::Result<Telemetry> {
    let terminal = io::stderr().is_terminal();
    let stderr = LineQueue::start("log", LOG_QUEUE, io::stderr())?;
    let mut queues = vec![stderr.clone()];
    let lines = fmt::layer().with_writer(stderr);
    let lines = match log.format {
        LogFormat::Human => lines.with_ansi(terminal).boxed(),
        LogFormat::Auto if terminal => lines.with_ansi(true).boxed(),
        LogFormat::Json | LogFormat::Auto => {
            lines.json().flatten_event(true).with_current_span(false).boxed()
        }
    };
    let (filter, level) = reload::Layer::new(targets(log.level));
    let audit_file = match output {
        AuditOutput::File(path) => Some(LogFile::open(path)?),
        AuditOutput::Off | AuditOutput::Stdout => None,
    };
    let audit_queue = match (output, &audit_file) {
        (AuditOutput::Off, _) => None,
        (_, Some(file)) => Some(LineQueue::start("audit", AUDIT_QUEUE, file.clone())?),
        (_, None) => Some(LineQueue::start("audit", AUDIT_QUEUE, io::stdout())?),
    };
    queues.extend(audit_queue.clone());
    let audit_lines = audit_queue.map(|queue| {
        let lines = fmt::layer().with_writer(queue).json().flatten_event(true);
        let lines = lines.with_span_list(false).with_level(false).with_target(false);
        // The span of a request is needed whatever the level of the log is.
        let ours = filter_fn(|metadata| {
            [audit::TARGET, audit::REJECTIONS].contains(&metadata.target())
                || metadata.is_span() && metadata.target().starts_with("otpd")
        });
        lines.with_filter(ours.with_max_level_hint(LevelFilter::INFO))
    });
    // Fails only if a subscriber is set already.
    let _ = tracing_subscriber::registry().with(lines.with_filter(filter)).with(audit_lines).try_init();
    panic::set_hook(Box::new(|info| {
        // Log only the location: the message of a panic may contain the data that caused it.
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
    Ok(Telemetry { handle: TelemetryHandle { level, audit_file }, queues })
}

impl Telemetry {
    /// Returns what changes the logs while the process runs.
    #[must_use]
    pub fn handle(&self) -> TelemetryHandle {
        self.handle.clone()
    }
}

impl TelemetryHandle {
    /// Changes the least severe level that is logged.
    pub fn set_level(&self, level: Level) {
        // Fails only if the subscriber is gone, which lives as long as the process.
        let _ = self.level.reload(targets(level));
    }

    /// Opens the file of the audit log again, if there is one, because it may have been renamed.
    ///
    /// # Errors
    /// Returns the system's error if it cannot be opened. The old file continues to be written.
    pub fn reopen(&self) -> io::Result<()> {
        self.audit_file.as_ref().map_or(Ok(()), LogFile::reopen)
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        // The log last, because it reports faults of the audit log.
        self.queues.iter().rev().for_each(|queue| queue.flush(deadline));
    }
}

fn targets(level: Level) -> Targets {
    Targets::new().with_default(LevelFilter::WARN).with_target("otpd", level)
}

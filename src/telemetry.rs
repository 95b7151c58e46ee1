//! Logging: the log, one line for each event on standard error, as JSON or as text for people, and
//! the audit log, one line of JSON for each decision. Traces, if there is a collector.
//!
//! Lines and spans are written by threads of their own, so that no request waits for their readers.
//! If a thread falls behind by more than its queue holds, what is added is dropped and counted.
//!
//! Must not let events of other crates below a warning through: they may contain data that otpd
//! never logs.

mod file;
mod json_lines;
mod queue;
mod spans;

use std::io::{self, IsTerminal as _};
use std::panic;
use std::time::{Duration, Instant};

use opentelemetry_sdk::trace::SdkTracerProvider;
use thiserror::Error;
use tracing::{Level, Metadata};
use tracing_subscriber::filter::{LevelFilter, Targets, filter_fn};
use tracing_subscriber::layer::{Layer, SubscriberExt as _};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{fmt, reload};

use self::file::LogFile;
pub use self::file::check;
use self::json_lines::{JsonLines, Shape, SpanMembers};
use self::queue::LineQueue;
pub use self::spans::{CollectorError, check_collector};
use crate::config::audit::AuditOutput;
use crate::config::log::{LogFormat, LogSettings};
use crate::config::traces::TraceExport;
use crate::{audit, traces};

/// How long the lines and spans in the queues may take to be written at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// The most lines of the log that wait to be written; some hundred bytes each.
const LOG_QUEUE: usize = 4096;
/// The most lines of the audit log that wait to be written.
const AUDIT_QUEUE: usize = 16_384;

/// A layer with its own filter.
type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

/// The running logs and traces. When dropped, waits until what is queued is written, for a second
/// at most.
#[must_use = "lines in the queues may be lost unless it is dropped at the end"]
pub struct Telemetry {
    handle: TelemetryHandle,
    queues: Vec<LineQueue>,
    spans: Option<SdkTracerProvider>,
}

/// Why the logs could not be started.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// A thread could not be started.
    #[error("a thread could not be started")]
    Thread(#[source] io::Error),
    /// The file of the audit log cannot be opened.
    #[error("the file cannot be opened")]
    AuditFile(#[source] io::Error),
    /// The trace collector cannot be used.
    #[error("the trace collector cannot be used")]
    Collector(#[source] CollectorError),
}

/// Changes the running logs.
#[derive(Clone)]
pub struct TelemetryHandle {
    level: reload::Handle<Targets, Registry>,
    audit_file: Option<LogFile>,
}

/// Starts logging and tracing. Must be called once.
///
/// # Errors
/// Returns a [`TelemetryError`] if something that the settings name cannot be used.
pub fn start(
    log: LogSettings,
    output: &AuditOutput,
    export: &TraceExport,
) -> Result<Telemetry, TelemetryError> {
    let stderr = LineQueue::start("log", LOG_QUEUE, io::stderr()).map_err(TelemetryError::Thread)?;
    let (filter, level) = reload::Layer::new(targets(log.level));
    // A layer that is off is left out: an `Option` that is `None` makes `tracing` check every event
    // of all crates again.
    let mut layers = vec![
        SpanMembers.with_filter(filter_fn(is_span_of_lines).with_max_level_hint(LevelFilter::ERROR)).boxed(),
        log_lines(log.format, stderr.clone()).with_filter(filter).boxed(),
    ];
    let mut queues = vec![stderr];
    let audit_file = match output {
        AuditOutput::File(path) => Some(LogFile::open(path).map_err(TelemetryError::AuditFile)?),
        AuditOutput::Off | AuditOutput::Stdout => None,
    };
    let audit_queue = match (output, &audit_file) {
        (AuditOutput::Off, _) => None,
        (_, Some(file)) => Some(LineQueue::start("audit", AUDIT_QUEUE, file.clone())),
        (_, None) => Some(LineQueue::start("audit", AUDIT_QUEUE, io::stdout())),
    };
    if let Some(queue) = audit_queue.transpose().map_err(TelemetryError::Thread)? {
        queues.push(queue.clone());
        layers.push(audit_lines(queue));
    }
    let spans = match export {
        TraceExport::Off => None,
        TraceExport::To(url) => Some(spans::start(url).map_err(TelemetryError::Collector)?),
    };
    layers.extend(spans.as_ref().map(exported_spans));
    // Fails only if a subscriber is set already.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    panic::set_hook(Box::new(|info| {
        // Log only the location: the message of a panic may contain the data that caused it.
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
    Ok(Telemetry { handle: TelemetryHandle { level, audit_file }, queues, spans })
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
        if let Some(spans) = &self.spans
            && spans.shutdown_with_timeout(FLUSH_TIMEOUT / 2).is_err()
        {
            tracing::warn!("the trace collector did not accept the last spans in time; they are lost");
        }
        // The log last, because it reports faults of the audit log.
        self.queues.iter().rev().for_each(|queue| queue.flush(deadline));
    }
}

fn log_lines(format: LogFormat, to: LineQueue) -> BoxedLayer {
    let terminal = io::stderr().is_terminal();
    match format {
        LogFormat::Human => fmt::layer().with_writer(to).with_ansi(terminal).boxed(),
        LogFormat::Auto if terminal => fmt::layer().with_writer(to).with_ansi(true).boxed(),
        LogFormat::Json | LogFormat::Auto => JsonLines { shape: Shape::Log, to }.boxed(),
    }
}

fn audit_lines(to: LineQueue) -> BoxedLayer {
    let ours = filter_fn(|metadata| {
        [audit::TARGET, audit::REJECTIONS].contains(&metadata.target()) || is_span_of_lines(metadata)
    });
    let lines = JsonLines { shape: Shape::Audit, to };
    lines.with_filter(ours.with_max_level_hint(LevelFilter::INFO)).boxed()
}

/// Returns whether lines have the members of this span, whatever the level of the log is.
fn is_span_of_lines(metadata: &Metadata<'_>) -> bool {
    metadata.is_span() && metadata.target().starts_with("otpd")
}

fn exported_spans(provider: &SdkTracerProvider) -> BoxedLayer {
    let spans = tracing_opentelemetry::layer().with_tracer(spans::tracer(provider));
    let spans = spans.with_level(false).with_target(false).with_location(false).with_threads(false);
    // The current span is that of `tracing`; nothing uses OpenTelemetry's own.
    let spans = spans.with_tracked_inactivity(false).with_context_activation(false);
    let ours = filter_fn(|metadata| {
        let is_request = metadata.name() == traces::REQUEST && metadata.target().starts_with("otpd");
        metadata.is_span() && (is_request || metadata.target() == traces::TARGET)
    });
    spans.with_filter(ours.with_max_level_hint(LevelFilter::INFO)).boxed()
}

fn targets(level: Level) -> Targets {
    // The resolver names the domains of recipients.
    let quiet = Targets::new().with_default(LevelFilter::WARN).with_target("hickory", LevelFilter::OFF);
    quiet.with_target("otpd", level)
}

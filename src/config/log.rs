//! Settings of the log.
//!
//! Must not set up logging.

use tracing::Level;

use super::reader::Reader;

/// What is logged, and how.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// The least that is logged.
    pub level: Level,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people on a terminal, else JSON.
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Human,
}

/// Reads the section `log`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<LogSettings> {
    let format = reader.choice(
        "log.format",
        &[("auto", LogFormat::Auto), ("json", LogFormat::Json), ("human", LogFormat::Human)],
    );
    let level = reader.choice(
        "log.level",
        &[
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("warning", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ],
    );
    Some(LogSettings { format: format?, level: level? })
}

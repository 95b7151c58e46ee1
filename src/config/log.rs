//! Settings of the log.
//!
//! Must not set up logging.

use tracing::Level;

use super::reader::Reader;

/// Level and format of the log.
#[derive(Debug, Clone, Copy)]
pub struct LogSettings {
    /// Format of a line.
    pub format: LogFormat,
    /// Least severe level that is logged.
    pub level: Level,
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// [`Self::Human`] on a terminal, otherwise [`Self::Json`].
    Auto,
    /// One JSON object per line.
    Json,
    /// Readable text.
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

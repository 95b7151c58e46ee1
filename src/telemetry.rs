//! Logging: one line for each event on standard error, as JSON or as text for people.
//!
//! Must not let events of other crates below a warning through: they may contain data that otpd
//! never logs.

use std::io::IsTerminal as _;
use std::panic;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::log::{LogFormat, LogSettings};

/// Starts logging to standard error; a second call has no effect.
pub fn start(log: LogSettings) {
    let ours = Targets::new().with_default(LevelFilter::WARN).with_target("otpd", log.level);
    let terminal = std::io::stderr().is_terminal();
    let lines = fmt::layer().with_writer(std::io::stderr);
    let layer = match log.format {
        LogFormat::Human => lines.with_ansi(terminal).boxed(),
        LogFormat::Auto if terminal => lines.with_ansi(true).boxed(),
        LogFormat::Json | LogFormat::Auto => {
            lines.json().flatten_event(true).with_current_span(false).boxed()
        }
    };
    // Fails only if a subscriber is set already.
    let _ = tracing_subscriber::registry().with(layer.with_filter(ours)).try_init();
    panic::set_hook(Box::new(|info| {
        // Log only the location: the message of a panic may contain the data that caused it.
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panicked");
    }));
}

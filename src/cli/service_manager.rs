//! Notifies systemd of the state of `otpd serve`, according to `sd_notify(3)`. Without systemd,
//! nothing happens.
//!
//! Must not stop the service because systemd cannot be notified.

use std::time::Duration;

use sd_notify::NotifyState;

/// Says that the service accepts requests.
pub(super) fn ready() {
    notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
}

/// Says that the service drains for so long before it closes the listener.
pub(super) fn stopping(delay: Duration) {
    // The time limit of a stop begins after the delay.
    let extension = u32::try_from(delay.as_micros()).unwrap_or(u32::MAX);
    let extension = NotifyState::ExtendTimeoutUsec(extension.saturating_add(MARGIN));
    notify(&[NotifyState::Stopping, NotifyState::Status("draining"), extension]);
}

/// What a stop may take in addition to the delay, in microseconds.
const MARGIN: u32 = 40_000_000;

/// Tells the watchdog, if there is one, twice in its interval that the process runs tasks. Never
/// completes.
pub(super) async fn watch() {
    let Some(interval) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut ticks = tokio::time::interval((interval / 2).max(Duration::from_millis(1)));
    loop {
        ticks.tick().await;
        notify(&[NotifyState::Watchdog]);
    }
}

fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
}

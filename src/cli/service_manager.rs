//! Notifies systemd of the state of `otpd serve`, according to `sd_notify(3)`. Without systemd,
//! nothing happens.
//!
//! Must not stop the service because systemd cannot be notified.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::task::spawn_blocking;

/// The shortest interval between two notifications of the watchdog.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// What a stop may take in addition to the delay, in microseconds.
const MARGIN: u32 = 40_000_000;

/// Says that the service accepts requests.
pub(super) fn ready() {
    // Detached: nothing waits for a service manager that does not read.
    drop(spawn_blocking(|| notify(&[NotifyState::Ready, NotifyState::Status("serving")])));
}

/// Says that the service drains for so long before it closes the listener.
pub(super) fn stopping(delay: Duration) {
    // The time limit of a stop begins after the delay.
    let extension = u32::try_from(delay.as_micros()).unwrap_or(u32::MAX);
    let extension = extension.saturating_add(MARGIN);
    drop(spawn_blocking(move || {
        let status = NotifyState::Status("draining");
        notify(&[NotifyState::Stopping, status, NotifyState::ExtendTimeoutUsec(extension)])
    }));
}

/// Tells the watchdog, if there is one, twice in its interval that the process runs tasks. Never
/// completes.
pub(super) async fn watch() {
    let interval = sd_notify::watchdog_enabled().filter(|interval| !interval.is_zero());
    let Some(interval) = interval else { return std::future::pending().await };
    let mut ticks = tokio::time::interval((interval / 2).max(MIN_INTERVAL));
    loop {
        ticks.tick().await;
        // One at a time. After a failure the service manager does what it does without a watchdog's
        // notification.
        if !spawn_blocking(|| notify(&[NotifyState::Watchdog])).await.is_ok_and(|notified| notified) {
            return std::future::pending().await;
        }
    }
}

/// Returns whether the service manager was notified. This blocks while it does not read.
fn notify(states: &[NotifyState<'_>]) -> bool {
    let outcome = sd_notify::notify(states);
    if let Err(error) = &outcome {
        tracing::warn!(%error, "the service manager cannot be notified");
    }
    outcome.is_ok()
}

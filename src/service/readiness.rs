//! Whether the store is ready, asked no more often than necessary.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::error::log;
use crate::ports::Store;

/// How long a readiness result is reused.
const READINESS_TTL: Duration = Duration::from_millis(100);

/// The last answer of the store, and when it was asked.
#[derive(Default)]
pub(super) struct ReadinessCache(Mutex<Option<(Instant, bool)>>);

impl ReadinessCache {
    /// Returns whether the store is ready. Concurrent callers share one question.
    pub(super) async fn is_ready(&self, store: &dyn Store) -> bool {
        let mut last = self.0.lock().await;
        if let Some((asked, is_ready)) = *last
            && asked.elapsed() < READINESS_TTL
        {
            return is_ready;
        }
        let answer = store.ready().await;
        let is_ready = answer.inspect_err(|error| log(error, "the store is not ready")).is_ok();
        *last = Some((Instant::now(), is_ready));
        is_ready
    }
}

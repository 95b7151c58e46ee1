//! How long a shutdown may take after its delay: 37 seconds in all, and a second for the logs.

use std::time::Duration;

/// How long open connections may take to finish their requests. A request takes 15 seconds at most.
pub(super) const CONNECTIONS_TIMEOUT: Duration = Duration::from_secs(16);
/// How long the use cases whose clients have disconnected may run after that. The timeouts of
/// hasher, store and relay are all shorter.
pub(super) const USE_CASES_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a scrape of the metrics may take after that.
pub(super) const ADMIN_TIMEOUT: Duration = Duration::from_secs(1);

//! What the process counts and measures, for Prometheus.
//!
//! There is one set of metrics for the process, as there is one log. Names and units follow
//! Prometheus; those of HTTP are names of OpenTelemetry's semantic conventions. Each label has a
//! fixed set of values, except for tenants and relays, which are settings. Must not take a label
//! from a request: a metric must not name a person, and the number of series must be bounded.

mod labels;
mod lost_lines;
#[cfg(target_os = "linux")]
mod process;
mod register;

use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use self::labels::{
    OutcomeLabels, PolicyLabels, RedisErrorLabels, RedisLabels, RelayAttemptLabels, RelayLabels,
    ReloadLabels, RequestLabels, TenantLabels,
};
use self::lost_lines::LostLines;

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of requests and emails, in seconds.
const REQUEST_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of the buckets of calls of Redis, in seconds. A call may take half a second.
const REDIS_BUCKETS: [f64; 9] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5];

/// The outcomes of a reload.
const RELOAD_APPLIED: &str = "applied";
const RELOAD_REFUSED: &str = "refused";

/// The labels of a metric that may be absent as a whole.
type NoLabels = [(&'static str, &'static str); 0];

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    requests: Histograms<RequestLabels>,
    /// Requests in progress.
    pub active_requests: Gauge,
    /// Open connections of clients.
    pub connections: Gauge,
    /// The most connections of clients that may be open.
    pub max_connections: Gauge,
    sends: Family<OutcomeLabels, Counter>,
    attempts: Family<OutcomeLabels, Counter>,
    test_sends: Family<TenantLabels, Counter>,
    test_recipients: Family<TenantLabels, Gauge>,
    rate_limited: Family<PolicyLabels, Counter>,
    /// Jobs that wait for a hash thread.
    pub hash_queue: Gauge,
    /// The most jobs that may wait or run.
    pub hash_queue_max: Gauge,
    /// Jobs that found no place in the hash queue.
    pub hash_queue_rejected: Counter,
    hash_wait: Histogram,
    hash_time: Histogram,
    redis_calls: Histograms<RedisLabels>,
    redis_errors: Family<RedisErrorLabels, Counter>,
    /// Connections to Redis that were set up.
    pub redis_connects: Counter,
    relay_attempts: Family<RelayAttemptLabels, Counter>,
    relay_time: Histograms<RelayLabels>,
    relay_breaker: Family<RelayLabels, Gauge>,
    reloads: Family<ReloadLabels, Counter>,
    /// Spans that were not exported.
    pub lost_spans: Counter,
    lost_lines: LostLines,
    /// Only has a value if TLS is on.
    certificate_expiry: Family<NoLabels, Gauge>,
}

/// Returns the metrics of the process.
#[must_use]
pub fn metrics() -> &'static Metrics {
    static METRICS: LazyLock<Metrics> = LazyLock::new(Metrics::new);
    &METRICS
}

impl Metrics {
    fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::default(),
            requests: Family::new_with_constructor(request_histogram),
            active_requests: Gauge::default(),
            connections: Gauge::default(),
            max_connections: Gauge::default(),
            sends: Family::default(),
            attempts: Family::default(),
            test_sends: Family::default(),
            test_recipients: Family::default(),
            rate_limited: Family::default(),
            hash_queue: Gauge::default(),
            hash_queue_max: Gauge::default(),
            hash_queue_rejected: Counter::default(),
            hash_wait: request_histogram(),
            hash_time: request_histogram(),
            redis_calls: Family::new_with_constructor(redis_histogram),
            redis_errors: Family::default(),
            redis_connects: Counter::default(),
            relay_attempts: Family::default(),
            relay_time: Family::new_with_constructor(request_histogram),
            relay_breaker: Family::default(),
            reloads: Family::default(),
            lost_spans: Counter::default(),
            lost_lines: LostLines::default(),
            certificate_expiry: Family::default(),
        };
        metrics.register();
        // A counter that first appears with its first event has no increase to alert on.
        for outcome in [RELOAD_APPLIED, RELOAD_REFUSED] {
            metrics.reloads.get_or_create(&ReloadLabels { outcome }).inc_by(0);
        }
        metrics
    }

    /// Returns all metrics in Prometheus' text format.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string does not fail, and neither do the collectors.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    /// Records a request.
    pub fn request(&self, method: &'static str, route: &'static str, status: u16, took: Duration) {
        let labels = RequestLabels {
            http_request_method: method,
            http_route: route,
            http_response_status_code: status,
        };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Creates the series of a tenant, so that its first events are an increase.
    pub fn tenant(&self, tenant: &str) {
        for outcome in ["sent", "refused", "unknown", "overloaded", "unavailable", "error"] {
            self.sends.get_or_create(&OutcomeLabels { tenant: tenant.to_owned(), outcome }).inc_by(0);
        }
        for outcome in ["approved", "wrong", "exhausted"] {
            self.attempts.get_or_create(&OutcomeLabels { tenant: tenant.to_owned(), outcome }).inc_by(0);
        }
    }

    /// Records the outcome of a request for a code.
    pub fn send(&self, tenant: &str, outcome: &'static str) {
        self.sends.get_or_create(&OutcomeLabels { tenant: tenant.to_owned(), outcome }).inc();
    }

    /// Returns the counter of a tenant's codes for which no email was sent, because they are those
    /// of tests.
    #[must_use]
    pub fn test_sends(&self, tenant: &str) -> Counter {
        self.test_sends.get_or_create_owned(&TenantLabels { tenant: tenant.to_owned() })
    }

    /// Sets how many test recipients each tenant has in the settings.
    pub fn set_test_recipients<'a>(&self, tenants: impl Iterator<Item = (&'a str, usize)>) {
        self.test_recipients.clear();
        for (tenant, count) in tenants {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.test_recipients.get_or_create(&TenantLabels { tenant: tenant.to_owned() }).set(count);
        }
    }

    /// Records the outcome of an attempt.
    pub fn attempt(&self, tenant: &str, outcome: &'static str) {
        self.attempts.get_or_create(&OutcomeLabels { tenant: tenant.to_owned(), outcome }).inc();
    }

    /// Records that a request exceeded a limit of this policy.
    pub fn rate_limited(&self, policy: &'static str) {
        self.rate_limited.get_or_create(&PolicyLabels { policy }).inc();
    }

    /// Records how long a job waited for a hash thread.
    pub fn hash_waited(&self, time: Duration) {
        self.hash_wait.observe(time.as_secs_f64());
    }

    /// Records how long a hash took.
    pub fn hashed(&self, took: Duration) {
        self.hash_time.observe(took.as_secs_f64());
    }

    /// Records a call of Redis, and the kind of its error if it failed.
    pub fn redis_call(&self, call: &'static str, took: Duration, error: Option<&'static str>) {
        self.redis_calls.get_or_create(&RedisLabels { call }).observe(took.as_secs_f64());
        if let Some(kind) = error {
            self.redis_errors.get_or_create(&RedisErrorLabels { call, kind }).inc();
        }
    }

    /// Records an email for a relay, with the stage that decided the outcome.
    pub fn relay_attempt(&self, relay: &str, outcome: &'static str, stage: &'static str) {
        let labels = RelayAttemptLabels { relay: relay.to_owned(), outcome, stage };
        self.relay_attempts.get_or_create(&labels).inc();
    }

    /// Records how long a relay took for an email that was offered to it.
    pub fn relay_took(&self, relay: &str, took: Duration) {
        self.relay_time.get_or_create(&RelayLabels { relay: relay.to_owned() }).observe(took.as_secs_f64());
    }

    /// Returns the gauge of a relay's circuit breaker: 1 while it is open.
    #[must_use]
    pub fn relay_breaker(&self, relay: &str) -> Gauge {
        self.relay_breaker.get_or_create_owned(&RelayLabels { relay: relay.to_owned() })
    }

    /// Sets when the certificate of the listener expires.
    pub fn set_certificate_expiry(&self, at: SystemTime) {
        let since_epoch = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
        self.certificate_expiry.get_or_create(&[]).set(seconds);
    }

    /// Serves a figure of a log: how many of its lines were lost.
    pub fn lost_lines(&self, log: &'static str, read: impl Fn() -> u64 + Send + Sync + 'static) {
        self.lost_lines.add(log, Box::new(read));
    }

    /// Removes the gauge of a relay that is no longer used.
    pub fn remove_relay_breaker(&self, relay: &str) {
        self.relay_breaker.remove(&RelayLabels { relay: relay.to_owned() });
    }

    /// Records a reload of the settings, and whether it was applied.
    pub fn reload(&self, is_applied: bool) {
        let outcome = if is_applied { RELOAD_APPLIED } else { RELOAD_REFUSED };
        self.reloads.get_or_create(&ReloadLabels { outcome }).inc();
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn request_histogram() -> Histogram {
    Histogram::new(REQUEST_BUCKETS)
}

fn redis_histogram() -> Histogram {
    Histogram::new(REDIS_BUCKETS)
}

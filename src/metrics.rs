//! What the process counts and measures, for Prometheus.
//!
//! There is one set of metrics for the process, as there is one log. Names and units follow
//! Prometheus; those of HTTP are names of OpenTelemetry's semantic conventions. Each label has a
//! fixed set of values, except for tenants and relays, which are settings. Must not take a label
//! from a request: a metric must not name a person, and the number of series must be bounded.

#[cfg(target_os = "linux")]
mod process;

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, prometheus_text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

/// The media type of [`Metrics::text`].
pub const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Upper bounds of the buckets of requests and emails, in seconds.
const REQUEST_BUCKETS: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Upper bounds of the buckets of calls of Redis, in seconds. A call may take half a second.
const REDIS_BUCKETS: [f64; 9] = [0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.1, 0.5];

/// The outcomes of a reload.
const RELOAD_APPLIED: &str = "applied";
const RELOAD_REFUSED: &str = "refused";

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
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
#[expect(clippy::struct_field_names, reason = "they are OpenTelemetry's names")]
struct RequestLabels {
    http_request_method: &'static str,
    http_route: String,
    http_response_status_code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    tenant: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PolicyLabels {
    policy: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RedisLabels {
    call: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RedisErrorLabels {
    call: &'static str,
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RelayAttemptLabels {
    relay: String,
    outcome: &'static str,
    stage: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RelayLabels {
    relay: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReloadLabels {
    outcome: &'static str,
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
        };
        metrics.register();
        // A counter that first appears with its first event has no increase to alert on.
        for outcome in [RELOAD_APPLIED, RELOAD_REFUSED] {
            metrics.reloads.get_or_create(&ReloadLabels { outcome }).inc_by(0);
        }
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register(
            "http_server_active_requests",
            "Requests in progress",
            self.active_requests.clone(),
        );
        registry.register("otpd_http_connections", "Open connections of clients", self.connections.clone());
        registry.register(
            "otpd_http_connections_max",
            "The most connections of clients that may be open",
            self.max_connections.clone(),
        );
        registry.register("otpd_sends", "Requests for a code, by tenant and outcome", self.sends.clone());
        registry.register("otpd_attempts", "Submitted codes, by tenant and outcome", self.attempts.clone());
        registry.register(
            "otpd_rate_limited",
            "Requests that exceeded a limit, by policy",
            self.rate_limited.clone(),
        );
        registry.register(
            "otpd_hash_queue_length",
            "Jobs that wait for a hash thread",
            self.hash_queue.clone(),
        );
        registry.register(
            "otpd_hash_queue_max",
            "The most jobs that may wait for a hash thread or run",
            self.hash_queue_max.clone(),
        );
        registry.register(
            "otpd_hash_queue_rejected",
            "Requests that found no place in the hash queue",
            self.hash_queue_rejected.clone(),
        );
        registry.register(
            "otpd_redis_errors",
            "Calls of Redis that failed, by call and kind of error",
            self.redis_errors.clone(),
        );
        registry.register("otpd_redis_connects", "Connections to Redis that were set up: two at the start, one more for each that broke or timed out", self.redis_connects.clone());
        registry.register(
            "otpd_relay_attempts",
            "Emails for a relay, by outcome and the stage that decided it",
            self.relay_attempts.clone(),
        );
        registry.register(
            "otpd_relay_breaker_open",
            "Whether a relay is not used because it could not be reached: 1 if so",
            self.relay_breaker.clone(),
        );
        registry.register(
            "otpd_settings_reloads",
            "Reloads of the settings, by outcome",
            self.reloads.clone(),
        );
        registry.register(
            "otpd_build",
            "The version of otpd",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_with_unit(
            "http_server_request_duration",
            "Duration of requests",
            Unit::Seconds,
            self.requests.clone(),
        );
        registry.register_with_unit(
            "otpd_hash_queue_wait",
            "Time from a job until a hash thread begins it",
            Unit::Seconds,
            self.hash_wait.clone(),
        );
        registry.register_with_unit(
            "otpd_hash_duration",
            "Duration of one hash",
            Unit::Seconds,
            self.hash_time.clone(),
        );
        registry.register_with_unit(
            "otpd_redis_call_duration",
            "Duration of calls of Redis",
            Unit::Seconds,
            self.redis_calls.clone(),
        );
        registry.register_with_unit(
            "otpd_relay_attempt_duration",
            "Duration of handing an email to a relay",
            Unit::Seconds,
            self.relay_time.clone(),
        );
        #[cfg(target_os = "linux")]
        registry.register_collector(Box::new(process::ProcessCollector));
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
    pub fn request(&self, method: &'static str, route: &str, status: u16, took: Duration) {
        let labels = RequestLabels {
            http_request_method: method,
            http_route: route.to_owned(),
            http_response_status_code: status,
        };
        self.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// Creates the series of a tenant, so that its first events are an increase.
    pub fn tenant(&self, tenant: &str) {
        for outcome in ["sent", "refused", "unknown", "overloaded", "unavailable", "error"] {
            self.sends.get_or_create(&OutcomeLabels { tenant: tenant.to_owned(), outcome }).inc_by(0);
        }
        for outcome in ["approved", "wrong"] {
            self.attempts.get_or_create(&OutcomeLabels { tenant: tenant.to_owned(), outcome }).inc_by(0);
        }
    }

    /// Records the outcome of a request for a code.
    pub fn send(&self, tenant: &str, outcome: &'static str) {
        self.sends.get_or_create(&OutcomeLabels { tenant: tenant.to_owned(), outcome }).inc();
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

    /// Records whether the circuit breaker of a relay is open.
    pub fn relay_breaker(&self, relay: &str, is_open: bool) {
        self.relay_breaker.get_or_create(&RelayLabels { relay: relay.to_owned() }).set(is_open.into());
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

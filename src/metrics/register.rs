//! The names under which the metrics are served, and their descriptions.

use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::Metrics;
#[cfg(target_os = "linux")]
use super::process::ProcessCollector;

impl Metrics {
    pub(super) fn register(&mut self) {
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
            "otpd_test_sends",
            "Codes for which no email was sent, because they are those of tests",
            self.test_sends.clone(),
        );
        registry.register(
            "otpd_test_recipients",
            "Test recipients in the settings, including those that have expired",
            self.test_recipients.clone(),
        );
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
            "otpd_trace_spans_lost",
            "Spans that were not exported, because their queue was full or the collector did not accept them",
            self.lost_spans.clone(),
        );
        registry.register_with_unit(
            "otpd_tls_certificate_expiry_timestamp",
            "When the certificate of the listener expires, since the Unix epoch",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        registry.register(
            "otpd_build",
            "The version of otpd",
            Info::new([("version", env!("CARGO_PKG_VERSION"))]),
        );
        registry.register_collector(Box::new(self.lost_lines.clone()));
        #[cfg(target_os = "linux")]
        registry.register_collector(Box::new(ProcessCollector));
        self.register_durations();
    }

    fn register_durations(&mut self) {
        let registry = &mut self.registry;
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
    }
}

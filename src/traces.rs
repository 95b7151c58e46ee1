//! Spans of traces: one for each request and one for each call of a port that leaves the process or
//! takes long.
//!
//! `telemetry` exports them to a collector. Without one, the spans of calls are disabled. Names are
//! those of OpenTelemetry's semantic conventions. Must not name a person or a path: a span has the
//! template of the route, and nothing that a request brings except its trace.
//!
//! Must not call `tracing::enabled!`: with filters by layer, its result stays in a thread-local
//! variable, and the next span is filtered by it.

use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{Context, KeyValue};
use tracing::Span;
use tracing::field::{Empty, display};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The `tracing` target of the spans, except those of requests.
pub const TARGET: &str = "traces";
/// The name of the span of a request, which the logs have too.
pub const REQUEST: &str = "request";
/// A method that HTTP does not define.
pub const OTHER_METHOD: &str = "_OTHER";

/// Begins the trace of a request. If `traceparent` names a parent, continues the trace of that.
/// `span` has the name [`REQUEST`] and a field `trace.id`, and has not been entered; `route` is the
/// template.
pub fn begin(
    span: &Span,
    method: &'static str,
    route: Option<&str>,
    scheme: &'static str,
    traceparent: Option<&str>,
) {
    if let Some(parent) = traceparent.and_then(parse_traceparent) {
        // Fails only if traces are off.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent));
    }
    let context = span.context();
    let exported = context.span();
    if !exported.span_context().is_valid() {
        // Traces are off.
        return;
    }
    let known = if method == OTHER_METHOD { "HTTP" } else { method };
    exported.update_name(route.map_or_else(|| known.to_owned(), |route| format!("{known} {route}")));
    exported.set_attribute(KeyValue::new("http.request.method", method));
    exported.set_attribute(KeyValue::new("url.scheme", scheme));
    if let Some(route) = route {
        exported.set_attribute(KeyValue::new("http.route", route.to_owned()));
    }
    span.record("trace.id", display(exported.span_context().trace_id()));
}

/// Records the status of the response to a request.
pub fn record_response(span: &Span, status: u16) {
    span.set_attribute("http.response.status_code", i64::from(status));
    // A status of 4xx is an error of the caller, not of the server.
    if status >= 500 {
        span.set_attribute("error.type", status.to_string());
        span.set_status(Status::error(""));
    }
}

/// Returns the span of a call to Redis.
#[must_use]
pub fn redis(script: &'static str) -> Span {
    tracing::info_span!(
        target: TARGET,
        "redis",
        otel.name = script,
        otel.kind = "client",
        otel.status_code = Empty,
        db.system.name = "redis",
        db.operation.name = "EVALSHA",
        db.stored_procedure.name = script,
        error.type = Empty,
    )
}

/// Returns the span of a hash, with the time in the queue.
#[must_use]
pub fn hash() -> Span {
    tracing::info_span!(target: TARGET, "hash", otel.status_code = Empty, error.type = Empty)
}

/// Returns the span of an email, with all attempts to hand it over.
#[must_use]
pub fn email() -> Span {
    tracing::info_span!(target: TARGET, "send email", otel.status_code = Empty, error.type = Empty)
}

/// Returns the span of one attempt to hand an email over to this relay.
#[must_use]
pub fn relay(host: &str) -> Span {
    tracing::info_span!(
        target: TARGET,
        "relay",
        otel.kind = "client",
        otel.status_code = Empty,
        server.address = host,
        otpd.outcome = Empty,
        otpd.stage = Empty,
        error.type = Empty,
    )
}

/// Records how an attempt to hand an email over ended, with the labels of the metrics.
pub fn record_handover(span: &Span, outcome: &'static str, stage: &'static str) {
    span.record("otpd.outcome", outcome);
    span.record("otpd.stage", stage);
    if outcome != "accepted" {
        fail(span, outcome);
    }
}

/// Records that the call of a span failed, with the kind of its error.
pub fn fail(span: &Span, kind: &'static str) {
    span.record("error.type", kind);
    span.record("otel.status_code", "ERROR");
}

/// Returns the header `traceparent` of the current span, if traces are on, for a service that is
/// called.
#[must_use]
pub fn traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span();
    let span = span.span_context();
    let flags = (span.trace_flags() & TraceFlags::SAMPLED).to_u8();
    span.is_valid().then(|| format!("00-{}-{}-{flags:02x}", span.trace_id(), span.span_id()))
}

/// Parses the header `traceparent` (W3C Trace Context section 3.2). Returns `None` if it is
/// malformed or has an all-zero id, so that a new trace begins.
fn parse_traceparent(header: &str) -> Option<SpanContext> {
    let mut fields = header.split('-');
    let mut field = |length: usize| {
        let is_hex = |b: u8| matches!(b, b'0'..=b'9' | b'a'..=b'f');
        fields.next().filter(|field| field.len() == length && field.bytes().all(is_hex))
    };
    let (version, trace, span, flags) = (field(2)?, field(32)?, field(16)?, field(2)?);
    // Later versions may add fields.
    if version == "ff" || (version == "00" && fields.next().is_some()) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let (trace, span) = (TraceId::from_hex(trace).ok()?, SpanId::from_hex(span).ok()?);
    let parent = SpanContext::new(trace, span, flags, true, TraceState::default());
    parent.is_valid().then_some(parent)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    #[test]
    fn a_parent_is_taken() {
        for (header, is_sampled) in [
            (format!("00-{TRACE}-{SPAN}-01"), true),
            (format!("00-{TRACE}-{SPAN}-00"), false),
            (format!("00-{TRACE}-{SPAN}-03"), true),
            (format!("01-{TRACE}-{SPAN}-01"), true),
            (format!("cc-{TRACE}-{SPAN}-01-what-comes-later"), true),
        ] {
            let parent = parse_traceparent(&header).unwrap();
            assert_eq!(parent.trace_id().to_string(), TRACE, "{header}");
            assert_eq!(parent.span_id().to_string(), SPAN, "{header}");
            assert_eq!(parent.is_sampled(), is_sampled, "{header}");
        }
    }

    #[test]
    fn what_is_malformed_or_zero_names_no_parent() {
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for header in [
            String::new(),
            "00".to_owned(),
            "----".to_owned(),
            format!("00-{no_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{no_span}-01"),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-00"),
            format!("00-{TRACE}-{SPAN}-01-"),
            format!("00-{TRACE}-{SPAN}"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("0-{TRACE}-{SPAN}-01"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
            format!("00-+{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{}-{SPAN}-01", &TRACE[1..]),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!(" 00-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01,00-{TRACE}-{SPAN}-01"),
        ] {
            assert!(parse_traceparent(&header).is_none(), "{header}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_parent_as_it_is_written_or_none(
            version in "[0-9a-f]{2}", trace in "[0-9a-f]{31,33}", span in "[0-9a-f]{16}", rest in "-0[0-3].{0,3}",
        ) {
            let header = format!("{version}-{trace}-{span}{rest}");
            if let Some(parent) = parse_traceparent(&header) {
                let written = format!("{version}-{}-{}-0", parent.trace_id(), parent.span_id());
                prop_assert!(header.starts_with(&written), "{header}");
            }
        }
    }
}

//! Log lines as JSON: one object for each event, with the members of the spans that it is in.
//!
//! The lines are those of `tracing-subscriber`'s JSON format. Own code, because that format parses
//! the members of each span again for each line, which took a quarter of the time of a short
//! request (docs/performance.md).

use std::cell::RefCell;
use std::fmt;

use serde::Serializer as _;
use smallvec::SmallVec;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::{LookupSpan, Scope, SpanRef};

use super::queue::LineQueue;
use crate::audit;

/// Keeps the members of each span as JSON, for [`JsonLines`].
pub(super) struct SpanMembers;

/// The members of one span, each with a comma after it.
struct Kept(SmallVec<[u8; 64]>);

/// Which members a line has besides those of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// The level, the target, and all spans as an array.
    Log,
    /// The innermost span.
    Audit,
}

/// Writes each event as a line.
pub(super) struct JsonLines {
    pub shape: Shape,
    pub to: LineQueue,
}

/// The text of a line.
#[derive(Default)]
struct Line(Vec<u8>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanMembers {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        with_line(|line| {
            attributes.record(line);
            span.extensions_mut().replace(Kept(SmallVec::from_slice(&line.0)));
        });
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        if let Some(kept) = span.extensions_mut().get_mut::<Kept>() {
            with_line(|line| {
                values.record(line);
                kept.0.extend_from_slice(&line.0);
            });
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JsonLines {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        with_line(|line| self.write(line, event, &context));
    }
}

impl JsonLines {
    fn write<S: Subscriber + for<'a> LookupSpan<'a>>(
        &self,
        line: &mut Line,
        event: &Event<'_>,
        context: &Context<'_, S>,
    ) {
        line.put("{\"timestamp\":\"");
        // Writing to memory does not fail.
        let _ = SystemTime.format_time(&mut Writer::new(line));
        line.put("\",");
        let metadata = event.metadata();
        if self.shape == Shape::Log {
            line.put("\"level\":\"");
            line.put(metadata.level().as_str());
            line.put("\",");
        }
        event.record(line);
        match self.shape {
            Shape::Log => {
                line.put("\"target\":\"");
                line.put(metadata.target());
                line.put("\",");
                if let Some(scope) = context.event_scope(event) {
                    line.put("\"spans\":[");
                    line.put_from_root(Some(scope));
                    line.close("],");
                }
            }
            Shape::Audit => {
                if let Some(span) = context.event_span(event) {
                    line.put("\"span\":");
                    line.put_span(&span);
                }
            }
        }
        line.close("}\n");
        self.to.push(&line.0, metadata.target() == audit::REJECTIONS);
    }
}

/// Calls `write` with an empty line, which is reused.
fn with_line(write: impl FnOnce(&mut Line)) {
    thread_local! {
        static LINE: RefCell<Line> = RefCell::default();
    }
    LINE.with(|line| match line.try_borrow_mut() {
        Ok(mut line) => {
            line.0.clear();
            write(&mut line);
        }
        // A value of an event wrote an event itself.
        Err(_) => write(&mut Line::default()),
    });
}

impl Line {
    fn put(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    /// Adds a member. Names are those of fields in the code, which need no escapes.
    fn member(&mut self, field: &Field, value: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>) {
        self.put("\"");
        self.put(field.name());
        self.put("\":");
        // Writing to memory does not fail.
        let _ = value(&mut self.0);
        self.put(",");
    }

    /// Adds the spans of a scope, the outermost first.
    fn put_from_root<'a, S: Subscriber + LookupSpan<'a>>(&mut self, mut scope: Option<Scope<'a, S>>) {
        if let Some(span) = scope.as_mut().and_then(Iterator::next) {
            self.put_from_root(scope);
            self.put_span(&span);
        }
    }

    /// Adds a span as an object.
    fn put_span<'a, S: LookupSpan<'a>>(&mut self, span: &SpanRef<'a, S>) {
        self.put("{");
        if let Some(kept) = span.extensions().get::<Kept>() {
            self.0.extend_from_slice(&kept.0);
        }
        self.put("\"name\":\"");
        self.put(span.name());
        self.put("\"},");
    }

    /// Replaces the last comma, if there is one at the end.
    fn close(&mut self, end: &str) {
        if self.0.last() == Some(&b',') {
            self.0.pop();
        }
        self.put(end);
    }
}

impl fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.put(text);
        Ok(())
    }
}

impl Visit for Line {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.member(field, |line| serde_json::to_writer(line, &value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, |line| serde_json::to_writer(line, &value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, |line| serde_json::to_writer(line, &value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, |line| serde_json::to_writer(line, &value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, |line| serde_json::to_writer(line, value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, |line| serde_json::Serializer::new(line).collect_str(&format_args!("{value:?}")));
    }
}

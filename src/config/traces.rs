//! Settings of traces.
//!
//! Must not connect.

use super::reader::Reader;
use super::web_url;

/// The path of traces at a collector (OTLP/HTTP).
const TRACES_PATH: &str = "/v1/traces";

/// Whether spans are exported, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TraceExport {
    /// They are not.
    Off,
    /// To this URL, by OTLP over HTTP.
    To(String),
}

/// Reads the section `traces`.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<TraceExport> {
    match reader.text("traces.endpoint")? {
        "" | "off" => Some(TraceExport::Off),
        text => match parse(text) {
            Ok(url) => Some(TraceExport::To(url)),
            Err(reason) => reader.refuse("traces.endpoint", &reason),
        },
    }
}

/// Parses the URL of a collector, with or without the path of traces.
fn parse(text: &str) -> Result<String, String> {
    if text.contains('@') {
        return Err("has a user or a password: leave it out, and set OTEL_EXPORTER_OTLP_HEADERS".to_owned());
    }
    let url = web_url::parse(text, "http://localhost:4318")?;
    Ok(if url.ends_with(TRACES_PATH) { url } else { url + TRACES_PATH })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_of_traces_may_be_left_out() {
        for (typed, url) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("http://otel_collector:4318/", "http://otel_collector:4318/v1/traces"),
            ("https://collector.example:443/otlp/v1/traces", "https://collector.example/otlp/v1/traces"),
            ("https://collector.example/otlp", "https://collector.example/otlp/v1/traces"),
            ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
        ] {
            assert_eq!(parse(typed).unwrap(), url);
        }
        assert!(parse("http://user:key@collector").unwrap_err().contains("OTEL_EXPORTER_OTLP_HEADERS"));
        for typed in ["localhost:4318", "grpc://localhost:4317", "http://", "http://a:b@c", "http://c/?a"] {
            assert!(parse(typed).is_err(), "{typed}");
        }
    }
}

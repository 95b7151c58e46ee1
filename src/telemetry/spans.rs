//! The export of spans to a collector, by OTLP over HTTP.
//!
//! Spans wait in a bounded queue, and a thread of its own sends them in batches, so that no request
//! waits for a collector. Spans for which the queue has no room, or whose batch was not accepted,
//! are lost and counted.

use std::io::Read as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::{SpanBuilder, SpanKind, Tracer, TracerProvider as _};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::task::spawn_blocking;
use ureq::Agent;
use ureq::tls::{Certificate, TlsConfig};

use crate::metrics::metrics;
use crate::traces::REQUEST;

/// The most spans that wait to be sent; about a kilobyte each.
const QUEUE: usize = 2048;
/// The most spans in one batch.
const BATCH: usize = 512;
/// How long a span waits for others before it is sent.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How long one attempt to send a batch may take, and how long attempts are repeated.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of a response is read, in bytes.
const MAX_RESPONSE: u64 = 64 * 1024;

/// Starts the thread that sends spans to this URL. Panics, as the crate does, if the system starts
/// no thread.
///
/// # Errors
/// Returns why the collector cannot be used.
pub(super) fn start(url: &str) -> Result<SdkTracerProvider, CollectorError> {
    let waiting = Arc::<AtomicUsize>::default();
    let exporter = CountingExporter::new(url, Arc::clone(&waiting))?;
    // All of them, because the crate reads the environment for what is not given.
    let batches = BatchConfigBuilder::default()
        .with_max_queue_size(QUEUE)
        .with_max_export_batch_size(BATCH)
        .with_scheduled_delay(BATCH_DELAY)
        .build();
    let queue = BatchSpanProcessor::builder(exporter).with_batch_config(batches).build();
    let processor = CountingProcessor { queue, waiting };
    Ok(SdkTracerProvider::builder().with_span_processor(processor).with_resource(resource()).build())
}

/// Sends an empty batch to this URL.
///
/// # Errors
/// Returns why the collector did not accept it.
pub async fn check_collector(url: &str) -> Result<(), CollectorError> {
    let CountingExporter { exporter, failure, .. } = CountingExporter::new(url, Arc::default())?;
    let runtime = Handle::current();
    let sending = spawn_blocking(move || runtime.block_on(exporter.export(Vec::new())));
    let outcome = sending.await.map_err(|panic| CollectorError::Other(panic.to_string()))?;
    outcome.map_err(|error| reason(&failure, &error))
}

/// Why the collector does not accept spans, or cannot be used at all.
#[derive(Debug, Error)]
pub enum CollectorError {
    /// The machine has no trust anchors for the certificate of the collector.
    #[error(
        "no trust anchors (certificates in PEM form) were found: install the package ca-certificates, or correct \
         SSL_CERT_FILE and SSL_CERT_DIR"
    )]
    TrustAnchors,
    /// The collector answered with this status.
    #[error("status {0}")]
    Status(u16),
    /// The collector did not answer in time.
    #[error("no response within {} s", EXPORT_TIMEOUT.as_secs())]
    Timeout,
    /// Any other reason.
    #[error("{0}")]
    Other(String),
}

impl From<ureq::Error> for CollectorError {
    fn from(error: ureq::Error) -> Self {
        match error {
            ureq::Error::Timeout(_) => Self::Timeout,
            other => Self::Other(other.to_string()),
        }
    }
}

/// Returns what the spans say of the service. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`
/// have precedence over our name; without them, the crate has a name that begins with `unknown`.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let given = Resource::builder().with_attribute(version.clone()).build();
    let name = given.get(&Key::new("service.name"));
    if name.is_some_and(|name| !name.as_str().starts_with("unknown_service")) {
        return given;
    }
    Resource::builder().with_attribute(version).with_service_name("otpd").build()
}

/// Returns the tracer of the provider.
pub(super) fn tracer(provider: &SdkTracerProvider) -> ServerKindTracer {
    ServerKindTracer(provider.tracer("otpd"))
}

/// A tracer whose spans of requests are those of a server. A field of the span could say so too,
/// but would be in each line of the logs.
pub(super) struct ServerKindTracer(SdkTracer);

impl Tracer for ServerKindTracer {
    type Span = Span;

    fn build_with_context(&self, builder: SpanBuilder, parent: &Context) -> Span {
        let is_request = builder.name == REQUEST;
        let builder = if is_request { builder.with_kind(SpanKind::Server) } else { builder };
        self.0.build_with_context(builder, parent)
    }
}

/// Admits spans as long as the queue has room, because the queue does not tell how many it drops.
#[derive(Debug)]
struct CountingProcessor {
    queue: BatchSpanProcessor,
    waiting: Arc<AtomicUsize>,
}

impl SpanProcessor for CountingProcessor {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        // Paired with the release in `export`: once a span has left, its place is free.
        if self.waiting.fetch_add(1, Ordering::Acquire) < QUEUE {
            self.queue.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Release);
            metrics().lost_spans.inc();
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.queue.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.queue.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.queue.set_resource(resource);
    }
}

/// Counts spans as they leave the queue, and those that were not accepted. Logs the first batch
/// that was not accepted, and the first that was accepted after it.
#[derive(Debug)]
struct CountingExporter<E> {
    exporter: E,
    waiting: Arc<AtomicUsize>,
    is_failing: AtomicBool,
    failure: Failure,
}

/// Why the last attempt to send failed. The error of the exporter does not say it.
type Failure = Arc<Mutex<Option<CollectorError>>>;

fn reason(failure: &Failure, error: &OTelSdkError) -> CollectorError {
    let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
    failure.unwrap_or_else(|| CollectorError::Other(error.to_string()))
}

impl CountingExporter<opentelemetry_otlp::SpanExporter> {
    fn new(url: &str, waiting: Arc<AtomicUsize>) -> Result<Self, CollectorError> {
        let client = CollectorClient::new(url)?;
        let failure = Arc::clone(&client.failure);
        let exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(url)
            .with_protocol(Protocol::HttpBinary)
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .map_err(|error| CollectorError::Other(error.to_string()))?;
        Ok(Self { exporter, waiting, is_failing: AtomicBool::new(false), failure })
    }
}

impl<E: SpanExporter> SpanExporter for CountingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Release);
        let outcome = self.exporter.export(batch).await;
        let was_failing = self.is_failing.swap(outcome.is_err(), Ordering::Relaxed);
        match &outcome {
            Ok(()) if was_failing => tracing::info!("the trace collector accepts spans again"),
            Ok(()) => {}
            Err(error) => {
                metrics().lost_spans.inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
                let error = reason(&self.failure, error);
                if !was_failing {
                    tracing::error!(
                        %error,
                        "the trace collector does not accept spans; they are lost until it does"
                    );
                }
            }
        }
        outcome
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

/// Sends batches over HTTP.
#[derive(Debug)]
struct CollectorClient {
    agent: Agent,
    failure: Failure,
}

impl CollectorClient {
    fn new(url: &str) -> Result<Self, CollectorError> {
        let mut roots = Vec::new();
        if url.starts_with("https:") {
            roots = rustls_native_certs::load_native_certs().certs;
            if roots.is_empty() {
                return Err(CollectorError::TrustAnchors);
            }
        }
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(roots.iter().map(|root| Certificate::from_der(root).to_owned()).into())
            .build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(EXPORT_TIMEOUT))
            .max_redirects(0)
            .http_status_as_error(false)
            .proxy(None)
            .build();
        Ok(Self { agent: agent.into(), failure: Failure::default() })
    }

    /// Waits for the response, because the thread of the queue has nothing else to do.
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let (head, body) = self.agent.run(Request::from_parts(head, &*body))?.into_parts();
        let mut start = Vec::new();
        // The status decides: if the rest is lost, what was accepted must not be sent again.
        let _ = body.into_reader().take(MAX_RESPONSE).read_to_end(&mut start);
        Ok(Response::from_parts(head, start.into()))
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (outcome, failure) = match self.send(request) {
            Ok(response) if response.status().is_success() => (Ok(response), None),
            Ok(response) => {
                let status = response.status().as_u16();
                (Ok(response), Some(CollectorError::Status(status)))
            }
            Err(error) => {
                let error = CollectorError::from(error);
                (Err(error.to_string().into()), Some(error))
            }
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use opentelemetry::trace::Span as _;

    use super::*;

    /// An exporter that reports each batch, and waits until it is allowed to accept it.
    #[derive(Debug)]
    struct HeldExporter(Sender<usize>, Mutex<Receiver<()>>);

    impl SpanExporter for HeldExporter {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            self.0.send(batch.len()).unwrap();
            self.1.lock().unwrap().recv().unwrap();
            Ok(())
        }
    }

    #[test]
    fn a_full_queue_loses_what_is_added_and_nothing_else() {
        let ((sent, batches), (allow, allowed)) = (channel(), channel());
        let waiting = Arc::<AtomicUsize>::default();
        let exporter = CountingExporter {
            exporter: HeldExporter(sent, Mutex::new(allowed)),
            waiting: Arc::clone(&waiting),
            is_failing: AtomicBool::new(false),
            failure: Failure::default(),
        };
        let queue = BatchSpanProcessor::builder(exporter).build();
        let processor = CountingProcessor { queue, waiting: Arc::clone(&waiting) };
        let provider = SdkTracerProvider::builder().with_span_processor(processor).build();
        let tracer = provider.tracer("test");
        let end = |spans: usize| (0..spans).for_each(|_| tracer.start("span").end());

        end(BATCH);
        assert_eq!(batches.recv().unwrap(), BATCH, "the exporter holds a batch");
        let lost = metrics().lost_spans.get();
        end(QUEUE);
        assert_eq!((waiting.load(Ordering::Relaxed), metrics().lost_spans.get() - lost), (QUEUE, 0));
        end(3);
        assert_eq!((waiting.load(Ordering::Relaxed), metrics().lost_spans.get() - lost), (QUEUE, 3));
        (0..=QUEUE / BATCH).for_each(|_| allow.send(()).unwrap());
        provider.shutdown().unwrap();
        assert_eq!(batches.iter().sum::<usize>(), QUEUE);
        assert_eq!(waiting.load(Ordering::Relaxed), 0);
    }
}

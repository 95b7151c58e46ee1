//! The export of spans to a collector, by OTLP over HTTP.
//!
//! Spans wait in a bounded queue, and a thread of its own sends them in batches, so that no request
//! waits for a collector. Spans for which the queue has no room, or whose batch was not accepted,
//! are lost and counted.

use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use opentelemetry::trace::{SpanBuilder, SpanKind, Tracer, TracerProvider as _};
use opentelemetry::{Context, Key, KeyValue};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter,
    SpanProcessor,
};
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
/// How long a batch may take.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest answer of a collector, in bytes.
const MAX_ANSWER: u64 = 64 * 1024;

/// Starts the thread that sends spans to this URL.
///
/// # Errors
/// Says what is missing to reach the URL.
pub(super) fn start(url: &str) -> Result<SdkTracerProvider, Box<dyn Error + Send + Sync>> {
    let exporter = exporter(url, CollectorClient::new(url)?)?;
    let waiting = Arc::<AtomicUsize>::default();
    let exporter = CountingExporter { exporter, waiting: Arc::clone(&waiting) };
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
/// Says why the collector did not accept it.
pub async fn check_collector(url: &str) -> Result<(), Box<dyn Error + Send + Sync>> {
    let client = CollectorClient::new(url)?;
    let failure = Arc::clone(&client.failure);
    let exporter = exporter(url, client)?;
    let runtime = Handle::current();
    let outcome = spawn_blocking(move || runtime.block_on(exporter.export(Vec::new()))).await?;
    // The error of the exporter does not say why.
    match failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
        Some(failure) => Err(failure.into()),
        None => Ok(outcome?),
    }
}

fn exporter(
    url: &str,
    client: CollectorClient,
) -> Result<opentelemetry_otlp::SpanExporter, ExporterBuildError> {
    opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(url)
        .with_protocol(Protocol::HttpBinary)
        .with_timeout(EXPORT_TIMEOUT)
        .build()
}

/// Returns what the spans say of the service: what OpenTelemetry's own variables say, else our
/// name.
fn resource() -> Resource {
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let builder = || Resource::builder().with_attribute(version.clone());
    let resource = builder().build();
    let name = resource.get(&Key::new("service.name"));
    let is_named = name.is_some_and(|name| !name.as_str().starts_with("unknown_service"));
    if is_named { resource } else { builder().with_service_name("otpd").build() }
}

/// Returns the tracer of the provider.
pub(super) fn tracer(provider: &SdkTracerProvider) -> OtpdTracer {
    OtpdTracer(provider.tracer("otpd"))
}

/// A tracer whose spans of requests are those of a server. A field of the span could say so too,
/// but would be in each line of the logs.
pub(super) struct OtpdTracer(SdkTracer);

impl Tracer for OtpdTracer {
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
        if self.waiting.fetch_add(1, Ordering::Relaxed) < QUEUE {
            self.queue.on_end(span);
        } else {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
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

/// Counts spans as they leave the queue, and those that were not accepted.
#[derive(Debug)]
struct CountingExporter {
    exporter: opentelemetry_otlp::SpanExporter,
    waiting: Arc<AtomicUsize>,
}

impl SpanExporter for CountingExporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.waiting.fetch_sub(spans, Ordering::Relaxed);
        let outcome = self.exporter.export(batch).await;
        if outcome.is_err() {
            metrics().lost_spans.inc_by(u64::try_from(spans).unwrap_or(u64::MAX));
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

/// Sends batches, and logs the first failure and the first success after it.
#[derive(Debug)]
struct CollectorClient {
    agent: Agent,
    /// Why the last batch was not accepted, if it was not.
    failure: Arc<Mutex<Option<String>>>,
}

impl CollectorClient {
    fn new(url: &str) -> Result<Self, Box<dyn Error + Send + Sync>> {
        let mut roots = Vec::new();
        if url.starts_with("https:") {
            roots = rustls_native_certs::load_native_certs().certs;
            if roots.is_empty() {
                return Err("this machine has no trust anchors (certificates in PEM form)".into());
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
            .user_agent(concat!("otpd/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: agent.into(), failure: Arc::default() })
    }

    /// Waits for the answer, because the thread of the queue has nothing else to do.
    fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ureq::Error> {
        let (head, body) = request.into_parts();
        let (head, mut body) = self.agent.run(Request::from_parts(head, &*body))?.into_parts();
        let body = body.with_config().limit(MAX_ANSWER).read_to_vec()?;
        Ok(Response::from_parts(head, body.into()))
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let outcome = self.send(request);
        let error = match &outcome {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("status {}", response.status().as_u16())),
            Err(error) => Some(error.to_string()),
        };
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match (&error, failure.is_some()) {
            (Some(error), false) => {
                tracing::error!(
                    error,
                    "the trace collector does not accept spans; they are lost until it does"
                );
            }
            (None, true) => tracing::info!("the trace collector accepts spans again"),
            _ => {}
        }
        *failure = error;
        Ok(outcome?)
    }
}

//! A collector of traces that takes OTLP over HTTP.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use poem::http::StatusCode;
use poem::listener::{Acceptor as _, Listener as _, TcpListener};
use poem::{EndpointExt as _, Request, Server};
use prost::Message as _;

use super::app::eventually;

/// A collector; it ends with the runtime of its test.
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    received: Mutex<Vec<ExportTraceServiceRequest>>,
    status: AtomicU16,
    /// The status of the next response only; 0: none.
    once: AtomicU16,
}

impl Collector {
    /// Starts a collector that accepts everything.
    pub async fn start() -> Self {
        let acceptor = TcpListener::bind("127.0.0.1:0").into_acceptor().await.expect("a port");
        let address = *acceptor.local_addr()[0].as_socket_addr().expect("an address");
        let state = Arc::new(State {
            received: Mutex::default(),
            status: AtomicU16::new(200),
            once: AtomicU16::new(0),
        });
        let of_requests = Arc::clone(&state);
        let endpoint = poem::endpoint::make(move |request: Request| {
            let state = Arc::clone(&of_requests);
            async move { state.receive(request).await }
        });
        tokio::spawn(Server::new_with_acceptor(acceptor).run(endpoint.map_to_response()));
        Self { address, state }
    }

    /// Returns the value of `OTP_TRACES__ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers with this status from now on. Only with 200 are spans received.
    pub fn answer_with(&self, status: u16) {
        self.state.status.store(status, Ordering::Relaxed);
    }

    /// Answers the next request with this status.
    pub fn answer_once_with(&self, status: u16) {
        self.state.once.store(status, Ordering::Relaxed);
    }

    /// Returns the requests so far.
    pub fn received(&self) -> MutexGuard<'_, Vec<ExportTraceServiceRequest>> {
        self.state.received.lock().expect("no thread panics with what was received")
    }

    /// Returns the spans so far.
    pub fn spans(&self) -> Vec<Span> {
        let received = self.received();
        let resources = received.iter().flat_map(|request| &request.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }

    /// Returns the span of this name once it has arrived.
    pub async fn span(&self, name: &str) -> Span {
        let find = || self.spans().into_iter().find(|span| span.name == name);
        eventually(name, async || find().is_some()).await;
        find().expect("it has arrived")
    }
}

impl State {
    async fn receive(&self, mut request: Request) -> StatusCode {
        let once = self.once.swap(0, Ordering::Relaxed);
        let status = if once == 0 { self.status.load(Ordering::Relaxed) } else { once };
        let status = StatusCode::from_u16(status).expect("a status");
        if status != StatusCode::OK {
            return status;
        }
        assert_eq!(request.uri().path(), "/v1/traces");
        assert_eq!(request.content_type(), Some("application/x-protobuf"));
        let body = request.take_body().into_bytes().await.expect("a body");
        let batch = ExportTraceServiceRequest::decode(body).expect("OTLP");
        self.received.lock().expect("no thread panics with what was received").push(batch);
        StatusCode::OK
    }
}

/// Returns an attribute as text.
pub fn attribute(attributes: &[KeyValue], name: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == name)?;
    match &found.value {
        Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) => Some(text.clone()),
        Some(AnyValue { value: Some(any_value::Value::IntValue(number)) }) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

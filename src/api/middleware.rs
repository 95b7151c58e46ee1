//! The outermost middleware: what all requests and responses have in common.
//!
//! Gives each request an id and one log line, limits its time, identifies the caller, sheds load,
//! and sets the headers that all responses have. Must not log a path, a query, a header or a body:
//! any of them can contain personal data.

use std::sync::Arc;
use std::time::Duration;

use poem::http::header::{CACHE_CONTROL, CONNECTION, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS};
use poem::http::uri::Scheme;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use poem::{Endpoint, Request, Response, Result};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::auth::{Caller, Keys};
use super::client_ip::Proxies;
use super::cors;
use super::health::Draining;
use super::load_shed::LoadShed;
use super::rate_limit::{self, LimitReport};
use super::rejection::{ErrorFormat, Rejection};
use super::routes::{PROBES, RouteTable};
use crate::audit::AuditEvent;
use crate::domain::exempt::ExemptNetworks;
use crate::domain::origin::Origin;
use crate::metrics::metrics;
use crate::random;
use crate::traces::{self, OTHER_METHOD, REQUEST};

/// The timeout of a whole request, after which it is answered 503 while its use case runs on.
///
/// The parts of a send that take longest are a second for DNS, 3 seconds of a full hash queue, and
/// 10 seconds for the mailer. Redis answers each step within half a second. They exceed the timeout
/// only if several of them take their longest at once. It must not exceed the time that a shutdown
/// gives to connections.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// Browsers use HTTPS for this host for a year (RFC 6797 section 6.1). Its subdomains are left out,
/// because they may be others'.
const HSTS: HeaderValue = HeaderValue::from_static("max-age=31536000");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The dependencies of the middleware.
pub(super) struct MiddlewareState {
    /// The routes, for the template in the log.
    pub routes: Arc<RouteTable>,
    /// The origins whose pages may call from a browser.
    pub origins: Vec<Origin>,
    /// The API keys and their tenants.
    pub keys: Keys,
    /// The trusted proxies.
    pub proxies: Proxies,
    /// The load shedding, if it is on.
    pub load_shed: Option<LoadShed>,
    /// The networks that are exempt from load shedding.
    pub exempt: ExemptNetworks,
    /// Whether the service is about to stop.
    pub draining: Draining,
}

/// Wraps all routes.
pub(super) struct RequestMiddleware<E> {
    /// The routes.
    pub inner: E,
    /// The dependencies.
    pub state: MiddlewareState,
}

impl<E: Endpoint> Endpoint for RequestMiddleware<E> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        // If the system has no randomness, no code can be generated either; an id of zeros is
        // harmless then.
        let id = hex(random::bytes::<8>().unwrap_or_default());
        let caller = self.state.keys.caller(request.headers());
        let label = caller.as_ref().map(|caller| caller.label.as_str());
        // An error, so that each line of the request has the ids, whatever the level of the log.
        let span = tracing::error_span!(REQUEST, request.id = %id, key.label = label, trace.id = Empty);
        let is_tls = *request.scheme() == Scheme::HTTPS;
        let method = known(request.method());
        let route = self.state.routes.template(request.uri().path());
        let scheme = if is_tls { "https" } else { "http" };
        traces::begin(&span, method, route, scheme, traceparent(request.headers()));
        // Boxed, so that `instrument` does not copy the large future.
        let served = Box::pin(self.timed(request, (method, route.unwrap_or("other")), caller));
        let mut response = served.instrument(span.clone()).await;
        traces::record_response(&span, response.status().as_u16());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&id) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.state.draining.has_begun() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if is_tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
        }
        Ok(response)
    }
}

impl<E: Endpoint> RequestMiddleware<E> {
    /// Serves one request within the timeout and logs it.
    async fn timed(
        &self,
        request: Request,
        (method, route): (&'static str, &str),
        caller: Option<Arc<Caller>>,
    ) -> Response {
        let begun = Instant::now();
        let form = ErrorFormat::of(request.uri().path());
        let _active = Active::begin();
        let response = timeout(REQUEST_TIMEOUT, self.granted(request, caller.clone()))
            .await
            .unwrap_or_else(|_| Rejection::Unavailable.response(form));
        let caller = caller.as_deref();
        if response.status() == StatusCode::UNAUTHORIZED {
            AuditEvent { event: "authentication", outcome: "refused", ..AuditEvent::default() }
                .record_rejection();
        }
        let status = response.status().as_u16();
        metrics().request(method, route, status, begun.elapsed());
        tracing::info!(
            http.method = method,
            http.route = route,
            http.status = status,
            tenant.name = caller.map(|caller| caller.profile.tenant.name()),
            duration_ms = begun.elapsed().as_secs_f64() * 1e3,
            "answered"
        );
        response
    }

    /// Serves one request and adds the CORS headers.
    async fn granted(&self, request: Request, caller: Option<Arc<Caller>>) -> Response {
        let origins = &self.state.origins;
        if origins.is_empty() {
            return self.report_limits(request, caller).await;
        }
        let origin = cors::granted(origins, request.headers());
        let mut response = if origin.is_some() && cors::is_preflight(&request) {
            cors::preflight(request.headers())
        } else {
            self.report_limits(request, caller).await
        };
        cors::add_headers(response.headers_mut(), origin);
        response
    }

    /// Serves one request, unless load shedding rejects it, and adds the `RateLimit` headers.
    async fn report_limits(&self, mut request: Request, caller: Option<Arc<Caller>>) -> Response {
        let client = self.state.proxies.client(&request);
        if let (Some(load_shed), None) = (&self.state.load_shed, &caller)
            && !self.state.routes.template(request.uri().path()).is_some_and(|route| PROBES.contains(&route))
            && !self.state.exempt.contains(client.address)
            && let Err(wait) = load_shed.check(client.address)
        {
            client.warn_once();
            rate_limit::record_refusal("ip_requests", None);
            return load_shed.refuse(wait, ErrorFormat::of(request.uri().path()));
        }
        if let Some(caller) = caller {
            request.set_data(caller);
        }
        let report = LimitReport::default();
        request.set_data(client);
        request.set_data(report.clone());
        let mut response = self.inner.get_response(request).await;
        report.add_headers(&mut response);
        response
    }
}

/// A request in progress, for the metric. Also ends if the client disconnects.
struct Active;

impl Active {
    fn begin() -> Self {
        metrics().active_requests.inc();
        Self
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        metrics().active_requests.dec();
    }
}

/// Returns the header `traceparent`, if there is exactly one.
fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all("traceparent").iter();
    all.next().filter(|_| all.next().is_none())?.to_str().ok()
}

/// Returns the name of a method that HTTP defines. Any other name is text of the caller and must
/// not be logged.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => OTHER_METHOD,
    }
}

fn hex(bytes: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(bytes))
}

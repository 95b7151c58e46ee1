//! The outermost middleware: what all requests and responses have in common.
//!
//! Gives each request an id and one log line, limits its time, identifies the caller, sheds load,
//! and sets the headers that all responses have. Must not log a path, a query, a header or a body:
//! any of them can contain personal data.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use poem::http::header::{CACHE_CONTROL, CONNECTION, STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS};
use poem::http::uri::Scheme;
use poem::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use poem::{Request, Response};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;
use tracing::field::Empty;

use super::auth::{Caller, Keys};
use super::client_ip::Proxies;
use super::context::{RequestContext, SharedContext};
use super::cors;
use super::dispatch::Dispatch;
use super::load_shed::LoadShed;
use super::rate_limit::{self, LimitReport};
use super::rejection::{ErrorFormat, Rejection};
use super::routes::{PROBES, RouteTable};
use crate::audit::AuditEvent;
use crate::domain::exempt::ExemptNetworks;
use crate::domain::origin::Origin;
use crate::metrics::metrics;
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
    /// The ids of requests.
    pub ids: RequestIds,
    /// What all requests share.
    pub shared: Arc<SharedContext>,
}

/// Wraps all routes.
pub(super) struct RequestMiddleware {
    /// What serves a request.
    pub inner: Dispatch,
    /// The dependencies.
    pub state: MiddlewareState,
}

impl RequestMiddleware {
    /// Answers a request. It is boxed because each future on its way would otherwise have room for
    /// it.
    pub(super) async fn respond(&self, request: Box<Request>) -> Response {
        let id = self.state.ids.next();
        // On the simple endpoints, which mail codes to people, a sandbox key is none.
        let is_v1 = ErrorFormat::of(request.uri().path()) == ErrorFormat::Problem;
        let caller = self.state.keys.caller(request.headers());
        let caller = caller.filter(|caller| is_v1 || !caller.profile.is_sandbox());
        let label = caller.as_ref().map(|caller| caller.label.as_str());
        // An error, so that each line of the request has the ids, whatever the level of the log.
        let span = tracing::error_span!(REQUEST, request.id = %id, key.label = label, trace.id = Empty);
        let is_tls = *request.scheme() == Scheme::HTTPS;
        let method = known(request.method());
        let route = self.state.routes.template(request.uri().path());
        let scheme = if is_tls { "https" } else { "http" };
        traces::begin(&span, method, route, scheme, traceparent(request.headers()));
        let route = route.unwrap_or("other");
        let mut response = self.timed(request, (method, route), caller).instrument(span.clone()).await;
        traces::record_response(&span, response.status().as_u16());
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::try_from(id) {
            headers.insert(REQUEST_ID, id);
        }
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if self.state.shared.draining.has_begun() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if is_tls {
            headers.insert(STRICT_TRANSPORT_SECURITY, HSTS);
        }
        response
    }

    /// Serves one request within the timeout and logs it.
    async fn timed(
        &self,
        request: Box<Request>,
        (method, route): (&'static str, &'static str),
        caller: Option<Arc<Caller>>,
    ) -> Response {
        let begun = Instant::now();
        let form = ErrorFormat::of(request.uri().path());
        let _active = Active::begin();
        let response = timeout(REQUEST_TIMEOUT, self.granted(request, route, caller.clone()))
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
    async fn granted(&self, request: Box<Request>, route: &str, caller: Option<Arc<Caller>>) -> Response {
        let origins = &self.state.origins;
        if origins.is_empty() {
            return self.report_limits(request, route, caller).await;
        }
        let origin = cors::granted(origins, request.headers());
        let mut response = if origin.is_some() && cors::is_preflight(&request) {
            cors::preflight(request.headers())
        } else {
            self.report_limits(request, route, caller).await
        };
        cors::add_headers(response.headers_mut(), origin);
        response
    }

    /// Serves one request, unless load shedding rejects it, and adds the `RateLimit` headers.
    async fn report_limits(
        &self,
        mut request: Box<Request>,
        route: &str,
        caller: Option<Arc<Caller>>,
    ) -> Response {
        let client = self.state.proxies.client(&request);
        if let (Some(load_shed), None) = (&self.state.load_shed, &caller)
            && !PROBES.contains(&route)
            && !self.state.exempt.contains(client.address)
            && let Err(wait) = load_shed.check(client.address)
        {
            client.warn_once();
            rate_limit::record_refusal("ip_requests", None);
            return load_shed.refuse(wait, ErrorFormat::of(request.uri().path()));
        }
        let shared = Arc::clone(&self.state.shared);
        let context = Arc::new(RequestContext { caller, client, report: LimitReport::default(), shared });
        request.set_data(Arc::clone(&context));
        let mut response = self.inner.respond(request).await;
        context.report.add_headers(&mut response);
        response
    }
}

/// The ids of requests: a counter, hashed with a random key of this process.
#[derive(Default)]
pub(super) struct RequestIds {
    key: RandomState,
    count: AtomicU64,
}

impl RequestIds {
    fn next(&self) -> String {
        format!("{:016x}", self.key.hash_one(self.count.fetch_add(1, Ordering::Relaxed)))
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

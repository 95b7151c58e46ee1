//! The HTTP layer: wire types, routes, and what callers learn of each outcome.
//!
//! Parses a request, calls a use case, and translates its outcome into a response. Must not name an
//! adapter, and must not decide anything that a use case decides.

mod admin;
mod auth;
mod client_ip;
mod context;
mod cors;
mod credentials;
mod dev;
mod dispatch;
mod docs;
mod draining;
mod final_slash;
mod health;
mod json;
mod jwks;
mod languages;
mod load_shed;
mod message;
mod middleware;
mod payload;
mod problem;
mod public_url;
mod rate_limit;
mod rejection;
mod root;
mod routes;
mod security_txt;
mod simple;
mod spec;
mod test_mails;
mod timestamp;
mod verification_status;
mod verifications;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use poem::{EndpointExt as _, IntoEndpoint as _, Request, Response, Route};
use poem_openapi::{ContactObject, LicenseObject, OpenApi, OpenApiService, ServerObject};

pub use self::auth::{Keys, TenantKeys};
pub use self::client_ip::Proxies;
use self::context::SharedContext;
pub use self::dev::Dev;
use self::dispatch::Dispatch;
pub use self::draining::Draining;
pub use self::load_shed::LoadShed;
use self::middleware::RequestMiddleware;
pub use self::public_url::PublicUrl;
use self::root::Root;
use self::routes::RouteTable;
use self::spec::Document;
use crate::domain::code::CodeLength;
use crate::domain::exempt::ExemptNetworks;
use crate::domain::origin::Origin;
use crate::domain::simple_access::SimpleAccess;
use crate::ports::Clock;
use crate::service::Service;
pub use admin::admin_responder;

/// The dependencies of the HTTP layer.
pub struct ApiState {
    /// The use cases.
    pub service: Service,
    /// The number of digits of a code, needed for codes that are sent as a JSON number.
    pub code_length: CodeLength,
    /// Who may call the simple endpoints.
    pub simple: SimpleAccess,
    /// The API keys and their tenants.
    pub keys: Keys,
    /// The origins whose pages may call from a browser.
    pub origins: Vec<Origin>,
    /// The trusted proxies.
    pub proxies: Proxies,
    /// The load shedding, if it is on.
    pub load_shed: Option<LoadShed>,
    /// The networks that are exempt from load shedding.
    pub exempt: ExemptNetworks,
    /// The URL under which callers reach the service.
    pub public_url: PublicUrl,
    /// Whether the documentation is served.
    pub has_docs: bool,
    /// The contact for security reports, if one is set.
    pub security_contact: Option<String>,
    /// The time of day, for the expiry date of `security.txt`.
    pub clock: Arc<dyn Clock>,
    /// Whether the service is about to stop.
    pub draining: Draining,
    /// The page of `otpd dev`; `None` under `otpd serve`.
    pub dev: Option<Dev>,
}

/// Answers requests, each with a future of its own.
pub type Responder = Box<dyn Fn(Request) -> BoxFuture<'static, Response> + Send + Sync>;

/// Returns what answers every request.
#[must_use]
pub fn responder(state: ApiState) -> Responder {
    match state.simple {
        SimpleAccess::Open | SimpleAccess::Keyed => {
            assemble((simple::SimpleApi, OTHERS), (simple::SimpleApi, DIRECT), state)
        }
        SimpleAccess::Off => assemble(OTHERS, DIRECT, state),
    }
}

/// The APIs that do not depend on whether the simple endpoints are on.
const OTHERS: (
    verifications::VerificationsApi,
    test_mails::TestMailsApi,
    jwks::ProofKeysApi,
    health::HealthApi,
) = (verifications::VerificationsApi, test_mails::TestMailsApi, jwks::ProofKeysApi, health::HealthApi);

/// Those of them whose operations are called without the framework's router: the others have
/// parameters in the query, which only that parses.
const DIRECT: (verifications::VerificationsApi, jwks::ProofKeysApi, health::HealthApi) =
    (verifications::VerificationsApi, jwks::ProofKeysApi, health::HealthApi);

/// Returns the OpenAPI document as JSON.
#[must_use]
pub fn spec_json() -> String {
    printed().json()
}

/// Returns the OpenAPI document as YAML.
#[must_use]
pub fn spec_yaml() -> String {
    printed().yaml()
}

fn printed() -> Document {
    Document::of(&described((simple::SimpleApi, OTHERS), &PublicUrl::new(String::new())))
}

fn described<T: OpenApi>(apis: T, url: &PublicUrl) -> OpenApiService<T, ()> {
    OpenApiService::new(apis, "otpd", env!("CARGO_PKG_VERSION"))
        .description(spec::description())
        .contact(ContactObject::new().name("The operator of this service"))
        .license(LicenseObject::new("MIT OR Apache-2.0"))
        .server(ServerObject::new(url.server()).description("this service"))
}

fn assemble<T: OpenApi + Copy + Send + Sync + 'static>(
    apis: T,
    direct: impl OpenApi,
    state: ApiState,
) -> Responder {
    let api = described(apis, &state.public_url);
    let mut table = RouteTable::of::<T>();
    let mut routes = Route::new();
    if state.has_docs {
        let url = state.public_url.clone();
        let api = move || described(apis, &url);
        routes = docs::routes(routes, &mut table, api, state.public_url.is_set());
    }
    if let Some(contact) = state.security_contact {
        let canonical = state.public_url.is_set().then(|| state.public_url.link(security_txt::PATH));
        routes = security_txt::routes(routes, &mut table, (contact, canonical), state.clock);
    }
    let api = api.into_endpoint();
    let api = match state.dev {
        Some(dev) => {
            routes = dev.routes(routes, &mut table, state.has_docs);
            Root::to_dev(&mut table, api)
        }
        None => Root::index(&mut table, state.public_url.index(state.has_docs), api),
    };
    let routes = routes.nest("/", api);
    table.add_operations(direct);
    let table = Arc::new(table);
    let middleware_state = middleware::MiddlewareState {
        routes: Arc::clone(&table),
        origins: state.origins,
        keys: state.keys,
        proxies: state.proxies,
        load_shed: state.load_shed,
        exempt: state.exempt,
        ids: middleware::RequestIds::default(),
        shared: Arc::new(SharedContext {
            service: state.service,
            code_length: state.code_length,
            simple: state.simple,
            public_url: state.public_url,
            draining: state.draining,
        }),
    };
    let inner = Dispatch { routes: table, rest: routes.map_to_response().boxed() };
    let middleware = Arc::new(RequestMiddleware { inner, state: middleware_state });
    Box::new(move |request| {
        let middleware = Arc::clone(&middleware);
        let request = Box::new(request);
        Box::pin(async move { middleware.respond(request).await })
    })
}

//! The HTTP layer: wire types, routes, and what callers learn of each outcome.
//!
//! Parses a request, calls a use case, and translates its outcome into a response. Must not name an
//! adapter, and must not decide anything that a use case decides.

mod admin;
mod auth;
mod client_ip;
mod cors;
mod dev;
mod docs;
mod final_slash;
mod health;
mod json;
mod jwks;
mod languages;
mod load_shed;
mod message;
mod middleware;
mod problem;
mod public_url;
mod rate_limit;
mod rejection;
mod root;
mod routes;
mod security_txt;
mod simple;
mod spec;
mod verification_status;
mod verifications;

use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::middleware::CatchPanic;
use poem::{EndpointExt as _, IntoEndpoint as _, Route};
use poem_openapi::{ContactObject, LicenseObject, OpenApi, OpenApiService, ServerObject};

pub use self::auth::{Keys, TenantKeys};
pub use self::client_ip::Proxies;
pub use self::dev::Dev;
pub use self::health::Draining;
pub use self::load_shed::LoadShed;
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
pub use admin::admin_endpoint;

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

/// Returns an endpoint that serves all of HTTP and answers every request.
#[must_use]
pub fn endpoint(state: ApiState) -> BoxEndpoint<'static> {
    let url = state.public_url.clone();
    match state.simple {
        SimpleAccess::Open | SimpleAccess::Keyed => {
            assemble(described((simple::SimpleApi, OTHERS), &url), state)
        }
        SimpleAccess::Off => assemble(described(OTHERS, &url), state),
    }
}

/// The APIs that do not depend on whether the simple endpoints are on.
const OTHERS: (verifications::VerificationsApi, jwks::ProofKeysApi, health::HealthApi) =
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

fn assemble<T: OpenApi + 'static>(api: OpenApiService<T, ()>, state: ApiState) -> BoxEndpoint<'static> {
    let document = Document::of(&api);
    let mut table = RouteTable::of_spec(&document.json());
    let mut routes = Route::new();
    if state.has_docs {
        routes = docs::Documents::of(&api, &document, &state.public_url).routes(routes, &mut table);
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
    let table = Arc::new(table);
    let middleware_state = middleware::MiddlewareState {
        routes: Arc::clone(&table),
        origins: state.origins,
        keys: state.keys,
        proxies: state.proxies,
        load_shed: state.load_shed,
        exempt: state.exempt,
        draining: state.draining.clone(),
    };
    let inner = routes
        .data(state.service)
        .data(state.code_length)
        .data(state.simple)
        .data(state.public_url)
        .data(state.draining)
        .with(CatchPanic::new().with_handler(rejection::Panicked));
    let inner = rejection::FrameworkErrors { inner, routes: Arc::clone(&table) };
    let inner = final_slash::FinalSlash { inner, routes: table };
    middleware::RequestMiddleware { inner, state: middleware_state }.boxed()
}

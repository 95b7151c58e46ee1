//! The HTTP edge: wire types, routes, and what a stranger may learn.
//!
//! Parses what comes in, calls a use case, and words its outcome. Must not name an adapter, and must not decide
//! anything that a use case decides.

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
mod verifications;

use std::sync::Arc;

use poem::endpoint::BoxEndpoint;
use poem::middleware::CatchPanic;
use poem::{EndpointExt as _, IntoEndpoint as _, Route};
use poem_openapi::{ContactObject, LicenseObject, OpenApi, OpenApiService, ServerObject};

pub use self::auth::{Keys, TenantKeys};
pub use self::client_ip::Proxies;
pub use self::dev::Dev;
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

/// What the edge is made of.
pub struct ApiState {
    /// The use cases.
    pub service: Service,
    /// How many digits a code has, for codes that come as a JSON number.
    pub code_length: CodeLength,
    /// Whether the simple endpoints are there.
    pub simple: SimpleAccess,
    /// Who may call on whose profile.
    pub keys: Keys,
    /// Whose pages may call from a browser.
    pub origins: Vec<Origin>,
    /// The proxies in front of it.
    pub proxies: Proxies,
    /// What sheds load, where anything does.
    pub load_shed: Option<LoadShed>,
    /// Whose load is not shed.
    pub exempt: ExemptNetworks,
    /// Where callers reach it.
    pub public_url: PublicUrl,
    /// Whether the documentation is served.
    pub has_docs: bool,
    /// Whom to tell of a hole, where that is said.
    pub security_contact: Option<String>,
    /// The time of day, for what it says.
    pub clock: Arc<dyn Clock>,
    /// What the page of `otpd dev` shows and does, under it only.
    pub dev: Option<Dev>,
}

/// The whole of HTTP as one endpoint that answers every request.
#[must_use]
pub fn endpoint(parts: ApiState) -> BoxEndpoint<'static> {
    let url = parts.public_url.clone();
    match parts.simple {
        SimpleAccess::Open | SimpleAccess::Keyed => {
            assemble(described((simple::SimpleApi, OTHERS), &url), parts)
        }
        SimpleAccess::Off => assemble(described(OTHERS, &url), parts),
    }
}

/// What is there whether or not the simple endpoints are.
const OTHERS: (verifications::VerificationsApi, jwks::ProofKeysApi, health::HealthApi) =
    (verifications::VerificationsApi, jwks::ProofKeysApi, health::HealthApi);

/// The OpenAPI document, as JSON.
#[must_use]
pub fn spec_json() -> String {
    printed().json()
}

/// The OpenAPI document, as YAML.
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

fn assemble<T: OpenApi + 'static>(api: OpenApiService<T, ()>, parts: ApiState) -> BoxEndpoint<'static> {
    let document = Document::of(&api);
    let mut table = RouteTable::of_spec(&document.json());
    let mut routes = Route::new();
    if parts.has_docs {
        routes = docs::Documents::of(&api, &document, &parts.public_url).routes(routes, &mut table);
    }
    if let Some(contact) = parts.security_contact {
        let canonical = parts.public_url.is_set().then(|| parts.public_url.link(security_txt::PATH));
        routes = security_txt::routes(routes, &mut table, (contact, canonical), parts.clock);
    }
    let api = api.into_endpoint();
    let api = match parts.dev {
        Some(dev) => {
            routes = dev.routes(routes, &mut table, parts.has_docs);
            Root::to_dev(&mut table, api)
        }
        None => Root::index(&mut table, parts.public_url.index(parts.has_docs), api),
    };
    let routes = routes.nest("/", api);
    let table = Arc::new(table);
    let edge = middleware::RequestMiddleware(Arc::new(middleware::MiddlewareState {
        routes: Arc::clone(&table),
        origins: parts.origins,
        keys: parts.keys,
        proxies: parts.proxies,
        load_shed: parts.load_shed,
        exempt: parts.exempt,
    }));
    routes
        .data(parts.service)
        .data(parts.code_length)
        .data(parts.simple)
        .data(parts.public_url)
        .with(CatchPanic::new().with_handler(rejection::Panicked))
        .with(rejection::FrameworkErrors { routes: Arc::clone(&table) })
        .with(final_slash::FinalSlash(table))
        .with(edge)
        .map_to_response()
        .boxed()
}

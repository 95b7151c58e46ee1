//! The composition root: the only place where settings, use cases, adapters and HTTP meet.
//!
//! Must not hold a rule: it chooses the dependencies and puts them together.

mod admin;
mod certificate;
mod fault_injection;
mod files;
mod mails;
mod redis;
mod replacement;
mod senders;
mod shutdown;
mod tenants;
mod throw_away;

use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::adapters::clock::SystemClock;
use crate::adapters::hasher::{Capacity, HashThreads};
use crate::adapters::mailbox::MemoryMailbox;
use crate::adapters::memory::MemoryStore;
use crate::config::{Common, Settings, http, limits};
use crate::domain::fault_plan::FaultPlan;
use crate::domain::keyed_hash::IndexKey;
use crate::domain::purpose::Purposes;
use crate::domain::sender::Sender;
use crate::domain::tenant::Tenant;
use crate::domain::tenant_profile::TenantProfile;
use crate::domain::test_recipients::TestRecipients;
use crate::metrics::metrics;
use crate::ports::{Clock, IdempotencyStore, Store, TestMails};
use crate::service::{Dependencies, ReloadableDependencies, Service};
use crate::{api, server};

pub use self::certificate::{certificate, validity_fault};
use self::fault_injection::FaultyPorts;
use self::mails::all_or;
pub use self::mails::{composer, mail_domains, recipients, unusable, unusable_files};
use self::redis::REQUEST_CONNECTION_TIMEOUT;
pub use self::redis::{COMMAND_CONNECTION_TIMEOUT, store};
pub use self::replacement::{Replaceable, Replacement};
pub use self::senders::{http_client, mailer, relays};
use self::tenants::tenant_keys;
pub use self::tenants::{sender, tenants};
use self::throw_away::ThrowAway;

/// An assembled service, ready to serve connections.
pub struct App {
    service: Service,
    responder: api::Responder,
    keys: api::Keys,
    bounds: server::Bounds,
    /// The TLS of the listeners; `None`: they speak plain HTTP.
    tls: Option<server::ServerTls>,
    /// The hosts of the relays.
    relays: Vec<String>,
    draining: api::Draining,
    /// Cancelled at shutdown; ends streams that would otherwise not end.
    stopping: CancellationToken,
}

/// Why the service could not be assembled.
#[derive(Debug)]
pub enum AssemblyError {
    /// Settings name something that is missing or broken. Holds at least one error.
    Settings(Vec<anyhow::Error>),
    /// The system did not provide what every deployment needs, such as threads.
    System(anyhow::Error),
}

/// The dependencies in which `otpd serve` and `otpd dev` differ.
struct Wiring {
    store: Arc<dyn Store>,
    idempotency: Arc<dyn IdempotencyStore>,
    test_mails: Arc<dyn TestMails>,
    index_key: IndexKey,
    reloadable: ReloadableDependencies,
    tenants: Vec<api::TenantKeys>,
    dev: Option<api::Dev>,
    tls: Option<server::ServerTls>,
    relays: Vec<String>,
    stopping: CancellationToken,
}

impl App {
    /// Assembles what `otpd serve` runs, with Redis and an SMTP relay.
    ///
    /// # Errors
    /// Returns an [`AssemblyError`] if a dependency cannot be created.
    pub fn production(settings: &Settings) -> Result<Self, AssemblyError> {
        let store = store(settings, REQUEST_CONNECTION_TIMEOUT)
            .map_err(|error| AssemblyError::Settings(vec![error]))?;
        let store = Arc::new(store);
        let Replacement { tenants, service, certificate, relays } =
            Replacement::build(settings).map_err(AssemblyError::Settings)?;
        let tls = certificate.map(server::ServerTls::new).transpose();
        let tls = tls.context("TLS").map_err(AssemblyError::System)?;
        tls.iter().for_each(certificate::report);
        Self::assemble(
            &settings.common,
            Wiring {
                idempotency: Arc::clone(&store) as _,
                test_mails: Arc::clone(&store) as _,
                store,
                index_key: settings.secrets.index_key.clone(),
                reloadable: service,
                tenants,
                dev: None,
                tls,
                relays,
                stopping: CancellationToken::new(),
            },
        )
    }

    /// Assembles what `otpd dev` runs: state in memory, captured email, and secrets that end with
    /// the process. Injects the faults of the plan. Also returns the API key of its own tenant.
    ///
    /// # Errors
    /// Returns an [`AssemblyError`] if a dependency cannot be created.
    pub fn development(common: &Common, plan: FaultPlan) -> Result<(Self, Zeroizing<String>), AssemblyError> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let ThrowAway { address, peppers, index_key, proof_keys, key, tenant } =
            ThrowAway::make(common).map_err(AssemblyError::System)?;
        let brand = common.brand.name(&address).to_owned();
        let unusable = |first| AssemblyError::Settings(all_or(first, unusable_files(common)));
        let composer = composer(common).map_err(unusable)?;
        let mailbox = Arc::new(MemoryMailbox::new(composer, clock));
        let mut tenants = tenants(common, &address);
        if tenants.iter().any(|other| other.profile.tenant == tenant.name) {
            let what = format!(
                "OTP_TENANT__NAME, or a [[tenants]]' name: otpd dev has a tenant of its own that is called {DEV}: rename \
                 yours\n    OTP_TENANT__NAME=app"
            );
            return Err(AssemblyError::Settings(vec![anyhow!(what)]));
        }
        tenants.extend(tenant_keys(&tenant, &address));
        let stopping = CancellationToken::new();
        let ledgers = Arc::clone(&store);
        let ports = FaultyPorts::new(plan, Arc::clone(&store) as _, Arc::clone(&mailbox) as _);
        let dev = api::Dev {
            mailbox,
            key: key.clone(),
            reset: Box::new(move || ledgers.reset()),
            plan,
            injected: ports.injected,
            stopping: stopping.clone(),
        };
        let app = Self::assemble(
            common,
            Wiring {
                idempotency: Arc::clone(&store) as _,
                test_mails: store,
                store: ports.store,
                index_key,
                reloadable: ReloadableDependencies {
                    peppers,
                    proof_keys,
                    issuer: common.issuer.clone(),
                    recipients: recipients(common).map_err(unusable)?,
                    mail_domains: mail_domains(common).map_err(unusable)?,
                    simple: TenantProfile {
                        tenant: Tenant::Simple,
                        sender: Sender { address, brand, locale: common.locale.clone() },
                        purposes: Purposes::Any,
                        limits: common.limits.clone(),
                        test_recipients: TestRecipients::default(),
                        sandbox_key: None,
                    },
                    mailer: ports.mailer,
                },
                tenants,
                dev: Some(dev),
                tls: None,
                relays: Vec::new(),
                stopping,
            },
        )?;
        Ok((app, key))
    }

    fn assemble(common: &Common, wiring: Wiring) -> Result<Self, AssemblyError> {
        let capacity = Capacity { threads: common.hash.threads, queue: common.hash.queue };
        let hasher = HashThreads::start(common.hash.cost, capacity).context("starting the hashing threads");
        let hasher = hasher.map_err(AssemblyError::System)?;
        let places = hasher.places();
        let threads = capacity.threads.get();
        tracing::info!(hash.threads = threads, hash.queue = places, "hash threads started");
        let service = Service::new(Dependencies {
            store: wiring.store,
            idempotency: wiring.idempotency,
            test_mails: wiring.test_mails,
            hasher: Arc::new(hasher),
            index_key: wiring.index_key,
            clock: Arc::new(SystemClock),
            code_length: common.codes.length,
            rules: common.codes.rules,
            exempt: common.exempt.clone(),
            // Some requests hash while others wait for the store or the relay.
            at_once: 2 * places,
            reloadable: Arc::new(wiring.reloadable),
        });
        let proxies = api::Proxies {
            trusted: common.http.trusted_proxies.clone(),
            source: common.http.forwarded_header,
        };
        let load_shed = match common.load_shedding {
            limits::LoadShedding::Off => None,
            limits::LoadShedding::On { per_second, burst } => Some(api::LoadShed::new(per_second, burst)),
        };
        metrics().tenant(Tenant::Simple.name());
        tenants::create_series(&wiring.tenants);
        let keys = api::Keys::new(&wiring.tenants);
        let draining = api::Draining::default();
        let responder = api::responder(api::ApiState {
            service: service.clone(),
            code_length: common.codes.length,
            simple: common.simple,
            keys: keys.clone(),
            origins: common.http.allowed_origins.clone(),
            proxies,
            load_shed,
            exempt: common.exempt.clone(),
            public_url: api::PublicUrl::new(common.http.public_url.clone()),
            has_docs: common.http.docs == http::Docs::On,
            security_contact: match &common.http.security_contact {
                http::SecurityContact::None => None,
                http::SecurityContact::At(uri) => Some(uri.clone()),
            },
            clock: Arc::new(SystemClock),
            draining: draining.clone(),
            dev: wiring.dev,
        });
        let max_connections = server::room_for(common.http.max_connections);
        metrics().max_connections.set(i64::try_from(max_connections).unwrap_or(i64::MAX));
        let bounds = server::Bounds {
            max_connections,
            keep_alive: common.http.keep_alive,
            stop_timeout: shutdown::CONNECTIONS_TIMEOUT,
        };
        Ok(Self {
            service,
            responder,
            keys,
            bounds,
            tls: wiring.tls,
            relays: wiring.relays,
            draining,
            stopping: wiring.stopping,
        })
    }

    /// Returns a handle that replaces what a reload replaces.
    #[must_use]
    pub fn replaceable(&self) -> Replaceable {
        Replaceable {
            keys: self.keys.clone(),
            service: self.service.clone(),
            tls: self.tls.clone(),
            relays: self.relays.clone().into(),
        }
    }

    /// Serves until `stop` completes, then finishes the requests in progress. `stop` may say before
    /// that load balancers should send requests elsewhere. Metrics are served at `admin` until the
    /// end.
    pub async fn run(
        self,
        listeners: Vec<TcpListener>,
        admin: Option<TcpListener>,
        stop: impl AsyncFnOnce(&api::Draining),
    ) {
        let stopping = self.stopping;
        let stop = async {
            stop(&self.draining).await;
            tracing::info!("stopping: finishing requests in progress");
            stopping.cancel();
        };
        let ended = CancellationToken::new();
        let serving_admin = tokio::spawn(admin::serve(admin, ended.clone()));
        let connections = metrics().connections.clone();
        let watching = self.tls.clone().map(|tls| tokio::spawn(certificate::watch(tls)));
        server::serve(listeners, self.tls, self.responder, self.bounds, connections, stop).await;
        watching.inspect(JoinHandle::abort);
        self.service.drain(shutdown::USE_CASES_TIMEOUT).await;
        ended.cancel();
        // Fails only if the task panicked, which is logged.
        let _ = serving_admin.await;
    }
}

/// The name of the tenant of `otpd dev`, and of its keys.
const DEV: &str = "dev";

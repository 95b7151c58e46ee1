//! The composition root: the only place where settings, use cases, adapters and HTTP meet.
//!
//! Must not hold a rule: it chooses the parts and puts them together.

use std::future::Future;
use std::sync::Arc;

use anyhow::Context as _;
use poem::endpoint::BoxEndpoint;
use tokio::net::TcpListener;

use crate::adapters::clock::SystemClock;
use crate::adapters::hasher::{Capacity, HashThreads};
use crate::adapters::mailbox::MemoryMailbox;
use crate::adapters::memory::MemoryStore;
use crate::adapters::redis::{Fence, RedisStore, ScriptClock};
use crate::adapters::smtp::{Login, Relay, SmtpMailer, Tls};
use crate::adapters::{Sender, redis};
use crate::config::secrets::ProofKeys;
use crate::config::{Common, Settings, http, limits, smtp};
use crate::domain::email_address::EmailAddress;
use crate::domain::pepper::{Pepper, PepperId, Peppers};
use crate::domain::proof::ProofKey;
use crate::domain::slot::IndexKey;
use crate::ports::{Clock, Mailbox, Mailer, Store};
use crate::service::{Parts, Secrets, Service};
use crate::{api, random, server};

/// A service that is put together and waits for connections to serve.
pub struct App {
    service: Service,
    endpoint: BoxEndpoint<'static>,
    max_connections: usize,
}

impl App {
    /// What `otpd serve` runs: Redis and a relay.
    ///
    /// # Errors
    /// A part cannot be made of these settings.
    pub async fn production(settings: &Settings) -> anyhow::Result<Self> {
        let store = store(settings).await?;
        let mailer = mailer(settings)?;
        let proof_key = match &settings.secrets.proof_keys {
            ProofKeys::None => None,
            ProofKeys::Keys { current, .. } => Some(current.clone()),
        };
        let secrets = Secrets {
            peppers: settings.secrets.peppers.clone(),
            index_key: settings.secrets.index_key.clone(),
            proof_key,
        };
        Self::assemble(&settings.common, Arc::new(store), Arc::new(mailer), secrets, None)
    }

    /// What `otpd dev` runs: everything in memory, mails captured, secrets thrown away at the end.
    ///
    /// # Errors
    /// A part cannot be made of these settings.
    pub fn development(common: &Common) -> anyhow::Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let store = Arc::new(MemoryStore::new(Arc::clone(&clock)));
        let address = EmailAddress::parse("otpd@dev.example").context("the address of otpd dev")?;
        let brand = common.brand.name(&address).to_owned();
        let mailbox = Arc::new(MemoryMailbox::new(Sender { address, brand }, clock)?);
        let name = |name| PepperId::parse(name).context("the name of a throw-away key");
        let peppers = Peppers::new(Pepper::new(name("dev")?, random::octets()?), Vec::new());
        let secrets = Secrets {
            peppers: peppers.context("one pepper")?,
            index_key: IndexKey::new(random::octets()?),
            proof_key: Some(ProofKey::new(name("dev")?, random::octets()?)),
        };
        let captured: Arc<dyn Mailbox> = Arc::clone(&mailbox) as _;
        Self::assemble(common, store, mailbox, secrets, Some(captured))
    }

    fn assemble(
        common: &Common,
        store: Arc<dyn Store>,
        mailer: Arc<dyn Mailer>,
        secrets: Secrets,
        mailbox: Option<Arc<dyn Mailbox>>,
    ) -> anyhow::Result<Self> {
        let capacity = Capacity { threads: common.hash.threads, queue: common.hash.queue };
        let hasher =
            HashThreads::start(common.hash.cost, capacity).context("starting the hashing threads")?;
        let service = Service::new(Parts {
            store,
            mailer,
            hasher: Arc::new(hasher),
            clock: Arc::new(SystemClock),
            secrets,
            code_length: common.codes.length,
            policy: common.codes.policy,
            limits: common.limits.clone(),
            // Some hash, some wait for the store or the relay.
            at_once: 2 * (capacity.threads.get() + capacity.queue),
            issuer: common.issuer.clone(),
        });
        let origins = common.http.allowed_origins.iter().map(|origin| api::Origin::new(origin.as_str()));
        let proxies = api::Proxies {
            trusted: common.http.trusted_proxies.clone(),
            source: match common.http.forwarded_header {
                http::ForwardedHeader::XForwardedFor => api::ForwardedHeader::XForwardedFor,
                http::ForwardedHeader::Forwarded => api::ForwardedHeader::Forwarded,
            },
        };
        let shield = match common.shield {
            limits::Shield::Off => None,
            limits::Shield::On { per_second, burst } => Some(api::Shield::new(per_second, burst)),
        };
        let endpoint = api::endpoint(api::Parts {
            service: service.clone(),
            code_length: common.codes.length,
            simple: match common.simple {
                http::SimpleAccess::Open => api::SimpleAccess::Open,
                http::SimpleAccess::Off => api::SimpleAccess::Off,
            },
            origins: origins.collect::<Result<_, _>>()?,
            proxies,
            shield,
            mailbox,
        });
        Ok(Self { service, endpoint, max_connections: server::room_for(common.http.max_connections) })
    }

    /// Serves until `stop` is done; then ends what is under way.
    pub async fn run(self, listeners: Vec<TcpListener>, stop: impl Future<Output = ()>) {
        server::serve(listeners, self.endpoint, self.max_connections, stop).await;
        self.service.drain().await;
    }
}

/// The Redis of the settings; no connection is made yet.
///
/// # Errors
/// Its address is none.
pub async fn store(settings: &Settings) -> Result<RedisStore, redis::InvalidAddress> {
    let fence = if settings.redis.fence { Fence::Up } else { Fence::Down };
    RedisStore::new(&settings.redis.url, ScriptClock::Server, fence).await
}

/// The relay of the settings; no connection is made yet.
///
/// # Errors
/// TLS cannot be set up, or a template is broken.
pub fn mailer(settings: &Settings) -> anyhow::Result<SmtpMailer> {
    let smtp = &settings.smtp;
    let tls = match smtp.tls {
        smtp::Tls::Implicit => Tls::implicit(&smtp.server),
        smtp::Tls::StartTls => Tls::starttls(&smtp.server),
        smtp::Tls::Plaintext => Ok(Tls::Plaintext),
    }
    .context("setting up TLS for the relay")?;
    let login = match &smtp.auth {
        smtp::Auth::None => Login::None,
        smtp::Auth::Password { username, password } => {
            Login::Password { username: username.clone(), password: password.clone() }
        }
    };
    let relay = Relay { host: smtp.server.clone(), port: smtp.port, tls, login };
    let brand = settings.common.brand.name(&smtp.sender).to_owned();
    let sender = Sender { address: smtp.sender.clone(), brand };
    Ok(SmtpMailer::new(relay, sender, smtp.connections)?)
}

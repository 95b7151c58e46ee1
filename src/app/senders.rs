//! Assembles the transports of emails: relays, providers and the hook.
//!
//! Must not hold a rule: it reads the files that the settings name and puts the parts together.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;

use super::files::{cured, read, shown};
use crate::adapters::clock::SystemClock;
use crate::adapters::http::HttpClient;
use crate::adapters::http_mail::{
    HookApi, HttpTransport, MailApi, MailgunApi, PostmarkApi, ResendApi, SesApi,
};
use crate::adapters::mailer::{Route, Transport, TransportMailer};
use crate::adapters::message::Composer;
use crate::adapters::oauth::TokenSource;
use crate::adapters::smtp::{Login, RESEND_IDEMPOTENCY_KEY, Relay, SmtpTransport, Tls, TrustAnchors};
use crate::config::outbound::Outbound;
use crate::config::senders::{Senders, TransportKind};
use crate::config::{Settings, smtp};

/// The host of Resend's relay, which drops duplicates.
const RESEND_RELAY: &str = "smtp.resend.com";
/// The sections of the settings of the relays.
const SECTIONS: [&str; 2] = ["smtp", "smtp_fallback"];

/// Creates the mailer for the transports of the settings. Does not connect yet.
///
/// # Errors
/// Returns an error if a transport cannot be set up.
pub fn mailer(settings: &Settings, composer: Composer) -> anyhow::Result<TransportMailer> {
    let built = transports(settings)?;
    let route = |order: &[TransportKind]| -> Route {
        order.iter().flat_map(|kind| built.get(kind).into_iter().flatten()).cloned().collect()
    };
    let of_tenants = settings.common.tenants.iter().filter_map(|tenant| {
        let order = tenant.transports.as_ref()?;
        Some((tenant.name.name().to_owned(), route(order)))
    });
    Ok(TransportMailer::new(composer, route(&settings.senders.order), of_tenants.collect()))
}

/// Creates the transports of the relays, in the order of the settings. Does not connect yet.
///
/// # Errors
/// Returns an error if TLS cannot be configured.
pub fn relays(settings: &Settings) -> anyhow::Result<Vec<SmtpTransport>> {
    let smtp = &settings.smtp;
    let transport = |(relay, section)| {
        let relay = relay_with(relay, section, &settings.outbound)?;
        let header = (relay.host.eq_ignore_ascii_case(RESEND_RELAY)).then_some(RESEND_IDEMPOTENCY_KEY);
        Ok(SmtpTransport::new(relay, smtp.sender.domain(), smtp.connections, header))
    };
    smtp.relays.iter().zip(SECTIONS).map(transport).collect()
}

/// Returns an error for every transport that cannot be set up.
pub(super) fn unusable_transports(settings: &Settings) -> Vec<anyhow::Error> {
    let relays = settings.smtp.relays.iter().zip(SECTIONS);
    let relays = relays.filter_map(|(relay, section)| relay_with(relay, section, &settings.outbound).err());
    let is_used = settings.senders.targets().next().is_some();
    let client = if is_used { http_client(&settings.outbound).err() } else { None };
    relays.chain(client).collect()
}

/// Returns the names of the transports, as the metrics have them.
pub(super) fn transport_names(settings: &Settings) -> Vec<String> {
    let relays = settings.smtp.relays.iter().map(|relay| relay.server.clone());
    let providers = providers(&settings.senders);
    relays.chain(providers.iter().map(|(_, provider)| provider.name().to_owned())).collect()
}

fn transports(settings: &Settings) -> anyhow::Result<BTreeMap<TransportKind, Route>> {
    let relays = relays(settings)?.into_iter().map(|relay| Arc::new(relay) as Arc<dyn Transport>);
    let mut transports = BTreeMap::from([(TransportKind::Smtp, relays.collect())]);
    let providers = providers(&settings.senders);
    if providers.is_empty() {
        return Ok(transports);
    }
    let client = http_client(&settings.outbound)?;
    for (kind, provider) in providers {
        let connections = settings.outbound.connections;
        let transport = HttpTransport::new(provider, client.clone(), Arc::new(SystemClock), connections);
        transports.insert(kind, vec![Arc::new(transport) as Arc<dyn Transport>]);
    }
    Ok(transports)
}

/// Returns the providers that are used, and the hook.
fn providers(senders: &Senders) -> Vec<(TransportKind, Box<dyn MailApi>)> {
    let mut providers: Vec<(TransportKind, Box<dyn MailApi>)> = Vec::new();
    if let Some(resend) = &senders.resend {
        let api = ResendApi::new(&resend.url, resend.api_key.clone());
        providers.push((TransportKind::Resend, Box::new(api)));
    }
    if let Some(postmark) = &senders.postmark {
        let stream = postmark.message_stream.clone();
        let api = PostmarkApi::new(&postmark.url, postmark.token.clone(), stream);
        providers.push((TransportKind::Postmark, Box::new(api)));
    }
    if let Some(mailgun) = &senders.mailgun {
        let api = MailgunApi::new(&mailgun.url, &mailgun.domain, mailgun.api_key.clone());
        providers.push((TransportKind::Mailgun, Box::new(api)));
    }
    if let Some(ses) = &senders.ses {
        let secret = ses.secret_access_key.clone();
        let api = SesApi::new(&ses.url, ses.region.clone(), ses.access_key_id.clone(), secret);
        providers.push((TransportKind::Ses, Box::new(api)));
    }
    if let Some(hook) = &senders.hook {
        providers.push((TransportKind::Hook, Box::new(HookApi::new(hook.url.clone(), hook.secret.clone()))));
    }
    providers
}

/// Creates the client of HTTP requests. Does not connect yet.
///
/// # Errors
/// Returns an error if there are no trust anchors.
pub fn http_client(outbound: &Outbound) -> anyhow::Result<HttpClient> {
    let (trust_anchors, place) =
        trust_anchors(&outbound.trust_anchors).map_err(|error| cured(&error, "outbound.ca_file"))?;
    let tls = trust_anchors.client_config().context(place);
    let tls = tls.map_err(|error| cured(&error, "outbound.ca_file"))?;
    Ok(HttpClient::new(tls, outbound.allowed_networks.clone()))
}

/// Converts the settings of one relay. Its tokens, if it has any, come from a client of their own.
fn relay_with(relay: &smtp::RelaySettings, section: &str, outbound: &Outbound) -> anyhow::Result<Relay> {
    let tls = tls_of(relay).map_err(|error| cured(&error, &format!("{section}.ca_file")))?;
    let login = match &relay.auth {
        smtp::Auth::None => Login::None,
        smtp::Auth::Password { username, password } => {
            Login::Password { username: username.clone(), password: password.clone() }
        }
        smtp::Auth::OAuth(oauth) => {
            Login::OAuth(TokenSource::new(oauth.clone(), http_client(outbound)?, Arc::new(SystemClock)))
        }
    };
    Ok(Relay { host: relay.server.clone(), port: relay.port, tls, login })
}

fn tls_of(relay: &smtp::RelaySettings) -> anyhow::Result<Tls> {
    let (trust_anchors, place) = trust_anchors(&relay.trust_anchors)?;
    let security = || trust_anchors.tls_config(&relay.server).context(place);
    Ok(match relay.tls {
        smtp::TlsMode::Implicit => Tls::Implicit(security()?),
        smtp::TlsMode::StartTls => Tls::StartTls(security()?),
        smtp::TlsMode::Plaintext => Tls::Plaintext,
    })
}

/// Reads trust anchors, and says where they come from.
fn trust_anchors(source: &smtp::TrustAnchorSource) -> anyhow::Result<(TrustAnchors, String)> {
    Ok(match source {
        smtp::TrustAnchorSource::System => (
            TrustAnchors::System,
            "the system's trust anchors (the package ca-certificates, or what SSL_CERT_FILE and SSL_CERT_DIR name)"
                .to_owned(),
        ),
        smtp::TrustAnchorSource::File(path) => (TrustAnchors::These(read(path)?), shown(path)),
    })
}

//! `otpd inspect` and `otpd unblock`: one person's trouble with limits.
//!
//! They go by the settings of `serve` and over Redis; nothing of it is served over the network.
//! Must not show a code, and must not change a verification.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use super::{Failure, announce, block_on, print};
use crate::adapters::redis::RedisStore;
use crate::app;
use crate::audit::AuditEvent;
use crate::config::audit::AuditOutput;
use crate::config::traces::TraceExport;
use crate::config::{self, Settings, Sources};
use crate::domain::email_address::EmailAddress;
use crate::domain::ledger::LimitState;
use crate::domain::ledger_key::LedgerKey;
use crate::domain::limit::Policy;
use crate::domain::limits::{Charge, Limits, PREFIX48_FACTOR};
use crate::domain::store_key::{ClientNetwork, Recipient};
use crate::domain::tenant::Tenant;
use crate::domain::verification::{Status, View};
use crate::ports::{Store as _, StoreError};
use crate::telemetry::Telemetry;

#[derive(Debug, Args)]
pub(super) struct Person {
    /// The email address of the person
    #[arg(value_name = "EMAIL", value_parser = EmailAddress::parse)]
    address: EmailAddress,
    /// The IP address of the person, if it is known
    #[arg(long, value_name = "IP")]
    ip: Option<IpAddr>,
}

/// The person as the store knows them, with the limits of each tenant.
struct Subject<'a> {
    recipient: Recipient,
    network: Option<ClientNetwork>,
    tenants: Vec<(Tenant, &'a Limits)>,
}

impl<'a> Subject<'a> {
    fn of(person: &Person, settings: &'a Settings) -> Self {
        let index_key = &settings.secrets.index_key;
        let named = settings.common.tenants.iter().map(|tenant| (tenant.name.clone(), &tenant.limits));
        Self {
            recipient: index_key.recipient(Tenant::Simple, &person.address),
            network: person.ip.map(|ip| index_key.network(ip)),
            tenants: std::iter::once((Tenant::Simple, &settings.common.limits)).chain(named).collect(),
        }
    }

    /// Returns the charges of the IP address at a tenant, if it is known.
    fn ip_charges(&self, tenant: &Tenant, limits: &'a Limits) -> Vec<Charge<'a>> {
        self.network.map(|network| limits.ip_charges(tenant, &network)).unwrap_or_default()
    }

    /// Returns the charges of a send by the person at a tenant, and those of the IP address.
    fn charges(&self, tenant: &Tenant, limits: &'a Limits) -> Vec<Charge<'a>> {
        let recipient = Recipient { tenant: tenant.clone(), ..self.recipient.clone() };
        let client = self.network.map(|network| network.prefix48);
        let mut charges = self.ip_charges(tenant, limits);
        charges.insert(0, limits.send_charge(&recipient, client.as_ref()));
        charges
    }
}

/// Prints what is stored about the person: limits, and the state of a verification, never its code.
pub(super) fn inspect(person: &Person, sources: Result<Sources, Failure>) -> Result<(), Failure> {
    let (settings, _telemetry) = read(sources, |settings| settings.common.audit = AuditOutput::Off)?;
    let text = block_on(async {
        let store = store(&settings)?;
        described(&store, &settings, person).await.map_err(failed)
    })?;
    print(text).map_err(Failure::Other)
}

/// Empties the ledgers of the person, and logs each.
pub(super) fn unblock(person: &Person, sources: Result<Sources, Failure>) -> Result<(), Failure> {
    let (settings, _telemetry) = read(sources, |_| {})?;
    let emptied = block_on(async {
        let store = store(&settings)?;
        empty(&store, &Subject::of(person, &settings)).await.map_err(failed)
    })?;
    let what = match emptied {
        0 => "nothing was counted, so nothing was emptied".to_owned(),
        1 => "1 ledger was emptied: the person can try again".to_owned(),
        several => format!("{several} ledgers were emptied: the person can try again"),
    };
    print(what).map_err(Failure::Other)
}

fn store(settings: &Settings) -> Result<RedisStore, Failure> {
    app::store(settings, app::COMMAND_CONNECTION_TIMEOUT).map_err(|error| Failure::Unusable(vec![error]))
}

/// Empties the ledgers of the email address and of the IP address. Returns how many had entries.
async fn empty(store: &RedisStore, subject: &Subject<'_>) -> Result<usize, StoreError> {
    let mut emptied = 0;
    let outcome = empty_each(store, subject, &mut emptied).await;
    let event = AuditEvent {
        event: "unblock",
        outcome: match (&outcome, emptied) {
            (Err(_), _) => "unavailable",
            (Ok(()), 0) => "nothing",
            (Ok(()), _) => "emptied",
        },
        email: Some(subject.recipient.email),
        client: subject.network.map(|network| network.prefix48),
        ..AuditEvent::default()
    };
    event.record();
    outcome.map(|()| emptied)
}

async fn empty_each(
    store: &RedisStore,
    subject: &Subject<'_>,
    emptied: &mut usize,
) -> Result<(), StoreError> {
    let mut ledgers = store.ledgers_of(&subject.recipient.email).await?;
    for (tenant, limits) in &subject.tenants {
        let of_ip = subject.ip_charges(tenant, limits).into_iter();
        ledgers.extend(of_ip.flat_map(|charge| [charge.ledger].into_iter().chain(charge.of_partition)));
    }
    for ledger in ledgers {
        if store.empty(&ledger).await? {
            *emptied += 1;
            let email = &subject.recipient.email;
            tracing::warn!(email.hash = %email, ledger = %ledger, "a limit was emptied by hand");
        }
    }
    Ok(())
}

fn read(
    sources: Result<Sources, Failure>,
    change: impl FnOnce(&mut Settings),
) -> Result<(Settings, Telemetry), Failure> {
    let mut loaded = config::serve(&sources?).map_err(Failure::Settings)?;
    loaded.settings.common.traces = TraceExport::Off;
    change(&mut loaded.settings);
    announce(loaded, |settings| &settings.common)
}

fn failed(error: StoreError) -> Failure {
    Failure::Other(anyhow::Error::from(error).context("Redis could not be asked; otpd doctor says more"))
}

async fn described(store: &RedisStore, settings: &Settings, person: &Person) -> Result<String, StoreError> {
    let subject = Subject::of(person, settings);
    let rules = &settings.common.codes.rules;
    let email = subject.recipient.email;
    let store_key = settings.secrets.index_key.email_key(subject.recipient.clone(), &person.address);
    let verification = store.find(&store_key, rules).await?;
    let verification = verification.map_or("none".to_owned(), |view| state(&view, rules.attempts));
    // Writing to a string does not fail.
    let mut text = format!(
        "email   {email}  (its name in Redis and in the audit log)\nsimple  verification: {verification}\n"
    );
    if let Some(network) = &subject.network {
        let _ = writeln!(text, "client  {}  (its name in the audit log)", network.prefix48);
    }
    for (tenant, limits) in &subject.tenants {
        for charge in subject.charges(tenant, limits) {
            for rule in charge.rules.iter().flatten().filter(|rule| is_shown(rule.policy, tenant)) {
                let one = Charge { rules: [Some(*rule), None, None], ..charge.clone() };
                let whose = if rule.factor == PREFIX48_FACTOR { "; of the whole /48" } else { "" };
                add_line(&mut text, tenant, &store.peek(&one).await?, whose);
            }
        }
    }
    let own = subject.network.map(|network| network.prefix48);
    let limits = &settings.common.limits;
    for ledger in store.ledgers_of(&email).await?.into_iter().filter(LedgerKey::counts_attempts) {
        let is_own =
            own.is_some_and(|own| ledger == limits.ip_email_attempt_charge(&subject.recipient, &own).ledger);
        let whose = if is_own { "; by this IP address" } else { "; by another client" };
        add_line(&mut text, &Tenant::Simple, &store.peek(&limits.attempts_of(ledger)).await?, whose);
    }
    Ok(text)
}

/// Returns whether a policy is shown with this tenant. The sends of all tenants are shown once.
fn is_shown(policy: Policy, tenant: &Tenant) -> bool {
    policy != Policy::EmailSendsTotal || *tenant == Tenant::Simple
}

fn state(view: &View, attempts: u8) -> String {
    let left = Duration::from_millis(view.expires_at.saturating_sub(view.seen_at));
    let status = match view.status {
        Status::Pending => "pending",
        Status::Approved => "approved",
        Status::Expired => "expired",
        Status::Exhausted => "exhausted",
        Status::Canceled => "canceled",
        Status::Failed => "failed",
    };
    format!("{status}, {} of {attempts} attempts taken, expires in {}", view.attempts, seconds(left))
}

fn add_line(text: &mut String, tenant: &Tenant, limit_state: &LimitState, whose: &str) {
    let window = limit_state.window;
    let when = match limit_state.wait {
        Duration::ZERO => "now".to_owned(),
        wait => format!("in {}", seconds(wait)),
    };
    // Writing to a string does not fail.
    let _ = writeln!(
        text,
        "limit   {:<12} {:<18} {} of {} left in {}; the next one {when}{whose}",
        tenant.name(),
        limit_state.policy.name(),
        limit_state.remaining,
        window.most,
        seconds(window.span)
    );
}

/// Returns a time in whole seconds, rounded up.
fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0)))
}

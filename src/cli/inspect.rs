//! `otpd inspect` and `otpd unblock`: one person's trouble with limits.
//!
//! They go by the settings of `serve` and over Redis; nothing of it is served over the network.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use clap::Args;

use super::{Failure, announce, block_on, print};
use crate::app;
use crate::config::{self, Settings, Sources};
use crate::domain::email_address::EmailAddress;
use crate::domain::ledger::LimitState;
use crate::domain::limits::Limits;
use crate::domain::tenant::Tenant;
use crate::domain::verification::{Status, View};
use crate::ports::StoreError;
use crate::service::operator::{self, Inspection, Subject};

#[derive(Debug, Args)]
pub(super) struct Person {
    /// The email address of the person
    #[arg(value_name = "EMAIL", value_parser = EmailAddress::parse)]
    address: EmailAddress,
    /// The IP address of the person, if it is known
    #[arg(long, value_name = "IP")]
    ip: Option<IpAddr>,
}

/// Prints what is stored about the person: limits, and the state of a verification, never its code.
pub(super) fn inspect(person: &Person, sources: Result<Sources, Failure>) -> Result<(), Failure> {
    let settings = read(sources)?;
    let inspection = block_on(async {
        let store = app::store(&settings).await.map_err(anyhow::Error::from)?;
        let index_key = &settings.secrets.index_key;
        let rules = &settings.common.codes.rules;
        let tenants = tenants(&settings);
        operator::inspect(&store, index_key, rules, &tenants, &subject(person)).await.map_err(failed)
    })?;
    print(describe(&inspection, settings.common.codes.rules.attempts)).map_err(Failure::Other)
}

/// Empties the ledgers of the person, and logs that.
pub(super) fn unblock(person: &Person, sources: Result<Sources, Failure>) -> Result<(), Failure> {
    let settings = read(sources)?;
    let (email, emptied) = block_on(async {
        let store = app::store(&settings).await.map_err(anyhow::Error::from)?;
        let index_key = &settings.secrets.index_key;
        operator::unblock(&store, index_key, &tenants(&settings), &subject(person)).await.map_err(failed)
    })?;
    let ledgers: Vec<_> =
        emptied.iter().map(|ledger| format!("{{{}}}:{}", ledger.hash_tag(), ledger.suffix())).collect();
    tracing::warn!(email.hash = %email, ledgers = ledgers.join(" "), "limits were emptied by hand");
    let what = match ledgers.len() {
        0 => "nothing was counted, so nothing was emptied".to_owned(),
        1 => "1 ledger was emptied: the person can try again".to_owned(),
        several => format!("{several} ledgers were emptied: the person can try again"),
    };
    print(what).map_err(Failure::Other)
}

fn read(sources: Result<Sources, Failure>) -> Result<Settings, Failure> {
    let loaded = config::serve(&sources?).map_err(Failure::Settings)?;
    Ok(announce(loaded, |settings| settings.common.log))
}

fn subject(person: &Person) -> Subject<'_> {
    Subject { address: &person.address, client: person.ip }
}

fn tenants(settings: &Settings) -> Vec<(Tenant, &Limits)> {
    let named = settings.common.tenants.iter().map(|tenant| (tenant.name.clone(), &tenant.limits));
    std::iter::once((Tenant::Simple, &settings.common.limits)).chain(named).collect()
}

fn failed(error: StoreError) -> Failure {
    Failure::Other(anyhow::Error::from(error).context("Redis could not be asked; otpd doctor says more"))
}

fn describe(inspection: &Inspection, attempts: u8) -> String {
    let mut text = format!("email     {}  (its name in Redis)\n", inspection.email);
    let verification =
        inspection.verification.as_ref().map_or("none".to_owned(), |view| state(view, attempts));
    // Writing to a string does not fail.
    let _ = writeln!(text, "simple    verification: {verification}");
    for (tenant, limit_state) in &inspection.limits {
        let _ = writeln!(text, "limit     {}", room(tenant, limit_state));
    }
    let _ = writeln!(
        text,
        "clients   (IPv4 addresses and IPv6 /48s) that have submitted codes for this address on the simple \
         endpoints: {}",
        inspection.attempting_prefixes
    );
    text
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

fn room(tenant: &Tenant, limit_state: &LimitState) -> String {
    let policy = limit_state.policy.name();
    let window = limit_state.window;
    let when = if limit_state.wait.is_zero() {
        "now".to_owned()
    } else {
        format!("in {}", seconds(limit_state.wait))
    };
    format!(
        "{:<12} {policy:<18} {} of {} left in {}; the next one {when}",
        tenant.name(),
        limit_state.remaining,
        window.most,
        seconds(window.span)
    )
}

/// Returns a time in whole seconds, rounded up.
fn seconds(time: Duration) -> humantime::FormattedDuration {
    humantime::format_duration(Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0)))
}

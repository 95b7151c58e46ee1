//! `otpd doctor`: checks what `otpd serve` would need, and says how to mend what is wrong.
//!
//! Must change nothing and send nothing.

use std::process::ExitCode;

use super::{Failure, block_on, print, report};
use crate::adapters::smtp::Step;
use crate::app;
use crate::config::{self, Common, Settings, Sources, smtp};
use crate::domain::risk::Risk;
use crate::ports::Store as _;
use crate::service::causes;

/// Checks everything and says so; the exit code says whether all is well.
pub fn run(sources: Result<Sources, Failure>) -> ExitCode {
    let loaded = sources.and_then(|sources| config::serve(&sources).map_err(Failure::Settings));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(Failure::Settings(faults)) => return report(&faults),
        Err(Failure::Other(error)) => return fail(&error),
    };
    print("ok    settings");
    print(risk(&loaded.settings.common));
    for warning in &loaded.warnings {
        print(format!("note  {warning}"));
    }
    match block_on(async { Ok(check(&loaded.settings).await) }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(Failure::Settings(faults)) => report(&faults),
        Err(Failure::Other(error)) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("otpd: {error:#}");
    ExitCode::FAILURE
}

/// What the limits let an attacker win.
fn risk(common: &Common) -> String {
    let risk = Risk::of(&common.limits, &common.codes.policy, common.codes.length);
    let spray = |networks: u64| format!("{networks} networks {:.1e}", risk.hits_of_a_spray(networks));
    format!(
        "risk  guesses at one address in a day: {}, a chance of {:.1e} (one year of it: {:.1e})\n\
         risk  hits to be expected in a day of guessing at any addresses: {}",
        risk.guesses_per_day,
        risk.chance_per_day(),
        1.0 - (1.0 - risk.chance_per_day()).powi(365),
        [1, 1_000, 10_000].map(spray).join(", "),
    )
}

/// Whether Redis and the relay are as they should be.
async fn check(settings: &Settings) -> bool {
    // Both, so that one look is enough.
    let (redis, relay) = tokio::join!(check_redis(settings), check_relay(settings));
    for line in [&redis, &relay] {
        match line {
            Ok(line) => print(format!("ok    {line}")),
            Err(line) => print(format!("FAIL  {line}")),
        }
    }
    redis.is_ok() && relay.is_ok()
}

async fn check_redis(settings: &Settings) -> Result<String, String> {
    let store = app::store(settings).await.map_err(|error| format!("redis: {error}"))?;
    store.ready().await.map_err(|error| {
        format!(
            "redis: {}\n      check REDIS_HOST, REDIS_PORT or REDIS_URL, and that Redis runs",
            causes(&error)
        )
    })?;
    Ok("redis: answers".to_owned())
}

async fn check_relay(settings: &Settings) -> Result<String, String> {
    let mailer = app::mailer(settings).map_err(|error| format!("relay: {error:#}"))?;
    mailer
        .probe()
        .await
        .map_err(|fault| format!("relay: {fault}\n      {}", cure(fault.step(), &settings.smtp)))?;
    let login = match settings.smtp.auth {
        smtp::Auth::None => "",
        smtp::Auth::Password { .. } => ", login accepted",
    };
    Ok(format!("relay: answers{login}"))
}

/// What usually helps.
fn cure(step: Step, smtp: &smtp::Smtp) -> String {
    match step {
        Step::Connect => {
            "check SMTP_SERVER and SMTP_PORT (587 for STARTTLS, 465 for implicit TLS), and that no firewall \
             is between"
        }
        Step::StartTls => {
            "the relay must offer STARTTLS with a certificate for SMTP_SERVER; for port 465 or implicit TLS set \
             OTP_SMTP__TLS=implicit"
        }
        Step::Login if smtp.server.ends_with("gmail.com") => {
            "Gmail takes no account passwords: turn on 2-step verification, make an app password in the \
             Google account, and set it as EMAIL_PASSWORD"
        }
        Step::Login => "check EMAIL_PASSWORD, and OTP_SMTP__USERNAME where the login is not EMAIL_SENDER",
        Step::Sender | Step::Recipient | Step::Data | Step::Message => "the relay refuses mail",
    }
    .to_owned()
}

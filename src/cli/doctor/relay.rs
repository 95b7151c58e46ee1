//! Checks the relays: names, connections, TLS, logins, and optionally a test email.
//!
//! Must send nothing except the requested test email, whose code cannot be used.

use std::error::Error as _;
use std::time::UNIX_EPOCH;

use super::cure::cure;
use super::provider::{self, Provider};
use super::{Finding, http, token};
use crate::adapters::clock::SystemClock;
use crate::adapters::mailer::TransportMailer;
use crate::adapters::message::{Composer, SampleValues};
use crate::adapters::oauth::AccessToken;
use crate::adapters::smtp::SendError;
use crate::app;
use crate::config::{Settings, smtp};
use crate::domain::code::Code;
use crate::domain::email_address::EmailAddress;
use crate::domain::limit::{Limit, Policy};
use crate::domain::oauth::OAuthClient;
use crate::domain::tenant::Tenant;
use crate::domain::time::millis;
use crate::ports::{Clock as _, CodeMail, Delivery, Mailer as _};
use crate::random::SysRng;
use crate::service::causes;

/// Names of the relays in the output.
const NAMES: [&str; 2] = ["relay", "fallback relay"];

/// Checks the translations and layouts of emails and each relay. If there is an address and all
/// checks passed, sends a test email to it.
pub(super) async fn check(settings: &Settings, send_test: Option<&EmailAddress>) -> Vec<Finding> {
    let composer = app::composer(&settings.common);
    let words = match &composer {
        Ok(_) => Ok("translations and layouts of emails".to_owned()),
        Err(error) => Err(format!("translations and layouts of emails: {error:#}")),
    };
    // Checks the relays even if the templates have a fault.
    let composer = composer.or_else(|_| Ok(Composer::load(None, &SampleValues::default())?));
    let mut findings = match composer.and_then(|composer| app::mailer(settings, composer)) {
        Ok(mailer) => {
            let mut findings = vec![words];
            findings.extend(check_relays(settings).await);
            findings.extend(http::check(settings).await);
            if let (Some(address), true) = (send_test, findings.iter().all(Result::is_ok)) {
                findings.push(send(&mailer, settings, address).await);
                return findings;
            }
            findings
        }
        Err(error) => vec![words, Err(format!("relay: {error:#}"))],
    };
    if send_test.is_some() {
        findings.push(Err("test mail: not sent, since not all is well".to_owned()));
    }
    findings
}

async fn check_relays(settings: &Settings) -> Vec<Finding> {
    let transports = match app::relays(settings) {
        Ok(transports) => transports,
        Err(error) => return vec![Err(format!("relay: {error:#}"))],
    };
    let mut findings = Vec::new();
    for ((name, relay), transport) in NAMES.into_iter().zip(&settings.smtp.relays).zip(transports) {
        if let smtp::Auth::OAuth(client) = &relay.auth {
            let token = transport.token().await;
            let is_missing = token.is_err();
            findings.push(report_token(name, relay, client, token));
            if is_missing {
                continue;
            }
        }
        let outcome = transport.probe().await;
        findings.push(report(name, relay, outcome, settings.common.limits.of(Policy::RelayEmails)));
    }
    findings
}

/// Reports the access token of a relay.
fn report_token(
    name: &str,
    relay: &smtp::RelaySettings,
    client: &OAuthClient,
    outcome: Result<Option<AccessToken>, SendError>,
) -> Finding {
    let said = match outcome {
        Ok(token) => Ok(token.map_or_else(String::new, |token| token::described(&token, client))),
        Err(error) => Err(format!("{error}\n      {}", cure(&error, relay, provider::of(&relay.server)))),
    };
    let own = |said: String| if name == NAMES[0] { said } else { for_fallback(&said) };
    said.map(|said| format!("{name}: {}", own(said))).map_err(|said| format!("{name}: {}", own(said)))
}

fn report(name: &str, relay: &smtp::RelaySettings, outcome: Result<(), SendError>, limit: &Limit) -> Finding {
    let provider = provider::of(&relay.server);
    outcome.map_err(|error| {
        let cure = cure(&error, relay, provider);
        // The advice names the settings of the first relay.
        let cure = if name == NAMES[0] { cure } else { for_fallback(&cure) };
        format!("{name}: {error}\n      {cure}")
    })?;
    let login = match relay.auth {
        smtp::Auth::None => "",
        smtp::Auth::Password { .. } | smtp::Auth::OAuth(_) => ", login accepted",
    };
    let line = format!("{name}: answers{login}");
    Ok(match provider {
        Some(Provider { name, quota, .. }) if limit.is_unlimited() => format!(
            "{line}\nnote  {name} takes {quota}: set OTP_LIMITS__RELAY_EMAILS_PER_DAY so that otpd stops first"
        ),
        _ => line,
    })
}

/// Returns the advice with the names of the fallback relay's settings.
fn for_fallback(advice: &str) -> String {
    let own = "OTP_SMTP_FALLBACK__";
    advice
        .replace("OTP_SMTP__", own)
        .replace("SMTP_SERVER", &format!("{own}SERVER"))
        .replace("SMTP_PORT", &format!("{own}PORT"))
        .replace("EMAIL_PASSWORD", &format!("{own}PASSWORD"))
}

/// Sends a test email, identical to those of the service.
async fn send(mailer: &TransportMailer, settings: &Settings, to: &EmailAddress) -> Finding {
    let life = settings.common.codes.rules.life;
    let code = Code::generate(settings.common.codes.length, &mut SysRng);
    let mail = CodeMail {
        to: to.clone(),
        code: code.map_err(|error| format!("test mail: {error}"))?,
        valid_for: life,
        sender: app::sender(settings),
        reference: None,
        tenant: Tenant::Simple,
        purpose: None,
        expires_at: SystemClock.now().duration_since(UNIX_EPOCH).map_or(0, millis) + millis(life),
        languages: Vec::new(),
    };
    match mailer.deliver(&mail).await {
        Delivery::Accepted { .. } => Ok("test mail: taken by a relay; its code opens nothing. Where it does not arrive, look \
                                  among the spam, and whether SPF, DKIM and DMARC are set for the domain of EMAIL_SENDER"
            .to_owned()),
        Delivery::Refused(error) => {
            let of_relay = error.source().and_then(|source| source.downcast_ref::<SendError>());
            let advice = of_relay.zip(settings.smtp.relays.first()).map(|(error, relay)| {
                // With two relays it is not known which one refused.
                let provider = provider::of(&relay.server).filter(|_| settings.smtp.relays.len() == 1);
                format!("\n      {}", cure(error, relay, provider))
            });
            Err(format!("test mail: {}{}", causes(&error), advice.unwrap_or_default()))
        }
        Delivery::Unknown(error) => Err(format!("test mail: {}; it may arrive all the same", causes(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::smtp::{Reply, Stage};

    fn relay(server: &str) -> smtp::RelaySettings {
        smtp::RelaySettings {
            server: server.to_owned(),
            port: 587,
            tls: smtp::TlsMode::StartTls,
            trust_anchors: smtp::TrustAnchorSource::System,
            auth: smtp::Auth::None,
        }
    }

    fn said_of(name: &str, server: &str, stage: Stage) -> String {
        report(name, &relay(server), Err(SendError::timeout(stage)), &Limit::UNLIMITED).unwrap_err()
    }

    fn refused(server: &str, stage: Stage, code: u16, text: &str) -> String {
        let error = SendError::reply(stage, Reply::new(code, text));
        report(NAMES[0], &relay(server), Err(error), &Limit::UNLIMITED).unwrap_err()
    }

    #[test]
    fn a_refusal_of_the_recipient_or_the_content_is_no_advice_on_the_sender() {
        for server in ["smtp.gmail.com", "smtp.example.com"] {
            let said = refused(server, Stage::Recipient, 550, "5.1.1 x");
            assert!(said.contains("check the address") && !said.contains("EMAIL_SENDER"), "{said}");
        }
        let said = refused("smtp.office365.com", Stage::Sender, 550, "5.7.708 x");
        assert!(said.contains("whether the relay blocks this machine's IP address"), "{said}");
        // If either can be the reason, the advice names both.
        let said = refused("email-smtp.us-east-1.amazonaws.com", Stage::Message, 554, "Message rejected");
        assert!(
            said.contains("SPF") && said.contains("in the sandbox each recipient must be verified"),
            "{said}"
        );
    }

    fn said(server: &str, stage: Stage) -> String {
        said_of(NAMES[0], server, stage)
    }

    #[test]
    fn the_second_relays_cure_names_its_own_settings() {
        let said = said_of(NAMES[1], "smtp.sendgrid.net", Stage::Login);
        assert!(said.contains("OTP_SMTP_FALLBACK__USERNAME=apikey"), "{said}");
        let said = said_of(NAMES[1], "smtp.example.com", Stage::Login);
        assert!(
            said.contains("check OTP_SMTP_FALLBACK__PASSWORD, and OTP_SMTP_FALLBACK__USERNAME"),
            "{said}"
        );
        let said = said_of(NAMES[1], "smtp.example.com", Stage::Connect);
        assert!(said.contains("OTP_SMTP_FALLBACK__SERVER and OTP_SMTP_FALLBACK__PORT"), "{said}");
    }

    #[test]
    fn the_cure_is_in_the_providers_own_terms() {
        assert!(said("smtp.gmail.com", Stage::Login).contains("app password"));
        assert!(said("email-smtp.us-east-1.amazonaws.com", Stage::Login).contains("SMTP credentials"));
        assert!(said("smtp.sendgrid.net", Stage::Login).contains("OTP_SMTP__USERNAME=apikey"));
        assert!(said("smtp.postmarkapp.com", Stage::Connect).contains("there is no 465"));
        assert!(refused("smtp.postmarkapp.com", Stage::Sender, 550, "x").contains("Sender Signature"));
        assert!(said("smtp.example.com", Stage::Login).contains("EMAIL_PASSWORD"));
    }

    #[test]
    fn the_quota_is_told_where_otpd_does_not_keep_one() {
        let finding = |limit: &Limit| report("relay", &relay("smtp.gmail.com"), Ok(()), limit).unwrap();
        assert!(finding(&Limit::UNLIMITED).contains("500 recipients a day"));
        assert_eq!(finding(&"500/24h".parse().unwrap()), "relay: answers");
    }
}

//! Checks the relays: names, connections, TLS, logins, and on demand a mail.
//!
//! Must send nothing but the mail that was asked for, whose code opens nothing.

use std::iter;

use super::provider::{self, Provider};
use crate::adapters::smtp::{Fault, SmtpMailer, Step};
use crate::app;
use crate::config::{Settings, smtp};
use crate::domain::code::Code;
use crate::domain::email_address::EmailAddress;
use crate::domain::limit::RelayMails;
use crate::domain::tenant::Tenant;
use crate::ports::{CodeMail, Delivery, Mailer as _};
use crate::random::SysRng;
use crate::service::causes;

/// What a check found: a line to print, good or bad.
pub type Finding = Result<String, String>;

/// Checks each relay; where there is an address and nothing is wrong, mails to it.
pub async fn check(settings: &Settings, send_test: Option<&EmailAddress>) -> Vec<Finding> {
    let mailer = match app::mailer(settings) {
        Ok(mailer) => mailer,
        Err(error) => return vec![Err(format!("relay: {error:#}"))],
    };
    let names = iter::once("relay").chain(iter::once("fallback relay"));
    let relays = iter::once(&settings.smtp.relay).chain(&settings.smtp.fallbacks);
    let outcomes = mailer.probe().await;
    let mut findings: Vec<Finding> = names
        .zip(relays)
        .zip(outcomes)
        .map(|((name, relay), outcome)| report(name, relay, outcome, settings.common.limits.relay_mails))
        .collect();
    if let Some(address) = send_test {
        findings.push(if findings.iter().all(Result::is_ok) {
            send(&mailer, settings, address).await
        } else {
            Err("test mail: not sent, since a relay is not well".to_owned())
        });
    }
    findings
}

fn report(name: &str, relay: &smtp::Relay, outcome: Result<(), Fault>, day: RelayMails) -> Finding {
    let provider = provider::of(&relay.server);
    outcome.map_err(|fault| format!("{name}: {fault}\n      {}", cure(&fault, relay, provider)))?;
    let login = match relay.auth {
        smtp::Auth::None => "",
        smtp::Auth::Password { .. } => ", login accepted",
    };
    let line = format!("{name}: answers{login}");
    Ok(match (provider, day) {
        (Some(Provider { name, quota, .. }), RelayMails::Unlimited) => format!(
            "{line}\nnote  {name} takes {quota}: OTP_LIMITS__RELAY_MAILS_PER_DAY has otpd stop before it does"
        ),
        _ => line,
    })
}

/// What usually helps.
fn cure(fault: &Fault, relay: &smtp::Relay, provider: Option<&Provider>) -> String {
    let general = match fault.step() {
        _ if fault.is_about_tls() => {
            "its certificate must be for SMTP_SERVER and from an authority that this machine trusts; \
             OTP_SMTP__CA_FILE names a file with others"
        }
        Step::Login if fault.is_about_mechanisms() => {
            "set OTP_SMTP__AUTH=none for a relay without a login; else check SMTP_PORT: many relays offer a login on \
             587 or 465 only"
        }
        Step::Connect if relay.tls == smtp::Tls::Implicit => {
            "check SMTP_SERVER and SMTP_PORT (465 for implicit TLS, 587 for STARTTLS), and that no firewall is between; \
             where the port is for STARTTLS, set OTP_SMTP__TLS=starttls"
        }
        Step::Connect => {
            "check SMTP_SERVER and SMTP_PORT (587 for STARTTLS, 465 for implicit TLS), and that no firewall is between: \
             many hosts close port 25, some all of them"
        }
        Step::StartTls => {
            "the relay must offer STARTTLS with a certificate for SMTP_SERVER; for port 465 or implicit TLS set \
             OTP_SMTP__TLS=implicit"
        }
        Step::Login => "check EMAIL_PASSWORD, and OTP_SMTP__USERNAME where the login is not EMAIL_SENDER",
        Step::Sender => "the relay refuses the sender: check EMAIL_SENDER, and what the login may send as",
        Step::Recipient => {
            "the relay refuses the recipient: check the address, and whether the login may send to it"
        }
        Step::Data | Step::Message => "the relay refuses the mail itself",
    };
    let Some(provider) = provider else { return general.to_owned() };
    let theirs = match fault.step() {
        Step::Login => provider.login.to_owned(),
        Step::Connect | Step::StartTls => {
            format!("{general}\n      {} has {}", provider.name, provider.ports)
        }
        Step::Sender | Step::Recipient | Step::Data | Step::Message => provider.mail.to_owned(),
    };
    if fault.is_about_tls() { general.to_owned() } else { theirs }
}

/// Sends a mail as people get it.
async fn send(mailer: &SmtpMailer, settings: &Settings, to: &EmailAddress) -> Finding {
    let code = Code::draw(settings.common.codes.length, &mut SysRng);
    let mail = CodeMail {
        to: to.clone(),
        code: code.map_err(|error| format!("test mail: {error}"))?,
        valid_for: settings.common.codes.policy.life,
        sender: app::sender(settings),
        reference: None,
        tenant: Tenant::Simple,
        languages: Vec::new(),
    };
    match mailer.deliver(&mail).await {
        Delivery::Accepted => Ok("test mail: taken by the relay; its code opens nothing. Where it does not arrive, look \
                                  among the spam, and whether SPF, DKIM and DMARC are set for the domain of EMAIL_SENDER"
            .to_owned()),
        Delivery::Refused(error) => {
            let advice = provider::of(&settings.smtp.relay.server).map_or(
                "check EMAIL_SENDER, and what the login may send",
                |provider| provider.mail,
            );
            Err(format!("test mail: {}\n      {advice}", causes(&error)))
        }
        Delivery::Unknown(error) => Err(format!("test mail: {}; it may arrive all the same", causes(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn relay(server: &str) -> smtp::Relay {
        smtp::Relay {
            server: server.to_owned(),
            port: 587,
            tls: smtp::Tls::StartTls,
            authorities: smtp::Authorities::System,
            auth: smtp::Auth::None,
        }
    }

    fn said(server: &str, step: Step) -> String {
        let relay = relay(server);
        let finding = report("relay", &relay, Err(Fault::timeout(step)), RelayMails::Unlimited);
        finding.unwrap_err()
    }

    #[test]
    fn the_cure_is_in_the_providers_own_terms() {
        assert!(said("smtp.gmail.com", Step::Login).contains("app password"));
        assert!(said("email-smtp.us-east-1.amazonaws.com", Step::Login).contains("SMTP credentials"));
        assert!(said("smtp.sendgrid.net", Step::Login).contains("OTP_SMTP__USERNAME=apikey"));
        assert!(said("smtp.postmarkapp.com", Step::Connect).contains("there is no 465"));
        assert!(said("smtp.postmarkapp.com", Step::Sender).contains("Sender Signature"));
        assert!(said("smtp.example.com", Step::Login).contains("EMAIL_PASSWORD"));
    }

    #[test]
    fn the_quota_is_told_where_otpd_does_not_keep_one() {
        let finding = |day| report("relay", &relay("smtp.gmail.com"), Ok(()), day).unwrap();
        assert!(finding(RelayMails::Unlimited).contains("500 recipients a day"));
        let kept = RelayMails::PerDay(std::num::NonZeroU32::MIN);
        assert_eq!(finding(kept), "relay: answers");
    }
}

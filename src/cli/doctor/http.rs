//! Checks that the email providers that are used by HTTP, and the hook, can be reached.
//!
//! Must send nothing that has an effect: whether a key is accepted shows only a test email.

use tokio::time::Instant;

use super::Finding;
use crate::adapters::http::{HttpCause, HttpError, HttpStage};
use crate::adapters::mailer::TIMEOUT;
use crate::app;
use crate::config::Settings;

/// Checks each transport by HTTP.
pub(super) async fn check(settings: &Settings) -> Vec<Finding> {
    let targets: Vec<_> = settings.senders.targets().collect();
    if targets.is_empty() {
        return Vec::new();
    }
    let client = match app::http_client(&settings.outbound) {
        Ok(client) => client,
        Err(error) => return vec![Err(format!("{error:#}"))],
    };
    let mut findings = Vec::new();
    for (kind, url) in targets {
        let (name, origin) = (kind.name(), url.origin());
        findings.push(match client.reach(url, Instant::now() + TIMEOUT).await {
            Ok(()) => Ok(format!("{name}: {origin} answers; --send-test shows whether it accepts an email")),
            Err(error) => Err(format!("{name}: {error}\n      {}", cure(&error, name))),
        });
    }
    findings
}

fn cure(error: &HttpError, name: &str) -> String {
    let setting = format!("OTP_{}__URL", name.to_uppercase());
    match (error.stage(), error.cause()) {
        (_, HttpCause::NotAllowed) => {
            format!("or set {setting} to a host with a public address")
        }
        (HttpStage::Resolve, _) => {
            format!("check the host in {setting}, and that DNS works on this machine (or in this container)")
        }
        (HttpStage::Connect, HttpCause::Lost) | (HttpStage::Response, _) => {
            format!("check that {setting} is the URL of an HTTP server")
        }
        (HttpStage::Connect, _) => {
            format!("check {setting}, that the service runs, and that no firewall blocks the connection")
        }
        (HttpStage::Tls, _) => {
            "if the certificate is of your own CA, set OTP_OUTBOUND__CA_FILE to a PEM file with it".to_owned()
        }
    }
}

//! The parts of the way of a mail: its words, the relays, and which domains it may go to.
//!
//! Must not hold a rule: it reads the files that the settings name and puts the parts together.

use std::path::Path;
use std::{fs, iter};

use anyhow::{Context as _, ensure};

use super::DEV;
use crate::adapters::message::{Composer, Prospects};
use crate::adapters::smtp::{Authorities, Login, Relay, SmtpMailer, Tls};
use crate::config::mail::Brand;
use crate::config::{Common, Settings, smtp};
use crate::domain::recipients::{Domains, Recipients};
use crate::domain::tenant::Tenant;

/// The most octets of a file.
const FILE_MAX: u64 = 64 * 1024 * 1024;

/// The words and layouts of mails, in which each tenant has those of its usual language.
///
/// # Errors
/// A template is broken, a language has no words, or a folder is no tenant's; the error says which.
pub fn composer(common: &Common) -> anyhow::Result<Composer> {
    let brands = common.tenants.iter().map(|tenant| &tenant.brand).chain([&common.brand]);
    let chosen = |brand: &Brand| match brand {
        Brand::Name(name) => Some(name.clone()),
        Brand::SenderDomain => None,
    };
    let prospects = Prospects {
        brands: brands.filter_map(chosen).collect(),
        digits: common.codes.length.digits(),
        life: common.codes.policy.life,
    };
    let composer = Composer::load(common.templates.as_deref(), &prospects).context("OTP_MAIL__TEMPLATES")?;
    let tenants = common.tenants.iter().map(|tenant| (&tenant.name, &tenant.locale));
    for (tenant, locale) in tenants.clone().chain([(&Tenant::Simple, &common.locale)]) {
        let (name, tag) = (tenant.name(), locale.as_str());
        ensure!(
            composer.speaks(tenant, locale),
            "there are no words of the language {tag:?}, in which the mails of {name:?} are to be: set \
             OTP_MAIL__LOCALE, or the tenant's locale, to another, or put {tag}.toml in OTP_MAIL__TEMPLATES"
        );
    }
    let known: Vec<&str> =
        tenants.map(|(tenant, _)| tenant.name()).chain([Tenant::Simple.name(), DEV]).collect();
    for folder in composer.tenants() {
        ensure!(known.contains(&folder), "OTP_MAIL__TEMPLATES: the folder {folder:?} is no tenant's");
    }
    Ok(composer)
}

/// The way to the relays of the settings; no connection is made yet.
///
/// # Errors
/// TLS cannot be set up.
pub fn mailer(settings: &Settings, composer: Composer) -> anyhow::Result<SmtpMailer> {
    let smtp = &settings.smtp;
    let names = iter::once("OTP_SMTP__CA_FILE").chain(iter::repeat("OTP_SMTP_FALLBACK__CA_FILE"));
    let relays = iter::once(&smtp.relay).chain(&smtp.fallbacks).zip(names);
    let relays = relays.map(|(of_settings, name)| relay(of_settings, name));
    let relays = relays.collect::<anyhow::Result<_>>()?;
    Ok(SmtpMailer::new(composer, relays, smtp.sender.domain(), smtp.connections))
}

/// The relay of the settings; `ca_setting` is the name of the setting of its trust anchors.
fn relay(relay: &smtp::Relay, ca_setting: &'static str) -> anyhow::Result<Relay> {
    let (authorities, place) = match &relay.authorities {
        smtp::Authorities::System => {
            (Authorities::System, "the system's authorities (the package ca-certificates)".to_owned())
        }
        smtp::Authorities::File(path) => {
            (Authorities::These(read(path).context(ca_setting)?), format!("{ca_setting}: {}", shown(path)))
        }
    };
    let security = || authorities.vouch_for(&relay.server).context(place);
    let tls = match relay.tls {
        smtp::Tls::Implicit => Tls::Implicit(security()?),
        smtp::Tls::StartTls => Tls::StartTls(security()?),
        smtp::Tls::Plaintext => Tls::Plaintext,
    };
    let login = match &relay.auth {
        smtp::Auth::None => Login::None,
        smtp::Auth::Password { username, password } => {
            Login::Password { username: username.clone(), password: password.clone() }
        }
    };
    Ok(Relay { host: relay.server.clone(), port: relay.port, tls, login })
}

/// Which domains are mailed to.
///
/// # Errors
/// A list cannot be read; the error names the setting, the file and the line.
pub fn recipients(common: &Common) -> anyhow::Result<Recipients> {
    let allowed = common.domains.allowed.as_deref().map(domains).transpose();
    let allowed = allowed.context("OTP_DOMAINS__ALLOW_FILE")?;
    let blocked = common.domains.blocked.as_deref().map(domains).transpose();
    let blocked = blocked.context("OTP_DOMAINS__BLOCK_FILE")?;
    Ok(Recipients { allowed, blocked: blocked.unwrap_or_default() })
}

fn domains(path: &Path) -> anyhow::Result<Domains> {
    let text = String::from_utf8(read(path)?).with_context(|| shown(path))?;
    Domains::parse(&text).with_context(|| shown(path))
}

/// What is in a file: in nothing that might never end.
fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let metadata = fs::metadata(path).with_context(|| shown(path))?;
    ensure!(
        metadata.is_file() && metadata.len() <= FILE_MAX,
        "{} is no file, or larger than 64 MiB",
        shown(path)
    );
    fs::read(path).with_context(|| shown(path))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

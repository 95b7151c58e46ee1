//! Assembles what an email needs: templates, and the domains that it may go to.
//!
//! Must not hold a rule: it reads the files that the settings name and puts the parts together.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};

use super::DEV;
use super::certificate::certificate;
use super::files::{cured, read, shown};
use super::redis::certificates;
use super::senders::unusable_transports;
use crate::adapters::dns::{DnsResolver, EveryDomain, MxCheck};
use crate::adapters::message::{Composer, SampleValues};
use crate::config::mail::Brand;
use crate::config::{Common, Settings};
use crate::domain::domain_policy::{DomainList, DomainPolicy};
use crate::domain::tenant::Tenant;
use crate::ports::MailDomains;

/// Loads the translations and layouts of emails, and checks that each tenant's default language has
/// a translation.
///
/// # Errors
/// Returns an error that names the cause if a template is broken, a language has no translation, or
/// a folder belongs to no tenant.
pub fn composer(common: &Common) -> anyhow::Result<Composer> {
    let brands = common.tenants.iter().map(|tenant| &tenant.brand).chain([&common.brand]);
    let chosen = |brand: &Brand| match brand {
        Brand::Name(name) => Some(name.clone()),
        Brand::SenderDomain => None,
    };
    let samples = SampleValues {
        brands: brands.filter_map(chosen).collect(),
        digits: common.codes.length.digits(),
        life: common.codes.rules.life,
    };
    let composer = Composer::load(common.templates.as_deref(), &samples);
    let composer = composer.map_err(|error| cured(&error.into(), "mail.templates"))?;
    let tenants = common.tenants.iter().map(|tenant| (&tenant.name, &tenant.locale));
    for (tenant, locale) in tenants.clone().chain([(&Tenant::Simple, &common.locale)]) {
        let name = tenant.name();
        let tag = locale.as_str();
        ensure!(
            composer.speaks(tenant, locale),
            "OTP_MAIL__LOCALE, or the tenant's locale: there is no translation for {tag:?}, the language of the \
             emails of {name:?}: set another language, or put {tag}.toml in OTP_MAIL__TEMPLATES\n    {}",
            if *locale == common.locale {
                "OTP_MAIL__LOCALE=en".to_owned()
            } else {
                format!("locale = \"en\"  # in the [[tenants]] called {name}")
            }
        );
    }
    let known: Vec<&str> =
        tenants.map(|(tenant, _)| tenant.name()).chain([Tenant::Simple.name(), DEV]).collect();
    for folder in composer.tenants() {
        ensure!(known.contains(&folder), "OTP_MAIL__TEMPLATES: the folder {folder:?} is no tenant's");
    }
    Ok(composer)
}

/// Returns an error for everything that the settings name and that is missing or broken.
#[must_use]
pub fn unusable(settings: &Settings) -> Vec<anyhow::Error> {
    let mut errors = unusable_files(&settings.common);
    errors.extend(unusable_transports(settings));
    errors.extend(certificate(settings.tls.files()).err());
    errors.extend(certificates(&settings.redis).err());
    errors
}

/// Returns all errors, or the first one if checking again finds none.
pub(super) fn all_or(first: anyhow::Error, all: Vec<anyhow::Error>) -> Vec<anyhow::Error> {
    if all.is_empty() { vec![first] } else { all }
}

/// Like [`unusable`], but checks only the files of templates and domain lists.
#[must_use]
pub fn unusable_files(common: &Common) -> Vec<anyhow::Error> {
    let composer = composer(common).err();
    let lists = allowed(common).err().into_iter().chain(blocked(common).err());
    composer.into_iter().chain(lists).chain(mail_domains(common).err()).collect()
}

/// Loads the policy for recipient domains.
///
/// # Errors
/// Returns an error that names the setting, the file and the line if a list cannot be read.
pub fn recipients(common: &Common) -> anyhow::Result<DomainPolicy> {
    Ok(DomainPolicy { allowed: allowed(common)?, blocked: blocked(common)?.unwrap_or_default() })
}

/// Returns the check of whether domains take mail, if it is on.
///
/// # Errors
/// Returns an error if no name server is known.
pub fn mail_domains(common: &Common) -> anyhow::Result<Arc<dyn MailDomains>> {
    if !common.check_mx {
        return Ok(Arc::new(EveryDomain));
    }
    let resolver = DnsResolver::new(&common.name_servers);
    let resolver = resolver.map_err(|error| cured(&error.into(), "dns.servers"))?;
    Ok(Arc::new(MxCheck::new(resolver)))
}

fn allowed(common: &Common) -> anyhow::Result<Option<DomainList>> {
    let domains = common.domains.allowed.as_deref().map(domains).transpose();
    domains.map_err(|error| cured(&error, "domains.allow_file"))
}

fn blocked(common: &Common) -> anyhow::Result<Option<DomainList>> {
    let domains = common.domains.blocked.as_deref().map(domains).transpose();
    domains.map_err(|error| cured(&error, "domains.block_file"))
}

fn domains(path: &Path) -> anyhow::Result<DomainList> {
    let text = String::from_utf8(read(path)?).with_context(|| shown(path))?;
    DomainList::parse(&text).with_context(|| shown(path))
}

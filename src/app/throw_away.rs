//! The secrets, API key and tenant that `otpd dev` generates, and that end with the process.
//!
//! Must not be used by `otpd serve`.

use anyhow::Context as _;
use zeroize::Zeroizing;

use super::DEV;
use super::replacement::proof_keys;
use crate::config::{Common, tenants};
use crate::domain::api_key::{self, KeyHash};
use crate::domain::email_address::EmailAddress;
use crate::domain::key_name::KeyName;
use crate::domain::keyed_hash::IndexKey;
use crate::domain::pepper::{Pepper, Peppers};
use crate::domain::proof::ProofKey;
use crate::domain::purpose::Purposes;
use crate::domain::tenant::Tenant;
use crate::domain::test_recipients::TestRecipients;
use crate::random;

/// What `otpd dev` generates at each start.
pub(super) struct ThrowAway {
    pub address: EmailAddress,
    pub peppers: Peppers,
    pub index_key: IndexKey,
    pub proof_keys: Vec<ProofKey>,
    /// The API key of the tenant.
    pub key: Zeroizing<String>,
    pub tenant: tenants::TenantSettings,
}

impl ThrowAway {
    /// Generates secrets and a tenant with one API key. Uses the proof keys of the settings if
    /// there are any.
    pub(super) fn make(common: &Common) -> anyhow::Result<Self> {
        let address = EmailAddress::parse("otpd@dev.example").context("the address of otpd dev")?;
        let name = KeyName::parse(DEV).context("the name of a throw-away key")?;
        let peppers = Peppers::new(Pepper::new(name.clone(), random::bytes()?), Vec::new());
        let peppers = peppers.context("one pepper")?;
        let index_key = IndexKey::new(random::bytes()?);
        let proof_keys = match proof_keys(common) {
            keys if keys.is_empty() => vec![ProofKey::new(name.clone(), random::bytes()?)],
            keys => keys,
        };
        let key = api_key::text(&Zeroizing::new(random::bytes()?));
        let hash = KeyHash::of(&key).context("a key of our own form")?;
        let tenant = tenants::TenantSettings {
            name: Tenant::parse(DEV).context("the name of the tenant of otpd dev")?,
            brand: common.brand.clone(),
            locale: common.locale.clone(),
            sender: None,
            transports: None,
            keys: vec![(name, hash)],
            sandbox_keys: Vec::new(),
            purposes: Purposes::Any,
            test_recipients: TestRecipients::default(),
            limits: common.limits.clone(),
            rates: common.key_rates,
        };
        Ok(Self { address, peppers, index_key, proof_keys, key, tenant })
    }
}

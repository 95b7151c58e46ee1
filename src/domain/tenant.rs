//! Tenants: the applications that share one otpd, and what each of them may do.
//!
//! Two tenants know nothing of each other: the tenant takes part in the name of each verification, ledger and
//! idempotency key of its own. Must not know which key belongs to whom (see `api_key`).

use std::sync::Arc;

use super::key_name::is_plain;
use super::limit::Limits;
use super::purpose::Purposes;
use super::sender::Sender;

/// The longest name, in characters.
const NAME_MAX: usize = 32;
/// The name of the tenant of the two simple endpoints, which no other may have.
const SIMPLE: &str = "simple";

/// An application with verifications and ledgers of its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tenant {
    /// The two simple endpoints.
    Simple,
    /// One with API keys; this is its name.
    Named(Arc<str>),
}

/// What the settings say of a tenant.
#[derive(Debug, Clone)]
pub struct TenantProfile {
    /// Whose.
    pub tenant: Tenant,
    /// Who its mails come from.
    pub sender: Sender,
    /// What it may verify addresses for.
    pub purposes: Purposes,
    /// How often anything may be done for it.
    pub limits: Limits,
}

impl Tenant {
    /// The tenant of that name: 1 to 32 characters of `a-z 0-9 _ -`, and not `simple`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let fits = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_plain) && name != SIMPLE;
        fits.then(|| Self::Named(name.into()))
    }

    /// The tenant's name.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Simple => SIMPLE,
            Self::Named(name) => name,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_not_that_of_the_simple_endpoints() {
        for bad in ["", "simple", "Shop", "a b", "a:b", "a}b", &"a".repeat(33)] {
            assert!(Tenant::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(Tenant::parse("shop-2_eu").unwrap().name(), "shop-2_eu");
        assert_eq!(Tenant::Simple.name(), "simple");
    }
}

//! Tenants: the applications that share one otpd.
//!
//! Tenants are isolated: the name of the tenant is part of the name of each of its verifications,
//! ledgers and idempotency keys. Must not know which API key belongs to which tenant (see
//! `api_key`).

use std::sync::Arc;

use super::key_name::is_plain;

/// The longest name, in characters.
const NAME_MAX: usize = 32;
/// The name of the tenant of the two simple endpoints. It is reserved.
const SIMPLE: &str = "simple";

/// An application with its own verifications and ledgers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Tenant {
    /// The tenant of the two simple endpoints.
    Simple,
    /// A tenant with API keys, by its name.
    Named(Arc<str>),
}

impl Tenant {
    /// Parses the name of a tenant: 1 to 32 characters of `a-z 0-9 _ -`, and not `simple`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let fits = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_plain) && name != SIMPLE;
        fits.then(|| Self::Named(name.into()))
    }

    /// Returns the name.
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

//! Tenants: the applications that share one otpd.
//!
//! Tenants are isolated: the namespace of the tenant is part of the name of each of its
//! verifications, ledgers and idempotency keys. So is the sandbox of a tenant. Must not know which
//! API key belongs to which tenant (see `api_key`).

use std::borrow::Cow;
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
    /// The sandbox of a tenant, by the tenant's name: what its sandbox keys start.
    Sandbox(Arc<str>),
}

impl Tenant {
    /// Parses the name of a tenant: 1 to 32 characters of `a-z 0-9 _ -`, and not `simple`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let fits = (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_plain) && name != SIMPLE;
        fits.then(|| Self::Named(name.into()))
    }

    /// Returns the sandbox of the tenant.
    #[must_use]
    pub fn sandbox(&self) -> Self {
        Self::Sandbox(self.name().into())
    }

    /// Returns whether it is a sandbox, whose verifications are tests.
    #[must_use]
    pub fn is_sandbox(&self) -> bool {
        matches!(self, Self::Sandbox(_))
    }

    /// Returns the name. That of a sandbox is the name of its tenant.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Simple => SIMPLE,
            Self::Named(name) | Self::Sandbox(name) => name,
        }
    }

    /// Returns the part of names in a store that sets the tenant apart from all others, and a
    /// sandbox from its tenant: no name has a full stop.
    #[must_use]
    pub fn namespace(&self) -> Cow<'_, str> {
        match self {
            Self::Simple | Self::Named(_) => Cow::Borrowed(self.name()),
            Self::Sandbox(name) => Cow::Owned(format!("{name}.sandbox")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_plain_and_not_that_of_the_simple_endpoints() {
        for bad in ["", "simple", "Shop", "a b", "a:b", "a}b", "shop.sandbox", &"a".repeat(33)] {
            assert!(Tenant::parse(bad).is_none(), "{bad:?}");
        }
        assert_eq!(Tenant::parse("shop-2_eu").unwrap().name(), "shop-2_eu");
        assert_eq!(Tenant::Simple.name(), "simple");
    }

    #[test]
    fn a_sandbox_has_the_name_of_its_tenant_and_a_namespace_of_its_own() {
        let tenant = Tenant::parse("shop").unwrap();
        let sandbox = tenant.sandbox();
        assert!(sandbox.is_sandbox() && !tenant.is_sandbox() && !Tenant::Simple.is_sandbox());
        assert_eq!((sandbox.name(), &*sandbox.namespace()), ("shop", "shop.sandbox"));
        assert_eq!((&*tenant.namespace(), &*Tenant::Simple.namespace()), ("shop", "simple"));
    }
}

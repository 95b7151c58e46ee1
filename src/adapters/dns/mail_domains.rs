//! Whether a domain takes mail at all, from its MX and address records.
//!
//! Allows the domain if that cannot be found out in time. The resolver caches the answers.

use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{DnsRecord, DnsResolver, LookupError, RecordKind};
use crate::ports::MailDomains;

/// Time limit of a check. Short, because a request has 15 seconds, and the mailer takes up to 10 of
/// them.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of checks at once. Further ones allow the domain, so that slow name servers do
/// not hold up every send.
const MAX_CHECKS: usize = 64;

/// Asks DNS.
pub struct MxCheck {
    resolver: DnsResolver,
    free: Semaphore,
}

/// Allows every domain, without a question.
#[derive(Debug, Clone, Copy)]
pub struct EveryDomain;

impl MxCheck {
    /// Creates the check.
    #[must_use]
    pub fn new(resolver: DnsResolver) -> Self {
        Self { resolver, free: Semaphore::new(MAX_CHECKS) }
    }

    /// Returns whether a host takes mail for the domain: one of its MX records, or else itself (RFC
    /// 5321 section 5.1).
    async fn look_up(&self, domain: &str) -> Result<bool, LookupError> {
        match self.resolver.lookup(RecordKind::Mx, domain).await {
            Ok(hosts) => return Ok(!is_null_mx(&hosts)),
            Err(error) if error.is_absent() => {}
            Err(error) => return Err(error),
        }
        for kind in [RecordKind::A, RecordKind::Aaaa] {
            match self.resolver.lookup(kind, domain).await {
                Ok(_) => return Ok(true),
                Err(error) if error.is_absent() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

/// Returns whether the MX records say that the domain takes no mail (RFC 7505).
#[must_use]
pub fn is_null_mx(hosts: &[DnsRecord]) -> bool {
    hosts.iter().all(|host| matches!(host, DnsRecord::Name(name) if name.is_empty()))
}

#[async_trait]
impl MailDomains for MxCheck {
    async fn takes_mail(&self, domain: &str) -> bool {
        let Ok(_free) = self.free.try_acquire() else {
            tracing::warn!("too many domains are being checked in DNS; this one is allowed unchecked");
            return true;
        };
        match timeout(CHECK_TIMEOUT, self.look_up(domain)).await {
            Ok(Ok(takes_mail)) => takes_mail,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a domain was not checked in DNS and is allowed");
                true
            }
            Err(_) => {
                tracing::warn!("DNS did not answer in time; the domain is allowed unchecked");
                true
            }
        }
    }
}

#[async_trait]
impl MailDomains for EveryDomain {
    async fn takes_mail(&self, _domain: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_root_alone_says_that_a_domain_takes_no_mail() {
        let hosts =
            |names: &[&str]| names.iter().map(|n| DnsRecord::Name((*n).to_owned())).collect::<Vec<_>>();
        assert!(is_null_mx(&hosts(&[""])));
        assert!(!is_null_mx(&hosts(&["mx.example.com"])));
        assert!(!is_null_mx(&hosts(&["", "mx.example.com"])));
    }
}

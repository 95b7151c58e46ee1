//! Whether a domain takes mail at all, from its MX and address records.
//!
//! Allows the domain if that cannot be found out in time. Of an answer only what it says is cached.
//! Logs when checks begin to fail and when they no longer do, instead of a line for each send.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use moka::sync::Cache;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

use super::{DnsRecord, DnsResolver, LookupError, RecordKind};
use crate::ports::MailDomains;

/// Time limit of a check. Short, because a request has 15 seconds, and the mailer takes up to 10 of
/// them.
const CHECK_TIMEOUT: Duration = Duration::from_secs(1);
/// Maximum number of checks at once. Further ones allow the domain, so that slow name servers do
/// not hold up every send.
const MAX_CHECKS: usize = 64;
/// How long no check may have failed until one that succeeds ends the failures. Answers for other
/// domains can come from the cache meanwhile.
const RECOVERY_TIME: Duration = Duration::from_mins(1);

/// Maximum number of domains whose answer is cached; each takes up to about 400 bytes.
const CACHED_DOMAINS: u64 = 8192;
/// How long an answer is cached.
const CACHE_TTL: Duration = Duration::from_mins(1);

/// Asks DNS.
pub struct MxCheck {
    resolver: DnsResolver,
    /// Whether a domain takes mail.
    cached: Cache<String, bool>,
    free: Semaphore,
    failures: Mutex<CheckFailures>,
}

/// Whether checks fail, so that only a change is logged.
#[derive(Debug, Default)]
struct CheckFailures {
    last: Option<Instant>,
}

/// Allows every domain, without a question.
#[derive(Debug, Clone, Copy)]
pub struct EveryDomain;

impl MxCheck {
    /// Creates the check.
    #[must_use]
    pub fn new(resolver: DnsResolver) -> Self {
        let cached = Cache::builder().max_capacity(CACHED_DOMAINS).time_to_live(CACHE_TTL).build();
        Self { resolver, cached, free: Semaphore::new(MAX_CHECKS), failures: Mutex::default() }
    }

    /// Logs the first failure, and allows the domain.
    fn allow_unchecked(&self, reason: &str) -> bool {
        if self.failures().begin(Instant::now()) {
            tracing::warn!(
                reason,
                "a domain was not checked in DNS and is allowed; further ones are not logged until a minute \
                 passes without any"
            );
        }
        true
    }

    fn failures(&self) -> MutexGuard<'_, CheckFailures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
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

impl CheckFailures {
    /// Records a failure and returns whether it is the first.
    fn begin(&mut self, now: Instant) -> bool {
        self.last.replace(now).is_none()
    }

    /// Records a success and returns whether it ends the failures.
    fn end(&mut self, now: Instant) -> bool {
        self.last.take_if(|last| now.duration_since(*last) >= RECOVERY_TIME).is_some()
    }
}

/// Returns whether the MX records say that the domain takes no mail (RFC 7505).
#[must_use]
pub fn is_null_mx(hosts: &[DnsRecord]) -> bool {
    hosts.iter().all(|host| matches!(host, DnsRecord::Name(name) if name.is_empty()))
}

#[async_trait]
impl MailDomains for MxCheck {
    fn asks(&self) -> bool {
        true
    }

    async fn takes_mail(&self, domain: &str) -> bool {
        if let Some(takes_mail) = self.cached.get(domain) {
            return takes_mail;
        }
        let Ok(_free) = self.free.try_acquire() else {
            return self.allow_unchecked("too many domains are being checked");
        };
        match timeout(CHECK_TIMEOUT, self.look_up(domain)).await {
            Ok(Ok(takes_mail)) => {
                if self.failures().end(Instant::now()) {
                    tracing::info!("domains are checked in DNS again");
                }
                self.cached.insert(domain.to_owned(), takes_mail);
                takes_mail
            }
            Ok(Err(error)) => self.allow_unchecked(&error.to_string()),
            Err(_) => self.allow_unchecked("DNS did not answer in time"),
        }
    }
}

#[async_trait]
impl MailDomains for EveryDomain {
    fn asks(&self) -> bool {
        false
    }

    async fn takes_mail(&self, _domain: &str) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_begin_once_and_end_after_a_minute_without_any() {
        let mut failures = CheckFailures::default();
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        assert!(!failures.end(begun), "none failed");
        assert!(failures.begin(begun));
        assert!(!failures.begin(after(50)) && !failures.end(after(51)));
        assert!(!failures.end(after(109)), "less than a minute after the last");
        assert!(failures.end(after(110)) && !failures.end(after(111)));
        assert!(failures.begin(after(112)), "they begin again");
    }

    #[test]
    fn only_the_root_alone_says_that_a_domain_takes_no_mail() {
        let hosts =
            |names: &[&str]| names.iter().map(|n| DnsRecord::Name((*n).to_owned())).collect::<Vec<_>>();
        assert!(is_null_mx(&hosts(&[""])));
        assert!(!is_null_mx(&hosts(&["mx.example.com"])));
        assert!(!is_null_mx(&hosts(&["", "mx.example.com"])));
    }
}

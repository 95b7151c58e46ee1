//! API keys: authentication, and a rate limit for each key.
//!
//! A key gives access to its own tenant only. Its token buckets are in the memory of this process:
//! they limit load, and no security decision depends on them. Must not keep or show a key.

use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use poem::http::HeaderMap;
use poem::http::header::AUTHORIZATION;

use super::rate_limit::{self, LimitReport};
use crate::domain::api_key::{KeyHash, KeyKind};
use crate::domain::key_name::KeyName;
use crate::domain::limits::Action;
use crate::domain::tenant_profile::TenantProfile;

/// The policy name of a key's rate limit.
pub(super) const POLICY: &str = "key";
const MINUTE: Duration = Duration::from_mins(1);

/// The API keys by hash. Replaced as a whole when the settings are reloaded.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<KeyEntries>>);

type KeyEntries = Arc<[(KeyHash, Arc<Caller>)]>;

/// A tenant, the hashes of its keys, and their rate limits.
#[derive(Debug, Clone)]
pub struct TenantKeys {
    /// The tenant's settings.
    pub profile: Arc<TenantProfile>,
    /// The active keys, by label.
    pub keys: Vec<(KeyName, KeyHash)>,
    /// How many sends and resends one key may request in a minute.
    pub sends_per_minute: NonZeroU32,
    /// How many other requests one key may make in a minute.
    pub checks_per_minute: NonZeroU32,
}

/// An authenticated caller: a tenant and one of its keys.
pub struct Caller {
    /// The tenant's settings.
    pub profile: Arc<TenantProfile>,
    /// The label of the key.
    pub label: KeyName,
    /// The bucket for sends and resends.
    sends: Arc<Bucket>,
    /// The bucket for other requests.
    checks: Arc<Bucket>,
}

/// A token bucket that an idle minute fills completely.
struct Bucket {
    tokens: DefaultDirectRateLimiter<StateInformationMiddleware>,
    per_minute: NonZeroU32,
}

impl Keys {
    /// Creates the set of keys of these tenants.
    #[must_use]
    pub fn new(tenants: &[TenantKeys]) -> Self {
        let keys = Self::default();
        keys.replace(tenants);
        keys
    }

    /// Replaces the keys. Keys that remain keep their buckets, and requests in progress are not
    /// affected.
    pub fn replace(&self, tenants: &[TenantKeys]) {
        let mut held = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = |hash: &KeyHash| held.iter().find(|(other, _)| other.matches(hash));
        let entries = tenants.iter().flat_map(|tenant| {
            tenant.keys.iter().map(|(label, hash)| {
                let before = before(hash).map(|(_, caller)| caller);
                let sends = before.map(|caller| &caller.sends);
                let checks = before.map(|caller| &caller.checks);
                let caller = Caller {
                    profile: Arc::clone(&tenant.profile),
                    label: label.clone(),
                    sends: Bucket::kept_or_new(sends, tenant.sends_per_minute),
                    checks: Bucket::kept_or_new(checks, tenant.checks_per_minute),
                };
                (*hash, Arc::new(caller))
            })
        });
        let entries: KeyEntries = entries.collect();
        *held = entries;
    }

    /// Returns the caller whose key is in `Authorization`. Compares every hash, so that the time
    /// does not depend on which one matches. A key whose prefix is not that of the list that it is
    /// in is unknown.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        let key = bearer(headers)?;
        let shown = KeyHash::of(key)?;
        let is_sandbox = KeyKind::of(key)? == KeyKind::Sandbox;
        let entries = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let found = entries.iter().fold(
            None,
            |found, (hash, caller)| {
                if hash.matches(&shown) { Some(caller) } else { found }
            },
        );
        found.filter(|caller| caller.profile.is_sandbox() == is_sandbox).cloned()
    }
}

/// Returns the token of the only `Authorization: Bearer` header (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

impl Caller {
    /// Takes a token from the key's bucket for these requests, and reports how many remain.
    ///
    /// # Errors
    /// Returns the number of seconds to wait if the bucket is empty.
    pub(super) fn take_token(&self, action: Action, report: &LimitReport) -> Result<(), u64> {
        let bucket = match action {
            Action::Send => &self.sends,
            Action::Attempt => &self.checks,
        };
        bucket.take(report).inspect_err(|_| {
            rate_limit::record_refusal(POLICY, Some(self.profile.tenant.name()));
        })
    }
}

impl Bucket {
    /// Returns the previous bucket of a key if its size is unchanged, or a new one.
    fn kept_or_new(before: Option<&Arc<Self>>, per_minute: NonZeroU32) -> Arc<Self> {
        let kept = before.filter(|bucket| bucket.per_minute == per_minute);
        kept.cloned().unwrap_or_else(|| {
            let tokens = RateLimiter::direct(Quota::per_minute(per_minute)).with_middleware();
            Arc::new(Self { tokens, per_minute })
        })
    }

    /// Takes a token and reports how many remain.
    ///
    /// # Errors
    /// Returns the number of seconds to wait if the bucket is empty.
    fn take(&self, report: &LimitReport) -> Result<(), u64> {
        match self.tokens.check() {
            Ok(state) => {
                let left = state.remaining_burst_capacity();
                let taken = self.per_minute.get().saturating_sub(left);
                self.show(report, left, rate_limit::seconds(MINUTE * taken / self.per_minute.get()));
                Ok(())
            }
            Err(refused) => {
                let wait = refused.wait_time_from(DefaultClock::default().now());
                let wait = rate_limit::seconds(wait).max(1);
                self.show(report, 0, wait);
                Err(wait)
            }
        }
    }

    fn show(&self, report: &LimitReport, left: u32, reset: u64) {
        report.add(
            format_args!("\"{POLICY}\";q={};w={}", self.per_minute, MINUTE.as_secs()),
            format_args!("\"{POLICY}\";r={left};t={reset}"),
        );
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;
    use crate::domain::api_key;
    use crate::domain::email_address::EmailAddress;
    use crate::domain::limits::Limits;
    use crate::domain::locale::Locale;
    use crate::domain::purpose::Purposes;
    use crate::domain::sender::Sender;
    use crate::domain::tenant::Tenant;
    use crate::domain::test_recipients::TestRecipients;

    fn tenant(name: &str, keys: &[u8]) -> TenantKeys {
        let profile = TenantProfile {
            tenant: Tenant::parse(name).unwrap(),
            sender: Sender {
                address: EmailAddress::parse("a@example.com").unwrap(),
                brand: String::new(),
                locale: Locale::english(),
            },
            purposes: Purposes::Any,
            limits: Limits::from_iter([]),
            test_recipients: TestRecipients::default(),
            sandbox_key: None,
        };
        let keys = keys.iter().map(|key| {
            let label = KeyName::parse(&format!("k{key}")).unwrap();
            (label, KeyHash::of(&api_key::text(&[*key; 32])).unwrap())
        });
        let one = NonZeroU32::new(3).unwrap();
        let keys = keys.collect();
        TenantKeys { profile: Arc::new(profile), keys, sends_per_minute: one, checks_per_minute: one }
    }

    fn shown(values: &[String]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn opens(keys: &Keys, values: &[String]) -> Option<String> {
        let caller = keys.caller(&shown(values))?;
        Some(format!("{}/{}", caller.profile.tenant.name(), caller.label.as_str()))
    }

    fn bearer(key: u8) -> String {
        format!("Bearer {}", *api_key::text(&[key; 32]))
    }

    #[test]
    fn a_key_opens_its_own_tenant_until_it_is_gone() {
        let keys = Keys::new(&[tenant("a", &[1, 2]), tenant("b", &[3])]);
        assert_eq!(opens(&keys, &[bearer(1)]).as_deref(), Some("a/k1"));
        assert_eq!(opens(&keys, &[bearer(2)]).as_deref(), Some("a/k2"));
        assert_eq!(opens(&keys, &[bearer(3)]).as_deref(), Some("b/k3"));
        keys.replace(&[tenant("a", &[2]), tenant("b", &[3])]);
        assert_eq!(opens(&keys, &[bearer(1)]), None);
        assert_eq!(opens(&keys, &[bearer(2)]).as_deref(), Some("a/k2"));
    }

    #[test]
    fn a_key_opens_only_what_its_prefix_says() {
        let hash = |kind, key: u8| KeyHash::of(&api_key::text_of(kind, &[key; 32])).unwrap();
        let sandbox = |kind, key| {
            let of_tenant = tenant("a", &[]);
            let hash = hash(kind, key);
            let keys = vec![(KeyName::parse("s").unwrap(), hash)];
            TenantKeys { profile: Arc::new(of_tenant.profile.sandbox(hash)), keys, ..of_tenant }
        };
        let mut live = tenant("a", &[1]);
        live.keys.push((KeyName::parse("s").unwrap(), hash(KeyKind::Sandbox, 2)));
        let keys = [live, sandbox(KeyKind::Sandbox, 3), sandbox(KeyKind::Live, 4)];
        let keys = Keys::new(&keys);
        let bearer = |kind, key: u8| format!("Bearer {}", *api_key::text_of(kind, &[key; 32]));
        for (kind, key, expected) in [
            (KeyKind::Live, 1, Some("a/k1")),
            (KeyKind::Sandbox, 1, None),
            (KeyKind::Sandbox, 2, None),
            (KeyKind::Sandbox, 3, Some("a/s")),
            (KeyKind::Live, 3, None),
            (KeyKind::Live, 4, None),
        ] {
            assert_eq!(opens(&keys, &[bearer(kind, key)]).as_deref(), expected, "{kind:?} {key}");
        }
    }

    #[test]
    fn what_is_no_key_opens_nothing() {
        let keys = Keys::new(&[tenant("a", &[1])]);
        let key = bearer(1);
        assert!(opens(&keys, &[key.replace("Bearer", "bEARER")]).is_some());
        for values in [
            vec![],
            vec![String::new()],
            vec![bearer(9)],
            vec![key.replace("Bearer", "Basic")],
            vec![key.replace("Bearer ", "")],
            vec![format!("{key} ")],
            vec![format!("{key}x")],
            vec![key.clone(), key],
        ] {
            assert_eq!(opens(&keys, &values), None, "{values:?}");
        }
    }

    #[test]
    fn a_bucket_tells_what_is_left_and_refuses_beyond_it() {
        let keys = Keys::new(&[tenant("a", &[1])]);
        let caller = keys.caller(&shown(&[bearer(1)])).unwrap();
        for _ in 0..3 {
            caller.sends.take(&LimitReport::default()).unwrap();
        }
        assert_eq!(caller.sends.take(&LimitReport::default()), Err(20));
        caller.checks.take(&LimitReport::default()).unwrap();
        // Reloading the settings does not refill a bucket.
        keys.replace(&[tenant("a", &[1])]);
        let caller = keys.caller(&shown(&[bearer(1)])).unwrap();
        caller.sends.take(&LimitReport::default()).unwrap_err();
    }
}

//! API keys: who calls, and how often a key may (SEC-16, SEC-64).
//!
//! A key opens exactly its own tenant. Its buckets live in the memory of this process: they shape load, and no security
//! decision rests on them. Must not keep or show a key.

use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use poem::http::HeaderMap;
use poem::http::header::AUTHORIZATION;
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::SecurityScheme;
use poem_openapi::auth::Bearer;

use super::SimpleAccess;
use super::problem::Problem;
use super::rate_limit::{self, Meter};
use super::refusal::Refusal;
use crate::domain::api_key::KeyHash;
use crate::domain::key_name::KeyName;
use crate::domain::tenant::Account;

/// The name of a key's limit.
const POLICY: &str = "key";
const MINUTE: Duration = Duration::from_mins(1);

/// Which keys open what; replaced as a whole when the settings are read anew.
#[derive(Clone, Default)]
pub struct Keys(Arc<RwLock<Entries>>);

type Entries = Arc<[(KeyHash, Arc<Caller>)]>;

/// A tenant, the hashes of its keys, and how often each may call.
#[derive(Debug, Clone)]
pub struct TenantKeys {
    /// Whose.
    pub account: Arc<Account>,
    /// The active keys, by their labels.
    pub keys: Vec<(KeyName, KeyHash)>,
    /// Creations and resends of one key in a minute.
    pub sends_per_minute: NonZeroU32,
    /// Its other requests.
    pub checks_per_minute: NonZeroU32,
}

/// Who calls: the holder of one key.
pub struct Caller {
    /// On whose account.
    pub account: Arc<Account>,
    /// Which of its keys.
    pub label: KeyName,
    /// Creations and resends.
    pub sends: Bucket,
    /// All else.
    pub checks: Bucket,
}

/// A token bucket that is full again after a minute.
pub struct Bucket {
    tokens: DefaultDirectRateLimiter<StateInformationMiddleware>,
    per_minute: NonZeroU32,
}

impl Keys {
    /// Keys that open something.
    #[must_use]
    pub fn new(tenants: &[TenantKeys]) -> Self {
        let keys = Self::default();
        keys.replace(tenants);
        keys
    }

    /// Other keys from now on. Requests that have been let in are served.
    pub fn replace(&self, tenants: &[TenantKeys]) {
        let entries = tenants.iter().flat_map(|tenant| {
            tenant.keys.iter().map(|(label, hash)| {
                let caller = Caller {
                    account: Arc::clone(&tenant.account),
                    label: label.clone(),
                    sends: Bucket::new(tenant.sends_per_minute),
                    checks: Bucket::new(tenant.checks_per_minute),
                };
                (*hash, Arc::new(caller))
            })
        });
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = entries.collect();
    }

    /// Who shows a key in `Authorization` that opens something. Every hash is looked at, whichever it is.
    pub fn caller(&self, headers: &HeaderMap) -> Option<Arc<Caller>> {
        let shown = KeyHash::of(bearer(headers)?)?;
        let entries = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        let found = entries.iter().fold(
            None,
            |found, (hash, caller)| {
                if hash.matches(&shown) { Some(caller) } else { found }
            },
        );
        found.cloned()
    }
}

/// The token of the one `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).into_iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

impl Bucket {
    fn new(per_minute: NonZeroU32) -> Self {
        let tokens = RateLimiter::direct(Quota::per_minute(per_minute));
        Self { tokens: tokens.with_middleware(), per_minute }
    }

    /// Takes a token, and tells how many are left.
    pub fn take(&self, meter: &Meter) -> Result<(), Problem> {
        match self.tokens.check() {
            Ok(state) => {
                let left = state.remaining_burst_capacity();
                let taken = self.per_minute.get().saturating_sub(left);
                self.show(meter, left, rate_limit::seconds(MINUTE * taken / self.per_minute.get()));
                Ok(())
            }
            Err(refused) => {
                let wait = refused.wait_time_from(DefaultClock::default().now());
                let wait = rate_limit::seconds(wait).max(1);
                self.show(meter, 0, wait);
                Err(Problem::rate_limited(POLICY, wait))
            }
        }
    }

    fn show(&self, meter: &Meter, left: u32, reset: u64) {
        let policy = format!("\"{POLICY}\";q={};w={}", self.per_minute, MINUTE.as_secs());
        meter.add(policy, format!("\"{POLICY}\";r={left};t={reset}"));
    }
}

/// An API key of a tenant, as `otpd keygen api-key` prints it: `Authorization: Bearer otpd_…`.
#[derive(SecurityScheme)]
#[oai(rename = "apiKey", ty = "bearer", checker = "known")]
pub struct Authenticated(pub Arc<Caller>);

/// The outermost layer has looked at the key already.
#[expect(clippy::unused_async, reason = "checkers are async")]
async fn known(request: &Request, _: Bearer) -> Option<Arc<Caller>> {
    request.data::<Arc<Caller>>().cloned()
}

/// That a request may use the simple endpoints.
pub struct Admission;

impl<'a> FromRequest<'a> for Admission {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let is_keyed = request.data::<SimpleAccess>() == Some(&SimpleAccess::Keyed);
        if is_keyed && request.data::<Arc<Caller>>().is_none() {
            return Err(Refusal::Unauthenticated.into());
        }
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use poem::http::HeaderValue;

    use super::*;
    use crate::domain::api_key;
    use crate::domain::email_address::EmailAddress;
    use crate::domain::limit::{Limit, Limits, NetworkLimit, RelayMails, SendLimits};
    use crate::domain::purpose::Purposes;
    use crate::domain::sender::Sender;
    use crate::domain::tenant::Tenant;

    fn tenant(name: &str, keys: &[u8]) -> TenantKeys {
        let limit: Limit = "5/1h".parse().unwrap();
        let account = Account {
            tenant: Tenant::parse(name).unwrap(),
            sender: Sender { address: EmailAddress::parse("a@example.com").unwrap(), brand: String::new() },
            purposes: Purposes::Any,
            limits: Limits {
                network_sends: NetworkLimit::new(limit.clone()),
                network_guesses: NetworkLimit::new(limit.clone()),
                sends: SendLimits::new(limit.clone(), limit.clone(), limit.clone()),
                site_guesses: limit,
                relay_mails: RelayMails::Unlimited,
            },
        };
        let keys = keys.iter().map(|key| {
            let label = KeyName::parse(&format!("k{key}")).unwrap();
            (label, KeyHash::of(&api_key::text(&[*key; 32])).unwrap())
        });
        let one = NonZeroU32::new(3).unwrap();
        let keys = keys.collect();
        TenantKeys { account: Arc::new(account), keys, sends_per_minute: one, checks_per_minute: one }
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
        Some(format!("{}/{}", caller.account.tenant.name(), caller.label.as_str()))
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
            caller.sends.take(&Meter::default()).unwrap();
        }
        let problem = caller.sends.take(&Meter::default()).unwrap_err();
        assert!(format!("{problem:?}").contains("Limit(\"key\", 20)"), "{problem:?}");
        caller.checks.take(&Meter::default()).unwrap();
    }
}

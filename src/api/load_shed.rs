//! Load shedding: rejects requests from a network that calls too often without an API key, before
//! any other work.
//!
//! The state is in the memory of this process only, so no security decision depends on it. The
//! ledgers are for that.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use poem::Response;

use super::rate_limit;
use super::rejection::{self, ErrorFormat};
use crate::domain::ip_prefix::IpPrefix;

/// The number of requests after which full buckets are removed.
const SWEEP_EVERY: usize = 1 << 16;

/// Token buckets for 65,536 classes of networks. Their number is fixed so that memory is bounded;
/// two networks in the same class share a bucket.
pub struct LoadShed {
    buckets: RateLimiter<u16, HashMapStateStore<u16>, DefaultClock>,
    classes: RandomState,
    requests: AtomicUsize,
    policy: String,
}

impl LoadShed {
    /// Allows `per_second` requests a second on average, and `burst` at once.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self {
            buckets: RateLimiter::hashmap(Quota::per_second(per_second).allow_burst(burst)),
            classes: RandomState::new(),
            requests: AtomicUsize::new(0),
            policy: format!("\"ip_requests\";q={burst};w={}", burst.get().div_ceil(per_second.get())),
        }
    }

    /// Takes a token for a request from this address.
    ///
    /// # Errors
    /// Returns how long to wait if the bucket is empty.
    pub fn check(&self, address: IpAddr) -> Result<(), Duration> {
        if self.requests.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.buckets.retain_recent();
        }
        let passed = self.buckets.check_key(&self.class(address));
        passed.map_err(|refused| refused.wait_time_from(DefaultClock::default().now()))
    }

    /// Returns the answer to a request that was not admitted.
    pub fn refuse(&self, wait: Duration, form: ErrorFormat) -> Response {
        let wait = rate_limit::seconds(wait).max(1);
        let mut response = rejection::limited(form, "ip_requests", wait);
        rate_limit::set(response.headers_mut(), self.policy.clone(), format!("\"ip_requests\";r=0;t={wait}"));
        response
    }

    /// Returns the class of an IPv4 address or IPv6 /64: a hash with a secret of this process.
    #[expect(clippy::cast_possible_truncation, reason = "a class is any part of the hash")]
    fn class(&self, address: IpAddr) -> u16 {
        self.classes.hash_one(IpPrefix::from(address)) as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_shed(burst: u32) -> LoadShed {
        LoadShed::new(NonZeroU32::MIN, NonZeroU32::new(burst).unwrap())
    }

    #[test]
    fn a_network_that_calls_too_often_waits_and_others_do_not() {
        let load_shed = load_shed(3);
        let caller = "192.0.2.1".parse().unwrap();
        let other = "192.0.2.2".parse().unwrap();
        for _ in 0..3 {
            load_shed.check(caller).unwrap();
        }
        assert!(load_shed.check(caller).unwrap_err() <= Duration::from_secs(1));
        // With a chance of one in 65,536 both are in the same class; then this checks nothing.
        assert!(load_shed.class(caller) == load_shed.class(other) || load_shed.check(other).is_ok());
    }

    #[test]
    fn addresses_of_one_64_are_one_caller() {
        let load_shed = load_shed(1);
        load_shed.check("2001:db8::1".parse().unwrap()).unwrap();
        load_shed.check("2001:db8::2".parse().unwrap()).unwrap_err();
    }

    #[test]
    fn its_table_is_bounded_and_swept() {
        let load_shed = LoadShed::new(NonZeroU32::MAX, NonZeroU32::MIN);
        for caller in 0..200_000_u32 {
            let _ = load_shed.check(IpAddr::V4(caller.into()));
        }
        // The remaining buckets were added after the last sweep.
        assert!(load_shed.buckets.len() < 4096, "{}", load_shed.buckets.len());
    }
}

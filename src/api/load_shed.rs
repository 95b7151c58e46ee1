//! The load shedding: sheds the load of a network that calls too often without a key, before anything is done for it.
//!
//! In the memory of this process only, so no security decision rests on it: that is for the ledgers.

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

/// After so many requests, buckets that are full again are swept out.
const SWEEP_EVERY: usize = 1 << 16;

/// One bucket for each of 65,536 classes of networks, so that its memory is bounded whoever calls; two networks that
/// meet in a class share its bucket.
pub struct LoadShed {
    buckets: RateLimiter<u16, HashMapStateStore<u16>, DefaultClock>,
    classes: RandomState,
    requests: AtomicUsize,
    policy: String,
}

impl LoadShed {
    /// So many requests a second in the long run, and so many at once.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self {
            buckets: RateLimiter::hashmap(Quota::per_second(per_second).allow_burst(burst)),
            classes: RandomState::new(),
            requests: AtomicUsize::new(0),
            policy: format!("\"ip_requests\";q={burst};w={}", burst.get().div_ceil(per_second.get())),
        }
    }

    /// Lets a request of this address pass.
    ///
    /// # Errors
    /// How long to wait.
    pub fn admit(&self, address: IpAddr) -> Result<(), Duration> {
        if self.requests.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.buckets.retain_recent();
        }
        let passed = self.buckets.check_key(&self.class(address));
        passed.map_err(|refused| refused.wait_time_from(DefaultClock::default().now()))
    }

    /// The answer to a request that was not admitted.
    pub fn refuse(&self, wait: Duration, form: ErrorFormat) -> Response {
        let wait = rate_limit::seconds(wait).max(1);
        let mut response = rejection::limited(form, "ip_requests", wait);
        rate_limit::set(response.headers_mut(), &self.policy, &format!("\"ip_requests\";r=0;t={wait}"));
        response
    }

    /// An IPv4 address, or an IPv6 /64, hashed with a secret of this process.
    #[expect(clippy::cast_possible_truncation, reason = "a class is any part of the hash")]
    fn class(&self, address: IpAddr) -> u16 {
        let network = match address {
            IpAddr::V4(address) => u128::from(u32::from(address)),
            IpAddr::V6(address) => u128::from(address) >> 64 << 64,
        };
        self.classes.hash_one(network) as u16
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
        let (caller, other) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for _ in 0..3 {
            load_shed.admit(caller).unwrap();
        }
        assert!(load_shed.admit(caller).unwrap_err() <= Duration::from_secs(1));
        // One chance in 65,536 that the two share a class: then there is nothing to see.
        assert!(load_shed.class(caller) == load_shed.class(other) || load_shed.admit(other).is_ok());
    }

    #[test]
    fn addresses_of_one_64_are_one_caller() {
        let load_shed = load_shed(1);
        load_shed.admit("2001:db8::1".parse().unwrap()).unwrap();
        load_shed.admit("2001:db8::2".parse().unwrap()).unwrap_err();
    }

    #[test]
    fn its_table_is_bounded_and_swept() {
        let load_shed = LoadShed::new(NonZeroU32::MAX, NonZeroU32::MIN);
        for caller in 0..200_000_u32 {
            let _ = load_shed.admit(IpAddr::V4(caller.into()));
        }
        // Those that came after the last sweep.
        assert!(load_shed.buckets.len() < 4096, "{}", load_shed.buckets.len());
    }
}

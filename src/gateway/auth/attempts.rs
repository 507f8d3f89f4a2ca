//! Rate limiting of failed authentication, by client address. It must never delay a correct credential, even if other
//! clients fail at the same address.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

use crate::config::FailedAttempts;

/// Full buckets are forgotten once in so many failures.
const SWEEP_EVERY: u32 = 4096;
/// The most addresses that are remembered; further ones share a bucket.
const MAX_ADDRESSES: usize = 65_536;

type Buckets<C> =
    RateLimiter<IpAddr, HashMapStateStore<IpAddr>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The failed attempts of all addresses.
#[derive(Debug)]
pub(super) struct Attempts<C: Clock = DefaultClock> {
    setting: FailedAttempts,
    buckets: Option<Buckets<C>>,
    since_sweep: AtomicU32,
    clock: C,
}

impl Attempts {
    /// Without any failures.
    pub(super) fn new(setting: FailedAttempts) -> Self {
        Self::with_clock(setting, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Attempts<C> {
    fn with_clock(setting: FailedAttempts, clock: C) -> Self {
        let quota =
            |per_minute: NonZeroU32| Quota::per_minute(per_minute).allow_burst(setting.burst);
        let buckets = setting
            .per_minute
            .map(|per_minute| RateLimiter::hashmap_with_clock(quota(per_minute), clock.clone()));
        Self { setting, buckets, since_sweep: AtomicU32::new(0), clock }
    }

    /// The setting that they were made of.
    pub(super) fn setting(&self) -> FailedAttempts {
        self.setting
    }

    /// Counts a failure. The error is the time for which further failures are rejected.
    pub(super) fn failed(&self, from: IpAddr) -> Result<(), Duration> {
        let Some(buckets) = &self.buckets else { return Ok(()) };
        if self.since_sweep.fetch_add(1, Relaxed) >= SWEEP_EVERY {
            self.since_sweep.store(0, Relaxed);
            buckets.retain_recent();
        }
        let full = buckets.len() >= MAX_ADDRESSES;
        let whose = if full { Ipv6Addr::UNSPECIFIED.into() } else { household(from) };
        let failed = buckets.check_key(&whose);
        failed.map_err(|until| until.wait_time_from(self.clock.now()))
    }
}

/// The address whose failures are counted together. For IPv6 it is the /64 network: a client that has one of its
/// addresses has all 2^64.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into()
        }
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    fn attempts(burst: u32, per_minute: u32) -> (Attempts<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        let setting = FailedAttempts {
            burst: NonZeroU32::new(burst).unwrap(),
            per_minute: NonZeroU32::new(per_minute),
        };
        (Attempts::with_clock(setting, clock.clone()), clock)
    }

    #[test]
    fn a_burst_and_then_one_now_and_then() {
        let (attempts, clock) = attempts(2, 20);
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
        assert_eq!([attempts.failed(one), attempts.failed(one)], [Ok(()), Ok(())]);
        assert_eq!(attempts.failed(one), Err(Duration::from_secs(3)));
        assert_eq!(attempts.failed(other), Ok(()), "each address has its own");
        clock.advance(Duration::from_secs(3));
        assert_eq!(attempts.failed(one), Ok(()));
        assert!(attempts.failed(one).is_err());
    }

    #[test]
    fn a_network_of_ipv6_is_one_household() {
        let (attempts, _) = attempts(1, 1);
        let failed = |text: &str| attempts.failed(text.parse().unwrap()).is_ok();
        assert!(failed("2001:db8:0:1::1"));
        assert!(!failed("2001:db8:0:1:ffff::2"));
        assert!(failed("2001:db8:0:2::1"));
        assert!(failed("192.0.2.1"));
        assert!(!failed("::ffff:192.0.2.1"));
    }

    #[test]
    fn what_is_remembered_is_bounded_and_forgotten() {
        let (attempts, clock) = attempts(1, 60);
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..100_000 {
            attempts.failed(address(n)).ok();
        }
        let buckets = attempts.buckets.as_ref().unwrap();
        assert!(buckets.len() <= MAX_ADDRESSES + 1, "{}", buckets.len());
        assert!(attempts.failed(address(200_000)).is_err(), "the rest share one");
        clock.advance(Duration::from_secs(2));
        for n in 0..=SWEEP_EVERY {
            attempts.failed(address(n)).ok();
        }
        assert!(buckets.len() <= SWEEP_EVERY as usize + 1, "{}", buckets.len());
    }
}

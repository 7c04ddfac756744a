//! How many answers by UDP one client gets, so that a forged source address makes nobody a victim of us.
//!
//! Beyond the limit, every second query gets an empty truncated answer, no longer than itself: a real client comes back
//! by TCP, where it proves who it is; a victim gets no more than the attacker has sent.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use governor::clock::DefaultClock;
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::config::LimitConfig;

/// Checks between looks at how many clients are remembered.
const LOOK: usize = 1 << 16;

pub(crate) struct Limit {
    limiter: RateLimiter<Key, HashMapStateStore<Key>, DefaultClock>,
    /// Truncated answers cost as much as others: all clients together get as many as one gets of those.
    truncated: DefaultDirectRateLimiter,
    clients: usize,
    checks: AtomicUsize,
    refusals: AtomicUsize,
    /// Clients are more than can be remembered one by one.
    crowded: AtomicBool,
    hasher: RandomState,
}

/// Who shares a limit.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Key {
    V4(u32),
    /// One host has a whole network of this size to choose its address from.
    V6Network(u64),
    /// One of as many as may be remembered.
    Crowd(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Answer,
    Truncate,
    Drop,
}

impl Limit {
    pub(crate) fn new(config: &LimitConfig) -> Self {
        let number = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(number(config.per_second)).allow_burst(number(config.burst));
        Self {
            limiter: RateLimiter::hashmap(quota),
            truncated: RateLimiter::direct(quota),
            clients: config.clients,
            checks: AtomicUsize::new(0),
            refusals: AtomicUsize::new(0),
            crowded: AtomicBool::new(false),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn check(&self, client: IpAddr) -> Verdict {
        let often = LOOK.min(self.clients);
        if self.checks.fetch_add(1, Ordering::Relaxed) % often == often - 1 {
            self.look();
        }
        let mut key = Key::of(client);
        if self.crowded.load(Ordering::Relaxed) {
            key = Key::Crowd(self.hasher.hash_one(key) % self.clients as u64);
        }
        if self.limiter.check_key(&key).is_ok() {
            return Verdict::Answer;
        }
        match self.refusals.fetch_add(1, Ordering::Relaxed) % 2 {
            0 if self.truncated.check().is_ok() => Verdict::Truncate,
            _ => Verdict::Drop,
        }
    }

    /// Forgets those that have not asked for as long as their allowance takes to be whole again.
    fn look(&self) {
        if self.limiter.len() < self.clients {
            self.crowded.store(false, Ordering::Relaxed);
            return;
        }
        self.limiter.retain_recent();
        self.crowded
            .store(self.limiter.len() >= self.clients, Ordering::Relaxed);
    }
}

impl Key {
    fn of(client: IpAddr) -> Self {
        match client {
            IpAddr::V4(v4) => Self::V4(v4.to_bits()),
            IpAddr::V6(v6) => Self::V6Network((v6.to_bits() >> 64) as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn limit(burst: u32, clients: usize) -> Limit {
        Limit::new(&LimitConfig {
            per_second: 1,
            burst,
            clients,
        })
    }

    #[test]
    fn what_exceeds_the_limit_is_dropped_and_truncated_in_turn() {
        let limit = limit(3, 100);
        let client = Ipv4Addr::new(192, 0, 2, 1).into();
        let verdicts: Vec<_> = (0..6).map(|_| limit.check(client)).collect();
        use Verdict::{Answer, Drop, Truncate};
        assert_eq!(verdicts, [Answer, Answer, Answer, Truncate, Drop, Truncate]);
        assert_eq!(limit.check(Ipv4Addr::new(192, 0, 2, 2).into()), Answer);
    }

    #[test]
    fn a_network_of_addresses_is_one_client() {
        let limit = limit(2, 100);
        let client = |low: u128| IpAddr::from(Ipv6Addr::from_bits(0x2001_0db8 << 96 | low));
        assert_eq!(limit.check(client(1)), Verdict::Answer);
        assert_eq!(limit.check(client(2)), Verdict::Answer);
        assert_ne!(limit.check(client(3)), Verdict::Answer);
        assert_eq!(limit.check(client(1 << 64)), Verdict::Answer);
    }

    #[test]
    fn memory_is_bounded_whoever_asks() {
        let limit = limit(1, 1000);
        for number in 0..100_000u32 {
            limit.check(Ipv4Addr::from(number).into());
        }
        assert!(limit.limiter.len() <= 3000, "{}", limit.limiter.len());
    }
}

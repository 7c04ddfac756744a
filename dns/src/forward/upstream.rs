//! One server that is asked, and what is known about it.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// So many failures in a row, and it is only probed until it answers again.
const FAILURES: u32 = 3;
/// Of one that has not been asked yet: not the first choice, not the last.
const UNKNOWN: Duration = Duration::from_millis(20);

/// One upstream, as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamReport {
    pub address: SocketAddr,
    /// Asked for names in and below this domain; the root is an empty string.
    pub domain: String,
    pub standing: Standing,
    /// Smoothed time to an answer.
    pub usual: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Asked for the first time only now.
    Untried,
    Answers,
    /// Did not answer several times in a row; asked only where there is no other.
    Silent,
    /// What it is asked comes back to us; it is not asked.
    Loops,
}

pub(super) struct Upstream {
    pub(super) address: SocketAddr,
    /// Smoothed time to an answer, in microseconds.
    smoothed: AtomicU64,
    failures: AtomicU32,
    answered: AtomicBool,
    /// Part of the name that it is probed with: if we are asked for that name, what it is asked comes back to us.
    pub(super) token: u64,
    came_back: AtomicBool,
    looping: AtomicBool,
    /// Whether it has answered FORMERR to a question with OPT and well to the same without (RFC 6891 §6.2.2).
    plain: AtomicBool,
}

impl Upstream {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            smoothed: AtomicU64::new(UNKNOWN.as_micros() as u64),
            failures: AtomicU32::new(0),
            answered: AtomicBool::new(false),
            token: rand::random(),
            came_back: AtomicBool::new(false),
            looping: AtomicBool::new(false),
            plain: AtomicBool::new(false),
        }
    }

    pub(super) fn answered(&self, took: Duration) {
        self.is_there();
        // As TCP does it (RFC 6298 §2.3). Two tasks may overwrite one another's; either is good enough.
        let took = micros(took);
        let smoothed = self.smoothed.load(Ordering::Relaxed);
        self.smoothed
            .store(smoothed - smoothed / 8 + took / 8, Ordering::Relaxed);
    }

    /// A probe measures the server itself, not what it had to find out: the figure is taken as it is.
    pub(super) fn probed(&self, took: Duration) {
        self.is_there();
        self.smoothed.store(micros(took), Ordering::Relaxed);
    }

    fn is_there(&self) {
        self.failures.store(0, Ordering::Relaxed);
        self.answered.store(true, Ordering::Relaxed);
    }

    pub(super) fn standing(&self) -> Standing {
        match () {
            () if self.is_looping() => Standing::Loops,
            () if self.is_down() => Standing::Silent,
            () if self.answered.load(Ordering::Relaxed) => Standing::Answers,
            () => Standing::Untried,
        }
    }

    pub(super) fn failed(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Another was faster; this one has not answered yet.
    pub(super) fn outrun(&self, after: Duration) {
        self.smoothed.fetch_max(micros(after), Ordering::Relaxed);
    }

    pub(super) fn smoothed(&self) -> Duration {
        Duration::from_micros(self.smoothed.load(Ordering::Relaxed))
    }

    pub(super) fn is_down(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    pub(super) fn is_looping(&self) -> bool {
        self.looping.load(Ordering::Relaxed)
    }

    pub(super) fn speaks_edns(&self) -> bool {
        !self.plain.load(Ordering::Relaxed)
    }

    pub(super) fn speaks_no_edns(&self) {
        self.plain.store(true, Ordering::Relaxed);
    }

    /// A probe's name has come back as a question to us.
    pub(super) fn came_back(&self) {
        self.came_back.store(true, Ordering::Relaxed);
        self.looping.store(true, Ordering::Relaxed);
    }

    pub(super) fn before_probe(&self) {
        self.came_back.store(false, Ordering::Relaxed);
    }

    /// Only an answered probe that did not come back proves that there is no loop any more.
    pub(super) fn after_probe(&self) {
        self.looping
            .store(self.came_back.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Upstreams that are asked for the same names.
pub(super) struct Group {
    pub(super) upstreams: Box<[std::sync::Arc<Upstream>]>,
}

impl Group {
    /// Whom to ask, the best first. Those that are down are asked only where there is no other.
    pub(super) fn order(&self) -> Vec<&Upstream> {
        let mut order: Vec<&Upstream> = self.upstreams.iter().map(|upstream| &**upstream).collect();
        order.retain(|upstream| !upstream.is_looping());
        if order.iter().any(|upstream| !upstream.is_down()) {
            order.retain(|upstream| !upstream.is_down());
        }
        order.sort_by_key(|upstream| upstream.smoothed());
        order
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn group() -> Group {
        let upstream = |port| Arc::new(Upstream::new(([192, 0, 2, 1], port).into()));
        Group {
            upstreams: (1..=3).map(upstream).collect(),
        }
    }

    fn ports(group: &Group) -> Vec<u16> {
        group
            .order()
            .iter()
            .map(|upstream| upstream.address.port())
            .collect()
    }

    #[test]
    fn the_fastest_is_asked_first() {
        let group = group();
        group.upstreams[2].probed(Duration::from_millis(1));
        group.upstreams[0].outrun(Duration::from_millis(100));
        assert_eq!(ports(&group), [3, 2, 1]);
    }

    #[test]
    fn one_that_fails_repeatedly_is_left_alone_unless_all_do() {
        let group = group();
        let fail = |index: usize| (0..FAILURES).for_each(|_| group.upstreams[index].failed());
        fail(0);
        assert_eq!(ports(&group), [2, 3]);
        fail(1);
        fail(2);
        assert_eq!(ports(&group), [1, 2, 3]);
        group.upstreams[1].answered(Duration::from_millis(5));
        assert_eq!(ports(&group), [2]);
    }

    #[test]
    fn one_that_leads_back_is_never_asked() {
        let group = group();
        group.upstreams.iter().for_each(|upstream| upstream.came_back());
        assert_eq!(ports(&group), []);
        group.upstreams[0].before_probe();
        group.upstreams[0].after_probe();
        assert_eq!(ports(&group), [1]);
    }
}

//! A backend's way into service: every node shall know it before it gets a share.

use std::time::{Duration, Instant};

/// W of the placement rules: how long a backend warms after it is learned, or is fit again.
pub const WARM: Duration = Duration::from_millis(500);
/// The same on a node whose tag means another node to those who have not heard of it yet.
pub const WARM_DISPLACED: Duration = Duration::from_secs(10);

/// What is remembered of a backend from one snapshot to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Track {
    pub phase: Phase,
    /// Highest weight so far: flows placed by it may live still.
    pub peak: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Draining or unhealthy.
    Out,
    Warming {
        until: Instant,
    },
    Active,
}

impl Track {
    pub const NEW: Self = Self {
        phase: Phase::Out,
        peak: 0,
    };

    /// The next snapshot's track. `warm` is zero where nothing came before: then all are active at once.
    pub fn step(self, fit: bool, weight: u16, now: Instant, warm: Duration) -> Self {
        let phase = match self.phase {
            _ if !fit => Phase::Out,
            Phase::Out if warm.is_zero() => Phase::Active,
            Phase::Out => Phase::Warming { until: now + warm },
            Phase::Warming { until } if until <= now => Phase::Active,
            settled => settled,
        };
        Self {
            phase,
            peak: self.peak.max(weight),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(milliseconds: u64, start: Instant) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_backend_learned_later_warms_before_it_is_active() {
        let start = Instant::now();
        let learned = Track::NEW.step(true, 1, start, WARM);
        assert_eq!(
            learned.phase,
            Phase::Warming {
                until: after(500, start)
            }
        );
        assert_eq!(
            learned.step(true, 1, after(499, start), WARM).phase,
            learned.phase
        );
        assert_eq!(
            learned.step(true, 1, after(500, start), WARM).phase,
            Phase::Active
        );
    }

    #[test]
    fn a_backend_of_the_first_snapshot_is_active_at_once() {
        assert_eq!(
            Track::NEW.step(true, 1, Instant::now(), Duration::ZERO).phase,
            Phase::Active
        );
    }

    #[test]
    fn a_backend_that_comes_back_warms_again() {
        let start = Instant::now();
        let active = Track {
            phase: Phase::Active,
            peak: 1,
        };
        let out = active.step(false, 1, start, WARM);
        assert_eq!(out.phase, Phase::Out);
        assert_eq!(
            out.step(true, 1, start, WARM).phase,
            Phase::Warming {
                until: after(500, start)
            }
        );
    }

    #[test]
    fn the_highest_weight_is_remembered() {
        let now = Instant::now();
        let heavy = Track::NEW.step(true, 9, now, WARM);
        assert_eq!(heavy.step(true, 2, now, WARM).peak, 9);
    }
}

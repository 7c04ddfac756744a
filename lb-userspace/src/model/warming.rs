//! A backend's way into service: every node shall know it before it gets a share.

use std::time::{Duration, Instant};

use super::Stamps;

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
    pub weight: u16,
    /// When this agent saw it come, and return or grow, by the numbers of its own snapshots. Unknown where it was there
    /// before.
    pub seen: Stamps,
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
        weight: 0,
        seen: Stamps::UNKNOWN,
    };

    /// The track in the next snapshot, number `generation`. `warm` is zero for who was there before this agent: it is
    /// active at once.
    pub fn step(self, fit: bool, weight: u16, now: Instant, warm: Duration, generation: u64) -> Self {
        let returns = fit && self.phase == Phase::Out;
        let seen = match self.peak {
            0 if warm.is_zero() => Stamps::UNKNOWN,
            0 => Stamps::of_revision(generation),
            _ if returns || weight > self.weight => Stamps {
                last: Stamps::of_revision(generation).last,
                ..self.seen
            },
            _ => self.seen,
        };
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
            weight,
            seen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(track: Track, fit: bool, weight: u16, now: Instant) -> Track {
        track.step(fit, weight, now, WARM, 7)
    }

    fn after(milliseconds: u64, start: Instant) -> Instant {
        start + Duration::from_millis(milliseconds)
    }

    #[test]
    fn a_backend_learned_later_warms_before_it_is_active() {
        let start = Instant::now();
        let learned = step(Track::NEW, true, 1, start);
        assert_eq!(
            learned.phase,
            Phase::Warming {
                until: after(500, start)
            }
        );
        assert_eq!(step(learned, true, 1, after(499, start)).phase, learned.phase);
        assert_eq!(step(learned, true, 1, after(500, start)).phase, Phase::Active);
    }

    #[test]
    fn a_backend_of_the_first_snapshot_is_active_at_once() {
        assert_eq!(
            Track::NEW.step(true, 1, Instant::now(), Duration::ZERO, 1),
            Track {
                phase: Phase::Active,
                peak: 1,
                weight: 1,
                seen: Stamps::UNKNOWN,
            }
        );
    }

    #[test]
    fn a_backend_that_comes_back_warms_again() {
        let start = Instant::now();
        let active = Track {
            phase: Phase::Active,
            peak: 1,
            ..Track::NEW
        };
        let out = step(active, false, 1, start);
        assert_eq!(out.phase, Phase::Out);
        assert_eq!(
            step(out, true, 1, start).phase,
            Phase::Warming {
                until: after(500, start)
            }
        );
    }

    #[test]
    fn the_highest_weight_is_remembered() {
        let now = Instant::now();
        let heavy = step(Track::NEW, true, 9, now);
        assert_eq!(step(heavy, true, 2, now).peak, 9);
    }

    #[test]
    fn what_was_seen_moves_when_a_backend_returns_or_grows() {
        let now = Instant::now();
        let at = |track: Track, fit, weight, generation| track.step(fit, weight, now, WARM, generation);
        let new = at(Track::NEW, true, 2, 5);
        assert_eq!(new.seen, Stamps { first: 11, last: 10 });
        assert_eq!(at(new, true, 1, 6).seen, new.seen);
        assert_eq!(at(at(new, true, 1, 6), true, 2, 7).seen.last, 14);
        let out = at(new, false, 2, 6);
        assert_eq!(out.seen, new.seen);
        assert_eq!(at(out, true, 2, 8).seen, Stamps { first: 11, last: 16 });
        let old = Track::NEW.step(true, 1, now, Duration::ZERO, 1);
        let returned = at(at(old, false, 1, 2), true, 1, 3);
        assert_eq!(returned.seen, Stamps { first: 0, last: 6 });
    }
}

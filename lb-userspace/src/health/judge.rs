//! From single probes to a judgement: only a row of equal results turns it.

use crate::model::HealthCheck;

/// Judges one backend. The first probe decides alone, so that an agent that restarts knows soon; and a backend that
/// never passed needs one success only: it has just started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judge {
    failures: u32,
    successes: u32,
    healthy: Option<bool>,
    passed: bool,
    /// Results in a row that speak against the judgement.
    against: u32,
}

impl Judge {
    pub fn new(how: &HealthCheck) -> Self {
        Self {
            failures: how.failures,
            successes: how.successes,
            healthy: None,
            passed: false,
            against: 0,
        }
    }

    pub fn set_thresholds(&mut self, how: &HealthCheck) {
        (self.failures, self.successes) = (how.failures, how.successes);
    }

    /// None before the first probe.
    pub fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// Takes the result of a probe; tells whether it turned the judgement. A first success turns nothing: that is what
    /// everyone assumed.
    pub fn hear(&mut self, success: bool) -> bool {
        let threshold = match self.healthy {
            None => 1,
            Some(true) => self.failures,
            Some(false) if self.passed => self.successes,
            Some(false) => 1,
        };
        self.passed |= success;
        if self.healthy == Some(success) {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < threshold {
            return false;
        }
        self.against = 0;
        self.healthy.replace(success).is_some() || !success
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::model::Probe;

    fn judge() -> Judge {
        let (interval, timeout) = (Duration::from_secs(2), Duration::from_secs(1));
        Judge::new(&HealthCheck {
            probe: Probe::Tcp,
            port: 80,
            interval,
            timeout,
            failures: 3,
            successes: 2,
        })
    }

    fn after(results: &[bool]) -> (Judge, Vec<bool>) {
        let mut judge = judge();
        let turned = results.iter().map(|result| judge.hear(*result)).collect();
        (judge, turned)
    }

    #[test]
    fn three_failures_in_a_row_take_a_backend_out_and_two_successes_bring_it_back() {
        let (judge, turned) = after(&[true, false, false, false, true, true]);
        assert_eq!(turned, [false, false, false, true, false, true]);
        assert_eq!(judge.healthy(), Some(true));
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let (judge, _) = after(&[true, false, false, true, false, false]);
        assert_eq!(judge.healthy(), Some(true));
    }

    #[test]
    fn the_first_probe_decides_alone() {
        assert_eq!(after(&[false]).1, [true]);
        assert_eq!(after(&[true]).1, [false]);
    }

    #[test]
    fn a_backend_that_has_just_started_needs_one_success() {
        assert_eq!(after(&[false, false, true]).1, [true, false, true]);
    }

    proptest! {
        #[test]
        fn a_judgement_turns_only_to_what_the_latest_probe_said(results in proptest::collection::vec(any::<bool>(), 0..50)) {
            let mut judge = judge();
            for result in results {
                if judge.hear(result) {
                    prop_assert_eq!(judge.healthy(), Some(result));
                }
            }
        }
    }
}

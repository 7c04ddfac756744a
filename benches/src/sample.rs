//! Repeated measurements of one thing: the median speaks, the extremes say how far to trust it.

use serde::Serialize;

/// The rounds of one measurement, in the order they were taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sample(Vec<f64>);

impl Sample {
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    /// The middle one, or the mean of the middle two; 0 without any.
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.get(middle) {
            None => 0.0,
            Some(upper) if sorted.len() % 2 == 1 => *upper,
            Some(upper) => (sorted[middle - 1] + upper) / 2.0,
        }
    }

    pub fn lowest(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(0.0)
    }

    pub fn highest(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(0.0)
    }

    /// The value below which `percent` of the rounds are; 0 without any.
    pub fn percentile(&self, percent: usize) -> f64 {
        let sorted = self.sorted();
        let at = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(at).copied().unwrap_or(0.0)
    }

    /// Round by round over another: what slows the machine for a while slows both alike.
    pub fn over(&self, other: &Self) -> Self {
        let pairs = self.0.iter().zip(&other.0);
        Self(
            pairs
                .filter(|(_, other)| **other > 0.0)
                .map(|(own, other)| own / other)
                .collect(),
        )
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Self(values.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_not_moved_by_one_bad_round() {
        let sample: Sample = [3.0, 1000.0, 1.0].into_iter().collect();
        assert_eq!(
            (sample.lowest(), sample.median(), sample.highest()),
            (1.0, 3.0, 1000.0)
        );
        assert_eq!([1.0, 2.0].into_iter().collect::<Sample>().median(), 1.5);
        assert_eq!(Sample::default().median(), 0.0);
        let hundred: Sample = (0..100).map(f64::from).collect();
        assert_eq!((hundred.percentile(50), hundred.percentile(99)), (50.0, 99.0));
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // The machine was half as fast in the second round.
        let own: Sample = [4.0, 2.0, 4.0].into_iter().collect();
        let other: Sample = [2.0, 1.0, 2.0].into_iter().collect();
        assert_eq!(own.over(&other), [2.0, 2.0, 2.0].into_iter().collect());
    }
}

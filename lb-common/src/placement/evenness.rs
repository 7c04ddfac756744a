//! How evenly a table of slots can follow the weights.
//!
//! Each slot falls to a member of share `p` independently, so its slots are binomially distributed: relative to its fair
//! share, the standard deviation is `sqrt((1 − p) / (p · slots))`.

/// Unit of the results: one millionth of the member's fair share.
pub const MILLIONTHS: u64 = 1_000_000;

/// Standard deviation of the slots of a member of `weight` among members of `total` weight (itself included), relative
/// to its fair share, in millionths. `u64::MAX` where the share is nothing.
pub fn standard_deviation(slots: u32, weight: u64, total: u64) -> u64 {
    let (weight, rest) = (weight as u128, total.saturating_sub(weight) as u128);
    let unit = MILLIONTHS as u128;
    match (unit * unit * rest).checked_div(weight * slots as u128) {
        Some(variance) => variance.isqrt() as u64,
        None => u64::MAX,
    }
}

/// What every member of a table can be relied on to keep to: four standard deviations, in millionths of its fair share.
/// One member in 16,000 is outside by chance. With 1600 slots for each of ten backends this is 9.5 %, one deviation 2.4 %,
/// and the least even of the ten is typically within 4 %.
pub fn evenness_bound(slots: u32, weight: u64, total: u64) -> u64 {
    standard_deviation(slots, weight, total).saturating_mul(4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_hundred_slots_for_each_of_ten_deviate_by_a_few_per_cent() {
        assert_eq!(standard_deviation(16_000, 1, 10), 23_717);
        assert_eq!(evenness_bound(16_000, 1, 10), 94_868);
    }

    #[test]
    fn a_member_alone_has_every_slot() {
        assert_eq!(evenness_bound(64, 5, 5), 0);
    }

    #[test]
    fn nothing_has_no_bound() {
        assert_eq!(evenness_bound(64, 0, 5), u64::MAX);
        assert_eq!(evenness_bound(0, 1, 5), u64::MAX);
    }
}

//! Coarse time, shared by the programs and the agent: one tick is 2³⁰ ns (1.07 s) of CLOCK_MONOTONIC.

/// Ticks since boot.
#[inline(always)]
pub const fn from_nanoseconds(monotonic: u64) -> u32 {
    (monotonic >> 30) as u32
}

/// The nearest number of ticks that is no shorter than `seconds`.
pub const fn from_seconds(seconds: u32) -> u32 {
    ((seconds as u64 * 1_000_000_000).div_ceil(1 << 30)) as u32
}

/// Ticks from `then` to `now`, 0 where `then` lies ahead (another CPU's clock).
#[inline(always)]
pub const fn elapsed(now: u32, then: u32) -> u32 {
    let passed = now.wrapping_sub(then);
    if passed > u32::MAX / 2 { 0 } else { passed }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_from_the_future_has_no_age() {
        assert_eq!(elapsed(5, 6), 0);
        assert_eq!(elapsed(6, 5), 1);
    }

    #[test]
    fn ten_seconds_are_ten_ticks_at_least_ten_seconds_long() {
        assert_eq!(from_seconds(10), 10);
        assert_eq!(from_seconds(120), 112);
    }
}

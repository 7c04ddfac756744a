//! Defaults and bounds that are the same wherever a service is written.

use std::ops::RangeInclusive;
use std::time::Duration;

/// Of a health check that does not say.
pub const INTERVAL: Duration = Duration::from_secs(2);
pub const TIMEOUT: Duration = Duration::from_secs(1);
pub const FAILURES: u32 = 3;
pub const SUCCESSES: u32 = 2;
/// Shortest and longest time of a health check.
pub const BOUNDS: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
/// Most probes in a row that can be asked for.
pub const MAX_THRESHOLD: u64 = 1000;
/// Of names.
pub const TTL: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(3600);

/// Longest path of a probe.
const MAX_PATH: usize = 1024;

/// Whether it can be asked for as it is written: percent-encoded, without a fragment.
pub fn is_path(path: &str) -> bool {
    let fits = path.len() <= MAX_PATH && path.bytes().all(|byte| byte.is_ascii_graphic());
    fits && path.starts_with('/') && !path.contains('#')
}

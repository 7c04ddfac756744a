//! What the checks of this node have found.

use std::collections::{BTreeSet, HashMap};
use std::time::SystemTime;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// By backend tag.
    pub checks: HashMap<u64, CheckReport>,
    /// Tags of failing backends.
    pub unhealthy: BTreeSet<u64>,
    /// Every check has had a first result: what is not listed is healthy, rather than not asked yet.
    pub settled: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// None before the first probe.
    pub healthy: Option<bool>,
    /// Since when it is so.
    pub since: Option<SystemTime>,
    /// What the latest probe found: "ok", or what went wrong.
    pub last: String,
}

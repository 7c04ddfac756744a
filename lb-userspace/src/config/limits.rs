//! Sizes of the kernel's tables and rates. Each table's memory is written beside it; sizes are fixed when the maps are
//! first created.

use serde::Deserialize;

use super::bounds::within;

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Established flows of tasks on this node, per family. Allocated as they come, about 150 bytes each.
    #[serde(deserialize_with = "within::<_, 1024, 67_108_864>")]
    pub flows: u32,
    /// Half-open flows and new UDP flows, per family; the oldest give way. About 150 bytes each, allocated at once.
    #[serde(deserialize_with = "within::<_, 1024, 16_777_216>")]
    pub half_open: u32,
    /// Hints where a moved flow is, per family; the oldest give way. About 120 bytes each, allocated at once.
    #[serde(deserialize_with = "within::<_, 1024, 16_777_216>")]
    pub hints: u32,
    /// Slots of all head tables together (a pool takes its service's `slots:`). 2.1 bytes each, allocated at once.
    #[serde(deserialize_with = "within::<_, 4096, 1_073_741_824>")]
    pub slots: u32,
    /// Slots of all chain tables together, for pools with a task here. 24 bytes each, allocated at once.
    #[serde(deserialize_with = "within::<_, 4096, 134_217_728>")]
    pub hosted_slots: u32,
    /// Pools: one per service, target port and address family. 40 bytes each.
    #[serde(deserialize_with = "within::<_, 16, 1_048_576>")]
    pub pools: u32,
    /// Members of all pools. 16 bytes each.
    #[serde(deserialize_with = "within::<_, 64, 16_777_216>")]
    pub members: u32,
    /// Frontends, per family: a published port counts once for each address of this node. As many of this
    /// node's own listeners at published ports.
    #[serde(deserialize_with = "within::<_, 64, 16_777_216>")]
    pub fronts: u32,
    /// Open sockets of this machine that were led to a task by connect(); the oldest give way, and then show the task's address
    /// and outlive it. About 130 bytes each, allocated at once.
    #[serde(deserialize_with = "within::<_, 1024, 16_777_216>")]
    pub sockets: u32,
    /// Unknown packets sent along a chain each second, per CPU.
    #[serde(deserialize_with = "within::<_, 1, 100_000_000>")]
    pub chases: u32,
    /// Unknown packets answered with a reset each second, per CPU.
    #[serde(deserialize_with = "within::<_, 1, 100_000_000>")]
    pub resets: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            flows: 1 << 20,
            half_open: 1 << 17,
            hints: 1 << 16,
            slots: 1 << 23,
            hosted_slots: 1 << 20,
            pools: 1 << 15,
            members: 1 << 18,
            fronts: 1 << 17,
            sockets: 1 << 16,
            chases: 20_000,
            resets: 5_000,
        }
    }
}

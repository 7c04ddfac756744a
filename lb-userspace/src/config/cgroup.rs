//! `[cgroup]`: the programs at sockets.

use std::path::PathBuf;

use serde::Deserialize;

/// Programs that are asked when a process connects; they serve every process below a cgroup, whatever its namespaces.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cgroup {
    /// False: none, and those that are attached are taken off. Packets are balanced all the same.
    pub attach: bool,
    /// A directory of a cgroup2 file system; by default the place where the first one is mounted.
    pub path: Option<PathBuf>,
}

impl Default for Cgroup {
    fn default() -> Self {
        Self {
            attach: true,
            path: None,
        }
    }
}

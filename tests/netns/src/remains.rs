//! Looks whether a cluster that was removed has left anything: namespaces, processes, cgroups, mounts, pins, files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::cgroup;
use crate::cluster::Cluster;
use crate::namespace::Namespace;
use crate::supervisor::{self, BPFFS};

/// The kernel takes a namespace apart a moment after its last process has ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// What there is of a cluster while it stands, and what the machine had before it.
#[derive(Debug)]
pub struct Traces {
    prefix: String,
    namespaces: Vec<Namespace>,
    /// Of its namespaces, for networks and for mounts, as `/proc/PID/ns` shows them.
    inodes: BTreeSet<u64>,
    machine: Machine,
}

/// What a cluster could leave on the machine itself.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    mounts: BTreeSet<String>,
    pins: BTreeSet<String>,
}

impl Machine {
    /// To be read before a cluster is built.
    pub fn read() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let pins = fs::read_dir(BPFFS).into_iter().flatten();
        Self {
            mounts: mounts.lines().map(str::to_owned).collect(),
            pins: pins
                .filter_map(|pin| pin.ok()?.file_name().into_string().ok())
                .collect(),
        }
    }
}

impl Traces {
    /// Of a cluster that stands.
    pub fn of(cluster: &Cluster, machine: Machine) -> Result<Self> {
        let prefix = cluster.state.prefix.clone();
        let namespaces: Vec<_> = supervisor::names(&prefix).iter().map(Namespace::named).collect();
        let mut inodes = BTreeSet::from([supervisor::mounts(&prefix)?.metadata()?.ino()]);
        for namespace in &namespaces {
            inodes.extend(namespace.open().and_then(|file| file.metadata()).map(|m| m.ino()));
        }
        Ok(Self {
            prefix,
            namespaces,
            inodes,
            machine,
        })
    }

    /// Looks, after the cluster was removed; each line names one thing that is left.
    pub fn left(&self) -> Vec<String> {
        let start = Instant::now();
        loop {
            let left = self.look();
            if left.is_empty() || start.elapsed() > PATIENCE {
                return left;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn look(&self) -> Vec<String> {
        let there = self.namespaces.iter().filter(|namespace| namespace.exists());
        let mut left: Vec<String> = there
            .map(|namespace| format!("namespace {}", namespace.name()))
            .collect();
        left.extend(
            supervisor::inside(&self.inodes)
                .iter()
                .map(|pid| format!("process {pid}")),
        );
        if supervisor::mounts(&self.prefix).is_ok() {
            left.push("the supervisor".into());
        }
        let now = Machine::read();
        // Whoever else works on this machine mounts what he likes.
        let names: Vec<String> = self
            .namespaces
            .iter()
            .map(|namespace| format!("/netns/{} ", namespace.name()))
            .collect();
        let directory = crate::state::directory(&self.prefix);
        let home = format!(" {}", directory.display());
        let bpffs = format!(" {BPFFS}");
        let own = |line: &&String| {
            names.iter().any(|name| line.contains(name)) || line.contains(&home) || line.contains(&bpffs)
        };
        let mounts = now.mounts.difference(&self.machine.mounts);
        left.extend(mounts.filter(own).map(|line| format!("mount {line}")));
        let pins = now.pins.difference(&self.machine.pins);
        left.extend(pins.map(|name| format!("pin {BPFFS}/{name}")));
        let cgroups = cgroup::directories(&self.prefix).into_iter();
        left.extend(cgroups.map(|path| format!("cgroup {}", path.display())));
        if directory.exists() {
            left.push(format!("files in {}", directory.display()));
        }
        left
    }
}

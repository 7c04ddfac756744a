//! Published ports are kept out of the range that the kernel takes ports for its own connections from: a connection of
//! this node that happened to use one would look like a client's.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::outside;

/// Below the directory of sysctls, of this network namespace wherever it is mounted, for IPv4 and IPv6 alike.
const SYSCTL: &str = "ipv4/ip_local_reserved_ports";

/// The ports this agent has reserved, beside those of the operator, which are never touched.
pub struct ReservedPorts {
    sysctl: PathBuf,
    /// Remembers ours over a restart.
    memory: PathBuf,
    ours: BTreeSet<u16>,
}

impl ReservedPorts {
    pub fn new(runtime: &Path) -> Self {
        Self::at(
            outside::place("/proc/sys/net").join(SYSCTL),
            runtime.join("reserved-ports"),
        )
    }

    fn at(sysctl: PathBuf, memory: PathBuf) -> Self {
        let ours = std::fs::read_to_string(&memory)
            .map(|list| parse(&list))
            .unwrap_or_default();
        Self { sysctl, memory, ours }
    }

    /// Reserves these, and frees those reserved before that are not among them.
    pub fn set(&mut self, ports: &BTreeSet<u16>) -> io::Result<()> {
        let present = parse(&std::fs::read_to_string(&self.sysctl)?);
        let others: BTreeSet<u16> = present.difference(&self.ours).copied().collect();
        let wanted: BTreeSet<u16> = others.union(ports).copied().collect();
        let ours: BTreeSet<u16> = ports.difference(&others).copied().collect();
        if ours != self.ours {
            if let Some(directory) = self.memory.parent() {
                std::fs::create_dir_all(directory)?;
            }
            std::fs::write(&self.memory, format(&ours))?;
            self.ours = ours;
        }
        if wanted != present {
            std::fs::write(&self.sysctl, format(&wanted) + "\n")?;
        }
        Ok(())
    }
}

/// "80,8000-8010" as the kernel writes it.
fn parse(list: &str) -> BTreeSet<u16> {
    let parts = list.trim().split([',', '\n']).filter(|part| !part.is_empty());
    let ranges = parts.filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<u16>().ok()?..=last.trim().parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

fn format(ports: &BTreeSet<u16>) -> String {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &port in ports {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(port) => *last = port,
            _ => ranges.push((port, port)),
        }
    }
    let word = |&(first, last): &(u16, u16)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    ranges.iter().map(word).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written_as_the_kernel_does() {
        let ports = parse("80,8000-8003,65535\n");
        assert_eq!(ports, [80, 8000, 8001, 8002, 8003, 65535].into());
        assert_eq!(format(&ports), "80,8000-8003,65535");
        assert_eq!(format(&BTreeSet::new()), "");
    }

    #[test]
    fn the_operators_ports_stay_reserved_whatever_is_published() {
        let directory = tempfile::tempdir().unwrap();
        let (sysctl, memory) = (directory.path().join("sysctl"), directory.path().join("memory"));
        let read = || std::fs::read_to_string(&sysctl).unwrap();
        std::fs::write(&sysctl, "9000-9001\n").unwrap();
        let mut ports = ReservedPorts::at(sysctl.clone(), memory.clone());
        ports.set(&[8080, 9000].into()).unwrap();
        assert_eq!(read(), "8080,9000-9001\n");
        // Another agent, after a restart.
        let mut ports = ReservedPorts::at(sysctl.clone(), memory);
        ports.set(&[8443].into()).unwrap();
        assert_eq!(read(), "8443,9000-9001\n");
        ports.set(&BTreeSet::new()).unwrap();
        assert_eq!(read(), "9000-9001\n");
    }
}

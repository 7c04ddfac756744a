//! bpffs for the pins, and cgroup2.

use std::path::{Path, PathBuf};

use super::finding::Finding;

pub fn check(pins: &Path) -> Vec<Finding> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    vec![bpffs(&mounts, pins), cgroup2(&mounts)]
}

fn bpffs(mounts: &str, pins: &Path) -> Finding {
    match of_type(mounts, "bpf")
        .into_iter()
        .filter(|place| pins.starts_with(place))
        .max()
    {
        Some(place) => Finding::ok(
            "bpffs",
            format!("{} holds the pins, {}", place.display(), pins.display()),
        ),
        None => Finding::warning(
            "bpffs",
            format!(
                "{} is on no bpf file system yet; the agent mounts one there when it starts",
                pins.display()
            ),
            "to have it from boot on: mount -t bpf bpf /sys/fs/bpf, by /etc/fstab or systemd",
        ),
    }
}

fn cgroup2(mounts: &str) -> Finding {
    match of_type(mounts, "cgroup2").first() {
        Some(place) => Finding::ok("cgroup2", place.display()),
        None => Finding::warning(
            "cgroup2",
            "not mounted (only programs at sockets need it, which this version has none of)",
            "mount -t cgroup2 none /sys/fs/cgroup",
        ),
    }
}

/// Places where file systems of a type are mounted. The kernel writes blanks in them as \040.
fn of_type(mounts: &str, wanted: &str) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| fields.get(2) == Some(&wanted))
        .map(|fields| fields[1].replace("\\040", " ").into())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::check::finding::State;

    const MOUNTS: &str = "\
tmpfs /sys/fs/cgroup tmpfs rw 0 0
cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0
bpf /sys/fs/bpf bpf rw 0 0
";

    #[test]
    fn the_hybrid_hierarchys_cgroup2_is_found() {
        assert_eq!(cgroup2(MOUNTS), Finding::ok("cgroup2", "/sys/fs/cgroup/unified"));
    }

    #[test]
    fn pins_outside_of_any_bpffs_are_warned_of() {
        assert_eq!(bpffs(MOUNTS, Path::new("/sys/fs/bpf/portico")).state, State::Ok);
        assert_eq!(bpffs(MOUNTS, Path::new("/tmp/portico")).state, State::Warning);
    }
}

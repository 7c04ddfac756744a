//! bpffs for the pins, and cgroup2.

use std::path::Path;

use super::finding::Finding;
use crate::config::{Cgroup, Config};
use crate::outside::{self, of_type};

pub fn check(config: &Config) -> Vec<Finding> {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    vec![
        bpffs(&mounts, &config.paths.pins),
        cgroup2(&mounts, &config.cgroup),
    ]
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
            if outside::is_contained() {
                "it would end with this container: mount -t bpf bpf /sys/fs/bpf on the machine, and that at /host/sys/fs/bpf in the container"
            } else {
                "to have it from boot on: mount -t bpf bpf /sys/fs/bpf, by /etc/fstab or systemd"
            },
        ),
    }
}

/// Where the programs at sockets belong. The agent says whether they are there.
fn cgroup2(mounts: &str, config: &Cgroup) -> Finding {
    let wanted = "without it nobody answers at localhost, and connections to a task that died end by their own timeouts";
    if !config.attach {
        return Finding::ok("cgroup2", "not used: cgroup.attach = false");
    }
    let places = of_type(mounts, "cgroup2");
    let Some(path) = config.path.clone().or_else(|| outside::cgroup2(mounts)) else {
        return Finding::warning(
            "cgroup2",
            format!("not mounted: {wanted}"),
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or set cgroup.attach = false",
        );
    };
    if !places.iter().any(|place| path.starts_with(place)) {
        return Finding::warning(
            "cgroup2",
            format!("{} is on no cgroup2 file system: {wanted}", path.display()),
            "set [cgroup] path to a directory on one (see /proc/mounts), or leave it out",
        );
    }
    if !path.is_dir() {
        return Finding::warning(
            "cgroup2",
            format!("{} is not there: {wanted}", path.display()),
            format!("mkdir {}, or leave [cgroup] path out", path.display()),
        );
    }
    if config.path.is_none() && outside::is_containers_own(&path) {
        return Finding::warning(
            "cgroup2",
            format!("{} is this container's own: {wanted}", path.display()),
            "mount the machine's /sys/fs/cgroup at /host/sys/fs/cgroup in the container",
        );
    }
    let below = if places.contains(&path) {
        ""
    } else {
        "; only processes below it are served"
    };
    Finding::ok("cgroup2", format!("{}{below}", path.display()))
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
        // Somewhere that is there on every machine.
        let mounts = MOUNTS.replace("/sys/fs/cgroup/unified", "/proc");
        let config = Cgroup::default();
        assert_eq!(cgroup2(&mounts, &config), Finding::ok("cgroup2", "/proc"));
        assert_eq!(cgroup2("", &config).state, State::Warning);
        let below = Cgroup {
            path: Some("/proc/self".into()),
            ..Cgroup::default()
        };
        assert!(cgroup2(&mounts, &below).words.contains("only processes below it"));
        assert_eq!(cgroup2(MOUNTS, &below).state, State::Warning);
    }

    #[test]
    fn nothing_is_missed_where_no_programs_at_sockets_are_wanted() {
        let config = Cgroup {
            attach: false,
            ..Cgroup::default()
        };
        assert_eq!(cgroup2("", &config).state, State::Ok);
    }

    #[test]
    fn pins_outside_of_any_bpffs_are_warned_of() {
        assert_eq!(bpffs(MOUNTS, Path::new("/sys/fs/bpf/portico")).state, State::Ok);
        assert_eq!(bpffs(MOUNTS, Path::new("/tmp/portico")).state, State::Warning);
    }
}

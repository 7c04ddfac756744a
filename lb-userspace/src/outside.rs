//! What an agent in a container sees of the machine it serves.
//!
//! A container has mounts of its own: /proc/sys and /sys are read-only there, processes outside are hidden, and a cgroup
//! file system begins at the container's own cgroup. Directories of the machine that an agent needs are therefore mounted
//! below `/host` (`deploy/`), and are used from there.

use std::fs;
use std::os::linux::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Where a container has what is the machine's.
pub const ROOT: &str = "/host";

/// The number of the initial PID namespace, which never changes (`include/uapi/linux/nsfs.h`, PROC_PID_INIT_INO before that).
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// The machine's directory of this absolute path: below `/host` where something is there, else the path itself.
pub fn place(path: &str) -> PathBuf {
    below(Path::new(ROOT), path)
}

fn below(root: &Path, path: &str) -> PathBuf {
    let outside = root.join(path.trim_start_matches('/'));
    if outside.exists() { outside } else { path.into() }
}

/// Whether every process of the machine is seen.
pub fn sees_all_processes() -> bool {
    fs::metadata("/proc/self/ns/pid").is_ok_and(|namespace| namespace.st_ino() == FIRST_PID_NAMESPACE)
}

/// Whether this process runs in a container: what it mounts ends with it, and it sees no processes but its own.
pub fn is_contained() -> bool {
    let has_mark = ["/.dockerenv", "/run/.containerenv"]
        .iter()
        .any(|mark| Path::new(mark).exists());
    let namespace = fs::metadata("/proc/self/ns/pid").map(|namespace| namespace.st_ino());
    has_mark || namespace.is_ok_and(|number| number != FIRST_PID_NAMESPACE)
}

/// Directories of files that are network namespaces, made by container engines and by ip.
pub fn namespaces() -> Vec<PathBuf> {
    ["/run/docker/netns", "/run/netns"]
        .into_iter()
        .map(place)
        .filter(|directory| directory.is_dir())
        .collect()
}

/// Places where file systems of a type are mounted, as `/proc/mounts` lists them. The kernel writes blanks in them as \040.
pub fn of_type(mounts: &str, wanted: &str) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    fields
        .filter(|fields| fields.get(2) == Some(&wanted))
        .map(|fields| fields[1].replace("\\040", " ").into())
        .collect()
}

/// Where the machine's cgroup2 file system is mounted: below `/host` if one is there, else the first.
pub fn cgroup2(mounts: &str) -> Option<PathBuf> {
    let places = of_type(mounts, "cgroup2");
    let outside = places.iter().find(|place| place.starts_with(ROOT));
    outside.or(places.first()).cloned()
}

/// Whether this is a cgroup2 file system that a container was given for its own processes: no machine's root.
pub fn is_containers_own(cgroup: &Path) -> bool {
    // The number of every hierarchy's root.
    const TOP: u64 = 1;
    !cgroup.starts_with(ROOT)
        && is_contained()
        && fs::metadata(cgroup).is_ok_and(|directory| directory.st_ino() != TOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_mounted_below_host_comes_before_the_containers_own() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("sys/fs/bpf")).unwrap();
        assert_eq!(below(root.path(), "/sys/fs/bpf"), root.path().join("sys/fs/bpf"));
        assert_eq!(below(root.path(), "/proc/sys/net"), Path::new("/proc/sys/net"));
    }

    #[test]
    fn the_machines_cgroup2_is_found_beside_the_containers() {
        let own = "cgroup2 /sys/fs/cgroup cgroup2 ro 0 0\n";
        assert_eq!(cgroup2(own), Some("/sys/fs/cgroup".into()));
        let both = format!(
            "{own}tmpfs /host/sys/fs/cgroup tmpfs ro 0 0\ncgroup2 /host/sys/fs/cgroup/unified cgroup2 rw 0 0\n"
        );
        assert_eq!(cgroup2(&both), Some("/host/sys/fs/cgroup/unified".into()));
        assert_eq!(cgroup2("bpf /sys/fs/bpf bpf rw 0 0\n"), None);
    }

    #[test]
    fn a_hybrid_hierarchys_cgroup2_is_found() {
        let mounts =
            "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(cgroup2(mounts), Some("/sys/fs/cgroup/unified".into()));
    }
}

//! One cgroup for each node: what its agent attaches there sees the sockets of this node's processes, and no others on
//! the machine. They lie in `portico-lab/PREFIX/NODE` below the place where cgroup2 is mounted.
//!
//! An engine puts its containers below that, and below the same name in the older hierarchies where the machine has them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::wait;

const HOME: &str = "portico-lab";

/// Where a cluster's are; none on a machine without cgroup2.
pub fn directory(prefix: &str) -> Option<PathBuf> {
    Some(home()?.join(prefix))
}

/// A node's own.
pub fn of(prefix: &str, node: &str) -> Option<PathBuf> {
    Some(directory(prefix)?.join(node))
}

/// Makes those of a cluster's nodes.
pub fn create<'a>(prefix: &str, nodes: impl Iterator<Item = &'a String>) -> Result<()> {
    for node in nodes {
        if let Some(path) = of(prefix, node) {
            fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        }
    }
    Ok(())
}

/// A node's, as engines name it.
pub fn name(prefix: &str, node: &str) -> String {
    format!("/{HOME}/{prefix}/{node}")
}

/// A cluster's in all hierarchies, where there are any.
pub fn directories(prefix: &str) -> Vec<PathBuf> {
    homes()
        .into_iter()
        .map(|home| home.join(prefix))
        .filter(|path| path.exists())
        .collect()
}

/// Ends the processes of a cluster's cgroups, those of containers that were paused too. They live in namespaces that
/// nobody has named.
pub fn end(prefix: &str) -> Result<()> {
    let directories = directories(prefix);
    wait::until("the cluster's containers end", Duration::from_secs(10), || {
        let mut left = BTreeSet::new();
        for directory in &directories {
            processes(directory, &mut left);
        }
        for pid in &left {
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        // A frozen process dies when it is thawed; in cgroup2 at once.
        directories.iter().for_each(|directory| thaw(directory));
        left.is_empty()
    })?;
    Ok(())
}

/// Takes a cluster's away, once its processes have ended; with them goes what is attached.
pub fn remove(prefix: &str) -> Result<()> {
    for directory in directories(prefix) {
        // The last process of a cgroup is gone a moment before the cgroup knows it.
        let mut last = None;
        let gone = wait::until("the cluster's cgroups are empty", Duration::from_secs(10), || {
            last = take_away(&directory).err();
            last.is_none()
        });
        gone.with_context(|| format!("cannot remove {}: {last:?}", directory.display()))?;
    }
    // Only where they are empty.
    for home in homes() {
        let _ = fs::remove_dir(home);
    }
    Ok(())
}

/// Lets the command run in a cgroup.
pub(crate) fn join(command: &mut Command, path: &Path) -> Result<()> {
    let path = path.join("cgroup.procs");
    let file = File::options().write(true).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    // SAFETY: between fork and exec only a system call is made; the file is open for as long as the command is.
    unsafe { command.pre_exec(move || Ok(nix::unistd::write(&file, b"0").map(drop)?)) };
    Ok(())
}

/// A cgroup's directory has files that go with it: only directories are removed, the lowest first.
fn take_away(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            take_away(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}

fn processes(directory: &Path, all: &mut BTreeSet<i32>) {
    let text = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    all.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
    below(directory).for_each(|path| processes(&path, all));
}

fn thaw(directory: &Path) {
    let state = directory.join("freezer.state");
    if state.exists() {
        let _ = fs::write(state, "THAWED");
    }
    below(directory).for_each(|path| thaw(&path));
}

fn below(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
}

fn home() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    let places = mount_points(&mounts, &["cgroup2"]);
    Some(Path::new(places.first()?).join(HOME))
}

fn homes() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let places = mount_points(&mounts, &["cgroup", "cgroup2"]);
    places
        .into_iter()
        .map(|place| Path::new(place).join(HOME))
        .collect()
}

fn mount_points<'a>(mounts: &'a str, kinds: &[&str]) -> Vec<&'a str> {
    let place = |line: &'a str| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        kinds.contains(&words.next()?).then_some(place)
    };
    mounts.lines().filter_map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_beside_its_elder() {
        let mounts =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_points(mounts, &["cgroup2"]), ["/sys/fs/cgroup/unified"]);
        assert_eq!(
            mount_points(mounts, &["cgroup", "cgroup2"]),
            ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/unified"]
        );
        assert_eq!(mount_points("proc /proc proc rw 0 0\n", &["cgroup2"]), [""; 0]);
    }
}

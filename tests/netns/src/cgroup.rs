//! One cgroup for each node: what its agent attaches there sees the sockets of this node's processes, and no others on
//! the machine. They lie in `portico-lab/PREFIX/NODE` below the place where cgroup2 is mounted.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

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

/// Takes a cluster's away, once its processes have ended; with them goes what is attached.
pub fn remove(prefix: &str) -> Result<()> {
    let Some(directory) = directory(prefix).filter(|path| path.exists()) else {
        return Ok(());
    };
    // The last process of a cgroup is gone a moment before the cgroup knows it.
    let mut last = None;
    let gone = wait::until("the cluster's cgroups are empty", Duration::from_secs(10), || {
        last = take_away(&directory).err();
        last.is_none()
    });
    gone.with_context(|| format!("cannot remove {}: {last:?}", directory.display()))?;
    // Only where it is empty.
    let _ = home().map(fs::remove_dir);
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

fn home() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").ok()?;
    Some(Path::new(mount_point(&mounts)?).join(HOME))
}

fn mount_point(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == "cgroup2").then_some(place)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_beside_its_elder() {
        let mounts =
            "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(mount_point(mounts), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point("proc /proc proc rw 0 0\n"), None);
    }
}

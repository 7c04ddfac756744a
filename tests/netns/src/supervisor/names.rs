//! The directory of the namespaces' names: the first `ip netns add` makes a mount of it and leaves that behind.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::umount;

use crate::state::HOME;

const NAMES: &str = "/run/netns";

/// Says that the mount that is about to be made is the lab's, unless there is one already.
pub fn claim() -> io::Result<()> {
    if is_mount() {
        Ok(())
    } else {
        fs::write(marker(), "")
    }
}

/// Takes the mount away if it is the lab's and nobody has a namespace any more.
pub fn release() {
    let empty = fs::read_dir(NAMES).is_ok_and(|mut names| names.next().is_none());
    if !marker().exists() || !empty {
        return;
    }
    // Somebody may have made a namespace this very moment: then it is busy, and stays.
    if !is_mount() || umount(NAMES).is_ok() {
        let _ = fs::remove_dir(NAMES);
        let _ = fs::remove_file(marker());
    }
}

/// iproute2 binds the directory to itself, so the device is the same; the mount table tells.
fn is_mount() -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(NAMES))
}

fn marker() -> PathBuf {
    Path::new(HOME).join("mounted")
}

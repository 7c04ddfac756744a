//! Packet programs that an agent before this one left attached, where this one has none: they would take packets before any
//! socket, by tables that nobody keeps.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::{Problem, ebpf, netlink};

/// One end of the pair of devices that goes with them.
const DEVICE: &str = "portico0";

/// Whether any are attached, as far as pins say so.
pub fn are_at_work(root: &Path) -> bool {
    versions(root)
        .iter()
        .any(|version| fs::read_dir(version.join("links")).is_ok_and(|mut links| links.next().is_some()))
}

/// Takes them away, and the connections that they carry. What cannot be is told.
pub async fn end(root: &Path) -> Option<Problem> {
    let removed = versions(root).iter().try_for_each(fs::remove_dir_all);
    ebpf::remove_filters();
    let device = remove_device().await;
    let error = match (removed, device) {
        (Err(error), _) => format!("cannot remove the pins below {}: {error}", root.display()),
        (_, Err(error)) => format!("cannot remove the device {DEVICE}: {error}"),
        (Ok(()), Ok(())) => return None,
    };
    Some(Problem {
        error: format!("packet programs of an agent before this one are left: {error}"),
        traffic: "what they take of packets is lost to the proxy; everything else is served".into(),
        fix: format!("rm -r {}; ip link del {DEVICE}", root.display()),
    })
}

/// Directories of the layouts that there were.
fn versions(root: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let is_version = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        let number = name.and_then(|name| name.strip_prefix('v'));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    entries.map(|entry| entry.path()).filter(is_version).collect()
}

/// Its addresses and routes go with it.
async fn remove_device() -> io::Result<()> {
    let Ok(index) = nix::net::if_::if_nametoindex(DEVICE) else {
        return Ok(());
    };
    let handle = netlink::connect().map_err(io::Error::other)?;
    let removed = handle.link().del(index).execute().await;
    removed.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_at_work_while_a_link_is_pinned() {
        let root = tempfile::tempdir().unwrap();
        assert!(!are_at_work(&root.path().join("none")));
        let links = root.path().join("v1/links");
        fs::create_dir_all(&links).unwrap();
        fs::create_dir_all(root.path().join("venue/links/uplink-3")).unwrap();
        assert!(!are_at_work(root.path()));
        fs::write(links.join("uplink-3"), "").unwrap();
        assert!(are_at_work(root.path()));
        assert_eq!(versions(root.path()), [root.path().join("v1")]);
    }
}

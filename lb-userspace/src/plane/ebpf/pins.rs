//! The pin directory: maps and links that outlive the agent.
//!
//! ```text
//! /sys/fs/bpf/portico/v1/NAME          a map
//! /sys/fs/bpf/portico/v1/NAME-old      a map of another size, until its entries are copied
//! /sys/fs/bpf/portico/v1/links/...     an attachment
//! ```
//! `v1` is the version of the maps' layout: another version starts with maps of its own beside them, and says so.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapError};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use super::layout::{Kind, Wanted};
use crate::outside;
use crate::plane::{EbpfError, Problem};

/// Where bpffs is mounted on every system that has one.
const USUAL: &str = "/sys/fs/bpf";

/// What somebody does about a file system that a container has mounted, or may not mount.
const ON_THE_MACHINE: &str = "on the machine itself, from boot on: mount -t bpf bpf /sys/fs/bpf; mount that at /host/sys/fs/bpf in the container, and start it anew";

/// The pin directory of this layout.
#[derive(Clone, Debug)]
pub struct Pins {
    directory: PathBuf,
    /// The file system was mounted just now, by a container, and ends with it.
    passing: bool,
}

impl Pins {
    /// Makes the directories, and mounts a bpffs where there is none.
    pub fn prepare(root: &Path) -> Result<Self, EbpfError> {
        let missing = !is_bpffs(root);
        if missing {
            let usual = [PathBuf::from(USUAL), outside::place(USUAL)];
            let usual = usual.iter().find(|usual| root.starts_with(usual));
            let point = usual.map_or(root, PathBuf::as_path);
            mount_bpffs(point).map_err(|reason| EbpfError::Bpffs {
                path: point.into(),
                reason,
                fix: if outside::is_contained() {
                    ON_THE_MACHINE.into()
                } else {
                    let point = point.display();
                    format!("mount -t bpf bpf {point}, or set paths.pins to a directory inside one")
                },
            })?;
        }
        let passing = missing && outside::is_contained();
        let directory = root.join(format!("v{}", lb_common::table::LAYOUT));
        let pins = Self { directory, passing };
        let links = pins.links();
        fs::create_dir_all(&links).map_err(|reason| EbpfError::Pins { path: links, reason })?;
        Ok(pins)
    }

    pub fn map(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn links(&self) -> PathBuf {
        self.directory.join("links")
    }

    /// Where a map waits whose entries are still to be copied; bpffs allows no dots.
    pub fn old(&self, name: &str) -> PathBuf {
        self.directory.join(format!("{name}-old"))
    }

    /// What agents of other versions left pinned.
    pub fn problems(&self) -> Vec<Problem> {
        let left = self.directory.parent().map(others).unwrap_or_default();
        let passing = self.passing.then(|| Problem {
            error: "this container had to mount a bpf file system of its own".into(),
            traffic: "all are served; when the container ends, programs, tables and the connections in them end with it".into(),
            fix: ON_THE_MACHINE.into(),
        });
        let left = left.iter()
            .map(|path| Problem {
                error: format!("{} holds tables and programs of another version of Portico", path.display()),
                traffic: "its programs are still attached beside these and go by tables that nobody keeps up to date".into(),
                fix: format!(
                    "when the connections they carry may end: rm -r {}; to go back to that version instead, stop this agent and remove {}",
                    path.display(),
                    self.directory.display()
                ),
            });
        passing.into_iter().chain(left).collect()
    }

    /// Puts maps aside that are not of the size wanted. What is put aside goes on serving the programs that use it.
    /// Returns the names of those whose entries are to be copied.
    pub fn put_aside(&self, wanted: &[Wanted]) -> Result<Vec<&'static str>, EbpfError> {
        let mut unfit: Vec<&Wanted> = Vec::new();
        for map in wanted {
            if !self.fits(map)? {
                unfit.push(map);
            }
        }
        let derived = unfit.iter().any(|map| map.kind == Kind::Derived);
        for map in wanted {
            let path = self.map(map.name);
            let misfit = unfit.contains(&map) || (derived && map.kind == Kind::Derived);
            if !misfit || !path.exists() {
                continue;
            }
            tracing::info!(
                map = map.name,
                "the pinned map is of another size and is made anew"
            );
            let result = match map.kind {
                Kind::State => fs::rename(&path, self.old(map.name)),
                Kind::Derived | Kind::Single => fs::remove_file(&path),
            };
            result.map_err(|reason| EbpfError::Pins { path, reason })?;
        }
        Ok(wanted
            .iter()
            .map(|map| map.name)
            .filter(|name| self.old(name).exists())
            .collect())
    }

    /// Whether the pinned map can be used as it is; so can one that does not exist yet. One that this process may not
    /// look at is somebody's who may.
    fn fits(&self, wanted: &Wanted) -> Result<bool, EbpfError> {
        let path = self.map(wanted.name);
        if !path.exists() {
            return Ok(true);
        }
        match MapData::from_pin(&path).and_then(|map| map.info()) {
            Ok(info) => Ok(info.key_size() == wanted.key
                && info.value_size() == wanted.value
                && wanted.entries.is_none_or(|entries| entries == info.max_entries())),
            Err(error) => match refusal(&error) {
                Some(reason) => Err(EbpfError::Pins { path, reason }),
                None => Ok(false),
            },
        }
    }
}

/// A directory of another version's pins: its programs, if links are among them, see every packet as ours do.
fn others(root: &Path) -> Vec<PathBuf> {
    let own = format!("v{}", lb_common::table::LAYOUT);
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .filter(|entry| {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix('v'));
            name != *own && version.is_some_and(|version| version.parse::<u32>().is_ok())
        })
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// The kernel's refusal to somebody without the capability, if that is what this is.
fn refusal(error: &MapError) -> Option<io::Error> {
    let mut causes = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    causes.find_map(|cause| {
        let reason = cause.downcast_ref::<io::Error>()?;
        let is_refusal = reason.kind() == io::ErrorKind::PermissionDenied;
        is_refusal.then(|| reason.raw_os_error().map(io::Error::from_raw_os_error))?
    })
}

fn is_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    existing
        .and_then(|path| statfs(path).ok())
        .is_some_and(|info| info.filesystem_type() == BPF_FS_MAGIC)
}

fn mount_bpffs(point: &Path) -> io::Result<()> {
    fs::create_dir_all(point)?;
    tracing::info!(path = %point.display(), "mounting a bpf file system");
    mount(
        Some("bpf"),
        point,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=0700"),
    )
    .map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_of_another_version_are_a_problem_until_they_are_removed() {
        let root = tempfile::tempdir().unwrap();
        let own = format!("v{}", lb_common::table::LAYOUT);
        for name in [own.as_str(), "v99", "venue"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        let pins = Pins {
            directory: root.path().join(own),
            passing: false,
        };
        let problems = pins.problems();
        assert_eq!(problems.len(), 1);
        assert!(problems[0].fix.contains("/v99;"));
        fs::remove_dir(root.path().join("v99")).unwrap();
        assert!(pins.problems().is_empty());
    }
}

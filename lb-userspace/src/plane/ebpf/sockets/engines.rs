//! Whose listeners are: a container engine binds the ports that it publishes, to keep others from them and to pass on to one
//! container what nothing took before. Such a listener does not mean that the node itself serves the port.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::path::Path;

use crate::outside::sees_all_processes;

/// Processes that hold ports for containers, by the names that the kernel has of them: Docker's, Podman's, and those that
/// serve engines without root.
const ENGINES: [&str; 9] = [
    "dockerd",
    "docker-proxy",
    "podman",
    "conmon",
    "rootlessport",
    "rootlesskit",
    "slirp4netns",
    "pasta",
    "pasta.avx2",
];

/// What is known of sockets, by the numbers of their inodes.
#[derive(Default)]
pub struct Owners {
    known: HashMap<u32, Owner>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Engine,
    Other,
    /// Somebody whom this agent does not see.
    Hidden,
}

impl Owners {
    /// Finds out whose these are. Processes are looked through only where one of them is new.
    pub fn look(&mut self, inodes: &HashSet<u32>) {
        self.known.retain(|inode, _| inodes.contains(inode));
        let new: HashSet<u32> = inodes
            .iter()
            .filter(|inode| !self.known.contains_key(inode))
            .copied()
            .collect();
        if !new.is_empty() {
            self.known.extend(find(&new, &ENGINES, sees_all_processes()));
        }
    }

    /// Whether a container engine has it. `held`: engines are known to publish this port, so that they have it unless
    /// somebody else is seen to.
    pub fn is_engines(&self, inode: u32, held: bool) -> bool {
        match self.known.get(&inode) {
            Some(Owner::Engine) => true,
            Some(Owner::Hidden) => held,
            Some(Owner::Other) | None => false,
        }
    }
}

/// Who has each of `sockets`: one of `engines`, by name. `all`: whether every process is seen.
fn find(sockets: &HashSet<u32>, engines: &[&str], all: bool) -> HashMap<u32, Owner> {
    let mut found = HashMap::new();
    let mut all_read = all;
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        // One without a name is no process, or ended meanwhile.
        let Ok(name) = fs::read_to_string(process.path().join("comm")) else {
            continue;
        };
        let is_engine = engines.contains(&name.trim_end());
        // Where all are seen, whoever is no engine need not be looked for.
        if !is_engine && all {
            continue;
        }
        match files(&process.path()) {
            Ok(inodes) => {
                for inode in inodes.filter(|inode| sockets.contains(inode)) {
                    let owner = if is_engine { Owner::Engine } else { Owner::Other };
                    let known = found.entry(inode).or_insert(owner);
                    if is_engine {
                        *known = owner;
                    }
                }
            }
            Err(error) => all_read &= error.kind() != io::ErrorKind::PermissionDenied,
        }
    }
    let nobody = if all_read { Owner::Other } else { Owner::Hidden };
    for &socket in sockets {
        found.entry(socket).or_insert(nobody);
    }
    found
}

/// The sockets that a process has.
fn files(process: &Path) -> io::Result<impl Iterator<Item = u32> + use<>> {
    let files = fs::read_dir(process.join("fd"))?.flatten();
    Ok(files.filter_map(|file| {
        let target = fs::read_link(file.path()).ok()?;
        let number = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
        number.parse().ok()
    }))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn inode(listener: &TcpListener) -> u32 {
        let path = format!("/proc/self/fd/{}", listener.as_raw_fd());
        fs::metadata(path).unwrap().ino() as u32
    }

    #[test]
    fn a_socket_is_its_processs_and_nobodys_is_hidden_where_not_all_are_seen() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (inode, nobodys) = (inode(&listener), u32::MAX);
        let own = fs::read_to_string("/proc/self/comm").unwrap();
        let asked = [inode, nobodys].into();
        let found = |engines: &[&str], all| {
            let found = find(&asked, engines, all);
            [found[&inode], found[&nobodys]]
        };
        assert_eq!(found(&[own.trim_end()], true), [Owner::Engine, Owner::Other]);
        assert_eq!(found(&[own.trim_end()], false), [Owner::Engine, Owner::Hidden]);
        assert_eq!(found(&["nobody-s"], true), [Owner::Other, Owner::Other]);
        assert_eq!(found(&["nobody-s"], false), [Owner::Other, Owner::Hidden]);
    }

    #[test]
    fn what_is_closed_is_forgotten_and_what_is_hidden_is_the_engines_at_its_own_ports() {
        let mut owners = Owners {
            known: [(1, Owner::Engine), (2, Owner::Hidden), (3, Owner::Other)].into(),
        };
        let engines = |owners: &Owners, held| [1, 2, 3].map(|inode| owners.is_engines(inode, held));
        assert_eq!(engines(&owners, false), [true, false, false]);
        assert_eq!(engines(&owners, true), [true, true, false]);
        owners.look(&HashSet::new());
        assert_eq!(engines(&owners, true), [false; 3]);
    }
}

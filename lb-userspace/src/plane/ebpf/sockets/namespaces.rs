//! Network namespaces, told by the cookie that the programs see.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};

use super::{Doomed, diag};
use crate::outside;

/// Cookie of the network namespace of the calling thread.
pub fn own_cookie() -> io::Result<u64> {
    let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: both pointers lead to locals of the sizes given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

/// Ends sockets, by the cookie of the namespace they are in. Leaves the calling thread in any of them. Fails with the first
/// refusal, after all else was done.
pub fn end(mut doomed: BTreeMap<u64, Doomed>) -> io::Result<()> {
    let mut result = Ok(());
    if let Ok(own) = own_cookie()
        && let Some(sockets) = doomed.remove(&own)
    {
        result = result.and(told("this node's", diag::end(&sockets)));
    }
    if doomed.is_empty() {
        return result;
    }
    let (mut seen, mut refusal) = (HashSet::new(), None);
    for path in places() {
        // A process may have ended meanwhile.
        let Ok(number) = fs::metadata(&path).map(|metadata| metadata.ino()) else {
            continue;
        };
        if !seen.insert(number) {
            continue;
        }
        let entered = File::open(&path).and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
        if let Err(error) = entered {
            if error.kind() == io::ErrorKind::PermissionDenied {
                refusal = Some(error);
            }
            continue;
        }
        if let Ok(cookie) = own_cookie()
            && let Some(sockets) = doomed.remove(&cookie)
        {
            result = result.and(told("a container's", diag::end(&sockets)));
        }
        if doomed.is_empty() {
            return result;
        }
    }
    // Those that are left are gone, with their sockets; or they are behind what could not be entered.
    if refusal.is_none() && outside::is_contained() && outside::namespaces().is_empty() {
        let reason = "network namespaces of containers are not seen from this one";
        refusal = Some(io::Error::other(reason));
    }
    result.and(refusal.map_or(Ok(()), Err))
}

/// Where namespaces can be entered: processes of containers, and what engines leave for those who do not see processes.
fn places() -> impl Iterator<Item = PathBuf> {
    let list = |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten();
    let is_process = |name: &OsStr| name.to_string_lossy().starts_with(|c: char| c.is_ascii_digit());
    let processes = list(Path::new("/proc")).filter(move |entry| is_process(&entry.file_name()));
    let left = outside::namespaces()
        .into_iter()
        .flat_map(move |directory| list(&directory));
    processes
        .map(|process| process.path().join("ns/net"))
        .chain(left.map(|file| file.path()))
}

fn told(whose: &str, ended: io::Result<usize>) -> io::Result<()> {
    match &ended {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, whose, "sockets of tasks that are gone were ended"),
        Err(error) => tracing::warn!(%error, whose, "sockets of tasks that are gone could not be ended"),
    }
    ended.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_namespace_has_a_cookie_that_stays() {
        let first = own_cookie().unwrap();
        assert_ne!(first, 0);
        assert_eq!(own_cookie().unwrap(), first);
    }
}

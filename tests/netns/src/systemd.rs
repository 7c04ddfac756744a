//! What systemd does for a service's sockets: keeps those that it is sent, and gives them to the next process.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

/// Where the numbers of descriptors begin that a process is given.
const FIRST: usize = 3;
/// Where those begin that nothing else has: a shell that renumbers them shall not overwrite one.
const HIGH: RawFd = 500;

/// One service's part of it.
#[derive(Debug)]
pub struct Systemd {
    path: PathBuf,
    kept: Kept,
}

type Kept = Arc<Mutex<BTreeMap<String, Vec<OwnedFd>>>>;

impl Systemd {
    /// Hears what is sent to `path`, until the process ends.
    ///
    /// # Panics
    /// If nobody can listen there.
    pub fn start(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kept = Kept::default();
        let keeping = Arc::clone(&kept);
        thread::spawn(move || {
            while let Some((words, sockets)) = receive(&socket) {
                keep(&mut lock(&keeping), &words, sockets);
            }
        });
        Self {
            path: path.into(),
            kept,
        }
    }

    /// Of the sockets that it has.
    pub fn names(&self) -> BTreeSet<String> {
        lock(&self.kept).keys().cloned().collect()
    }

    /// For a service's process.
    pub fn environment(&self) -> String {
        format!("NOTIFY_SOCKET={}", self.path.display())
    }

    /// A script for bash that becomes what its arguments name, with all sockets, and these: every process that is started from
    /// here as long as they live has them, too.
    pub fn shell(&self) -> (String, Vec<OwnedFd>) {
        let mut script = String::new();
        let mut inherited = Vec::new();
        for socket in lock(&self.kept).values().flatten() {
            // Without FD_CLOEXEC.
            let Ok(high) = fcntl(socket, FcntlArg::F_DUPFD(HIGH)) else {
                continue;
            };
            let number = FIRST + inherited.len();
            let _ = write!(script, "exec {number}<&{high} {high}<&-; ");
            // SAFETY: it was just made, and nobody else knows it.
            inherited.push(unsafe { OwnedFd::from_raw_fd(high) });
        }
        let (count, environment) = (inherited.len(), self.environment());
        let _ = write!(
            script,
            "export LISTEN_PID=$$ LISTEN_FDS={count} {environment}; exec \"$@\""
        );
        (script, inherited)
    }
}

fn receive(socket: &UnixDatagram) -> Option<(String, Vec<OwnedFd>)> {
    let mut bytes = [0; 4096];
    let mut room = cmsg_space!([RawFd; 253]);
    let mut into = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut into,
        Some(&mut room),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .ok()?;
    let mut sockets = Vec::new();
    for control in message.cmsgs().ok()? {
        if let ControlMessageOwned::ScmRights(rights) = control {
            // SAFETY: the kernel has just made them for this process.
            sockets.extend(rights.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
        }
    }
    let length = message.bytes;
    Some((String::from_utf8_lossy(&bytes[..length]).into_owned(), sockets))
}

fn keep(kept: &mut BTreeMap<String, Vec<OwnedFd>>, words: &str, sockets: Vec<OwnedFd>) {
    let value = |key: &str| words.lines().find_map(|line| line.strip_prefix(key));
    let Some(name) = value("FDNAME=") else {
        return;
    };
    if value("FDSTORE=") == Some("1") {
        // The same ones again: it would compare them.
        kept.insert(name.into(), sockets);
    } else if value("FDSTOREREMOVE=") == Some("1") {
        kept.remove(name);
    }
}

fn lock(kept: &Kept) -> MutexGuard<'_, BTreeMap<String, Vec<OwnedFd>>> {
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

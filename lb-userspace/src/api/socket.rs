//! The control socket: who may open it, and that two agents do not share it.

use std::fs::{self, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::unistd::{Group, chown};
use tokio::net::UnixListener;

use crate::hidden;

/// Members of this group may use the socket, where the group exists.
const GROUP: &str = "portico";

/// A socket file that goes when this does.
#[derive(Debug)]
pub struct Socket {
    pub listener: UnixListener,
    _file: SocketFile,
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone already, with its directory.
        let _ = fs::remove_file(&self.0);
    }
}

impl Socket {
    /// Binds `path`, 0660 and of group `portico` where that exists. Takes the place of a socket nobody listens on.
    pub fn bind(path: &Path) -> Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match UnixStream::connect(path) {
            Ok(_) => return Err(Error::new(ErrorKind::AddrInUse, "another agent answers there")),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path)?,
            // Nothing there, or something that bind will name.
            Err(_) => {}
        }
        let listener = hidden::bind(path, |hidden| {
            let listener = UnixListener::bind(hidden)?;
            if let Ok(Some(group)) = Group::from_name(GROUP) {
                chown(hidden, None, Some(group.gid))?;
            }
            fs::set_permissions(hidden, Permissions::from_mode(0o660))?;
            Ok(listener)
        })?;
        Ok(Self {
            listener,
            _file: SocketFile(path.into()),
        })
    }

    /// The listener, and what removes the file when it is dropped.
    pub fn into_parts(self) -> (UnixListener, impl Sized) {
        (self.listener, self._file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_owner_and_group_may_open_it_and_it_goes_with_the_agent() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/portico.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_second_agent_is_refused_but_a_dead_ones_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("portico.sock");
        // A listener that ended without cleaning up.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let _first = Socket::bind(&path).unwrap();
        assert_eq!(Socket::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
    }
}

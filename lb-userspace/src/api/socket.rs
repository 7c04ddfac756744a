//! The control socket: who may open it, and that two agents do not share it.

use std::fs::{self, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::unistd::{Group, chown};
use tokio::net::UnixListener;

use crate::hidden::{self, File};

/// Members of this group may use the socket, where the group exists.
const GROUP: &str = "portico";

/// A socket file that goes when this does.
#[derive(Debug)]
pub struct Socket {
    pub listener: UnixListener,
    file: File,
}

impl Socket {
    /// Binds `path`, 0660 and of group `portico` where that exists. Takes the place of a socket nobody listens on.
    pub fn bind(path: &Path) -> Result<Self> {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        // Nothing there, nobody behind it, or something that bind will name, are none.
        if UnixStream::connect(path).is_ok() {
            return Err(Error::new(ErrorKind::AddrInUse, "another agent answers there"));
        }
        let (listener, file) = hidden::bind(path, |hidden| {
            let listener = UnixListener::bind(hidden)?;
            if let Ok(Some(group)) = Group::from_name(GROUP) {
                chown(hidden, None, Some(group.gid))?;
            }
            fs::set_permissions(hidden, Permissions::from_mode(0o660))?;
            Ok(listener)
        })?;
        Ok(Self { listener, file })
    }

    /// The listener, and what removes the file when it is dropped.
    pub fn into_parts(self) -> (UnixListener, impl Sized) {
        (self.listener, self.file)
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
        let first = Socket::bind(&path).unwrap();
        assert_eq!(Socket::bind(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        // One that listens no more, and has not let its file go yet.
        let (listener, file) = first.into_parts();
        drop(listener);
        let second = Socket::bind(&path).unwrap();
        drop(file);
        UnixStream::connect(&path).unwrap();
        drop(second);
        assert!(!path.exists());
    }
}

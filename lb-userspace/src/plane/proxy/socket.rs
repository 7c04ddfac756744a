//! What every part of the proxy asks of its sockets.

use std::io::{self, ErrorKind};
use std::time::Duration;

use nix::errno::Errno;
use socket2::SockRef;
use tokio::net::TcpStream;

/// Nothing: it would block.
pub fn attempt<T>(io: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    match io() {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Has a connection be reset when it is dropped.
pub fn cut_off(socket: &TcpStream) {
    // One that is gone already has nobody to tell.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// Whether the process, the machine, or its memory for sockets has no more to give.
pub fn is_exhaustion(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
    )
}

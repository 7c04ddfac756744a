//! What every part of the proxy asks of its sockets.

use std::io::{self, ErrorKind};
use std::net;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

use crate::model::Family;

/// Nothing: it would block.
pub fn attempt<T>(io: impl FnOnce() -> io::Result<T>) -> io::Result<Option<T>> {
    match io() {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whoever has vanished is missed after twice this time of silence; one that says nothing is none. Kernels count in seconds.
pub fn keepalive(silence: Duration) -> TcpKeepalive {
    const PROBES: u32 = 6;
    TcpKeepalive::new()
        .with_time(silence)
        .with_interval((silence / PROBES).max(Duration::from_secs(1)))
        .with_retries(PROBES)
}

/// For a connection to a task of this node. Does not block.
pub fn for_task(family: Family, keepalive: &TcpKeepalive) -> io::Result<Socket> {
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(keepalive)?;
    Ok(socket)
}

/// Has a connection be reset when it is dropped.
pub fn cut_off(socket: &impl AsFd) {
    // One that is gone already has nobody to tell.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}

/// For what waits for a socket in the runtime; one that the runtime cannot take is reset.
pub fn in_runtime(socket: net::TcpStream) -> io::Result<TcpStream> {
    cut_off(&socket);
    let socket = TcpStream::from_std(socket)?;
    SockRef::from(&socket).set_linger(None)?;
    Ok(socket)
}

/// Has a connection be reset when it is dropped in the middle, for whatever reason: nobody shall take what there is for the whole.
/// To be dropped before the connection is.
pub struct CutOff<'s, S: AsFd>(Option<&'s S>);

impl<'s, S: AsFd> CutOff<'s, S> {
    pub const fn of(socket: &'s S) -> Self {
        Self(Some(socket))
    }

    /// It has come to its end.
    pub fn spare(mut self) {
        self.0 = None;
    }
}

impl<S: AsFd> Drop for CutOff<'_, S> {
    fn drop(&mut self) {
        if let Some(socket) = self.0 {
            cut_off(socket);
        }
    }
}

/// Whether the process, the machine, or its memory for sockets has no more to give; or the user may watch no more of them
/// (fs.epoll.max_user_watches).
pub fn is_exhaustion(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw);
    matches!(
        code,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM | Errno::ENOSPC)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tasks_are_told_at_once_and_missed_when_they_vanish() {
        let silence = Duration::from_secs(77);
        for family in Family::ALL {
            let socket = for_task(family, &keepalive(silence)).unwrap();
            assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
            assert_eq!(socket.tcp_keepalive_time().unwrap(), silence);
        }
    }
}

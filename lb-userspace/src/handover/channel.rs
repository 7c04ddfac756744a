//! A socket between two agents of one machine: whole words, and descriptors with them (SOCK_SEQPACKET, SCM_RIGHTS).

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::words::Word;
use crate::hidden::{self, File};
use crate::rights;

/// Bytes of a word.
pub const LONGEST: usize = 64 << 10;

/// One end. It belongs to the runtime that it was made in.
#[derive(Debug)]
pub struct Channel(AsyncFd<OwnedFd>);

/// A word and what came with it.
#[derive(Debug)]
pub struct Heard {
    pub word: Word,
    pub descriptors: Vec<OwnedFd>,
}

impl Channel {
    pub fn new(socket: OwnedFd) -> io::Result<Self> {
        socket2::SockRef::from(&socket).set_nonblocking(true)?;
        Ok(Self(watched(socket)?))
    }

    /// To the agent that waits at `path`, if it is this one's own kind.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None)?;
        socket.connect(&SockAddr::unix(path)?)?;
        own_kind(&socket)?;
        Self::new(socket.into())
    }

    /// For another runtime.
    pub fn into_socket(self) -> OwnedFd {
        self.0.into_inner()
    }

    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }

    /// The number of the process that has made the other end.
    pub fn process(&self) -> io::Result<u32> {
        Ok(getsockopt(&self.as_fd(), PeerCredentials)?.pid() as u32)
    }

    pub async fn tell(&self, word: &Word) -> io::Result<()> {
        self.tell_with(word, &[]).await
    }

    /// As many descriptors as go with one word.
    pub async fn tell_with(&self, word: &Word, descriptors: &[RawFd]) -> io::Result<()> {
        let bytes = serde_json::to_vec(word)?;
        let send = |socket: &OwnedFd| rights::send(socket, &bytes, descriptors);
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next word; none: the other end is closed.
    pub async fn hear(&self) -> io::Result<Option<Heard>> {
        let receive = |socket: &OwnedFd| rights::receive(socket, LONGEST);
        let (bytes, descriptors) = self.0.async_io(Interest::READABLE, receive).await?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let word = serde_json::from_slice(&bytes)?;
        Ok(Some(Heard { word, descriptors }))
    }
}

/// Where the next agent finds this one. The file goes with it, unless it is the next one's already.
#[derive(Debug)]
pub struct Listener {
    socket: AsyncFd<OwnedFd>,
    file: File,
}

/// One that no runtime watches.
#[derive(Debug)]
pub struct Dormant {
    socket: OwnedFd,
    file: File,
}

impl Listener {
    /// For root and this agent's own user. Takes the place of whatever is there.
    pub fn bind(path: &Path) -> io::Result<Self> {
        let (socket, file) = hidden::bind(path, |hidden| {
            let socket = Socket::new(Domain::UNIX, Type::SEQPACKET.cloexec(), None)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SockAddr::unix(hidden)?)?;
            fs::set_permissions(hidden, Permissions::from_mode(0o600))?;
            socket.listen(4)?;
            Ok(socket)
        })?;
        Ok(Self {
            socket: watched(socket.into())?,
            file,
        })
    }

    /// To be found again, where somebody who has gone by now has put another one in its place. Whoever listens there keeps it.
    pub fn come_back(&mut self) -> io::Result<()> {
        let path = self.file.path();
        if !self.file.is_there() && !is_open(path)? {
            *self = Self::bind(path)?;
        }
        Ok(())
    }

    /// The next one who comes, if it is this agent's own kind; others are sent away.
    pub async fn accept(&self) -> io::Result<Channel> {
        loop {
            let accept = |socket: &OwnedFd| socket2::SockRef::from(socket).accept();
            let (socket, _) = self.socket.async_io(Interest::READABLE, accept).await?;
            match own_kind(&socket) {
                Ok(()) => return Channel::new(socket.into()),
                Err(error) => tracing::warn!(%error, "somebody asked for this agent's sockets in vain"),
            }
        }
    }

    pub fn sleep(self) -> Dormant {
        Dormant {
            socket: self.socket.into_inner(),
            file: self.file,
        }
    }
}

impl Dormant {
    pub fn wake(self) -> io::Result<Listener> {
        Ok(Listener {
            socket: watched(self.socket)?,
            file: self.file,
        })
    }
}

/// Whether somebody has the socket of a file. A socket of another kind asks: the kernel tells it so, and who listens hears nothing.
fn is_open(path: &Path) -> io::Result<bool> {
    let asking = Socket::new(Domain::UNIX, Type::STREAM.cloexec(), None)?;
    match asking.connect(&SockAddr::unix(path)?) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(false),
        _ => Ok(true),
    }
}

/// Root's, or of the user that this agent runs as.
fn own_kind(other: &impl AsFd) -> io::Result<()> {
    let other = getsockopt(other, PeerCredentials)?.uid();
    if other == 0 || other == nix::unistd::geteuid().as_raw() {
        return Ok(());
    }
    let why = format!("user {other} is not whom this agent runs as");
    Err(io::Error::new(ErrorKind::PermissionDenied, why))
}

fn watched(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: it owns its descriptor, and nobody replaces it.
    Ok(unsafe { AsyncFd::register(socket)? })
}

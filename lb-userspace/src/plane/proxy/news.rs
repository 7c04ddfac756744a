//! What the kernel tells of many sockets of one thread: an epoll in the runtime's. News lead straight to what they are of, without
//! a task and a wakeup for each.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

/// A socket leaves it when it is closed, by everybody who has it.
#[derive(Debug)]
pub struct News(Epoll);

impl News {
    /// Takes one descriptor. To be called within the runtime that is to wait for it.
    pub fn open() -> io::Result<AsyncFd<Self>> {
        let news = Self(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        // SAFETY: it owns its descriptor, and nobody replaces it.
        Ok(unsafe { AsyncFd::register_with_interest(news, Interest::READABLE)? })
    }

    /// Has `what` of a socket be told of under that name. Fails for want of memory, or where the user may watch
    /// no more (fs.epoll.max_user_watches).
    pub fn add(&self, socket: impl AsFd, what: EpollFlags, name: u64) -> io::Result<()> {
        Ok(self.0.add(socket, EpollEvent::new(what, name))?)
    }

    /// Those that there are now; does not wait.
    pub fn come<'e>(&self, events: &'e mut [EpollEvent]) -> &'e [EpollEvent] {
        // It can only fail by an interruption, and there is another time.
        let count = self.0.wait(events, EpollTimeout::ZERO).unwrap_or(0);
        &events[..count]
    }
}

impl AsRawFd for News {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// Waits for the next news if there is no more for now.
pub fn settle<T: AsRawFd>(ready: &mut AsyncFdReadyGuard<'_, T>, more: bool) -> bool {
    if !more {
        ready.clear_ready();
    }
    more
}

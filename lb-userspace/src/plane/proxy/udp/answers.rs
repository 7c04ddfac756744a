//! Which of many flows' sockets have something to read: an epoll in the runtime's.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::rc::Rc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};

use super::flows::FlowId;

/// There while there are flows: who has none takes one descriptor less. A flow's socket leaves it when it is closed.
#[derive(Default)]
pub struct Answers(Option<Rc<AsyncFd<Ready>>>);

pub struct Ready(Epoll);

impl Answers {
    /// Has a flow's answers told of. Fails for want of a descriptor or of memory.
    pub fn add(&mut self, socket: BorrowedFd<'_>, flow: FlowId) -> io::Result<()> {
        let ready = match &self.0 {
            Some(ready) => ready,
            None => {
                let ready = Ready(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
                // SAFETY: it owns its descriptor, and nobody replaces it.
                let ready = unsafe { AsyncFd::register_with_interest(ready, Interest::READABLE)? };
                &*self.0.insert(Rc::new(ready))
            }
        };
        let event = EpollEvent::new(EpollFlags::EPOLLIN, flow.0);
        Ok(ready.get_ref().0.add(socket, event)?)
    }

    /// To be waited with while flows are added.
    pub fn handle(&self) -> Option<Rc<AsyncFd<Ready>>> {
        self.0.clone()
    }

    /// No flow is left.
    pub fn close(&mut self) {
        self.0 = None;
    }
}

impl Ready {
    /// Those that have something to read now; does not wait.
    pub fn flows<'e>(&self, events: &'e mut [EpollEvent]) -> &'e [EpollEvent] {
        // It can only fail by an interruption, and there is another time.
        let count = self.0.wait(events, EpollTimeout::ZERO).unwrap_or(0);
        &events[..count]
    }
}

impl AsRawFd for Ready {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

pub async fn readable(ready: Option<&AsyncFd<Ready>>) -> io::Result<AsyncFdReadyGuard<'_, Ready>> {
    match ready {
        Some(ready) => ready.readable().await,
        None => std::future::pending().await,
    }
}

/// Waits for the next news if there is no more for now.
pub fn settle<T: AsRawFd>(ready: &mut AsyncFdReadyGuard<'_, T>, more: bool) -> bool {
    if !more {
        ready.clear_ready();
    }
    more
}

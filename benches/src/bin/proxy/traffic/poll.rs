//! epoll, which is all that these ends need of a runtime.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::Result;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

/// Events that are taken at a time.
const BATCH: usize = 256;

pub struct Poll {
    epoll: Epoll,
    events: Vec<EpollEvent>,
}

impl Poll {
    pub fn new() -> Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            events: vec![EpollEvent::empty(); BATCH],
        })
    }

    /// Until it is closed; events carry the token.
    pub fn add(&self, source: impl AsFd, token: usize, what: EpollFlags) -> Result<()> {
        self.epoll.add(source, EpollEvent::new(what, token as u64))
    }

    pub fn change(&self, source: impl AsFd, token: usize, what: EpollFlags) -> Result<()> {
        let mut event = EpollEvent::new(what, token as u64);
        self.epoll.modify(source, &mut event)
    }

    /// Waits for events, no longer than this, and says how many there are; a millisecond is the shortest wait.
    pub fn wait(&mut self, longest: Duration) -> Result<usize> {
        let milliseconds = longest.as_micros().div_ceil(1000).min(60_000) as u16;
        self.take(EpollTimeout::from(milliseconds))
    }

    /// Waits for as long as it takes.
    pub fn wait_always(&mut self) -> Result<usize> {
        self.take(EpollTimeout::NONE)
    }

    fn take(&mut self, timeout: EpollTimeout) -> Result<usize> {
        match self.epoll.wait(&mut self.events, timeout) {
            Err(Errno::EINTR) => Ok(0),
            result => result,
        }
    }

    /// One of the events that the last wait found.
    pub fn event(&self, number: usize) -> (usize, EpollFlags) {
        let event = &self.events[number];
        (event.data() as usize, event.events())
    }
}

//! Short connections: opened, one request, one answer, closed. The backend closes first, as servers of short connections do:
//! whoever opens them, client or proxy, does not run out of ports.

use std::net::SocketAddrV4;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::{Domain, Socket, Type};

use super::poll::Poll;
use super::{MESSAGE, Outcome, ask};

/// One that takes longer has lost a packet, at least.
const SLOW: Duration = Duration::from_millis(900);

#[derive(Args, Clone, Debug)]
pub struct Connections {
    #[arg(long)]
    target: SocketAddrV4,
    /// So many at a time
    #[arg(long)]
    at_once: usize,
    #[arg(long)]
    seconds: u64,
}

/// One of those that are under way.
struct Attempt {
    socket: Socket,
    began: Instant,
    asked: bool,
    received: usize,
}

/// What an attempt came to.
enum Then {
    GoOn,
    Done,
    Failed,
}

impl Connections {
    pub fn run(&self) -> Result<Outcome> {
        let mut poll = Poll::new()?;
        let mut attempts = Vec::new();
        for token in 0..self.at_once {
            attempts.push(self.begin(&poll, token)?);
        }
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let end = start + Duration::from_secs(self.seconds);
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            for number in 0..poll.wait(left)? {
                let (token, events) = poll.event(number);
                match attempts[token].go_on(events) {
                    Then::GoOn => continue,
                    Then::Done => outcome.done += 1.0,
                    Then::Failed => outcome.failed += 1,
                }
                // The former one is closed by being replaced.
                attempts[token] = self.begin(&poll, token)?;
            }
        }
        outcome.seconds = start.elapsed().as_secs_f64();
        let slow = attempts.iter().filter(|attempt| attempt.began.elapsed() > SLOW);
        outcome.failed += slow.count() as u64;
        ensure!(outcome.done > 0.0, "no connection to {} was served", self.target);
        Ok(outcome)
    }

    fn begin(&self, poll: &Poll, token: usize) -> Result<Attempt> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        match socket.connect(&self.target.into()) {
            Err(error) if error.raw_os_error() != Some(Errno::EINPROGRESS as i32) => {
                return Err(error).with_context(|| format!("cannot connect to {}", self.target));
            }
            _ => {}
        }
        // Told once of each change: no call to ask for the answer after the request.
        let what = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        poll.add(&socket, token, what)?;
        Ok(Attempt {
            socket,
            began: Instant::now(),
            asked: false,
            received: 0,
        })
    }
}

impl Attempt {
    fn go_on(&mut self, events: EpollFlags) -> Then {
        if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP)
            && !events.contains(EpollFlags::EPOLLIN)
        {
            return Then::Failed;
        }
        if !self.asked && events.contains(EpollFlags::EPOLLOUT) {
            self.asked = true;
            let request = [ask::ONCE; MESSAGE];
            if send(self.socket.as_raw_fd(), &request, MsgFlags::MSG_NOSIGNAL) != Ok(MESSAGE) {
                return Then::Failed;
            }
        }
        if !events.contains(EpollFlags::EPOLLIN) {
            return Then::GoOn;
        }
        let mut answer = [0; 2 * MESSAGE];
        loop {
            match recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty()) {
                Ok(0) if self.received == MESSAGE => return Then::Done,
                Ok(0) => return Then::Failed,
                Ok(length) => self.received += length,
                Err(Errno::EAGAIN) => return Then::GoOn,
                Err(_) => return Then::Failed,
            }
            let over = events.contains(EpollFlags::EPOLLRDHUP);
            if self.received == MESSAGE && over {
                return Then::Done;
            }
            // The end makes another event.
            if !over {
                return Then::GoOn;
            }
        }
    }
}

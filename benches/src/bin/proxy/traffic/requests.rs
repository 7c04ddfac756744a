//! Requests on connections that stay: as many as are answered, or at a steady rate to see how long each takes.

use std::collections::VecDeque;
use std::net::{SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use benches::sample::Sample;
use clap::Args;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, recv, send};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::poll::Poll;
use super::{MESSAGE, Outcome, ask, connect};

const REQUEST: [u8; MESSAGE] = [ask::ECHO; MESSAGE];
/// Requests that may wait on one connection at a steady rate: what comes on top has failed.
const WAITING: usize = 64;
/// How long after the last request answers are waited for.
const TAIL: Duration = Duration::from_millis(300);
const CLOCK: usize = usize::MAX;

#[derive(Args, Clone, Debug)]
pub struct Requests {
    #[arg(long)]
    target: SocketAddrV4,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    seconds: u64,
    /// Requests a second, on all connections together; without it each connection asks when it has been answered
    #[arg(long)]
    rate: Option<u32>,
}

struct Client {
    stream: TcpStream,
    /// When each request was due that has not been answered: a late request has waited, too.
    waiting: VecDeque<Instant>,
    /// Bytes of an answer that is not whole.
    part: usize,
}

impl Requests {
    pub fn run(&self) -> Result<Outcome> {
        let mut poll = Poll::new()?;
        let mut clients = Vec::new();
        for token in 0..self.connections {
            let client = Client {
                stream: connect(self.target)?,
                waiting: VecDeque::new(),
                part: 0,
            };
            poll.add(&client.stream, token, EpollFlags::EPOLLIN)?;
            clients.push(client);
        }
        let outcome = match self.rate {
            None => self.flat_out(&mut poll, &mut clients)?,
            Some(rate) => self.steadily(&mut poll, &mut clients, rate)?,
        };
        ensure!(outcome.done > 0.0, "no request to {} was answered", self.target);
        Ok(outcome)
    }

    fn flat_out(&self, poll: &mut Poll, clients: &mut [Client]) -> Result<Outcome> {
        let start = Instant::now();
        let end = start + Duration::from_secs(self.seconds);
        for client in &mut *clients {
            client.ask(start)?;
        }
        let mut done = 0;
        loop {
            let now = Instant::now();
            let left = end.saturating_duration_since(now);
            if left.is_zero() {
                break;
            }
            for number in 0..poll.wait(left)? {
                let client = &mut clients[poll.event(number).0];
                client.take(|_| done += 1)?;
                if client.waiting.is_empty() {
                    client.ask(now)?;
                }
            }
        }
        Ok(Outcome {
            done: f64::from(done),
            seconds: start.elapsed().as_secs_f64(),
            ..Outcome::default()
        })
    }

    fn steadily(&self, poll: &mut Poll, clients: &mut [Client], rate: u32) -> Result<Outcome> {
        let period = Duration::from_secs(1) / rate.max(1);
        let clock = TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK)?;
        let every = Expiration::Interval(TimeSpec::from_duration(period));
        clock.set(every, TimerSetTimeFlags::empty())?;
        poll.add(&clock, CLOCK, EpollFlags::EPOLLIN)?;
        let mut times = Vec::new();
        let mut outcome = Outcome::default();
        let start = Instant::now();
        let all = u64::from(rate) * self.seconds;
        let mut asked = 0;
        while start.elapsed() < Duration::from_secs(self.seconds) + TAIL {
            for number in 0..poll.wait(TAIL)? {
                let (token, _) = poll.event(number);
                if token != CLOCK {
                    let now = Instant::now();
                    clients[token].take(|due| times.push((now - due).as_secs_f64() * 1e6))?;
                    continue;
                }
                let mut count = [0; 8];
                let _ = nix::unistd::read(&clock, &mut count);
                // Counted by the clock: what this process slept through is made up for, and has waited.
                while asked < all {
                    let due = start + Duration::from_nanos(asked * 1_000_000_000 / u64::from(rate));
                    if due > Instant::now() {
                        break;
                    }
                    let client = &mut clients[asked as usize % self.connections];
                    asked += 1;
                    if client.waiting.len() < WAITING {
                        client.ask(due)?;
                    } else {
                        outcome.failed += 1;
                    }
                }
            }
        }
        outcome.failed += clients
            .iter()
            .map(|client| client.waiting.len() as u64)
            .sum::<u64>();
        outcome.done = times.len() as f64;
        outcome.seconds = self.seconds as f64;
        let times: Sample = times.into_iter().collect();
        (outcome.median, outcome.p99) = (times.percentile(50), times.percentile(99));
        Ok(outcome)
    }
}

impl Client {
    fn ask(&mut self, due: Instant) -> Result<()> {
        self.waiting.push_back(due);
        let sent = send(self.stream.as_raw_fd(), &REQUEST, MsgFlags::MSG_NOSIGNAL);
        sent.map(drop).context("a connection broke off")
    }

    /// Takes what has arrived, and tells of every answer when its request was due.
    fn take(&mut self, mut answered: impl FnMut(Instant)) -> Result<()> {
        let mut buffer = [0; WAITING * MESSAGE];
        let length = match recv(self.stream.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
            Err(Errno::EAGAIN) => return Ok(()),
            result => result.context("a connection broke off")?,
        };
        ensure!(length > 0, "a connection was closed");
        self.part += length;
        while self.part >= MESSAGE {
            self.part -= MESSAGE;
            answered(
                self.waiting
                    .pop_front()
                    .context("an answer that nobody asked for")?,
            );
        }
        Ok(())
    }
}

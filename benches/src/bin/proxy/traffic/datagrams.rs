//! Small datagrams: each sender has some under way, and sends another for every one that comes back.

use std::io::{IoSlice, IoSliceMut};
use std::net::{SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};

use super::Outcome;
use super::poll::Poll;

/// Bytes of a datagram.
const SIZE: usize = 64;
/// A sender that has heard nothing for so long has lost what was under way.
const SILENCE: Duration = Duration::from_millis(100);

#[derive(Args, Clone, Debug)]
pub struct Datagrams {
    #[arg(long)]
    target: SocketAddrV4,
    /// Senders, each with a port of its own
    #[arg(long)]
    flows: usize,
    /// Datagrams of each that may be under way
    #[arg(long)]
    window: usize,
    #[arg(long)]
    seconds: u64,
}

struct Sender {
    socket: UdpSocket,
    heard: Instant,
    sent: u64,
    answered: u64,
}

/// What a batch of datagrams needs, each way.
struct Batch {
    buffers: Vec<[u8; SIZE]>,
    taken: MultiHeaders<SockaddrStorage>,
    given: MultiHeaders<SockaddrStorage>,
}

impl Datagrams {
    pub fn run(&self) -> Result<Outcome> {
        let mut poll = Poll::new()?;
        let mut batch = Batch::new(self.window);
        let mut senders = Vec::new();
        let start = Instant::now();
        for token in 0..self.flows {
            let socket = UdpSocket::bind("0.0.0.0:0")?;
            socket.connect(self.target)?;
            poll.add(&socket, token, EpollFlags::EPOLLIN)?;
            let mut sender = Sender {
                socket,
                heard: start,
                sent: 0,
                answered: 0,
            };
            sender.send(&mut batch, self.window)?;
            senders.push(sender);
        }
        let end = start + Duration::from_secs(self.seconds);
        let mut looked = start;
        loop {
            let now = Instant::now();
            if now >= end {
                break;
            }
            if now - looked > SILENCE {
                looked = now;
                for sender in senders.iter_mut().filter(|sender| now - sender.heard > SILENCE) {
                    sender.heard = now;
                    sender.send(&mut batch, self.window)?;
                }
            }
            for number in 0..poll.wait(SILENCE.min(end - now))? {
                let sender = &mut senders[poll.event(number).0];
                let count = sender.take(&mut batch)?;
                if count > 0 {
                    sender.heard = now;
                    sender.send(&mut batch, count)?;
                }
            }
        }
        let seconds = start.elapsed().as_secs_f64();
        let done: u64 = senders.iter().map(|sender| sender.answered).sum();
        ensure!(done > 0, "no datagram to {} came back", self.target);
        // Those that are still under way come in a moment; what does not is lost.
        std::thread::sleep(SILENCE);
        for sender in &mut senders {
            while sender.take(&mut batch)? > 0 {}
        }
        let lost = senders
            .iter()
            .map(|sender| sender.sent.saturating_sub(sender.answered));
        Ok(Outcome {
            done: done as f64,
            seconds,
            failed: lost.sum(),
            ..Outcome::default()
        })
    }
}

impl Batch {
    fn new(size: usize) -> Self {
        Self {
            buffers: vec![[0; SIZE]; size],
            taken: MultiHeaders::preallocate(size, None),
            given: MultiHeaders::preallocate(size, None),
        }
    }
}

impl Sender {
    fn take(&mut self, batch: &mut Batch) -> Result<usize> {
        let mut slices: Vec<_> = batch
            .buffers
            .iter_mut()
            .map(|buffer| [IoSliceMut::new(buffer)])
            .collect();
        let flags = MsgFlags::MSG_DONTWAIT;
        let socket = self.socket.as_raw_fd();
        let count = match recvmmsg(socket, &mut batch.taken, slices.iter_mut(), flags, None) {
            Ok(taken) => taken.count(),
            Err(Errno::EAGAIN | Errno::ECONNREFUSED) => 0,
            Err(error) => return Err(error).context("no more datagrams"),
        };
        self.answered += count as u64;
        Ok(count)
    }

    fn send(&mut self, batch: &mut Batch, count: usize) -> Result<()> {
        let slices: Vec<_> = batch.buffers[..count]
            .iter()
            .map(|buffer| [IoSlice::new(buffer)])
            .collect();
        let to = vec![None; count];
        let socket = self.socket.as_raw_fd();
        match sendmmsg(socket, &mut batch.given, &slices, to, [], MsgFlags::empty()) {
            Ok(sent) => self.sent += sent.count() as u64,
            Err(Errno::ECONNREFUSED | Errno::EAGAIN) => {}
            Err(error) => return Err(error).context("cannot send datagrams"),
        }
        Ok(())
    }
}

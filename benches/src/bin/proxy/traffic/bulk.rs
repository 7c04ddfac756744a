//! Streams as large as the time allows.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, recv, send};

use super::poll::Poll;
use super::{Outcome, ask, open};

/// Bytes of one call.
const BLOCK: usize = 256 << 10;

#[derive(Args, Clone, Debug)]
pub struct Bulk {
    #[arg(long)]
    target: SocketAddrV4,
    #[arg(long, value_enum)]
    way: Way,
    #[arg(long)]
    streams: usize,
    #[arg(long)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// From the client to the backend.
    Up,
    /// From the backend to the client.
    Down,
}

impl Bulk {
    pub fn run(&self) -> Result<Outcome> {
        let mut streams = Vec::new();
        for _ in 0..self.streams {
            streams.push(open(self.target)?);
        }
        match self.way {
            Way::Up => self.up(streams),
            Way::Down => self.down(&mut streams),
        }
    }

    /// What has arrived here. The kernel counts and discards: no byte is copied.
    fn down(&self, streams: &mut [TcpStream]) -> Result<Outcome> {
        let start = Instant::now();
        for stream in streams.iter_mut() {
            stream.write_all(&[ask::SOURCE])?;
        }
        let mut buffer = vec![0; BLOCK];
        let mut bytes = 0;
        self.each(streams, EpollFlags::EPOLLIN, |stream| {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
            let length = recv(stream.as_raw_fd(), &mut buffer, flags)?;
            if length == 0 {
                return Err(Errno::ECONNRESET);
            }
            bytes += length;
            Ok(())
        })?;
        Ok(outcome(bytes as f64, start))
    }

    /// What has arrived at the backend, as the backend says.
    fn up(&self, mut streams: Vec<TcpStream>) -> Result<Outcome> {
        let block = [ask::SINK].repeat(BLOCK);
        let start = Instant::now();
        self.each(&streams, EpollFlags::EPOLLOUT, |stream| {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            send(stream.as_raw_fd(), &block, flags).map(drop)
        })?;
        for stream in &streams {
            stream.shutdown(Shutdown::Write)?;
        }
        let mut bytes = 0.0;
        for stream in &mut streams {
            let mut arrived = [0; 8];
            stream
                .read_exact(&mut arrived)
                .context("the backend has not seen the end of a stream")?;
            bytes += u64::from_be_bytes(arrived) as f64;
        }
        Ok(outcome(bytes, start))
    }

    /// Serves whichever stream can go on, until the time is over.
    fn each(
        &self,
        streams: &[TcpStream],
        when: EpollFlags,
        mut serve: impl FnMut(&TcpStream) -> nix::Result<()>,
    ) -> Result<()> {
        let mut poll = Poll::new()?;
        for (token, stream) in streams.iter().enumerate() {
            poll.add(stream, token, when)?;
        }
        let end = Instant::now() + Duration::from_secs(self.seconds);
        let mut moved = false;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                ensure!(moved, "nothing moved in {} s", self.seconds);
                return Ok(());
            }
            for number in 0..poll.wait(left)? {
                let (token, _) = poll.event(number);
                match serve(&streams[token]) {
                    Ok(()) => moved = true,
                    Err(Errno::EAGAIN) => {}
                    Err(error) => return Err(error).context("a stream broke off"),
                }
            }
        }
    }
}

fn outcome(bytes: f64, start: Instant) -> Outcome {
    Outcome {
        done: bytes,
        seconds: start.elapsed().as_secs_f64(),
        ..Outcome::default()
    }
}

//! The backend of every proxy: answers connections as their first byte asks, and returns datagrams.

use std::io::{ErrorKind, IoSlice, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

use anyhow::{Context, Result};
use clap::Args;
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{
    MsgFlags, MultiHeaders, SockaddrStorage, recv, recvmmsg, send, sendmmsg, setsockopt, sockopt,
};
use socket2::{Domain, Socket, Type};

use super::poll::Poll;
use super::{MESSAGE, ask};

/// Connections that wait to be taken.
const BACKLOG: i32 = 4096;
/// Bytes of one call where there is a stream of them.
const BLOCK: usize = 256 << 10;
/// Datagrams of one call.
const BATCH: usize = 64;
const LISTENER: usize = usize::MAX;
/// Bytes of datagrams that may wait.
const WAITING: usize = 4 << 20;

#[derive(Args, Clone, Debug)]
pub struct Backend {
    #[arg(long)]
    port: u16,
}

impl Backend {
    /// Serves until it is killed.
    pub fn run(&self) -> Result<()> {
        let at = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.port);
        let datagrams = UdpSocket::bind(at)?;
        // All that is under way: what a proxy forwards in bursts is not lost by this end.
        setsockopt(&datagrams, sockopt::RcvBufForce, &WAITING)?;
        let listener = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None)?;
        listener.set_reuse_address(true)?;
        listener.bind(&at.into())?;
        listener.listen(BACKLOG)?;
        thread::spawn(move || {
            if let Err(error) = return_all(&datagrams) {
                eprintln!("no more datagrams: {error:#}");
            }
        });
        Streams::new(listener)?.serve()
    }
}

/// Every connection that there is; its place is its token.
struct Streams {
    poll: Poll,
    listener: Socket,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    buffer: Vec<u8>,
}

struct Connection {
    socket: OwnedFd,
    /// What it asked for; 0 until it has.
    asked: u8,
    received: u64,
}

/// Whether a connection goes on.
enum Then {
    GoOn,
    End,
}

impl Streams {
    fn new(listener: Socket) -> Result<Self> {
        let poll = Poll::new()?;
        poll.add(&listener, LISTENER, EpollFlags::EPOLLIN)?;
        Ok(Self {
            poll,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            buffer: vec![0; BLOCK],
        })
    }

    fn serve(mut self) -> Result<()> {
        loop {
            for number in 0..self.poll.wait_always()? {
                match self.poll.event(number) {
                    (LISTENER, _) => self.accept()?,
                    (token, _) => match self.serve_one(token) {
                        // The event was for a connection that had this token before.
                        Ok(Then::GoOn) | Err(Errno::EAGAIN) => {}
                        // Whoever broke off is over, no more.
                        Ok(Then::End) | Err(_) => {
                            self.connections[token] = None;
                            self.free.push(token);
                        }
                    },
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
                Err(error) => return Err(error).context("cannot accept"),
            };
            socket.set_tcp_nodelay(true)?;
            let token = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.poll.add(&socket, token, EpollFlags::EPOLLIN)?;
            self.connections[token] = Some(Connection {
                socket: socket.into(),
                asked: 0,
                received: 0,
            });
        }
    }

    /// Once as much as there is. Nothing here blocks: a socket is only asked for what it has announced.
    fn serve_one(&mut self, token: usize) -> nix::Result<Then> {
        let Some(connection) = &mut self.connections[token] else {
            return Ok(Then::GoOn);
        };
        let socket = connection.socket.as_raw_fd();
        match connection.asked {
            ask::SOURCE => {
                send(socket, &self.buffer, AT_ONCE)?;
                return Ok(Then::GoOn);
            }
            ask::SINK => {
                // The kernel counts and discards: no byte is copied.
                let length = recv(socket, &mut self.buffer, AT_ONCE | MsgFlags::MSG_TRUNC)?;
                connection.received += length as u64;
                if length == 0 {
                    send(socket, &connection.received.to_be_bytes(), AT_ONCE)?;
                    return Ok(Then::End);
                }
                return Ok(Then::GoOn);
            }
            _ => {}
        }
        let length = recv(socket, &mut self.buffer, AT_ONCE)?;
        if length == 0 {
            return Ok(Then::End);
        }
        if connection.asked == 0 {
            connection.asked = self.buffer[0];
        }
        connection.received += length as u64;
        match connection.asked {
            ask::ECHO => {
                // One that does not take its answers has asked for too much at a time.
                if send(socket, &self.buffer[..length], AT_ONCE)? < length {
                    return Ok(Then::End);
                }
            }
            ask::ONCE if connection.received < MESSAGE as u64 => {}
            ask::ONCE => {
                send(socket, &self.buffer[..MESSAGE], AT_ONCE)?;
                return Ok(Then::End);
            }
            ask::SOURCE => self
                .poll
                .change(&connection.socket, token, EpollFlags::EPOLLOUT)?,
            ask::SINK => {}
            _ => return Ok(Then::End),
        }
        Ok(Then::GoOn)
    }
}

/// Sockets are blocking ones, which saves a call for each.
const AT_ONCE: MsgFlags = MsgFlags::MSG_DONTWAIT.union(MsgFlags::MSG_NOSIGNAL);

/// Returns datagrams in batches.
fn return_all(socket: &UdpSocket) -> Result<()> {
    let mut buffers = vec![[0u8; 2048]; BATCH];
    // Each way its own: sending leaves the addresses that it was given in them.
    let [mut taken, mut given] = [(); 2].map(|()| MultiHeaders::<SockaddrStorage>::preallocate(BATCH, None));
    loop {
        let received: Vec<(usize, Option<SockaddrStorage>)> = {
            let mut slices: Vec<_> = buffers
                .iter_mut()
                .map(|buffer| [IoSliceMut::new(buffer)])
                .collect();
            let flags = MsgFlags::MSG_WAITFORONE;
            let received = recvmmsg(socket.as_raw_fd(), &mut taken, slices.iter_mut(), flags, None);
            match received {
                Ok(received) => received.map(|one| (one.bytes, one.address)).collect(),
                // Somebody did not wait for an earlier answer.
                Err(Errno::ECONNREFUSED | Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let to: Vec<_> = received.iter().map(|(_, address)| *address).collect();
        let slices: Vec<_> = buffers
            .iter()
            .zip(&received)
            .map(|(buffer, (length, _))| [IoSlice::new(&buffer[..*length])])
            .collect();
        let mut sent = 0;
        while sent < slices.len() {
            let flags = MsgFlags::empty();
            match sendmmsg(
                socket.as_raw_fd(),
                &mut given,
                &slices[sent..],
                &to[sent..],
                [],
                flags,
            ) {
                Ok(results) => sent += results.count().max(1),
                Err(Errno::ECONNREFUSED | Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

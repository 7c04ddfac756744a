//! A flow's way to its member.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

use super::counters::Loss;
use super::inbox::Inbox;
use super::kernel;
use super::outbox::{Outbox, Stopped};
use super::trunk::Line;
use crate::plane::proxy::ways::Ways;

/// An open way. Answers of the one are heard by its socket, of the other by a mailbox.
pub enum Towards {
    /// A socket of this flow alone: its port stands for the client, nobody but the task can answer it, and the kernel tells it
    /// when the task refuses.
    Task(UdpSocket),
    /// A share in a connection to the task's node, which has such a socket there.
    Line(Line),
}

impl Towards {
    /// Does not wait: the kernel chooses route and port, and nothing is sent.
    pub fn task(ways: &Ways, address: SocketAddr, client: SocketAddr) -> io::Result<Self> {
        let socket = ways.datagrams(address, client)?;
        if kernel::merges() {
            // Without it super-packets are cut by the kernel, no more.
            let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
        }
        Ok(Self::Task(socket))
    }

    /// As [`Outbox::send`].
    pub fn send(&mut self, outbox: &mut Outbox, bytes: &[u8], from: usize) -> Option<Stopped> {
        match self {
            Self::Task(socket) => outbox.send(socket.as_fd(), bytes, from),
            Self::Line(line) => line.send(outbox, bytes, from),
        }
    }

    /// Sends one datagram.
    pub fn post(&mut self, datagram: &[u8]) -> io::Result<()> {
        match self {
            Self::Task(socket) => socket.send(datagram).map(drop),
            Self::Line(line) => line.post(datagram),
        }
    }

    /// As [`Inbox::receive`]; nothing where answers come otherwise.
    pub fn receive(&self, inbox: &mut Inbox, first: usize, most: usize) -> io::Result<usize> {
        match self {
            Self::Task(socket) => inbox.receive(socket.as_fd(), first, most, false),
            Self::Line(_) => Ok(0),
        }
    }

    /// What it is called when there is no room for more.
    pub fn fullness(&self) -> Loss {
        match self {
            Self::Task(_) => Loss::Full,
            Self::Line(_) => Loss::Congested,
        }
    }
}

/// A socket at a frontend, for one worker. All workers have one at the same address, and the kernel shares the clients out: one
/// client always reaches the same worker, as long as no socket comes or goes (SO_REUSEPORT). An address that is not the
/// machine's own yet, as a VIP may be, is bound all the same (IP_FREEBIND).
pub fn listen(address: SocketAddr) -> io::Result<UdpSocket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))?;
    socket.set_reuse_port(true)?;
    if address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    let socket: UdpSocket = socket.into();
    // Before it is bound: the first datagram shall say already which address it asked.
    prepare(&socket, address)?;
    socket2::SockRef::from(&socket).bind(&address.into())?;
    Ok(socket)
}

/// What a frontend's socket must be asked for, whoever made it.
pub fn prepare(socket: &UdpSocket, address: SocketAddr) -> io::Result<()> {
    /// Bytes that may wait in each direction: a few milliseconds at 10 Gbit/s.
    const WAITING: usize = 4 << 20;
    socket.set_nonblocking(true)?;
    match address {
        SocketAddr::V4(_) => setsockopt(socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => setsockopt(socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    if kernel::merges() {
        let _ = setsockopt(socket, sockopt::UdpGroSegment, &true);
    }
    // Beyond the system's limit where the agent may (CAP_NET_ADMIN), else up to it.
    if setsockopt(socket, sockopt::RcvBufForce, &WAITING).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &WAITING);
    }
    if setsockopt(socket, sockopt::SndBufForce, &WAITING).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &WAITING);
    }
    Ok(())
}

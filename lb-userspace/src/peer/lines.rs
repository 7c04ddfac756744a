//! The way to each node: a connected socket, so that the kernel tells when a node refuses heartbeats.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A socket keeps the source address that was right when it was connected. Where the way has changed since, by another
/// uplink for instance, a new one finds the new address.
const RENEWAL: Duration = Duration::from_secs(10);

/// Sockets by node, opened when first needed.
#[derive(Default)]
pub struct Lines(HashMap<Arc<str>, Line>);

struct Line {
    to: SocketAddr,
    socket: UdpSocket,
    opened: Instant,
    spoken: Instant,
}

impl Lines {
    /// Closes the sockets to all others.
    pub fn keep(&mut self, wanted: impl Fn(&str) -> bool) {
        self.0.retain(|node, _| wanted(node));
    }

    /// Sends to a node, which is at `to`. Tells the time since which the node has refused a datagram sent before (ICMP port
    /// unreachable): nobody hears it there, and its kernel runs. What cannot be sent is not kept: it will be repeated.
    pub fn send(
        &mut self,
        node: &Arc<str>,
        to: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) -> io::Result<Option<Instant>> {
        // What another address refused says nothing about this one.
        let old = self.0.remove(node).filter(|line| line.to == to);
        let (mut line, refused) = match old {
            Some(line) if now.saturating_duration_since(line.opened) < RENEWAL => (line, None),
            Some(old) => (Line::open(to, now)?, old.refused()?),
            None => (Line::open(to, now)?, None),
        };
        let refused = line.send(datagram, now)?.or(refused);
        self.0.insert(Arc::clone(node), line);
        Ok(refused)
    }
}

impl Line {
    fn open(to: SocketAddr, now: Instant) -> io::Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        Ok(Self {
            to,
            socket,
            opened: now,
            spoken: now,
        })
    }

    fn send(&mut self, datagram: &[u8], now: Instant) -> io::Result<Option<Instant>> {
        let mut refused = None;
        let mut sent = self.socket.send(datagram);
        if is_refusal(&sent) {
            // It was waiting in the socket, and this datagram was not sent.
            refused = Some(self.spoken);
            sent = self.socket.send(datagram);
        }
        self.spoken = now;
        match sent {
            Err(error) if !matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::WouldBlock) => {
                Err(error)
            }
            _ => Ok(refused),
        }
    }

    /// What waits in a socket that is given up.
    fn refused(&self) -> io::Result<Option<Instant>> {
        let waiting = self.socket.take_error()?.map_or(Ok(()), Err);
        Ok(is_refusal(&waiting).then_some(self.spoken))
    }
}

fn is_refusal<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node of which nobody else knows, and which hears.
    fn hearer() -> (Arc<str>, UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.79.51.1:0").unwrap();
        let to = socket.local_addr().unwrap();
        ("node2".into(), socket, to)
    }

    #[test]
    fn a_node_that_hears_refuses_nothing() {
        let (node, socket, to) = hearer();
        let (mut lines, now) = (Lines::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(lines.send(&node, to, b"beat", now).unwrap(), None);
            assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 4);
        }
    }

    #[test]
    fn a_refusal_is_as_old_as_what_was_refused_and_is_told_once() {
        let (node, socket, to) = hearer();
        let (mut lines, start) = (Lines::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        drop(socket);
        assert_eq!(lines.send(&node, to, b"beat", at(0)).unwrap(), None);
        // On the loopback device an answer is there at once.
        assert_eq!(lines.send(&node, to, b"beat", at(100)).unwrap(), Some(at(0)));
        assert_eq!(lines.send(&node, to, b"beat", at(200)).unwrap(), Some(at(100)));
        let socket = UdpSocket::bind(to).unwrap();
        assert_eq!(lines.send(&node, to, b"back", at(300)).unwrap(), Some(at(200)));
        assert_eq!(lines.send(&node, to, b"back", at(400)).unwrap(), None);
        assert_eq!(socket.recv(&mut [0; 9]).unwrap(), 4);
    }

    #[test]
    fn a_socket_that_is_renewed_loses_no_refusal() {
        let (node, socket, to) = hearer();
        let (mut lines, start) = (Lines::default(), Instant::now());
        drop(socket);
        assert_eq!(lines.send(&node, to, b"beat", start).unwrap(), None);
        assert_eq!(
            lines.send(&node, to, b"beat", start + RENEWAL).unwrap(),
            Some(start)
        );
        assert_eq!(lines.0[&node].opened, start + RENEWAL);
    }

    #[test]
    fn another_address_begins_anew_and_a_node_that_left_has_no_socket() {
        let (node, socket, to) = hearer();
        let (mut lines, now) = (Lines::default(), Instant::now());
        drop(socket);
        let moved = UdpSocket::bind("127.79.51.2:0").unwrap();
        let there = moved.local_addr().unwrap();
        assert_eq!(lines.send(&node, to, b"beat", now).unwrap(), None);
        assert_eq!(lines.send(&node, there, b"beat", now).unwrap(), None);
        assert_eq!(moved.recv(&mut [0; 9]).unwrap(), 4);
        lines.keep(|other| other != "node2");
        assert!(lines.0.is_empty());
    }
}

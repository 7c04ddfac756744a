//! TCP segments made by hand, and a client that speaks only when told to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::Wire;

/// TCP flags, as they lie in the header.
pub mod flag {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const PSH: u8 = 8;
    pub const ACK: u8 = 16;
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub payload: Vec<u8>,
}

impl Segment {
    /// The frame that carries it over a wire, checksums included.
    pub fn frame(&self, wire: &Wire) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(wire.own, wire.next);
        let network = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            other => panic!("two families in one packet: {other:?}"),
        };
        let mut tcp = network.tcp(self.from.port(), self.to.port(), self.sequence, 64_000);
        if self.flags & flag::FIN != 0 {
            tcp = tcp.fin();
        }
        if self.flags & flag::SYN != 0 {
            tcp = tcp.syn();
        }
        if self.flags & flag::RST != 0 {
            tcp = tcp.rst();
        }
        if self.flags & flag::PSH != 0 {
            tcp = tcp.psh();
        }
        if self.flags & flag::ACK != 0 {
            tcp = tcp.ack(self.acknowledgement);
        }
        let mut frame = Vec::with_capacity(tcp.size(self.payload.len()));
        tcp.write(&mut frame, &self.payload)
            .expect("a vector takes everything");
        frame
    }

    /// Reads a frame; none where it is no TCP segment.
    pub fn parse(frame: &[u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let (from, to): (IpAddr, IpAddr) = match packet.net? {
            NetSlice::Ipv4(ip) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            NetSlice::Ipv6(ip) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            _ => return None,
        };
        let TransportSlice::Tcp(tcp) = packet.transport? else {
            return None;
        };
        let bits = [
            (tcp.fin(), flag::FIN),
            (tcp.syn(), flag::SYN),
            (tcp.rst(), flag::RST),
            (tcp.psh(), flag::PSH),
            (tcp.ack(), flag::ACK),
        ];
        Some(Self {
            from: SocketAddr::new(from, tcp.source_port()),
            to: SocketAddr::new(to, tcp.destination_port()),
            flags: bits.iter().filter(|(set, _)| *set).map(|(_, bit)| bit).sum(),
            sequence: tcp.sequence_number(),
            acknowledgement: tcp.acknowledgment_number(),
            payload: tcp.payload().to_vec(),
        })
    }

    pub fn has(&self, flags: u8) -> bool {
        self.flags & flags == flags
    }
}

/// A connection whose every segment is ours to send, late, twice or never.
#[derive(Debug)]
pub struct Speaker<'a> {
    pub wire: &'a Wire,
    pub own: SocketAddr,
    pub target: SocketAddr,
    /// The next sequence number to send, and the next that is expected.
    pub next: u32,
    pub expected: u32,
}

impl<'a> Speaker<'a> {
    pub fn new(wire: &'a Wire, own: SocketAddr, target: SocketAddr, isn: u32) -> Self {
        Self {
            wire,
            own,
            target,
            next: isn,
            expected: 0,
        }
    }

    /// Completes a handshake.
    pub fn connect(wire: &'a Wire, own: SocketAddr, target: SocketAddr, isn: u32) -> Result<Self> {
        let mut speaker = Self::new(wire, own, target, isn);
        let answer = speaker.try_syn(Duration::from_secs(5))?;
        ensure!(
            answer.has(flag::SYN | flag::ACK),
            "{own} asked {target} and got {answer:?}"
        );
        speaker.next = isn.wrapping_add(1);
        speaker.expected = answer.sequence.wrapping_add(1);
        speaker.say(flag::ACK, &[])?;
        Ok(speaker)
    }

    /// Sends the SYN, again after each second without an answer.
    pub fn try_syn(&self, patience: Duration) -> Result<Segment> {
        for _ in 0..patience.as_secs().max(1) {
            self.say(flag::SYN, &[])?;
            // A reset without the SYN's acknowledgement answers something older (RFC 9293, section 3.10.7.3).
            let ours = self.next.wrapping_add(1);
            if let Some(answer) = self.hear(Duration::from_secs(1), |segment| {
                segment.has(flag::ACK)
                    && segment.flags & (flag::SYN | flag::RST) != 0
                    && segment.acknowledgement == ours
            }) {
                return Ok(answer);
            }
        }
        anyhow::bail!("{} got no answer to its SYN from {}", self.own, self.target)
    }

    /// Sends a segment as the connection stands.
    pub fn say(&self, flags: u8, payload: &[u8]) -> Result<()> {
        self.wire.send(&self.segment(flags, payload).frame(self.wire))
    }

    pub fn segment(&self, flags: u8, payload: &[u8]) -> Segment {
        Segment {
            from: self.own,
            to: self.target,
            flags,
            sequence: self.next,
            acknowledgement: self.expected,
            payload: payload.to_vec(),
        }
    }

    /// Waits for a segment of this connection.
    pub fn hear(&self, patience: Duration, wanted: impl Fn(&Segment) -> bool) -> Option<Segment> {
        self.wire.receive(patience, |frame| {
            Segment::parse(frame)
                .filter(|seen| seen.from == self.target && seen.to == self.own && wanted(seen))
        })
    }

    /// Asks for `/` and gives the answer's text; the connection is alive.
    pub fn ask(&mut self) -> Result<String> {
        let request = b"GET / HTTP/1.1\r\nHost: lab\r\n\r\n";
        for _ in 0..5 {
            self.say(flag::PSH | flag::ACK, request)?;
            let expected = self.expected;
            let answer = self.hear(Duration::from_secs(1), |segment| {
                segment.has(flag::RST) || (!segment.payload.is_empty() && segment.sequence == expected)
            });
            let Some(answer) = answer else { continue };
            ensure!(!answer.has(flag::RST), "{} was reset: {answer:?}", self.own);
            self.next = self.next.wrapping_add(request.len() as u32);
            self.expected = self.expected.wrapping_add(answer.payload.len() as u32);
            self.say(flag::ACK, &[])?;
            return String::from_utf8(answer.payload).context("the answer is no text");
        }
        anyhow::bail!("{} got no answer on its connection to {}", self.own, self.target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        let wire = Wire {
            socket,
            own: [2; 6],
            next: [4; 6],
        };
        let segment = Segment {
            from: "[2001:db8::1]:1".parse().unwrap(),
            to: "[2001:db8::2]:2".parse().unwrap(),
            flags: flag::SYN | flag::ACK,
            sequence: 3,
            acknowledgement: 4,
            payload: b"five".to_vec(),
        };
        assert_eq!(Segment::parse(&segment.frame(&wire)), Some(segment));
    }
}

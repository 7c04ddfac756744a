//! Datagrams made by hand.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use super::Wire;

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub payload: Vec<u8>,
}

impl Datagram {
    pub fn new(from: SocketAddr, to: SocketAddr, payload: &str) -> Self {
        let payload = payload.as_bytes().to_vec();
        Self { from, to, payload }
    }

    /// The frame that carries it over a wire, checksums included.
    pub fn frame(&self, wire: &Wire) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(wire.own, wire.next);
        let network = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), 64),
            (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), 64),
            other => panic!("two families in one packet: {other:?}"),
        };
        let udp = network.udp(self.from.port(), self.to.port());
        let mut frame = Vec::with_capacity(udp.size(self.payload.len()));
        udp.write(&mut frame, &self.payload)
            .expect("a vector takes everything");
        frame
    }

    /// Reads a frame; none where it is no datagram.
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
        let TransportSlice::Udp(udp) = packet.transport? else {
            return None;
        };
        Some(Self {
            from: SocketAddr::new(from, udp.source_port()),
            to: SocketAddr::new(to, udp.destination_port()),
            payload: udp.payload().to_vec(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let wire = Wire {
            socket: std::fs::File::open("/dev/null").unwrap().into(),
            own: [2; 6],
            next: [4; 6],
        };
        let datagram = Datagram::new(
            "192.0.2.1:1".parse().unwrap(),
            "192.0.2.2:2".parse().unwrap(),
            "three",
        );
        assert_eq!(Datagram::parse(&datagram.frame(&wire)), Some(datagram));
    }
}

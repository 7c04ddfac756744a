//! Geneve packets from whoever likes to send some: well made, forged, or broken.

use std::net::SocketAddr;

use anyhow::Result;
use etherparse::PacketBuilder;

use crate::namespace::Namespace;

/// Sends the UDP payload of a Geneve packet from a namespace to a node.
pub fn send(from: &Namespace, node: std::net::IpAddr, payload: &[u8]) -> Result<()> {
    from.run(|| -> Result<()> {
        let socket = super::udp::connect(SocketAddr::new(node, 6081), None)?;
        // An earlier one may have been answered with "port unreachable", which is reported here, once.
        let _ = socket.send(payload).or_else(|_| socket.send(payload))?;
        Ok(())
    })?
}

/// An IPv4 packet with a SYN, as a client would have sent it.
pub fn inner(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let (SocketAddr::V4(from), SocketAddr::V4(to)) = (from, to) else {
        panic!("IPv4 only")
    };
    let builder =
        PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64).tcp(from.port(), to.port(), 1, 64_000);
    let mut packet = Vec::new();
    builder
        .syn()
        .write(&mut packet, &[])
        .expect("a vector takes everything");
    packet
}

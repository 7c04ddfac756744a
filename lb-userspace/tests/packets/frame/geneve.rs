//! The tunnel: packets put into it, and taken out again.

use etherparse::{EtherType, Ipv4Header};
use lb_common::Plain;
use lb_common::geneve::{OVERHEAD, Tunnel, flag};
use lb_common::key::UDP;

use crate::cluster::{self, Net};
use crate::frame::{L3, Packet, read};

/// A frame of the tunnel taken apart: its outer header is right in every field.
#[derive(Clone, Debug)]
pub struct Opened {
    pub outer: Ipv4Header,
    pub tunnel: Tunnel,
    /// The packet inside, with the Ethernet header it would have.
    pub inner: Vec<u8>,
}

impl Opened {
    pub fn member(&self) -> u64 {
        u64::from_be_bytes(self.tunnel.member)
    }

    pub fn ingress(&self) -> u16 {
        u16::from_be_bytes(self.tunnel.ingress)
    }

    /// Nodes still to ask.
    pub fn list(&self) -> Vec<u16> {
        let list = self.tunnel.list.map(u16::from_be_bytes);
        list.into_iter().take_while(|&node| node != 0).collect()
    }
}

/// Takes a frame of the tunnel apart, and checks every field that is not up to the sender.
#[track_caller]
pub fn open(frame: &[u8]) -> Opened {
    let outer = read(frame);
    assert_eq!(
        (outer.to.port(), outer.protocol, outer.unsummed),
        (6081, UDP, true)
    );
    let (outer, _) = Ipv4Header::from_slice(&frame[L3..]).unwrap();
    assert!(outer.dont_fragment && outer.options.is_empty());
    assert_eq!(outer.time_to_live, 64);
    let wire: [u8; size_of::<Tunnel>()] = frame[L3 + 20..L3 + OVERHEAD].try_into().unwrap();
    // SAFETY: `Tunnel` is `Plain`: every bit pattern is a value.
    let tunnel: Tunnel = unsafe { std::mem::transmute(wire) };
    assert_eq!(tunnel.check(cluster::COOKIE), Ok(()));
    assert_eq!(
        u16::from_be_bytes(tunnel.udp_length) as usize + 20 + L3,
        frame.len()
    );
    let mut inner = frame[..L3].to_vec();
    inner[12..].copy_from_slice(&tunnel.protocol);
    inner.extend(&frame[L3 + OVERHEAD..]);
    let family = EtherType(u16::from_be_bytes(tunnel.protocol));
    assert!(matches!(family, EtherType::IPV4 | EtherType::IPV6));
    Opened { outer, tunnel, inner }
}

/// A packet in the tunnel, as node [`cluster::THERE`] would send it to this one.
#[derive(Clone, Debug)]
pub struct Geneve {
    pub node: u16,
    pub tunnel: Tunnel,
    pub inner: Vec<u8>,
}

impl Geneve {
    /// A client's packet that came in at device 7 of node THERE and is meant for `member`.
    pub fn to(member: u64, packet: &Packet) -> Self {
        let net = if packet.to.is_ipv4() { Net::Four } else { Net::Six };
        Self::of(member, net.pool_of(packet.to.port()), &packet.frame())
    }

    /// As [`to`](Self::to), for a packet of the pool that is meant.
    pub fn of(member: u64, pool: u64, frame: &[u8]) -> Self {
        let protocol = u16::from_be_bytes([frame[12], frame[13]]);
        let inner = frame[L3..].to_vec();
        let tunnel = Tunnel {
            member: member.to_be_bytes(),
            ingress: cluster::THERE.to_be_bytes(),
            device: 7,
            ..Tunnel::new(cluster::COOKIE, protocol, inner.len() as u16, 1, pool)
        };
        Self {
            node: cluster::THERE,
            tunnel,
            inner,
        }
    }

    /// A reply of a task of node THERE, to a client of this one's device `device`.
    pub fn reply(device: u32, packet: &Packet) -> Self {
        let mut geneve = Self::to(0, packet);
        geneve.tunnel.device = device as u8;
        geneve.tunnel.flags = flag::REPLY;
        geneve.tunnel.vni = [0; 3];
        geneve
    }

    /// Of a client behind a bridge of node `node`.
    pub fn scoped(mut self, node: u16) -> Self {
        self.node = node;
        self.tunnel.ingress = node.to_be_bytes();
        self.tunnel.device = 0;
        self.flags(flag::SCOPED)
    }

    pub fn flags(mut self, flags: u8) -> Self {
        self.tunnel.flags |= flags;
        self
    }

    pub fn list(mut self, nodes: &[u16]) -> Self {
        for (wire, node) in self.tunnel.list.iter_mut().zip(nodes) {
            *wire = node.to_be_bytes();
        }
        self
    }

    pub fn frame(&self) -> Vec<u8> {
        let mut bytes = bytes(&self.tunnel)[8..].to_vec();
        bytes.extend(&self.inner);
        let from = std::net::Ipv4Addr::from([192, 0, 2, self.node as u8]);
        let port = u16::from_be_bytes(self.tunnel.source_port);
        let mut outer = Packet::udp((from, port).into(), Net::Four.front(6081));
        outer.payload = bytes;
        let mut frame = outer.frame();
        // No outer checksum (RFC 8926, section 3.3).
        frame[L3 + 26..L3 + 28].fill(0);
        frame
    }
}

fn bytes(tunnel: &Tunnel) -> [u8; size_of::<Tunnel>()] {
    const fn plain<T: Plain>() {}
    plain::<Tunnel>();
    // SAFETY: `Tunnel` is `Plain`: no padding, every byte initialised.
    unsafe { std::mem::transmute(*tunnel) }
}

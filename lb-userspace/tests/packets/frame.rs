//! Frames to put in, and a strict reader for what comes out: every length and every checksum, by full recomputation.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    EtherType, IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel,
    Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TransportSlice,
};
use lb_common::Plain;
use lb_common::geneve::{OVERHEAD, Tunnel, flag};
use lb_common::key::{TCP, UDP};

use crate::cluster::{self, Net};

/// Where the IP header starts.
pub const L3: usize = 14;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const ACK: u8 = 16;

/// What to put on the wire.
#[derive(Clone, Debug)]
pub struct Packet {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub protocol: u8,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgement: u32,
    /// TCP options, a multiple of four bytes.
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    pub hops: u8,
    /// DSCP and ECN.
    pub tos: u8,
}

impl Packet {
    pub fn tcp(from: SocketAddr, to: SocketAddr, flags: u8) -> Self {
        Self {
            from,
            to,
            protocol: TCP,
            flags,
            sequence: 1_000,
            acknowledgement: if flags & ACK != 0 { 5_000 } else { 0 },
            options: Vec::new(),
            payload: Vec::new(),
            hops: 60,
            tos: 0,
        }
    }

    /// A client's SYN, with the options of an ordinary stack.
    pub fn syn(from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            options: vec![2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7],
            ..Self::tcp(from, to, SYN)
        }
    }

    pub fn udp(from: SocketAddr, to: SocketAddr) -> Self {
        Self {
            protocol: UDP,
            payload: b"a question".to_vec(),
            ..Self::tcp(from, to, 0)
        }
    }

    pub fn payload(self, payload: &[u8]) -> Self {
        let payload = payload.to_vec();
        Self { payload, ..self }
    }

    /// The frame, its lengths and checksums right.
    pub fn frame(&self) -> Vec<u8> {
        let headers = match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let mut header =
                    Ipv4Header::new(0, self.hops, IpNumber(self.protocol), from.octets(), to.octets())
                        .unwrap();
                header.dscp = (self.tos >> 2).try_into().unwrap();
                header.ecn = (self.tos & 3).try_into().unwrap();
                header.dont_fragment = true;
                header.fragment_offset = IpFragOffset::ZERO;
                header.identification = 0x1234;
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => IpHeaders::Ipv6(
                Ipv6Header {
                    traffic_class: self.tos,
                    flow_label: Ipv6FlowLabel::try_new(0x4_5678).unwrap(),
                    next_header: IpNumber(self.protocol),
                    hop_limit: self.hops,
                    source: from.octets(),
                    destination: to.octets(),
                    ..Ipv6Header::default()
                },
                Ipv6Extensions::default(),
            ),
            other => panic!("two families: {other:?}"),
        };
        let builder = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], cluster::OWN).ip(headers);
        let mut frame = Vec::new();
        if self.protocol == UDP {
            let builder = builder.udp(self.from.port(), self.to.port());
            builder.write(&mut frame, &self.payload).unwrap();
        } else {
            let mut tcp = TcpHeader::new(self.from.port(), self.to.port(), self.sequence, 64_000);
            tcp.acknowledgment_number = self.acknowledgement;
            tcp.fin = self.flags & FIN != 0;
            tcp.syn = self.flags & SYN != 0;
            tcp.rst = self.flags & RST != 0;
            tcp.ack = self.flags & ACK != 0;
            tcp.set_options_raw(&self.options).unwrap();
            builder.tcp_header(tcp).write(&mut frame, &self.payload).unwrap();
        }
        frame
    }
}

/// What a frame turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub protocol: u8,
    pub flags: u8,
    pub sequence: u32,
    pub acknowledgement: u32,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
    pub hops: u8,
    pub tos: u8,
    /// No UDP checksum at all.
    pub unsummed: bool,
}

impl Seen {
    /// The value of the MSS option.
    pub fn mss(&self) -> Option<u16> {
        let at = self.options.windows(2).position(|pair| pair == [2, 4])?;
        Some(u16::from_be_bytes([self.options[at + 2], self.options[at + 3]]))
    }
}

/// Reads a TCP or UDP frame; panics where a length or a checksum is not what it must be.
#[track_caller]
pub fn read(frame: &[u8]) -> Seen {
    let packet = SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let (from, to, hops, tos) = match packet.net.as_ref().expect("an IP packet") {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(
                header.header_checksum,
                header.calc_header_checksum(),
                "IPv4 checksum"
            );
            assert_eq!(header.total_len as usize, frame.len() - L3, "total length");
            (
                IpAddr::from(header.source),
                IpAddr::from(header.destination),
                header.time_to_live,
                frame[L3 + 1],
            )
        }
        NetSlice::Ipv6(ip) => {
            let header = ip.header().to_header();
            assert_eq!(
                header.payload_length as usize,
                frame.len() - L3 - 40,
                "payload length"
            );
            (
                IpAddr::from(header.source),
                IpAddr::from(header.destination),
                header.hop_limit,
                header.traffic_class,
            )
        }
        NetSlice::Arp(_) => panic!("ARP"),
    };
    match packet.transport.as_ref().expect("a transport header") {
        TransportSlice::Tcp(tcp) => {
            let expected = match packet.net.as_ref().unwrap() {
                NetSlice::Ipv4(ip) => tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()),
                NetSlice::Ipv6(ip) => tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()),
                NetSlice::Arp(_) => unreachable!(),
            };
            assert_eq!(tcp.checksum(), expected.unwrap(), "TCP checksum");
            Seen {
                from: (from, tcp.source_port()).into(),
                to: (to, tcp.destination_port()).into(),
                protocol: TCP,
                flags: tcp.header_slice()[13],
                sequence: tcp.sequence_number(),
                acknowledgement: tcp.acknowledgment_number(),
                options: tcp.options().to_vec(),
                payload: tcp.payload().to_vec(),
                hops,
                tos,
                unsummed: false,
            }
        }
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            let unsummed = header.checksum == 0;
            if !unsummed {
                let expected = match packet.net.as_ref().unwrap() {
                    NetSlice::Ipv4(ip) => header.calc_checksum_ipv4_raw(
                        ip.header().source(),
                        ip.header().destination(),
                        udp.payload(),
                    ),
                    NetSlice::Ipv6(ip) => header.calc_checksum_ipv6_raw(
                        ip.header().source(),
                        ip.header().destination(),
                        udp.payload(),
                    ),
                    NetSlice::Arp(_) => unreachable!(),
                };
                assert_eq!(header.checksum, expected.unwrap(), "UDP checksum");
            }
            Seen {
                from: (from, header.source_port).into(),
                to: (to, header.destination_port).into(),
                protocol: UDP,
                flags: 0,
                sequence: 0,
                acknowledgement: 0,
                options: Vec::new(),
                payload: udp.payload().to_vec(),
                hops,
                tos,
                unsummed,
            }
        }
        other => panic!("neither TCP nor UDP: {other:?}"),
    }
}

/// What must be the same in the packet that went in, for all that is not said to change.
pub fn seen(packet: &Packet) -> Seen {
    read(&packet.frame())
}

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

/// An ICMP error of `router` about `quoted`, sent to whoever sent that.
pub fn icmp_error(router: IpAddr, quoted: &[u8]) -> Vec<u8> {
    let quote = &quoted[L3..];
    let mut frame = Vec::new();
    let ethernet = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], cluster::OWN);
    match (router, quote[0] >> 4) {
        (IpAddr::V4(router), 4) => {
            let to: [u8; 4] = quote[12..16].try_into().unwrap();
            // Destination unreachable, fragmentation needed, MTU 1400 (RFC 1191).
            let builder = ethernet
                .ipv4(router.octets(), to, 64)
                .icmpv4_raw(3, 4, [0, 0, 5, 120]);
            builder.write(&mut frame, quote).unwrap();
        }
        (IpAddr::V6(router), 6) => {
            let to: [u8; 16] = quote[8..24].try_into().unwrap();
            // Packet too big, MTU 1400 (RFC 4443, section 3.2).
            let builder = ethernet
                .ipv6(router.octets(), to, 64)
                .icmpv6_raw(2, 0, [0, 0, 5, 120]);
            builder.write(&mut frame, quote).unwrap();
        }
        other => panic!("two families: {other:?}"),
    }
    frame
}

/// Source and destination of an ICMP error and the packet it quotes; panics where a checksum is wrong.
#[track_caller]
pub fn read_error(frame: &[u8]) -> (IpAddr, IpAddr, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(frame).expect("a whole packet");
    let quote = match packet.transport.as_ref().expect("an ICMP header") {
        TransportSlice::Icmpv4(icmp) => {
            assert_eq!(sum(&[icmp.slice()]), 0xffff, "ICMP checksum");
            icmp.payload().to_vec()
        }
        TransportSlice::Icmpv6(icmp) => {
            let NetSlice::Ipv6(ip) = packet.net.as_ref().unwrap() else {
                panic!("ICMPv6 in IPv4");
            };
            assert!(
                icmp.is_checksum_valid(ip.header().source(), ip.header().destination()),
                "ICMPv6 checksum"
            );
            icmp.payload().to_vec()
        }
        other => panic!("no ICMP: {other:?}"),
    };
    let (from, to) = match packet.net.unwrap() {
        NetSlice::Ipv4(ip) => {
            let header = ip.header().to_header();
            assert_eq!(
                header.header_checksum,
                header.calc_header_checksum(),
                "IPv4 checksum"
            );
            (header.source.into(), header.destination.into())
        }
        NetSlice::Ipv6(ip) => (
            ip.header().source_addr().into(),
            ip.header().destination_addr().into(),
        ),
        NetSlice::Arp(_) => panic!("ARP"),
    };
    let mut quoted = frame[..L3].to_vec();
    quoted.extend(quote);
    (from, to, quoted)
}

/// The one's complement sum of all words.
fn sum(parts: &[&[u8]]) -> u16 {
    let sum = parts.iter().map(|part| lb_common::checksum::sum(part)).sum();
    lb_common::checksum::fold(sum)
}

//! Frames to put in, and a strict reader for what comes out: every length and every checksum, by full recomputation.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
    PacketBuilder, TcpHeader,
};
use lb_common::key::{TCP, UDP};

use crate::cluster;

mod extended;
mod geneve;
mod icmp;
mod read;

pub use extended::{fragment, with_extensions, with_options};
pub use geneve::{Geneve, Opened, open};
pub use icmp::{icmp_error, read_error};
pub use read::{Seen, read, seen};

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

//! The strict reader.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use lb_common::key::{TCP, UDP};

use crate::frame::{L3, Packet};

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

//! ICMP errors, and the packets they quote.

use std::net::IpAddr;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};

use crate::cluster;
use crate::frame::L3;

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

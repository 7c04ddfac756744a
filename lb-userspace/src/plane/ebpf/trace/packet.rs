//! The packet a question describes: Ethernet, IP, TCP or UDP, with good checksums and no payload.

use std::net::IpAddr;

use lb_common::checksum;

use crate::model::Protocol;
use crate::plane::{EbpfError, Question};

const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

pub fn build(question: &Question) -> Result<Vec<u8>, EbpfError> {
    let transport = transport(question);
    let mut packet = vec![0u8; 12];
    match (question.source.ip(), question.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend(0x0800u16.to_be_bytes());
            let mut header = [0u8; 20];
            header[0] = 0x45;
            header[2..4].copy_from_slice(&((20 + transport.len()) as u16).to_be_bytes());
            header[6] = 0x40;
            header[8] = 64;
            header[9] = question.protocol.number();
            header[12..16].copy_from_slice(&source.octets());
            header[16..20].copy_from_slice(&destination.octets());
            let sum = !checksum::fold(checksum::sum(&header));
            header[10..12].copy_from_slice(&sum.to_ne_bytes());
            packet.extend(header);
            let addresses = header[12..20].to_vec();
            packet.extend(finished(transport, &addresses, question));
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            packet.extend(0x86ddu16.to_be_bytes());
            let mut header = [0u8; 40];
            header[0] = 0x60;
            header[4..6].copy_from_slice(&(transport.len() as u16).to_be_bytes());
            header[6] = question.protocol.number();
            header[7] = 64;
            header[8..24].copy_from_slice(&source.octets());
            header[24..40].copy_from_slice(&destination.octets());
            packet.extend(header);
            let addresses = header[8..40].to_vec();
            packet.extend(finished(transport, &addresses, question));
        }
        (source, destination) => return Err(EbpfError::Families(source, destination)),
    }
    Ok(packet)
}

/// The TCP or UDP header, without its checksum.
fn transport(question: &Question) -> Vec<u8> {
    let mut header = Vec::with_capacity(20);
    header.extend(question.source.port().to_be_bytes());
    header.extend(question.destination.port().to_be_bytes());
    match question.protocol {
        Protocol::Tcp => {
            let flags = if question.opens { SYN } else { ACK };
            header.extend(1u32.to_be_bytes());
            header.extend(u32::from(!question.opens).to_be_bytes());
            header.extend([5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0]);
        }
        Protocol::Udp => header.extend([0, 8, 0, 0]),
    }
    header
}

/// With the checksum over the pseudo-header (RFC 9293, section 3.1; RFC 768; RFC 8200, section 8.1).
fn finished(mut header: Vec<u8>, addresses: &[u8], question: &Question) -> Vec<u8> {
    let at = if question.protocol == Protocol::Tcp { 16 } else { 6 };
    let pseudo = [0, question.protocol.number(), 0, header.len() as u8];
    let sum = checksum::sum(addresses) + checksum::sum(&pseudo) + checksum::sum(&header);
    // A UDP checksum that comes out as zero is sent as ones: zero means none.
    let sum = match !checksum::fold(sum) {
        0 if question.protocol == Protocol::Udp => 0xffff,
        sum => sum,
    };
    header[at..at + 2].copy_from_slice(&sum.to_ne_bytes());
    header
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::tcp4("192.0.2.1:1000", "198.51.100.1:80", Protocol::Tcp)]
    #[case::udp4("192.0.2.1:1000", "198.51.100.1:53", Protocol::Udp)]
    #[case::tcp6("[2001:db8::1]:1000", "[2001:db8::2]:80", Protocol::Tcp)]
    #[case::udp6("[2001:db8::1]:1000", "[2001:db8::2]:53", Protocol::Udp)]
    fn a_packet_is_one_that_others_accept(
        #[case] source: &str,
        #[case] destination: &str,
        #[case] protocol: Protocol,
    ) {
        let question = Question {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            opens: true,
        };
        let packet = build(&question).unwrap();
        let sliced = SlicedPacket::from_ethernet(&packet).unwrap();
        let (found, wanted) = match (sliced.net.unwrap(), sliced.transport.unwrap()) {
            (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
                let header = ip.header().to_header();
                assert_eq!(header.header_checksum, header.calc_header_checksum());
                (
                    tcp.checksum(),
                    tcp.to_header().calc_checksum_ipv4(&header, &[]).unwrap(),
                )
            }
            (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
                let header = ip.header().to_header();
                (
                    udp.checksum(),
                    udp.to_header().calc_checksum_ipv4(&header, &[]).unwrap(),
                )
            }
            (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => (
                tcp.checksum(),
                tcp.to_header()
                    .calc_checksum_ipv6(&ip.header().to_header(), &[])
                    .unwrap(),
            ),
            (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => (
                udp.checksum(),
                udp.to_header()
                    .calc_checksum_ipv6(&ip.header().to_header(), &[])
                    .unwrap(),
            ),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, wanted);
    }

    #[test]
    fn a_packet_cannot_be_of_two_families() {
        let question = Question {
            source: "192.0.2.1:1".parse().unwrap(),
            destination: "[2001:db8::2]:80".parse().unwrap(),
            protocol: Protocol::Tcp,
            opens: true,
        };
        assert!(matches!(build(&question), Err(EbpfError::Families(..))));
    }
}

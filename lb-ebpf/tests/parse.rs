//! Frames, as the programs read them.

use etherparse::PacketBuilder;
use lb_common::key::{TCP, UDP};
use lb_ebpf::frame::Frame;
use lb_ebpf::parse::{Four, Kind, Packet, Part, Six, sketch, verify};
use proptest::prelude::*;

/// A frame in a buffer.
#[derive(Clone, Copy)]
struct Bytes<'a>(&'a [u8]);

impl Frame for Bytes<'_> {
    fn start(&self) -> usize {
        self.0.as_ptr() as usize
    }

    fn end(&self) -> usize {
        self.start() + self.0.len()
    }

    fn length(&self) -> usize {
        self.0.len()
    }
}

const CLIENT: [u8; 4] = [198, 51, 100, 10];
const FRONT: [u8; 4] = [192, 0, 2, 11];
const CLIENT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0x51, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10];
const FRONT6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x11];

fn syn() -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(CLIENT, FRONT, 64)
        .tcp(40000, 8080, 1, 65535)
        .syn()
        .write(&mut frame, &[])
        .expect("a buffer takes everything");
    frame
}

fn datagram6(payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv6(CLIENT6, FRONT6, 64)
        .udp(40000, 53)
        .write(&mut frame, payload)
        .expect("a buffer takes everything");
    frame
}

fn four(frame: &[u8]) -> Option<Packet<[u8; 4]>> {
    sketch::<Four, _>(Bytes(frame))
}

fn six(frame: &[u8]) -> Option<Packet<[u8; 16]>> {
    sketch::<Six, _>(Bytes(frame))
}

#[test]
fn a_syn_is_a_new_connection_to_its_destination() {
    let frame = syn();
    let packet = four(&frame).unwrap();
    assert_eq!((packet.kind, packet.part), (Kind::Tcp, Part::Whole));
    assert_eq!((packet.key.client, packet.key.front), (CLIENT, FRONT));
    assert_eq!(packet.key.client_port, 40000u16.to_be_bytes());
    assert_eq!(packet.key.front_port, 8080u16.to_be_bytes());
    assert_eq!(packet.key.protocol, TCP);
    assert!(packet.is_new());
    assert_eq!(verify(Bytes(&frame), &packet), Ok(()));
}

#[test]
fn ipv4_options_move_the_transport_header() {
    let mut frame = syn();
    frame.splice(34..34, [1u8, 1, 1, 0]);
    frame[14] = 0x46;
    let length = (frame.len() - 14) as u16;
    frame[16..18].copy_from_slice(&length.to_be_bytes());
    let packet = four(&frame).unwrap();
    assert_eq!(packet.l4, 38);
    assert!(packet.is_new());
    assert_eq!(verify(Bytes(&frame), &packet), Ok(()));
}

#[test]
fn ipv6_extension_headers_are_walked() {
    let mut frame = datagram6(b"question");
    // A destination options header of 8 bytes, padding only.
    frame.splice(54..54, [UDP, 0, 1, 4, 0, 0, 0, 0]);
    frame[20] = 60;
    frame[18..20].copy_from_slice(&24u16.to_be_bytes());
    let packet = six(&frame).unwrap();
    assert_eq!((packet.l4, packet.kind), (62, Kind::Udp));
    assert_eq!(packet.key.front_port, 53u16.to_be_bytes());
    assert_eq!(verify(Bytes(&frame), &packet), Ok(()));
}

#[test]
fn a_first_fragment_has_ports_and_a_later_one_has_none() {
    let mut frame = syn();
    frame[20] = 0x20;
    frame[18..20].copy_from_slice(&[7, 8]);
    let first = four(&frame).unwrap();
    assert_eq!((first.part, first.id), (Part::First, [0, 0, 7, 8]));
    assert_eq!(first.key.front_port, 8080u16.to_be_bytes());
    frame[20..22].copy_from_slice(&[0, 185]);
    let later = four(&frame).unwrap();
    assert_eq!((later.part, later.id), (Part::Later, [0, 0, 7, 8]));
    assert_eq!((later.key.client_port, later.key.front_port), ([0; 2], [0; 2]));
    assert!(!later.is_new());
}

#[test]
fn an_icmp_error_belongs_to_the_flow_it_quotes() {
    // The quoted packet went from the frontend to the client.
    let mut quoted = Vec::new();
    PacketBuilder::ipv4(FRONT, CLIENT, 64)
        .udp(53, 40000)
        .write(&mut quoted, b"answer")
        .unwrap();
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([203, 0, 113, 9], FRONT, 64)
        .icmpv4_raw(3, 4, [0; 4])
        .write(&mut frame, &quoted)
        .unwrap();
    let packet = four(&frame).unwrap();
    assert_eq!(packet.kind, Kind::IcmpError);
    assert_eq!((packet.key.client, packet.key.front), (CLIENT, FRONT));
    assert_eq!(packet.key.client_port, 40000u16.to_be_bytes());
    assert_eq!(packet.key.front_port, 53u16.to_be_bytes());
    assert_eq!((packet.l4, packet.quoted), (34, 62));
}

#[test]
fn an_icmp_echo_is_nobodys_flow() {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4(CLIENT, FRONT, 64)
        .icmpv4_echo_request(1, 1)
        .write(&mut frame, b"ping")
        .unwrap();
    assert!(four(&frame).is_none());
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let sound = syn();
    let broken = |at: usize, value: u8| {
        let mut frame = sound.clone();
        frame[at] = value;
        let packet = four(&frame).unwrap();
        verify(Bytes(&frame), &packet)
    };
    use lb_common::Verdict::{BadHeader, Truncated};
    assert_eq!(broken(17, 200), Err(Truncated), "total length beyond the frame");
    assert_eq!(
        broken(17, 39),
        Err(BadHeader),
        "total length within the TCP header"
    );
    assert_eq!(broken(46, 0x40), Err(BadHeader), "data offset below five words");
    assert_eq!(broken(46, 0xf0), Err(BadHeader), "data offset beyond the packet");
    assert_eq!(broken(47, 0x03), Err(BadHeader), "SYN and FIN");
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_without_reading_beyond_them(mut bytes in proptest::collection::vec(any::<u8>(), 0..200), six_first in any::<bool>()) {
        if let Some(version) = bytes.get_mut(14) {
            *version = if six_first { 0x60 | *version & 0xf } else { 0x40 | *version & 0xf };
        }
        // An exact allocation, so that a read beyond it is a fault and not luck.
        let exact = bytes.into_boxed_slice();
        if let Some(packet) = four(&exact) {
            let _ = verify(Bytes(&exact), &packet);
            prop_assert!(packet.l4 as usize <= exact.len());
        }
        if let Some(packet) = six(&exact) {
            let _ = verify(Bytes(&exact), &packet);
        }
    }

    #[test]
    fn a_frame_cut_short_is_not_ours_or_truncated(cut in 0usize..62) {
        let whole = datagram6(b"payload!");
        prop_assert_eq!(whole.len(), 70);
        let frame = &whole[..cut];
        if let Some(packet) = six(frame) {
            prop_assert_eq!(verify(Bytes(frame), &packet), Err(lb_common::Verdict::Truncated));
        }
    }
}

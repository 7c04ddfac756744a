//! Header fields that cannot be.

use lb_common::Verdict;

use crate::cluster::{self, BOTH, Net, port};
use crate::frame::{ACK, FIN, L3, Packet, RST, SYN};
use crate::judge::put_in;
use crate::rig::Rig;

#[test]
fn header_fields_that_cannot_be_are_dropped_under_their_reason() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let four = net == Net::Four;
        let l4 = L3 + if four { 20 } else { 40 };
        let length = if four { L3 + 2 } else { L3 + 4 };
        for port in [port::HERE, port::THERE, port::NOBODY] {
            let (client, front) = (net.client(), net.front(port));
            let tcp = Packet::tcp(client, front, ACK).payload(b"data").frame();
            let udp = Packet::udp(client, front).frame();
            let wrong = |frame: &[u8], at: usize, bytes: &[u8]| {
                let mut frame = frame.to_vec();
                frame[at..at + bytes.len()].copy_from_slice(bytes);
                frame
            };
            let mut cases = vec![
                (wrong(&tcp, l4 + 12, &[0x40]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 12, &[0x00]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 12, &[0x70]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 12, &[0xf0]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 13, &[SYN | FIN]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 13, &[SYN | RST]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 13, &[0xff]), Verdict::BadHeader),
                (wrong(&udp, l4 + 4, &[0, 0]), Verdict::BadHeader),
                (wrong(&udp, l4 + 4, &[0, 7]), Verdict::BadHeader),
                (wrong(&udp, l4 + 4, &[0, 19]), Verdict::BadHeader),
                (wrong(&udp, l4 + 4, &[0xff, 0xff]), Verdict::BadHeader),
                (wrong(&tcp, length, &[0, 0]), Verdict::BadHeader),
                (wrong(&tcp, length, &[0, 19]), Verdict::BadHeader),
                (wrong(&udp, length, &[0, 7]), Verdict::BadHeader),
                (wrong(&tcp, length, &[0x05, 0xdc]), Verdict::Truncated),
                (wrong(&udp, length, &[0xff, 0xff]), Verdict::Truncated),
                (wrong(&tcp, L3, &[0x05]), Verdict::NotOurs),
                (wrong(&tcp, L3, &[0x54]), Verdict::NotOurs),
                (wrong(&tcp, L3 - 2, &[0x08, 0x06]), Verdict::NotOurs),
            ];
            if four {
                cases.push((wrong(&tcp, L3, &[0x44]), Verdict::NotOurs));
                cases.push((wrong(&tcp, L3, &[0x40]), Verdict::NotOurs));
            }
            for (frame, expected) in cases {
                assert_eq!(put_in(&mut rig, &frame), expected, "{port} {frame:02x?}");
            }
        }
    }
}

/// No device has looked at it, and no stack sees a relayed packet before its task's. That one looks at what is delivered.
#[test]
fn a_packet_with_a_wrong_ipv4_header_checksum_is_not_sent_to_another_node() {
    let Some(mut rig) = Rig::new() else { return };
    let net = Net::Four;
    cluster::locals(&mut rig, net);
    let client = net.client();
    let damages = [(L3 + 10, 1), (L3 + 11, 0x80), (L3 + 8, 2)];
    let damaged = |frame: &[u8], (at, bit): (usize, u8)| {
        let mut wrong = frame.to_vec();
        wrong[at] ^= bit;
        wrong
    };
    let front = net.front(port::THERE);
    for packet in [
        Packet::syn(client, front),
        Packet::tcp(client, front, ACK).payload(b"data"),
        Packet::udp(client, front),
    ] {
        let good = packet.frame();
        let with_options = crate::frame::with_options(&good, &[1; 40]);
        for frame in [good, with_options] {
            assert_eq!(put_in(&mut rig, &frame), Verdict::Relayed);
            for damage in damages {
                let wrong = damaged(&frame, damage);
                assert_eq!(put_in(&mut rig, &wrong), Verdict::BadHeader, "{damage:?}");
            }
        }
    }
    let syn = Packet::syn(client, net.front(port::HERE)).frame();
    for damage in damages {
        let sent = rig.uplink(&damaged(&syn, damage)).sent(Verdict::Delivered);
        let (header, _) = etherparse::Ipv4Header::from_slice(&sent[L3..]).unwrap();
        assert_ne!(
            header.header_checksum,
            header.calc_header_checksum(),
            "{damage:?}"
        );
    }
}

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

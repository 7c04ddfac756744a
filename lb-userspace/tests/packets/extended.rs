//! IPv4 options and IPv6 extension headers: slower, not refused.

use lb_common::Verdict;

use crate::cluster::{self, Net, port};
use crate::frame::{L3, Packet, SYN, read, with_extensions, with_options};
use crate::judge::put_in;
use crate::rig::Rig;

#[test]
fn ipv4_options_are_carried_by_the_tc_program() {
    let Some(mut rig) = Rig::new() else { return };
    for port in [port::HERE, port::THERE] {
        for options in [
            &[1, 1, 1, 0][..],
            &[0x44, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1; 40],
        ] {
            for packet in [
                Packet::syn(Net::Four.client(), Net::Four.front(port)),
                Packet::udp(Net::Four.client(), Net::Four.front(port)),
            ] {
                let frame = with_options(&packet.frame(), options);
                read(&frame);
                let expected = if port == port::HERE {
                    Verdict::Delivered
                } else {
                    Verdict::Relayed
                };
                assert_eq!(put_in(&mut rig, &frame), expected);
                let sent = rig.uplink(&frame).frame;
                let sent = read(&sent);
                let inside = if port == port::HERE {
                    Net::Four.task()
                } else {
                    sent.to
                };
                assert_eq!(sent.to, inside);
            }
        }
    }
}

#[test]
fn ipv6_extension_headers_are_carried_by_the_tc_program() {
    let Some(mut rig) = Rig::new() else { return };
    let net = Net::Six;
    cluster::locals(&mut rig, net);
    for port in [port::HERE, port::THERE] {
        for extensions in [&[(0, 8)][..], &[(60, 16)], &[(0, 8), (60, 24)], &[(43, 64)]] {
            let packet = Packet::tcp(net.client(), net.front(port), SYN);
            let frame = with_extensions(&packet.frame(), extensions);
            read(&frame);
            let expected = if port == port::HERE {
                Verdict::Delivered
            } else {
                Verdict::Relayed
            };
            assert_eq!(put_in(&mut rig, &frame), expected, "{extensions:?}");
            let sent = rig.uplink(&frame).sent(expected);
            if port == port::HERE {
                assert_eq!(read(&sent).to, net.task());
            }
        }
        // More than are followed, or longer: the node's own stack may have it.
        for extensions in [&[(0, 8), (60, 8), (43, 8)][..], &[(60, 80)]] {
            let frame = with_extensions(
                &Packet::tcp(net.client(), net.front(port), SYN).frame(),
                extensions,
            );
            assert_eq!(put_in(&mut rig, &frame), Verdict::NotOurs, "{extensions:?}");
        }
        // A header that says it is longer than the packet.
        let mut frame = with_extensions(&Packet::udp(net.client(), net.front(port)).frame(), &[(60, 8)]);
        frame[L3 + 41] = 7;
        assert_eq!(put_in(&mut rig, &frame), Verdict::NotOurs);
    }
}

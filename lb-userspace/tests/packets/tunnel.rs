//! What comes out of the tunnel is believed only where sender, cookie, format and lengths are right.

use lb_common::Verdict;
use lb_common::geneve::{Tunnel, flag};

use crate::cluster::{self, BOTH, Net, REMOTE, STRANGER, TASK, port};
use crate::frame::{ACK, Geneve, L3, Packet, SYN, read, seen};
use crate::rig::{Rig, XDP_PASS, XDP_TX};

/// XDP leaves the frame to tc, unchanged.
#[track_caller]
fn is_left_to_tc(rig: &mut Rig, frame: &[u8]) {
    let ran = rig.xdp(frame);
    assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
    assert_eq!(ran.frame, frame);
}

/// Both kinds of tunnel packet: to a task of this node, and a reply for a client of it.
fn kinds(rig: &Rig, net: Net) -> [Geneve; 2] {
    [
        Geneve::to(TASK, &Packet::syn(net.client(), net.front(port::HERE))),
        Geneve::reply(rig.wire, &Packet::tcp(net.front(port::THERE), net.client(), ACK)),
    ]
}

#[test]
fn geneve_from_an_unknown_node_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for geneve in kinds(&rig, net) {
            let frame = Geneve {
                node: STRANGER,
                ..geneve
            }
            .frame();
            is_left_to_tc(&mut rig, &frame);
            rig.uplink(&frame).dropped(Verdict::UnknownPeer);
        }
    }
}

#[test]
fn geneve_with_another_clusters_cookie_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for mut geneve in kinds(&rig, net) {
            for cookie in [0, !cluster::COOKIE, cluster::COOKIE ^ 1] {
                geneve.tunnel.cookie = cookie.to_be_bytes();
                is_left_to_tc(&mut rig, &geneve.frame());
                rig.uplink(&geneve.frame()).dropped(Verdict::WrongCookie);
            }
        }
    }
}

#[test]
fn geneve_of_another_format_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    let changes: [fn(&mut Tunnel); 8] = [
        |tunnel| tunnel.version_and_option_words |= 0x40,
        |tunnel| tunnel.version_and_option_words = 8,
        |tunnel| tunnel.version_and_option_words = 0,
        |tunnel| tunnel.control |= 0x80,
        |tunnel| tunnel.protocol = [0x65, 0x58],
        |tunnel| tunnel.class = [0x01, 0x02],
        |tunnel| tunnel.option_type = 0x80,
        |tunnel| tunnel.option_words = 7,
    ];
    for net in BOTH {
        for geneve in kinds(&rig, net) {
            for change in changes {
                let mut geneve = geneve.clone();
                change(&mut geneve.tunnel);
                is_left_to_tc(&mut rig, &geneve.frame());
                rig.uplink(&geneve.frame()).dropped(Verdict::BadGeneve);
            }
        }
    }
}

#[test]
fn geneve_whose_lengths_do_not_add_up_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for geneve in kinds(&rig, net) {
            let whole = geneve.frame();
            let add = |at: usize, by: u16| {
                let mut frame = whole.clone();
                let word = u16::from_be_bytes([frame[at], frame[at + 1]]).wrapping_add(by);
                frame[at..at + 2].copy_from_slice(&word.to_be_bytes());
                frame
            };
            let (ip, udp) = (L3 + 2, L3 + 24);
            for frame in [
                add(udp, 1),
                add(udp, u16::MAX),
                add(ip, 1),
                add(ip, u16::MAX),
                add(ip, 40_000),
                whole[..whole.len() - 1].to_vec(),
            ] {
                let ran = rig.xdp(&frame);
                assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
                rig.uplink(&frame).dropped(Verdict::Truncated);
            }
        }
    }
}

#[test]
fn geneve_cut_at_any_length_is_dropped_and_counted() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for geneve in kinds(&rig, net) {
            let whole = geneve.frame();
            // Up to the outer ports it is not known to be Geneve.
            for length in L3 + 24..whole.len() {
                is_left_to_tc(&mut rig, &whole[..length]);
                rig.uplink(&whole[..length]).dropped(Verdict::Truncated);
            }
        }
    }
}

#[test]
fn a_malformed_packet_in_good_geneve_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let transport = if net == Net::Four { 20 } else { 40 };
        for geneve in kinds(&rig, net) {
            let mut offset = geneve.clone();
            offset.inner[transport + 12] = 4 << 4;
            let mut flags = geneve.clone();
            flags.inner[transport + 13] = SYN | crate::frame::FIN;
            let mut version = geneve.clone();
            version.inner[0] ^= 0xf0;
            let mut protocol = geneve.clone();
            protocol.inner[if net == Net::Four { 9 } else { 6 }] = 132;
            for (geneve, verdict) in [
                (offset, Verdict::BadHeader),
                (flags, Verdict::BadHeader),
                (version, Verdict::BadHeader),
                (protocol, Verdict::BadHeader),
            ] {
                let frame = geneve.frame();
                let ran = rig.xdp(&frame);
                if geneve.tunnel.flags & flag::REPLY == 0 {
                    assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
                }
                rig.uplink(&frame).dropped(verdict);
            }
        }
    }
}

#[test]
fn geneve_for_a_frontend_that_is_not_here_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for packet in [
            Packet::syn(net.client(), net.front(port::NONE)),
            Packet::tcp(net.client(), net.front(port::NONE), ACK),
            Packet::udp(net.client(), net.front(port::NONE)),
        ] {
            let frame = Geneve::to(TASK, &packet).frame();
            is_left_to_tc(&mut rig, &frame);
            rig.uplink(&frame).dropped(Verdict::NotHere);
        }
    }
}

/// The frontend is known here, the member named is not, and the pool has no other.
#[test]
fn geneve_for_a_backend_that_is_not_here_is_dropped() {
    const NOWHERE: u64 = 0xeeee_0000_0000_0001;
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let front = net.front(port::NOBODY);
        for packet in [
            Packet::syn(net.client(), front),
            Packet::udp(net.client(), front),
            Packet::tcp(net.client(), front, ACK),
        ] {
            let frame = Geneve::to(NOWHERE, &packet).frame();
            is_left_to_tc(&mut rig, &frame);
            rig.uplink(&frame).dropped(Verdict::NotHere);
            let moved = Geneve::to(NOWHERE, &packet).flags(flag::MOVED).frame();
            rig.uplink(&moved).dropped(Verdict::NotHere);
        }
    }
}

/// The ingress relays a packet as it is, so its owner is the one hop that it makes.
#[test]
fn a_relayed_packet_with_no_hop_left_is_dropped_by_its_owner() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for hops in [0, 1] {
            let packet = Packet {
                hops,
                ..Packet::syn(net.client(), net.front(port::HERE))
            };
            rig.uplink(&Geneve::to(TASK, &packet).frame())
                .dropped(Verdict::TtlExpired);
            rig.uplink(&packet.frame()).dropped(Verdict::TtlExpired);
            let packet = Packet {
                to: net.front(port::THERE),
                ..packet
            };
            let sent = rig.uplink(&packet.frame()).sent(Verdict::Relayed);
            assert_eq!(crate::frame::open(&sent).inner[L3..], packet.frame()[L3..]);
        }
    }
}

#[test]
fn a_new_connection_for_a_task_that_is_not_here_is_handed_on_once() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let syn = Packet::syn(net.client(), net.front(port::THERE));
        let frame = Geneve::to(REMOTE, &syn).frame();
        is_left_to_tc(&mut rig, &frame);
        rig.uplink(&frame).sent(Verdict::Moved);
        let frame = Geneve::to(REMOTE, &syn).flags(flag::MOVED).frame();
        is_left_to_tc(&mut rig, &frame);
        rig.uplink(&frame).dropped(Verdict::NotListening);
    }
}

#[test]
fn a_reply_that_comes_from_no_frontend_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for source in [net.front(port::NONE), net.task(), net.client()] {
            let mut destination = net.client();
            destination.set_port(1);
            let frame = Geneve::reply(rig.wire, &Packet::tcp(source, destination, ACK)).frame();
            is_left_to_tc(&mut rig, &frame);
            rig.uplink(&frame).dropped(Verdict::ForgedReply);
        }
    }
}

#[test]
fn a_reply_from_a_peer_is_unwrapped_and_sent_on() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let (front, client) = (net.front(port::THERE), net.client());
        for packet in [
            Packet::tcp(front, client, SYN | ACK),
            Packet::tcp(front, client, ACK).payload(&[3; 1300]),
            Packet::udp(front, client),
        ] {
            let frame = Geneve::reply(rig.wire, &packet).frame();
            let by_tc = rig.uplink(&frame).sent(Verdict::ReplyForwarded);
            assert_eq!(by_tc[L3 - 2..], packet.frame()[L3 - 2..]);
            let ran = rig.xdp(&frame);
            assert_eq!((ran.verdict(), ran.action), (Verdict::ReplyForwarded, XDP_TX));
            assert_eq!(ran.frame[L3 - 2..], by_tc[L3 - 2..]);
            assert_eq!(
                ran.frame[..12],
                [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 11],
                "the router, and us"
            );
            assert_eq!(read(&ran.frame), seen(&packet));
        }
    }
}

#[test]
fn a_reply_whose_next_hop_is_not_known_is_tcs() {
    let Some(mut rig) = Rig::new() else { return };
    crate::rig::shell("ip neighbour del 192.0.2.1 dev wire; ip -6 neighbour del 2001:db8::1 dev wire");
    for net in BOTH {
        let packet = Packet::tcp(net.front(port::THERE), net.client(), ACK);
        let frame = Geneve::reply(rig.wire, &packet).frame();
        is_left_to_tc(&mut rig, &frame);
        let sent = rig.uplink(&frame).sent(Verdict::ReplyForwarded);
        assert_eq!(sent[L3 - 2..], packet.frame()[L3 - 2..]);
    }
}

#[test]
fn a_reply_for_a_device_that_is_gone_leaves_by_the_routing_table() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for device in [0, 200] {
            let packet = Packet::tcp(net.front(port::THERE), net.client(), ACK);
            let frame = Geneve::reply(device, &packet).frame();
            is_left_to_tc(&mut rig, &frame);
            rig.uplink(&frame).sent(Verdict::ReplyForwarded);
        }
    }
}

#[test]
fn a_reply_is_never_balanced_again() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        // Its destination happens to be a frontend of this node.
        let packet = Packet::tcp(net.front(port::THERE), net.front(port::HERE), ACK);
        let frame = Geneve::reply(rig.wire, &packet).frame();
        let sent = rig.uplink(&frame).sent(Verdict::ReplyForwarded);
        assert_eq!(sent[L3..], packet.frame()[L3..]);
    }
}

#[test]
fn geneve_for_somebody_else_is_left_alone() {
    let Some(mut rig) = Rig::new() else { return };
    let mut frame = Geneve::to(
        TASK,
        &Packet::syn(Net::Four.client(), Net::Four.front(port::HERE)),
    )
    .frame();
    frame[L3 + 19] ^= 1;
    let ran = rig.xdp(&frame);
    assert_eq!((ran.action, &ran.verdicts[..]), (XDP_PASS, &[][..]));
    let ran = rig.uplink(&frame);
    assert_eq!(ran.verdict(), Verdict::NotOurs);
    assert_eq!(ran.frame, frame);
}

#[test]
fn a_member_of_another_pool_takes_no_connection_of_this_one() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        // An old packet, or one from a node whose view lags: it names a task that now serves something else.
        let front = net.front(port::THERE);
        let syn = Packet::syn(net.client(), front);
        let ran = rig.uplink(&Geneve::to(TASK, &syn).frame());
        assert_ne!(ran.verdict(), Verdict::Delivered, "{net:?}");
        // Its sender and this node disagree about which service the frontend is.
        let mut other = Geneve::to(TASK, &Packet::syn(net.client(), net.front(port::HERE)));
        other.tunnel.vni[0] ^= 1;
        rig.uplink(&other.frame()).dropped(Verdict::NotHere);
    }
}

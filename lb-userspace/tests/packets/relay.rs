//! Ingress rules 1, 2 and 4: what another node owns goes there, untouched, inside Geneve.

use lb_common::Verdict;
use lb_common::geneve::OVERHEAD;
use lb_common::hash;
use lb_common::key::{TCP, UDP};
use lb_common::table::{Node, Uplink, node_flag};

use crate::by_family;
use crate::cluster::{self, BOTH, HERE, Narrow, Net, REMOTE, THERE, port};
use crate::frame::{ACK, Geneve, L3, Opened, Packet, SYN, icmp_error, open, read_error};
use crate::rig::{Rig, TC_UNSPEC, XDP_PASS, XDP_REDIRECT, XDP_TX};

fn kinds(net: Net) -> Vec<Packet> {
    let (client, front) = (net.client(), net.front(port::THERE));
    vec![
        Packet::syn(client, front),
        Packet::tcp(client, front, ACK).payload(b"GET / HTTP/1.1\r\n\r\n"),
        Packet::tcp(client, front, ACK).payload(&[7; 1368 - 60]),
        Packet::udp(client, front),
        Packet::udp(client, front).payload(&[]),
    ]
}

/// What must be true of every relayed packet.
#[track_caller]
fn check(opened: &Opened, packet: &Packet, net: Net, rig: &Rig) {
    let frame = packet.frame();
    assert_eq!(opened.inner[L3..], frame[L3..], "the packet inside");
    assert_eq!(opened.outer.source, cluster::ADDRESS);
    assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
    assert_eq!(opened.member(), REMOTE);
    assert_eq!(opened.ingress(), HERE);
    assert_eq!(opened.tunnel.device, rig.wire as u8);
    assert_eq!(opened.tunnel.flags, 0);
    assert!(opened.list().is_empty());
    assert_eq!(opened.tunnel.vni, [0, 0, net.pool(port::THERE) as u8]);
}

#[test]
fn a_packet_for_a_remote_owner_goes_there_untouched_inside_geneve() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for packet in kinds(net) {
            let opened = open(&rig.uplink(&packet.frame()).sent(Verdict::Relayed));
            check(&opened, &packet, net, &rig);
        }
    }
}

#[test]
fn xdp_and_tc_send_the_same_bytes() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for packet in kinds(net) {
            let frame = packet.frame();
            let by_tc = rig.uplink(&frame).sent(Verdict::Relayed);
            let ran = rig.xdp(&frame);
            assert_eq!(
                (ran.verdict(), ran.action),
                (Verdict::Relayed, XDP_TX),
                "{packet:?}"
            );
            assert_eq!(ran.frame[L3 - 2..], by_tc[L3 - 2..], "{packet:?}");
            assert_eq!(ran.frame[..6], cluster::NEXT_HOP);
            assert_eq!(ran.frame[6..12], cluster::OWN);
            check(&open(&ran.frame), &packet, net, &rig);
        }
    }
}

#[test]
fn dscp_and_ecn_are_copied_to_the_outer_header() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for tos in [0x00, 0xb8, 0x03, 0xff] {
            let mut packet = Packet::tcp(net.client(), net.front(port::THERE), ACK);
            packet.tos = tos;
            let by_tc = rig.uplink(&packet.frame()).sent(Verdict::Relayed);
            assert_eq!(by_tc[L3 + 1], tos);
            open(&by_tc);
            assert_eq!(rig.xdp(&packet.frame()).frame[L3..], by_tc[L3..]);
        }
    }
}

#[test]
fn ethernet_padding_is_not_sent_along() {
    let Some(mut rig) = Rig::new() else { return };
    let packet = Packet::tcp(Net::Four.client(), Net::Four.front(port::THERE), ACK);
    let mut frame = packet.frame();
    assert_eq!(frame.len(), 54);
    frame.resize(60, 0);
    for ran in [rig.uplink(&frame), rig.xdp(&frame)] {
        assert_eq!(ran.verdict(), Verdict::Relayed);
        // Behind the packet there may be padding again; what the headers say must be the packet.
        let length = u16::from_be_bytes([ran.frame[L3 + 2], ran.frame[L3 + 3]]) as usize;
        assert_eq!(length, 40 + OVERHEAD);
        let opened = open(&ran.frame[..L3 + length]);
        check(&opened, &packet, Net::Four, &rig);
    }
}

#[test]
fn the_outer_source_port_spreads_flows_and_is_the_same_for_all_packets_of_one() {
    let Some(mut rig) = Rig::new() else { return };
    let mut ports = std::collections::BTreeSet::new();
    for source in 40_000..40_064 {
        let mut client = Net::Four.client();
        client.set_port(source);
        let syn = Packet::syn(client, Net::Four.front(port::THERE));
        let data = Packet::tcp(client, Net::Four.front(port::THERE), ACK);
        let [first, second] = [syn, data].map(|packet| {
            let opened = open(&rig.uplink(&packet.frame()).sent(Verdict::Relayed));
            u16::from_be_bytes(opened.tunnel.source_port)
        });
        assert_eq!(first, second);
        assert!(first >= 0xc000);
        ports.insert(first);
    }
    assert!(ports.len() > 48, "{} ports for 64 flows", ports.len());
}

#[test]
fn the_slot_of_a_flow_is_the_one_that_every_node_computes() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let pool = net.pool(port::THERE);
        for (protocol, source) in [(TCP, 1024), (TCP, 50_123), (UDP, 50_123)] {
            let mut client = net.client();
            client.set_port(source);
            let front = net.front(port::THERE);
            let slot = by_family!(net, A => {
                let key = cluster::flow_key::<A>(client, front, protocol);
                hash::slot(hash::flow_hash(cluster::SEED, A::of(client.ip()), key.ports(), protocol), cluster::SLOTS)
            });
            // Of all slots only that one leads to a node.
            let mut block: lb_common::table::HeadBlock = rig.get("HEAD", pool);
            block.member = [lb_common::table::NO_MEMBER; 64];
            block.member[slot as usize] = cluster::number::REMOTE;
            rig.set("HEAD", pool, block);
            let packet = Packet {
                protocol,
                ..Packet::tcp(client, front, ACK)
            };
            rig.uplink(&packet.frame()).sent(Verdict::Relayed);
        }
    }
}

#[test]
fn with_client_affinity_the_address_alone_chooses_the_slot() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let pool = net.pool(port::AFFINE);
        let client = net.client();
        let slot = by_family!(net, A => {
            hash::slot(hash::flow_hash(cluster::SEED, A::of(client.ip()), 0, 0), cluster::SLOTS)
        });
        let mut block: lb_common::table::HeadBlock = rig.get("HEAD", pool);
        block.member = [lb_common::table::NO_MEMBER; 64];
        block.member[slot as usize] = cluster::number::REMOTE;
        rig.set("HEAD", pool, block);
        for source in [1, 40_000, 40_001, 65_535] {
            let mut client = client;
            client.set_port(source);
            let front = net.front(port::AFFINE);
            for packet in [Packet::syn(client, front), Packet::udp(client, front)] {
                rig.uplink(&packet.frame()).sent(Verdict::Relayed);
                assert_eq!(rig.xdp(&packet.frame()).verdict(), Verdict::Relayed);
            }
        }
    }
}

#[test]
fn a_new_connection_avoids_a_suspected_node_and_an_old_one_does_not() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let pool = net.pool(port::THERE);
        // In the table for new connections the slots are a task's of this node.
        rig.change("POOL", pool, |pool: &mut lb_common::table::Pool| {
            pool.fresh = net.pool(port::HERE)
        });
        cluster::locals(&mut rig, net);
        rig.change_local(cluster::TASK, |local| local.pool = pool);
        let (client, front) = (net.client(), net.front(port::THERE));
        assert_eq!(
            rig.xdp(&Packet::syn(client, front).frame()).verdict(),
            Verdict::HandedToTc
        );
        rig.uplink(&Packet::syn(client, front).frame())
            .sent(Verdict::Delivered);
        let data = Packet::tcp(client, front, ACK).frame();
        rig.uplink(&data).sent(Verdict::Relayed);
        assert_eq!(rig.xdp(&data).verdict(), Verdict::Relayed);
    }
}

#[test]
fn icmp_errors_go_to_the_owner_of_the_flow_they_quote() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let reply = Packet::tcp(net.front(port::THERE), net.client(), ACK).payload(&[1; 64]);
        let error = icmp_error(net.router(), &reply.frame());
        assert_eq!(rig.xdp(&error).action, XDP_PASS);
        let opened = open(&rig.uplink(&error).sent(Verdict::Relayed));
        assert_eq!(opened.inner[L3..], error[L3..]);
        assert_eq!((opened.member(), opened.ingress()), (REMOTE, HERE));
    }
}

#[test]
fn an_owner_that_is_unknown_or_has_no_route_is_a_counted_drop() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let frame = Packet::syn(net.client(), net.front(port::STRANGER)).frame();
        let ran = rig.xdp(&frame);
        assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
        assert_eq!(ran.frame, frame);
        rig.uplink(&frame).dropped(Verdict::NoNode);
        let frame = Packet::syn(net.client(), net.front(port::THERE)).frame();
        rig.change("NODE", THERE as u32, |node: &mut Node| node.ifindex = 0);
        assert_eq!(rig.xdp(&frame).verdict(), Verdict::HandedToTc);
        rig.uplink(&frame).dropped(Verdict::NoNode);
        let wire = rig.wire;
        rig.change("NODE", THERE as u32, |node: &mut Node| node.ifindex = wire);
    }
}

#[test]
fn what_xdp_cannot_send_it_leaves_to_tc_unchanged() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        // The next hop is not resolved: tc queues the packet, XDP would have to drop it.
        let frame = Packet::syn(net.client(), net.front(port::UNRESOLVED)).frame();
        let ran = rig.xdp(&frame);
        assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
        assert_eq!(ran.frame, frame);
        rig.uplink(&frame).sent(Verdict::Relayed);
        // Out of another device, which cannot take redirected frames.
        rig.change("NODE", THERE as u32, |node: &mut Node| {
            node.ifindex += 1;
            node.flags &= !node_flag::XDP;
        });
        let frame = Packet::syn(net.client(), net.front(port::THERE)).frame();
        assert_eq!(rig.xdp(&frame).verdict(), Verdict::HandedToTc);
        rig.uplink(&frame).sent(Verdict::Relayed);
        let wire = rig.wire;
        rig.change("NODE", THERE as u32, |node: &mut Node| {
            node.ifindex = wire;
            node.flags |= node_flag::XDP;
        });
    }
}

/// On a veth: what `XDP_TX` sends may lie there until another packet passes.
#[test]
fn a_device_that_wants_redirects_gets_them_even_for_what_came_in_by_it() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let relayed = Packet::syn(net.client(), net.front(port::THERE));
        let back = Packet::tcp(net.front(port::THERE), net.client(), ACK);
        let reply = Geneve::reply(rig.wire, &back);
        for (flags, action) in [(node_flag::REDIRECT, XDP_REDIRECT), (0, XDP_TX)] {
            rig.change("NODE", THERE as u32, |node: &mut Node| {
                node.flags = node.flags & !node_flag::REDIRECT | flags;
            });
            let byte = rig.wire & 0xff;
            rig.change("UPLINK", byte, |uplink: &mut Uplink| uplink.xdp = flags.into());
            assert_eq!(rig.xdp(&relayed.frame()).action, action);
            let ran = rig.xdp(&reply.frame());
            assert_eq!((ran.verdict(), ran.action), (Verdict::ReplyForwarded, action));
        }
    }
}

#[test]
fn what_is_for_no_frontend_is_left_alone() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::NONE));
        for packet in [
            Packet::syn(client, front),
            Packet::tcp(client, front, SYN | 1),
            Packet::udp(client, front),
        ] {
            let frame = packet.frame();
            let ran = rig.xdp(&frame);
            assert_eq!(ran.action, XDP_PASS);
            assert_eq!(ran.frame, frame);
            assert_eq!(ran.verdicts, [], "the tc program counts it");
            let ran = rig.uplink(&frame);
            assert_eq!((ran.verdict(), ran.action), (Verdict::NotOurs, TC_UNSPEC));
            assert_eq!(ran.frame, frame);
        }
    }
    // An address of the frontend's port that is not the frontend's.
    let mut other = Net::Four.front(port::HERE);
    other.set_ip("192.0.2.12".parse().unwrap());
    let ran = rig.uplink(&Packet::syn(Net::Four.client(), other).frame());
    assert_eq!((ran.verdict(), ran.action), (Verdict::NotOurs, TC_UNSPEC));
}

#[test]
fn the_sender_of_a_packet_that_does_not_fit_is_told_the_size_that_does() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let header = if net == Net::Four { 40 } else { 60 };
        let fits =
            Packet::tcp(net.client(), net.front(port::THERE), ACK)
                .payload(&vec![7; 1500 - OVERHEAD - header]);
        rig.uplink(&fits.frame()).sent(Verdict::Relayed);
        assert_eq!(rig.xdp(&fits.frame()).verdict(), Verdict::Relayed);
        let large = Packet {
            payload: vec![7; fits.payload.len() + 1],
            ..fits
        };
        assert_eq!(rig.xdp(&large.frame()).verdict(), Verdict::HandedToTc);
        let sent = rig.uplink(&large.frame()).sent(Verdict::TooBig);
        let (from, to, quoted) = read_error(&sent);
        assert_eq!((from, to), (net.front(0).ip(), net.client().ip()));
        assert_eq!(quoted[L3..], large.frame()[L3..quoted.len()]);
        let l4 = L3 + header - 20;
        let expected = if net == Net::Four { [3, 4] } else { [2, 0] };
        assert_eq!(sent[l4..l4 + 2], expected);
        assert_eq!(sent[l4 + 6..l4 + 8], (1500 - OVERHEAD as u16).to_be_bytes());
        let large = Packet::udp(net.client(), net.front(port::THERE)).payload(&[7; 1500]);
        read_error(&rig.uplink(&large.frame()).sent(Verdict::TooBig));
    }
}

#[test]
fn an_empty_pool_drops_and_after_ten_seconds_resets() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::NOBODY));
        let syn = Packet::syn(client, front).frame();
        assert_eq!(rig.xdp(&syn).verdict(), Verdict::HandedToTc);
        rig.uplink(&syn).sent(Verdict::Reset);
        rig.uplink(&Packet::udp(client, front).frame())
            .dropped(Verdict::NoMember);
        rig.change(
            "POOL",
            net.pool(port::NOBODY),
            |pool: &mut lb_common::table::Pool| {
                pool.empty_since = now() - 5;
            },
        );
        rig.uplink(&syn).dropped(Verdict::NoMember);
        rig.uplink(&Packet::tcp(client, front, crate::frame::RST).frame())
            .dropped(Verdict::NoMember);
    }
}

/// The tick of this moment.
pub fn now() -> u32 {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC_COARSE).unwrap();
    lb_common::tick::from_nanoseconds(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

//! Return rules: what a task says reads as the frontend's, and goes by the way the client came.

use lb_common::Verdict;
use lb_common::geneve::flag;
use lb_common::table::{Node, Pool, node_flag, pool_flag};

use crate::cluster::{self, BOTH, HERE, Net, TASK, THERE, port};
use crate::frame::{ACK, Geneve, L3, Packet, Seen, open, read, seen};
use crate::handshake::{answer, begin, establish};
use crate::rig::{Rig, TC_UNSPEC};

/// A task's packet as the client sees it.
fn undone(packet: &Packet, net: Net) -> Seen {
    let before = seen(packet);
    Seen {
        from: net.front(port::HERE),
        hops: before.hops - 1,
        ..before
    }
}

#[test]
fn a_reply_reads_as_the_frontends() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        begin(&mut rig, client, front);
        let first = answer(net, client);
        let sent = read(&rig.task(&first.frame()).sent(Verdict::Replied));
        let mut expected = undone(&first, net);
        expected.options[2..4].copy_from_slice(&net.mss().to_be_bytes());
        assert_eq!(sent, expected);
        establish(&mut rig, net, client, front);
        let data = Packet::tcp(net.task(), client, ACK).payload(&[5; 1300]);
        let sent = read(&rig.task(&data.frame()).sent(Verdict::Replied));
        assert_eq!(sent, undone(&data, net));
    }
}

#[test]
fn a_reply_to_a_client_of_another_node_goes_back_inside_geneve() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        rig.uplink(&Geneve::to(TASK, &Packet::syn(client, front)).frame())
            .sent(Verdict::Delivered);
        let mut packets = vec![Packet {
            options: vec![],
            ..answer(net, client)
        }];
        rig.uplink(&Geneve::to(TASK, &Packet::udp(client, front)).frame())
            .sent(Verdict::Delivered);
        packets.push(Packet::udp(net.task(), client));
        for packet in packets {
            let opened = open(&rig.task(&packet.frame()).sent(Verdict::ReplyRelayed));
            assert_eq!(read(&opened.inner), undone(&packet, net));
            assert_eq!(opened.outer.source, cluster::ADDRESS);
            assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
            assert_eq!((opened.tunnel.flags, opened.tunnel.device), (flag::REPLY, 7));
            assert_eq!(opened.ingress(), HERE);
            assert!(opened.list().is_empty());
        }
    }
}

#[test]
fn there_and_back_restores_every_byte_but_the_hops() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let question = Packet::tcp(client, front, ACK).payload(b"echo");
        let mut seen_by_task = rig.uplink(&question.frame()).sent(Verdict::Delivered);
        // The task sends the very packet back, ends exchanged: neither checksum changes.
        let (width, at) = if net == Net::Four {
            (4, L3 + 12)
        } else {
            (16, L3 + 8)
        };
        let (left, right) = seen_by_task[at..at + 2 * width].split_at_mut(width);
        left.swap_with_slice(right);
        let ports = at + 2 * width;
        let (left, right) = seen_by_task[ports..ports + 4].split_at_mut(2);
        left.swap_with_slice(right);
        let back = read(&rig.task(&seen_by_task).sent(Verdict::Replied));
        let expected = seen(&Packet {
            from: front,
            to: client,
            hops: question.hops - 2,
            ..question
        });
        assert_eq!(back, expected);
    }
}

#[test]
fn what_a_task_says_to_others_is_left_alone() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let mut other_port = client;
        other_port.set_port(40_001);
        for packet in [
            Packet::tcp(net.task(), other_port, ACK),
            Packet::tcp(net.second(), client, ACK),
            Packet::udp(net.task(), client),
        ] {
            let frame = packet.frame();
            let ran = rig.task(&frame);
            assert_eq!((ran.verdict(), ran.action), (Verdict::NotOurs, TC_UNSPEC));
            assert_eq!(ran.frame, frame);
        }
    }
}

#[test]
fn a_malformed_reply_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let frame = Packet::tcp(net.task(), client, ACK).payload(b"data").frame();
        rig.task(&frame[..frame.len() - 1]).dropped(Verdict::Truncated);
        let mut offset = frame.clone();
        offset[if net == Net::Four { 46 } else { 66 }] = 0x40;
        rig.task(&offset).dropped(Verdict::BadHeader);
    }
}

#[test]
fn a_reply_cut_at_any_length_is_never_sent_on() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        rig.uplink(&Packet::udp(client, front).frame())
            .sent(Verdict::Delivered);
        for packet in [
            Packet::tcp(net.task(), client, ACK).payload(b"data"),
            answer(net, client),
            Packet::udp(net.task(), client),
        ] {
            let whole = packet.frame();
            rig.task(&whole).sent(Verdict::Replied);
            // Of less than an IP header the kernel makes no packet for the program.
            let least = L3 + if net == Net::Four { 20 } else { 40 };
            for length in least..whole.len() {
                let ran = rig.task(&whole[..length]);
                // With its ports cut off it is nobody's reply, and the node's own stack drops it.
                if length < whole.len() - packet.payload.len() - packet.options.len()
                    && ran.action == TC_UNSPEC
                {
                    assert_eq!(
                        (ran.verdict(), &ran.frame[..]),
                        (Verdict::NotOurs, &whole[..length])
                    );
                } else {
                    ran.dropped(Verdict::Truncated);
                }
            }
        }
    }
}

#[test]
fn a_task_reaches_frontends_as_any_client_does() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let mut task = net.second();
        task.set_port(45_000);
        let syn = Packet::syn(task, net.front(port::THERE));
        let opened = open(&rig.task(&syn.frame()).sent(Verdict::Relayed));
        assert_eq!(opened.inner[L3..], syn.frame()[L3..]);
        assert_eq!((opened.ingress(), opened.tunnel.device), (HERE, 0));
        let syn = Packet::syn(task, net.front(port::HERE));
        let sent = read(&rig.task(&syn.frame()).sent(Verdict::Delivered));
        // On one link with the other: seen under the node's address.
        assert_eq!((sent.from.ip(), sent.to), (net.front(0).ip(), net.task()));
    }
}

#[test]
fn a_reply_without_the_way_it_came_leaves_by_the_routing_table() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let mut asking = net.second();
        asking.set_port(45_000);
        let syn = Packet::syn(asking, net.front(port::HERE));
        let sent = read(&rig.task(&syn.frame()).sent(Verdict::Delivered));
        let reply = read(&rig.task(&answer(net, sent.from).frame()).sent(Verdict::Replied));
        assert_eq!((reply.from, reply.to), (net.front(port::HERE), asking));
    }
}

#[test]
fn a_node_that_does_not_forward_answers_by_the_way_the_client_came_and_by_no_other() {
    let Some(mut rig) = Rig::new() else { return };
    crate::rig::shell(
        "echo 0 > /proc/sys/net/ipv4/ip_forward
         echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
    );
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        rig.task(&Packet::tcp(net.task(), client, ACK).frame())
            .sent(Verdict::Replied);
        // Out of the tunnel, too. The XDP program asks about the device it leaves by, and hears that nothing is forwarded.
        let reply = Packet::tcp(net.front(port::THERE), client, ACK);
        let reply = Geneve::reply(rig.wire, &reply).frame();
        assert_eq!(rig.xdp(&reply).verdict(), Verdict::HandedToTc);
        rig.uplink(&reply).sent(Verdict::ReplyForwarded);
        // A task's own way is known to the routing table alone.
        let mut asking = net.second();
        asking.set_port(45_000);
        let syn = Packet::syn(asking, front);
        let sent = read(&rig.task(&syn.frame()).sent(Verdict::Delivered));
        rig.task(&answer(net, sent.from).frame()).dropped(Verdict::Failed);
    }
}

#[test]
fn replies_of_a_vip_leave_here_while_their_ingress_is_down() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        rig.uplink(&Geneve::to(TASK, &Packet::syn(client, front)).frame())
            .sent(Verdict::Delivered);
        let reply = answer(net, client).frame();
        let down = |rig: &mut Rig, down: bool| {
            rig.change("NODE", THERE as u32, |node: &mut Node| {
                node.flags = node.flags & !node_flag::DOWN | if down { node_flag::DOWN } else { 0 };
            });
        };
        // A node's own address can answer from that node only.
        down(&mut rig, true);
        rig.task(&reply).sent(Verdict::ReplyRelayed);
        rig.change("POOL", net.pool(port::HERE), |pool: &mut Pool| {
            pool.flags |= pool_flag::VIP
        });
        let sent = read(&rig.task(&reply).sent(Verdict::Replied));
        assert_eq!((sent.from, sent.to), (front, client));
        down(&mut rig, false);
        rig.task(&reply).sent(Verdict::ReplyRelayed);
        rig.change("POOL", net.pool(port::HERE), |pool: &mut Pool| pool.flags = 0);
    }
}

#[test]
fn a_reply_with_no_hop_left_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let reply = Packet {
            hops: 1,
            ..Packet::tcp(net.task(), client, ACK)
        };
        rig.task(&reply.frame()).dropped(Verdict::TtlExpired);
    }
}

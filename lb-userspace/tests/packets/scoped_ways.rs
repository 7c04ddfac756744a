//! The ways of what has to do with a client behind a bridge: chases, resets and errors go by its node, replies to it leave
//! by the routing table, and another node's published port is as good as this one's.

use std::net::SocketAddr;

use lb_common::Verdict;
use lb_common::geneve::flag;
use lb_common::key::{Front, TCP, UDP};
use lb_common::table::{Flow, Node, Pool, Rev, node_flag, pool_flag};

use crate::by_family;
use crate::cluster::{self, BOTH, HERE, Net, TASK, THERE, THIRD, number, port};
use crate::frame::{ACK, Geneve, L3, Packet, RST, icmp_error, open, read, read_error};
use crate::handshake::{acknowledge, answer};
use crate::icmp::ends;
use crate::rig::{Rig, TC_REDIRECT, TC_UNSPEC, shell};
use crate::scoped::container;
use crate::task::{Task, Wire};

#[test]
fn a_scoped_packet_is_chased_in_its_clients_name_and_its_reset_goes_by_the_clients_node() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (container(net), net.front(port::HERE));
        let segment = Packet::tcp(client, front, ACK);
        let unknown = Geneve::to(TASK, &segment).scoped(THERE);
        let sent = rig.uplink(&unknown.frame()).sent(Verdict::Reset);
        let opened = open(&sent);
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
        assert_eq!((opened.tunnel.flags, opened.tunnel.device), (flag::REPLY, 0));
        let reset = read(&opened.inner);
        assert_eq!((reset.from, reset.to, reset.flags), (front, client, RST));

        rig.set_chain(net.pool(port::HERE), &[HERE, THIRD], number::SECOND, 0);
        let opened = open(&rig.uplink(&unknown.frame()).sent(Verdict::Chased));
        assert_eq!(opened.outer.destination, [192, 0, 2, 13]);
        assert_eq!(opened.ingress(), THERE);
        assert_eq!(opened.tunnel.flags, flag::SCOPED | flag::CHASED);
        // And one of this node's own.
        let opened = open(&rig.task(&segment.frame()).sent(Verdict::Chased));
        assert_eq!(opened.ingress(), HERE);
        assert_eq!(opened.tunnel.flags, flag::SCOPED | flag::CHASED);
        rig.set_chain(net.pool(port::HERE), &[HERE], number::SECOND, 0);
        let reset = read(&rig.task(&segment.frame()).sent(Verdict::Reset));
        assert_eq!((reset.from, reset.to, reset.flags), (front, client, RST));
    }
}

/// The task's kernel is asked about the client that it sees.
#[test]
fn a_scoped_handshake_that_a_flood_pushed_out_goes_on() {
    let Some(mut rig) = Rig::new() else { return };
    let (task, namespace) = Task::new();
    let wire = Wire::new();
    task.run(|| {
        shell(
            "ip route add 192.0.2.0/24 dev task0-peer
             ip route add 2001:db8::/64 dev task0-peer
             ip neighbour replace 192.0.2.11 lladdr 02:00:00:00:00:03 dev task0-peer nud permanent
             ip neighbour replace 2001:db8::11 lladdr 02:00:00:00:00:03 dev task0-peer nud permanent",
        );
    });
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.change_local(TASK, |local| local.namespace = namespace);
        let _listener = task.get(move || std::net::TcpListener::bind(net.task()).unwrap());
        let (client, front) = (container(net), net.front(port::HERE));
        let syn = Geneve::to(TASK, &Packet::syn(client, front)).scoped(THERE);
        let sent = rig.uplink(&syn.frame()).sent(Verdict::Delivered);
        let seen = read(&sent).from;
        wire.send(&sent);
        let answer = wire.receive(seen);
        rig.task(&answer).sent(Verdict::ReplyRelayed);
        let sequence = L3 + if net == Net::Four { 20 } else { 40 } + 4;
        let isn = u32::from_be_bytes(*answer[sequence..].first_chunk().unwrap());
        let key = |rig: &mut Rig, table: &str| {
            by_family!(net, A => {
                let key = cluster::flow_key::<A>(client, front, TCP).in_realm(THERE);
                rig.look::<_, Flow>(&net.map(table), key)
            })
        };
        assert!(key(&mut rig, "HALF").is_some());
        by_family!(net, A => {
            let key = cluster::flow_key::<A>(client, front, TCP).in_realm(THERE);
            rig.remove::<_, Flow>(&net.map("HALF"), key);
            let back = cluster::rev_key::<A>(net.task(), seen, TCP);
            rig.remove::<_, Rev<A>>(&net.map("HALFREV"), back);
        });
        let ack = Packet {
            sequence: 1_001,
            ..acknowledge(client, front, isn.wrapping_add(1))
        };
        let sent = rig.uplink(&Geneve::to(TASK, &ack).scoped(THERE).frame());
        assert_eq!(read(&sent.sent(Verdict::Delivered)).from, seen);
        let flow = key(&mut rig, "FLOW").expect("an entry");
        assert_eq!((flow.tag, flow.node, flow.device), (TASK, THERE, 0));
        // The same from another node's client of that address is nobody's.
        rig.uplink(&Geneve::to(TASK, &ack).scoped(THIRD).frame())
            .sent(Verdict::Reset);
    }
}

#[test]
fn a_scoped_connection_is_handed_on_in_its_clients_name() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.set_head(net.pool(port::HERE), number::REMOTE);
        let syn = Packet::syn(container(net), net.front(port::HERE));
        let moved = Geneve::to(0xdead, &syn).scoped(THIRD);
        let opened = open(&rig.uplink(&moved.frame()).sent(Verdict::Moved));
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
        assert_eq!(opened.ingress(), THIRD);
        assert_eq!(opened.tunnel.flags, flag::SCOPED | flag::MOVED);
        rig.set_head(net.pool(port::HERE), number::TASK);
    }
}

#[test]
fn a_scoped_reply_never_leaves_by_another_node() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let syn = Packet::syn(container(net), net.front(port::HERE));
        let sent = rig.uplink(&Geneve::to(TASK, &syn).scoped(THERE).frame());
        let seen = read(&sent.sent(Verdict::Delivered)).from;
        rig.change("NODE", THERE.into(), |node: &mut Node| {
            node.flags |= node_flag::DOWN
        });
        rig.change("POOL", net.pool(port::HERE), |pool: &mut Pool| {
            pool.flags |= pool_flag::VIP
        });
        let reply = rig.task(&answer(net, seen).frame());
        assert_eq!(
            open(&reply.sent(Verdict::ReplyRelayed)).outer.destination,
            [192, 0, 2, 12]
        );
        rig.change("NODE", THERE.into(), |node: &mut Node| {
            node.flags &= !node_flag::DOWN
        });
        rig.change("POOL", net.pool(port::HERE), |pool: &mut Pool| pool.flags = 0);
    }
}

#[test]
fn a_reply_that_names_no_device_leaves_by_the_routing_table() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let mut asking = net.second();
        asking.set_port(45_000);
        let reply = Packet::tcp(net.front(port::THERE), asking, ACK);
        let reply = Geneve::reply(0, &reply).frame();
        assert_eq!(rig.xdp(&reply).verdict(), Verdict::HandedToTc);
        let sent = read(&rig.uplink(&reply).sent(Verdict::ReplyForwarded));
        assert_eq!((sent.from, sent.to), (net.front(port::THERE), asking));
    }
}

#[test]
fn a_container_is_told_what_fits_the_tunnel() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let mut asking = net.second();
        asking.set_port(45_000);
        let front = net.front(port::THERE);
        let large = Packet::udp(asking, front).payload(&[7; 1450]).frame();
        let ran = rig.task(&large);
        assert_eq!((ran.verdict(), ran.action), (Verdict::TooBig, TC_REDIRECT));
        let at = L3 + if net == Net::Four { 20 } else { 40 } + 6;
        let size = u16::from_be_bytes(*ran.frame[at..].first_chunk().unwrap());
        assert_eq!(size, 1500 - lb_common::geneve::OVERHEAD as u16);
        let (from, to, _) = read_error(&ran.frame);
        assert_eq!((from, to), (front.ip(), asking.ip()));
    }
}

#[test]
fn an_error_of_a_scoped_client_reaches_the_task_as_of_whom_it_sees() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (container(net), net.front(port::HERE));
        let question = Geneve::to(TASK, &Packet::udp(client, front)).scoped(THERE);
        let seen = read(&rig.uplink(&question.frame()).sent(Verdict::Delivered)).from;
        let pool = net.pool_of(port::HERE);
        // The client's own, and a router's.
        for (by, shown) in [(client.ip(), seen.ip()), (net.router(), net.router())] {
            let error = icmp_error(by, &Packet::udp(front, client).frame());
            let error = Geneve::of(TASK, pool, &error).scoped(THERE);
            let sent = rig.uplink(&error.frame()).sent(Verdict::Delivered);
            let (from, to, quoted) = read_error(&sent);
            assert_eq!((from, to), (shown, net.task().ip()));
            assert_eq!(ends(net, &quoted), (net.task(), seen));
        }
        // The same error about another node's client is nobody's.
        let error = icmp_error(client.ip(), &Packet::udp(front, client).frame());
        let error = Geneve::of(TASK, pool, &error).scoped(THIRD);
        rig.uplink(&error.frame()).dropped(Verdict::Unknown);
    }
}

#[test]
fn a_container_that_asks_another_nodes_published_port_is_served_from_here() {
    let Some(mut rig) = Rig::new() else { return };
    let net = Net::Four;
    cluster::locals(&mut rig, net);
    let published = |port: u16, protocol| Front::new([0; 4], port.to_be_bytes(), protocol);
    for protocol in [TCP, UDP] {
        rig.put("FRONT4", published(port::HERE, protocol), net.pool(port::HERE));
        rig.put("FRONT4", published(port::THERE, protocol), net.pool(port::THERE));
    }
    let client = container(net);
    let there = |port: u16| SocketAddr::from(([192, 0, 2, 12], port));
    let syn = Packet::syn(client, there(port::HERE)).frame();
    let sent = rig.task(&syn).sent(Verdict::Delivered);
    assert_eq!((read(&sent).from, read(&sent).to), (client, net.task()));
    let reply = read(&rig.task(&answer(net, client).frame()).sent(Verdict::Replied));
    assert_eq!((reply.from, reply.to), (there(port::HERE), client));
    let question = Packet::udp(client, there(port::THERE)).frame();
    let opened = open(&rig.task(&question).sent(Verdict::Relayed));
    assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
    // The reply comes from an address that is not this node's.
    let mut asking = net.second();
    asking.set_port(45_000);
    let reply = Packet::udp(there(port::THERE), asking);
    let sent = rig.uplink(&Geneve::reply(0, &reply).frame());
    assert_eq!(read(&sent.sent(Verdict::ReplyForwarded)).from, there(port::THERE));
    let forged = Packet::udp(SocketAddr::from(([198, 51, 100, 1], port::THERE)), asking);
    rig.uplink(&Geneve::reply(0, &forged).frame())
        .dropped(Verdict::ForgedReply);
    // What only passes through, and what is no node's, is left alone.
    let other = Packet::syn(client, SocketAddr::from(([198, 51, 100, 1], port::HERE))).frame();
    for ran in [rig.uplink(&syn), rig.task(&other)] {
        assert_eq!((ran.verdict(), ran.action), (Verdict::NotOurs, TC_UNSPEC));
    }
}

//! Clients behind a node's bridges: their addresses mean something on that node only, and equal ones do not meet.

use std::net::SocketAddr;

use lb_common::Verdict;
use lb_common::geneve::flag;
use lb_common::host::ALONE;
use lb_common::key::TCP;
use lb_common::socket::map;
use lb_common::table::{Flow, Settings, flow_state};
use lb_common::{V4, V6};

use crate::by_family;
use crate::cluster::{self, BOTH, HERE, Narrow, Net, TASK, THERE, THIRD, port};
use crate::frame::{ACK, Geneve, Packet, SYN, fragment, open, read};
use crate::handshake::{ISN, acknowledge, answer};
use crate::rig::Rig;

/// A container's address, which every node's bridge may have once.
pub fn container(net: Net) -> SocketAddr {
    let address: std::net::IpAddr = match net {
        Net::Four => [172, 17, 0, 9].into(),
        Net::Six => [0x2001, 0xdb8, 0x17, 0, 0, 0, 0, 9].into(),
    };
    (address, 45_000).into()
}

/// Calls the container's network flat.
fn flatten(rig: &mut Rig, net: Net) {
    let length = if net == Net::Four { 16 } else { 64 };
    by_family!(net, A => rig.prefix(&net.map("FLAT"), A::of(container(net).ip()), length));
}

/// Makes it an address of the node's own.
pub fn own(rig: &mut Rig, net: Net, address: SocketAddr, value: u8) {
    let wide = match net {
        Net::Four => map(V4::of(address.ip())),
        Net::Six => V6::of(address.ip()),
    };
    rig.put("OWN", wide, value);
}

/// The established entry of a scoped flow.
fn flow(rig: &Rig, net: Net, client: SocketAddr, front: SocketAddr, realm: u16) -> Option<Flow> {
    by_family!(net, A => {
        rig.look(&net.map("FLOW"), cluster::flow_key::<A>(client, front, TCP).in_realm(realm))
    })
}

#[test]
fn a_containers_packet_says_that_its_address_is_this_nodes() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        let front = net.front(port::THERE);
        let flags = |rig: &mut Rig, client: SocketAddr| {
            let sent = rig.task(&Packet::syn(client, front).frame());
            let opened = open(&sent.sent(Verdict::Relayed));
            assert_eq!((opened.ingress(), opened.tunnel.device), (HERE, 0));
            opened.tunnel.flags
        };
        assert_eq!(flags(&mut rig, container(net)), flag::SCOPED);
        // The node itself does not speak by a task's device: this is a container that forges its address.
        own(&mut rig, net, net.front(0), ALONE);
        assert_eq!(flags(&mut rig, net.front(45_000)), flag::SCOPED);
        flatten(&mut rig, net);
        assert_eq!(flags(&mut rig, container(net)), 0);
        assert_eq!(flags(&mut rig, net.second()), flag::SCOPED);
        // Who comes from outside is who he says he is.
        let opened = rig.uplink(&Packet::syn(net.second(), front).frame());
        assert_eq!(open(&opened.sent(Verdict::Relayed)).tunnel.flags, 0);
    }
}

#[test]
fn equal_addresses_of_two_nodes_have_a_connection_each() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (container(net), net.front(port::HERE));
        let mut seen = Vec::new();
        for node in [THERE, THIRD] {
            let syn = Geneve::to(TASK, &Packet::syn(client, front)).scoped(node);
            let sent = read(&rig.uplink(&syn.frame()).sent(Verdict::Delivered));
            // The task sees this node, as it may have a neighbour of the client's address.
            assert_eq!((sent.from.ip(), sent.to), (front.ip(), net.task()));
            seen.push(sent.from);
        }
        assert_eq!(seen[0].port(), client.port());
        assert_ne!(seen[0], seen[1]);
        for (node, seen) in [THERE, THIRD].into_iter().zip(seen) {
            let reply = rig.task(&answer(net, seen).frame()).sent(Verdict::ReplyRelayed);
            let opened = open(&reply);
            assert_eq!(opened.outer.destination, [192, 0, 2, node as u8]);
            assert_eq!((opened.tunnel.flags, opened.tunnel.device), (flag::REPLY, 0));
            let inner = read(&opened.inner);
            assert_eq!((inner.from, inner.to, inner.flags), (front, client, SYN | ACK));
            let ack = acknowledge(client, front, ISN.wrapping_add(1));
            let ack = Geneve::to(TASK, &ack).scoped(node);
            let sent = read(&rig.uplink(&ack.frame()).sent(Verdict::Delivered));
            assert_eq!(sent.from, seen);
            let flow = flow(&rig, net, client, front, node).expect("an entry");
            assert_eq!((flow.node, flow.tag), (node, TASK));
            assert_ne!(flow.state & flow_state::TRANSLATED, 0);
            let data = Packet::tcp(net.task(), seen, ACK).payload(b"data");
            let opened = open(&rig.task(&data.frame()).sent(Verdict::ReplyRelayed));
            assert_eq!(opened.outer.destination, [192, 0, 2, node as u8]);
            assert_eq!(read(&opened.inner).to, client);
        }
        // Nor is either of them the client of that address out in the network.
        let stranger = Packet::tcp(client, front, ACK).frame();
        rig.uplink(&stranger).sent(Verdict::Reset);
    }
}

#[test]
fn datagrams_of_equal_addresses_go_back_to_their_own_nodes() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (container(net), net.front(port::HERE));
        for round in 0..2 {
            for node in [THERE, THIRD] {
                let question = Geneve::to(TASK, &Packet::udp(client, front)).scoped(node);
                let seen = read(&rig.uplink(&question.frame()).sent(Verdict::Delivered)).from;
                assert_eq!(seen.ip(), front.ip(), "round {round}");
                let reply = rig.task(&Packet::udp(net.task(), seen).frame());
                let opened = open(&reply.sent(Verdict::ReplyRelayed));
                assert_eq!(opened.outer.destination, [192, 0, 2, node as u8]);
                assert_eq!(read(&opened.inner).to, client);
            }
        }
    }
}

#[test]
fn fragments_of_equal_addresses_follow_their_own_firsts() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let pool = net.pool_of(port::HERE);
        let part = |node, offset, more| {
            let frame = fragment(net, port::HERE, 9, offset, more);
            Geneve::of(TASK, pool, &frame).scoped(node).frame()
        };
        rig.uplink(&part(THERE, 0, true)).sent(Verdict::Delivered);
        rig.uplink(&part(THERE, 8, false)).sent(Verdict::Delivered);
        // Without its ports it is for no frontend.
        assert_eq!(rig.uplink(&part(THIRD, 8, false)).verdict(), Verdict::BadHeader);
    }
}

#[test]
fn a_container_of_this_node_keeps_its_address_here() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (container(net), net.front(port::HERE));
        let sent = rig
            .task(&Packet::syn(client, front).frame())
            .sent(Verdict::Delivered);
        assert_eq!((read(&sent).from, read(&sent).to), (client, net.task()));
        let reply = rig.task(&answer(net, client).frame()).sent(Verdict::Replied);
        assert_eq!((read(&reply).from, read(&reply).to), (front, client));
        let ack = acknowledge(client, front, ISN.wrapping_add(1));
        rig.task(&ack.frame()).sent(Verdict::Delivered);
        let flow = flow(&rig, net, client, front, HERE).expect("an entry");
        assert_eq!(flow.state & flow_state::TRANSLATED, 0);
    }
}

#[test]
fn a_task_reaches_itself_by_its_own_service() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        // Even where nobody knows the subnet it is in.
        rig.change_local(TASK, |local| local.prefix = 0);
        let mut client = net.task();
        client.set_port(45_000);
        let front = net.front(port::HERE);
        let sent = rig
            .task(&Packet::syn(client, front).frame())
            .sent(Verdict::Delivered);
        let seen = read(&sent).from;
        assert_eq!((seen.ip(), read(&sent).to), (front.ip(), net.task()));
        let reply = rig.task(&answer(net, seen).frame()).sent(Verdict::Replied);
        assert_eq!((read(&reply).from, read(&reply).to), (front, client));
        let question = rig.task(&Packet::udp(client, front).frame());
        let seen = read(&question.sent(Verdict::Delivered)).from;
        assert_eq!(seen.ip(), front.ip());
        let reply = rig.task(&Packet::udp(net.task(), seen).frame());
        assert_eq!(read(&reply.sent(Verdict::Replied)).to, client);
    }
}

#[test]
fn a_client_of_a_flat_network_keeps_its_address_on_any_node() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let front = net.front(port::HERE);
        // From another node, and in the task's own subnet.
        let there = Packet::syn(container(net), front);
        let sent = rig.uplink(&Geneve::to(TASK, &there).frame());
        assert_eq!(read(&sent.sent(Verdict::Delivered)).from, container(net));
        let mut neighbour = net.second();
        neighbour.set_port(45_000);
        let length = if net == Net::Four { 16 } else { 64 };
        by_family!(net, A => rig.prefix(&net.map("FLAT"), A::of(neighbour.ip()), length));
        let sent = rig.task(&Packet::syn(neighbour, front).frame());
        assert_eq!(read(&sent.sent(Verdict::Delivered)).from, neighbour);
        let reply = rig.task(&answer(net, neighbour).frame()).sent(Verdict::Replied);
        assert_eq!((read(&reply).from, read(&reply).to), (front, neighbour));
    }
}

#[test]
fn without_an_address_to_stand_for_the_clients_nothing_begins() {
    let Some(mut rig) = Rig::new() else { return };
    let net = Net::Six;
    cluster::locals(&mut rig, net);
    rig.change("SETTINGS", 0, |settings: &mut Settings| {
        settings.source6 = [0; 16]
    });
    let syn = Packet::syn(container(net), net.front(port::HERE));
    rig.uplink(&Geneve::to(TASK, &syn).scoped(THERE).frame())
        .dropped(Verdict::NoPort);
    // Where none has to it does not matter.
    rig.uplink(&Packet::syn(net.client(), net.front(port::HERE)).frame())
        .sent(Verdict::Delivered);
}

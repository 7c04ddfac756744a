//! The node's own connections, which come in behind `portico0`: every answer goes up to the node itself.

use lb_common::Verdict;
use lb_common::geneve::{Tunnel, flag};
use lb_common::host::{ALONE, MAC, SHARED};
use lb_common::key::TCP;
use lb_common::table::{Uplink, node_flag};

use crate::cluster::{self, BOTH, HERE, TASK, port};
use crate::frame::{ACK, Geneve, L3, Packet, SYN, icmp_error, open, read, read_error};
use crate::handshake::{ISN, acknowledge, answer};
use crate::rig::{Rig, XDP_PASS, shell};
use crate::scoped::{container, own};

/// A node with `portico0`, and the index of its far end.
fn rig() -> Option<(Rig, u32)> {
    let mut rig = Rig::new()?;
    shell(
        "ip link add portico0 type veth peer name portico1
         ip link set portico0 up
         ip link set portico1 up",
    );
    let ifindex = nix::net::if_::if_nametoindex("portico1").unwrap();
    let host = Uplink {
        ifindex,
        xdp: node_flag::HOST.into(),
        ..Uplink::default()
    };
    rig.set("UPLINK", ifindex & 0xff, host);
    for net in BOTH {
        own(&mut rig, net, net.client(), ALONE);
    }
    Some((rig, ifindex))
}

/// The frame is for the node itself.
#[track_caller]
fn upwards(frame: Vec<u8>) -> Vec<u8> {
    assert_eq!(frame[..6], MAC);
    frame
}

#[test]
fn a_connection_of_the_node_itself_to_a_task_here_has_its_answers_put_into_portico0() {
    let Some((mut rig, device)) = rig() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let syn = Packet::syn(client, front);
        let sent = rig.behind(device, &syn.frame()).sent(Verdict::Delivered);
        assert_eq!((read(&sent).from, read(&sent).to), (client, net.task()));
        // The client is no task behind a bridge: its flow is everybody's.
        let half = rig.flow("HALF", net, client, front, TCP).unwrap();
        assert_eq!((half.node, half.device), (HERE, device as u8));
        let first = answer(net, client);
        let reply = upwards(rig.task(&first.frame()).sent(Verdict::Replied));
        assert_eq!((read(&reply).from, read(&reply).to), (front, client));
        let last = acknowledge(client, front, ISN.wrapping_add(1));
        rig.behind(device, &last.frame()).sent(Verdict::Delivered);
        let data = Packet::tcp(net.task(), client, ACK).payload(&[5; 1300]);
        upwards(rig.task(&data.frame()).sent(Verdict::Replied));
        // Datagrams, and what a task has against them.
        let question = Packet::udp(client, front);
        let delivered = rig.behind(device, &question.frame()).sent(Verdict::Delivered);
        upwards(
            rig.task(&icmp_error(net.task().ip(), &delivered))
                .sent(Verdict::Replied),
        );
        upwards(
            rig.task(&Packet::udp(net.task(), client).frame())
                .sent(Verdict::Replied),
        );
    }
}

#[test]
fn a_connection_of_the_node_itself_to_a_task_elsewhere_comes_back_by_the_tunnel_into_portico0() {
    let Some((mut rig, device)) = rig() else { return };
    for net in BOTH {
        let (client, front) = (net.client(), net.front(port::THERE));
        for packet in [Packet::syn(client, front), Packet::udp(client, front)] {
            let opened = open(&rig.behind(device, &packet.frame()).sent(Verdict::Relayed));
            let inner = read(&opened.inner);
            assert_eq!((inner.from, inner.to), (client, front));
            assert_eq!((opened.ingress(), opened.tunnel.device), (HERE, device as u8));
            assert_eq!(opened.tunnel.flags & flag::SCOPED, 0);
        }
        for packet in [
            Packet::tcp(front, client, SYN | ACK),
            Packet::tcp(front, client, ACK).payload(&[3; 1300]),
            Packet::udp(front, client),
        ] {
            let frame = Geneve::reply(device, &packet).frame();
            // XDP has no way up.
            let ran = rig.xdp(&frame);
            assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
            let sent = upwards(rig.uplink(&frame).sent(Verdict::ReplyForwarded));
            assert_eq!(sent[L3 - 2..], packet.frame()[L3 - 2..]);
        }
        let error = icmp_error(front.ip(), &Packet::udp(client, front).frame());
        let mut reply = Geneve::reply(device, &Packet::udp(front, client));
        reply.inner = error[L3..].to_vec();
        let length = (reply.inner.len() + size_of::<Tunnel>()) as u16;
        reply.tunnel.udp_length = length.to_be_bytes();
        upwards(rig.uplink(&reply.frame()).sent(Verdict::ReplyForwarded));
    }
}

#[test]
fn what_is_forwarded_into_portico0_is_a_client_of_this_node_alone() {
    let Some((mut rig, device)) = rig() else { return };
    for net in BOTH {
        let (client, front) = (container(net), net.front(port::THERE));
        let sent = rig.behind(device, &Packet::syn(client, front).frame());
        let opened = open(&sent.sent(Verdict::Relayed));
        assert_eq!(opened.tunnel.device, device as u8);
        assert_ne!(opened.tunnel.flags & flag::SCOPED, 0);
        // As is a process of the node that took the address of a bridge, which other nodes' bridges have as well.
        own(&mut rig, net, client, SHARED);
        let sent = rig.behind(device, &Packet::udp(client, front).frame());
        assert_ne!(open(&sent.sent(Verdict::Relayed)).tunnel.flags & flag::SCOPED, 0);
        // Answers go up to the node, which forwards them.
        let reply = Geneve::reply(device, &Packet::tcp(front, client, SYN | ACK));
        upwards(rig.uplink(&reply.frame()).sent(Verdict::ReplyForwarded));
    }
}

#[test]
fn resets_and_too_big_answers_for_the_node_itself_go_into_portico0() {
    let Some((mut rig, device)) = rig() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let stray = Packet::tcp(net.client(), net.front(port::HERE), ACK);
        let sent = upwards(rig.behind(device, &stray.frame()).sent(Verdict::Reset));
        assert_eq!(read(&sent).to, net.client());
        let large = Packet::udp(net.client(), net.front(port::THERE)).payload(&[7; 1500]);
        let sent = upwards(rig.behind(device, &large.frame()).sent(Verdict::TooBig));
        let (from, to, _) = read_error(&sent);
        assert_eq!((from, to), (net.front(0).ip(), net.client().ip()));
    }
}

#[test]
fn a_flow_that_moves_between_uplink_and_portico0_is_answered_where_it_spoke_last() {
    let Some((mut rig, device)) = rig() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        crate::handshake::establish(&mut rig, net, client, front);
        let data = Packet::tcp(net.task(), client, ACK);
        assert_ne!(rig.task(&data.frame()).sent(Verdict::Replied)[..6], MAC);
        let word = Packet::tcp(client, front, ACK);
        rig.behind(device, &word.frame()).sent(Verdict::Delivered);
        upwards(rig.task(&data.frame()).sent(Verdict::Replied));
        rig.uplink(&Geneve::to(TASK, &word).frame())
            .sent(Verdict::Delivered);
        rig.task(&data.frame()).sent(Verdict::ReplyRelayed);
    }
}

/// A VIP is nobody's address: no kernel would refuse the connection.
#[test]
fn a_connection_of_the_node_itself_to_a_port_that_no_service_has_is_refused() {
    let Some((mut rig, device)) = rig() else { return };
    for net in BOTH {
        let (client, closed) = (net.client(), net.front(port::NONE));
        let syn = Packet::syn(client, closed);
        let reset = read(&upwards(rig.behind(device, &syn.frame()).sent(Verdict::Reset)));
        assert_eq!((reset.from, reset.to), (closed, client));
        let datagram = Packet::udp(client, closed);
        assert_eq!(rig.behind(device, &datagram.frame()).verdict(), Verdict::NotOurs);
        // A task that asks for such a port asks somebody else.
        assert_eq!(rig.task(&syn.frame()).verdict(), Verdict::NotOurs);
    }
}

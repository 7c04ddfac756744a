//! Tasks in the node's own network namespace: what is for them goes up the node's stack, and what they say is found again on
//! its way out.

use std::net::{IpAddr, SocketAddr, TcpListener};

use lb_common::host::ALONE;
use lb_common::key::{TCP, UDP};
use lb_common::table::{HOST_TASK, Uplink, namespace, node_flag};
use lb_common::{Address, Verdict};

use crate::by_family;
use crate::cluster::{self, BOTH, HERE, Narrow, Net, SECOND, TARGET, TASK, THERE, port};
use crate::frame::{ACK, Geneve, Packet, SYN, icmp_error, open, read, read_error};
use crate::handshake::{ISN, acknowledge};
use crate::rig::{Ran, Rig, TC_UNSPEC, shell};
use crate::scoped::{self, container};

/// A node with `portico0`, and the index of its far end.
fn rig() -> Option<(Rig, u32)> {
    let mut rig = Rig::new()?;
    shell(
        "ip link add portico0 type veth peer name portico1
         ip link set portico0 up
         ip link set portico1 up",
    );
    let ifindex = nix::net::if_::if_nametoindex("portico1").unwrap();
    let xdp = node_flag::HOST.into();
    let behind = Uplink {
        ifindex,
        xdp,
        ..Uplink::default()
    };
    rig.set("UPLINK", ifindex & 0xff, behind);
    Some((rig, ifindex))
}

/// The task's own end: at the node's address.
fn task(net: Net) -> SocketAddr {
    net.front(TARGET)
}

fn vip(net: Net) -> IpAddr {
    match net {
        Net::Four => lb_common::host::NODE_VIP4.into(),
        Net::Six => lb_common::host::NODE_VIP6.into(),
    }
}

/// Has the member [`TASK`] run in the node's own namespace; clients that it cannot be shown come out of `behind`.
fn host_task(rig: &mut Rig, net: Net, behind: u32) {
    cluster::locals(rig, net);
    rig.change_local(TASK, |local| {
        local.address = by_family!(net, A => A::of(task(net).ip()).widen());
        local.ifindex = HOST_TASK | behind;
        local.prefix = if net == Net::Four { 32 } else { 128 };
    });
}

/// The frame, left to the node's stack.
#[track_caller]
fn passed(ran: Ran, verdict: Verdict) -> Vec<u8> {
    assert_eq!((ran.verdict(), ran.action), (verdict, TC_UNSPEC));
    ran.frame
}

/// The frame, left alone without being counted.
#[track_caller]
fn alone(ran: Ran, frame: &[u8]) {
    assert_eq!((ran.verdicts, ran.action), (vec![], TC_UNSPEC));
    assert_eq!(ran.frame, frame);
}

fn syn_ack(net: Net, client: SocketAddr) -> Packet {
    Packet {
        sequence: ISN,
        options: vec![2, 4, 0x05, 0xb4],
        ..Packet::tcp(task(net), client, SYN | ACK)
    }
}

/// A connection up to where both sides have it.
fn establish(rig: &mut Rig, net: Net, client: SocketAddr, front: SocketAddr) {
    let syn = rig.uplink(&Packet::syn(client, front).frame());
    passed(syn, Verdict::DeliveredToHost);
    let answer = rig.leaving(&syn_ack(net, client).frame());
    passed(answer, Verdict::RepliedByHost);
    let last = acknowledge(client, front, ISN.wrapping_add(1));
    passed(rig.uplink(&last.frame()), Verdict::DeliveredToHost);
    assert!(rig.flow("FLOW", net, client, front, TCP).is_some());
}

#[test]
fn a_clients_packets_go_up_the_stack_and_replies_leave_with_the_frontends_address() {
    let Some((mut rig, behind)) = rig() else { return };
    for net in BOTH {
        host_task(&mut rig, net, behind);
        let (client, front) = (net.client(), net.front(port::HERE));
        let syn = rig.uplink(&Packet::syn(client, front).frame());
        let seen = read(&passed(syn, Verdict::DeliveredToHost));
        assert_eq!((seen.from, seen.to), (client, task(net)));
        assert_eq!(seen.mss(), Some(net.mss()));
        let answer = rig.leaving(&syn_ack(net, client).frame());
        let seen = read(&passed(answer, Verdict::RepliedByHost));
        assert_eq!((seen.from, seen.to), (front, client));
        assert_eq!(seen.mss(), Some(net.mss()));
        establish(&mut rig, net, client, front);
        // The same flow, by another node.
        let word = Packet::tcp(client, front, ACK);
        let relayed = rig.uplink(&Geneve::to(TASK, &word).frame());
        passed(relayed, Verdict::DeliveredToHost);
        let data = Packet::tcp(task(net), client, ACK).payload(&[5; 1300]);
        let opened = open(&rig.leaving(&data.frame()).sent(Verdict::ReplyRelayed));
        let inner = read(&opened.inner);
        assert_eq!((inner.from, inner.to), (front, client));
        let (question, reply) = (Packet::udp(client, front), Packet::udp(task(net), client));
        let asked = passed(rig.uplink(&question.frame()), Verdict::DeliveredToHost);
        // What the node's kernel has against a datagram.
        let error = rig.leaving(&icmp_error(task(net).ip(), &asked));
        let (from, to, _) = read_error(&passed(error, Verdict::RepliedByHost));
        assert_eq!((from, to), (front.ip(), client.ip()));
        let seen = read(&passed(rig.leaving(&reply.frame()), Verdict::RepliedByHost));
        assert_eq!((seen.from, seen.to), (front, client));
        assert!(rig.flow("FLOW", net, client, front, UDP).is_some());
    }
}

#[test]
fn what_passes_through_the_node_and_what_is_no_reply_is_left_alone() {
    let Some((mut rig, behind)) = rig() else { return };
    for net in BOTH {
        host_task(&mut rig, net, behind);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let reply = Packet::tcp(task(net), client, ACK).frame();
        alone(rig.passing(&reply), &reply);
        let other = Packet::tcp(net.front(22), client, ACK).frame();
        alone(rig.leaving(&other), &other);
        passed(rig.leaving(&reply), Verdict::RepliedByHost);
    }
}

#[test]
fn a_datagram_is_a_reply_from_whichever_of_the_nodes_addresses() {
    let Some((mut rig, behind)) = rig() else { return };
    for net in BOTH {
        host_task(&mut rig, net, behind);
        let (client, front) = (container(net), net.front(port::HERE));
        let asked = rig.task(&Packet::udp(client, front).frame());
        let seen = read(&passed(asked, Verdict::DeliveredToHost));
        assert_eq!(
            (seen.from, seen.to),
            (client, task(net)),
            "a container is shown as it is"
        );
        let bridge = SocketAddr::new(net.second().ip(), TARGET);
        let reply = rig.leaving(&Packet::udp(bridge, client).frame());
        let seen = read(&passed(reply, Verdict::RepliedByHost));
        assert_eq!((seen.from, seen.to), (front, client));
    }
}

#[test]
fn the_node_itself_and_other_nodes_containers_are_shown_as_the_nodes_vip() {
    let Some((mut rig, behind)) = rig() else { return };
    for net in BOTH {
        host_task(&mut rig, net, behind);
        let front = net.front(port::HERE);
        let own = net.front(40_000);
        for (index, client) in [own, container(net)].into_iter().enumerate() {
            let ask = |rig: &mut Rig, packet: &Packet| {
                if index == 0 {
                    return rig.behind(behind, &packet.frame());
                }
                rig.uplink(&Geneve::to(TASK, packet).scoped(THERE).frame())
            };
            let sent = ask(&mut rig, &Packet::syn(client, front)).sent(Verdict::Delivered);
            assert_eq!(sent[..6], lb_common::host::MAC);
            let seen = read(&sent);
            assert_eq!((seen.from.ip(), seen.to), (vip(net), task(net)));
            // The reply comes to the far end of `portico0`, as the route to the VIP leads there.
            let answer = syn_ack(net, seen.from);
            let ran = rig.behind(behind, &answer.frame());
            if index == 0 {
                let reply = read(&ran.sent(Verdict::Replied));
                assert_eq!((reply.from, reply.to), (front, client));
            } else {
                let opened = open(&ran.sent(Verdict::ReplyRelayed));
                let reply = read(&opened.inner);
                assert_eq!((reply.from, reply.to), (front, client));
            }
            let last = acknowledge(client, front, ISN.wrapping_add(1));
            ask(&mut rig, &last).sent(Verdict::Delivered);
            // A router's word about what the task sent.
            let error = icmp_error(net.router(), &Packet::tcp(front, client, ACK).frame());
            if index == 0 {
                let sent = rig.behind(behind, &error).sent(Verdict::Delivered);
                let (from, to, _) = read_error(&sent);
                assert_eq!((from, to), (vip(net), task(net).ip()));
            }
        }
        // Without `portico0` nothing could be answered.
        host_task(&mut rig, net, 0);
        let stray = Packet::syn(net.front(40_001), front).frame();
        rig.behind(behind, &stray).dropped(Verdict::NoPort);
    }
}

/// A process that asks another node is balanced to a task on its own: a packet from the node's own address would be a martian.
#[test]
fn what_the_node_itself_asked_another_is_shown_as_the_nodes_vip() {
    let Some((mut rig, behind)) = rig() else { return };
    for net in BOTH {
        host_task(&mut rig, net, behind);
        let (own, front) = (net.front(40_000), net.front(port::HERE));
        scoped::own(&mut rig, net, own, ALONE);
        let ask = |rig: &mut Rig, packet: &Packet| {
            let relayed = rig.uplink(&Geneve::to(TASK, packet).frame());
            let sent = relayed.sent(Verdict::Delivered);
            assert_eq!(sent[..6], lb_common::host::MAC);
            read(&sent)
        };
        let seen = ask(&mut rig, &Packet::syn(own, front));
        assert_eq!((seen.from.ip(), seen.to), (vip(net), task(net)));
        let answer = rig.behind(behind, &syn_ack(net, seen.from).frame());
        let opened = open(&answer.sent(Verdict::ReplyRelayed));
        let inner = read(&opened.inner);
        assert_eq!((inner.from, inner.to), (front, own));
        ask(&mut rig, &acknowledge(own, front, ISN.wrapping_add(1)));
        let asked = ask(&mut rig, &Packet::udp(own, front));
        assert_eq!((asked.from.ip(), asked.to), (vip(net), task(net)));
    }
}

#[test]
fn a_reply_too_large_for_the_tunnel_is_answered_by_portico0() {
    let Some((mut rig, behind)) = rig() else { return };
    for net in BOTH {
        host_task(&mut rig, net, behind);
        let (client, front) = (net.client(), net.front(port::HERE));
        let asked = rig.uplink(&Geneve::to(TASK, &Packet::udp(client, front)).frame());
        passed(asked, Verdict::DeliveredToHost);
        let large = Packet::udp(task(net), client).payload(&[7; 1_450]).frame();
        let sent = rig.leaving(&large).sent(Verdict::TooBig);
        assert_eq!(sent[..6], lb_common::host::MAC);
        let (from, to, _) = read_error(&sent);
        assert_eq!((from, to), (vip(net), task(net).ip()));
    }
}

/// Clients may ask for the task's own port, where no frontend is.
#[test]
fn a_connection_to_the_tasks_own_port_is_not_taken_for_an_ended_one() {
    let Some((mut rig, behind)) = rig() else { return };
    for net in BOTH {
        host_task(&mut rig, net, behind);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        // The task's kernel repeats its answer: the client's first acknowledgement was lost behind us.
        let again = rig.leaving(&syn_ack(net, client).frame());
        passed(again, Verdict::RepliedByHost);
        let direct = Packet {
            sequence: 77,
            ..syn_ack(net, client)
        };
        alone(rig.leaving(&direct.frame()), &direct.frame());
        assert!(rig.flow("FLOW", net, client, front, TCP).is_none());
        let data = Packet::tcp(task(net), client, ACK).frame();
        alone(rig.leaving(&data), &data);
    }
}

#[test]
fn the_nodes_own_namespace_is_asked_whether_the_task_listens() {
    let Some((mut rig, behind)) = rig() else { return };
    for net in BOTH {
        host_task(&mut rig, net, behind);
        rig.change_local(TASK, |local| local.namespace = namespace::OWN);
        let (mut client, front) = (net.client(), net.front(port::HERE));
        let syn = |client| Packet::syn(client, front).frame();
        let deflected = rig.uplink(&syn(client)).sent(Verdict::Delivered);
        assert_eq!(read(&deflected).to, net.second(), "nobody listens");
        assert_eq!(rig.flow("HALF", net, client, front, TCP).unwrap().tag, SECOND);
        let listener = TcpListener::bind(task(net)).unwrap();
        client.set_port(40_001);
        let taken = rig.uplink(&syn(client));
        assert_eq!(read(&passed(taken, Verdict::DeliveredToHost)).to, task(net));
        assert_eq!(rig.flow("HALF", net, client, front, TCP).unwrap().node, HERE);
        drop(listener);
    }
}

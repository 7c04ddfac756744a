//! Addresses that answer inside the cluster only.

use std::net::SocketAddr;

use lb_common::Verdict;
use lb_common::key::{Front, TCP, UDP};
use lb_common::table::INSIDE;

use crate::by_family;
use crate::cluster::{self, BOTH, Narrow, Net, TASK, port};
use crate::frame::{ACK, Geneve, Packet, SYN, open, read};
use crate::rig::{Rig, XDP_PASS};

/// Takes a frontend away from clients outside.
fn close(rig: &mut Rig, net: Net, front: SocketAddr) {
    for protocol in [TCP, UDP] {
        by_family!(net, A => {
            let key = Front::new(A::of(front.ip()), front.port().to_be_bytes(), protocol);
            rig.put(&net.map("FRONT"), key, net.pool(front.port()) | INSIDE);
        });
    }
}

#[test]
fn what_answers_inside_only_is_dropped_where_it_comes_from_outside() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for port in [port::HERE, port::THERE] {
            let (client, front) = (net.client(), net.front(port));
            close(&mut rig, net, front);
            for packet in [
                Packet::syn(client, front),
                Packet::tcp(client, front, ACK),
                Packet::udp(client, front),
            ] {
                rig.uplink(&packet.frame()).dropped(Verdict::Inside);
                let ran = rig.xdp(&packet.frame());
                assert_eq!((ran.verdict(), ran.action), (Verdict::HandedToTc, XDP_PASS));
            }
        }
    }
}

#[test]
fn what_answers_inside_only_serves_clients_on_nodes_and_what_comes_through_the_tunnel() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, here, there) = (net.client(), net.front(port::HERE), net.front(port::THERE));
        close(&mut rig, net, here);
        close(&mut rig, net, there);
        let relayed = rig.task(&Packet::syn(client, there).frame());
        assert_eq!(read(&open(&relayed.sent(Verdict::Relayed)).inner).to, there);
        let syn = Geneve::to(TASK, &Packet::syn(client, here));
        let delivered = rig.uplink(&syn.frame()).sent(Verdict::Delivered);
        assert_eq!(read(&delivered).to, net.task());
        let reply = Geneve::reply(rig.wire, &Packet::tcp(there, client, SYN | ACK));
        rig.uplink(&reply.frame()).sent(Verdict::ReplyForwarded);
        assert_eq!(rig.xdp(&reply.frame()).verdict(), Verdict::ReplyForwarded);
    }
}

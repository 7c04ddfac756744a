//! Room and names for an entry (rule 5): colliding ports, a full table, a client next door to the task.

use std::net::SocketAddr;

use lb_common::Verdict;
use lb_common::key::{Front, TCP};

use crate::by_family;
use crate::cluster::{self, BOTH, Narrow, port};
use crate::frame::{ACK, Packet, read};
use crate::handshake::{ISN, acknowledge, answer, establish};
use crate::rig::Rig;

#[test]
fn one_client_port_to_two_frontends_of_a_task_is_two_flows() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, first, second) = (net.client(), net.front(port::HERE), net.front(18_080));
        by_family!(net, A => {
            let key = Front::new(A::of(second.ip()), second.port().to_be_bytes(), TCP);
            rig.put(&net.map("FRONT"), key, net.pool(port::HERE));
        });
        establish(&mut rig, net, client, first);
        let syn = Packet::syn(client, second);
        let sent = read(&rig.uplink(&syn.frame()).sent(Verdict::Delivered));
        let alias = sent.from;
        assert_eq!((alias.ip(), sent.to), (client.ip(), net.task()));
        assert_ne!(alias.port(), client.port());
        // Each answer finds the frontend and the port that its client used.
        let reply = read(&rig.task(&answer(net, alias).frame()).sent(Verdict::Replied));
        assert_eq!((reply.from, reply.to), (second, client));
        let reply = Packet::tcp(net.task(), client, ACK);
        let reply = read(&rig.task(&reply.frame()).sent(Verdict::Replied));
        assert_eq!((reply.from, reply.to), (first, client));
        let data = acknowledge(client, second, ISN.wrapping_add(1));
        assert_eq!(
            read(&rig.uplink(&data.frame()).sent(Verdict::Delivered)).from,
            alias
        );
        let data = Packet::tcp(client, first, ACK);
        assert_eq!(
            read(&rig.uplink(&data.frame()).sent(Verdict::Delivered)).from,
            client
        );
    }
}

#[test]
fn a_full_table_refuses_new_flows_and_keeps_the_old_ones() {
    let sizes = |loader: &mut aya::EbpfLoader<'_>| {
        loader.map_max_entries("FLOW4", 1).map_max_entries("FLOW6", 1);
    };
    let Some(mut rig) = Rig::with(sizes) else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let mut other = client;
        other.set_port(40_001);
        rig.uplink(&Packet::syn(other, front).frame())
            .sent(Verdict::Delivered);
        rig.task(&answer(net, other).frame()).sent(Verdict::Replied);
        let full = acknowledge(other, front, ISN.wrapping_add(1)).frame();
        rig.uplink(&full).dropped(Verdict::FlowTableFull);
        rig.uplink(&Packet::tcp(client, front, ACK).frame())
            .sent(Verdict::Delivered);
        // When there is room again the waiting one gets it.
        by_family!(net, A => {
            let key = cluster::flow_key::<A>(client, front, TCP);
            rig.remove::<_, lb_common::table::Flow>(&net.map("FLOW"), key);
        });
        rig.uplink(&full).sent(Verdict::Delivered);
    }
}

#[test]
fn a_client_inside_the_tasks_subnet_is_seen_under_the_nodes_address() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let mut client = net.second();
        client.set_port(40_000);
        let front = net.front(port::HERE);
        let own: SocketAddr = (net.front(0).ip(), 40_000).into();
        let sent = read(
            &rig.uplink(&Packet::syn(client, front).frame())
                .sent(Verdict::Delivered),
        );
        assert_eq!((sent.from, sent.to), (own, net.task()));
        let reply = read(&rig.task(&answer(net, own).frame()).sent(Verdict::Replied));
        assert_eq!((reply.from, reply.to), (front, client));
        let data = acknowledge(client, front, ISN.wrapping_add(1));
        let sent = read(&rig.uplink(&data.frame()).sent(Verdict::Delivered));
        assert_eq!(sent.from, own);
        let data = Packet::tcp(client, front, ACK);
        let sent = read(&rig.uplink(&data.frame()).sent(Verdict::Delivered));
        assert_eq!(sent.from, own);
    }
}

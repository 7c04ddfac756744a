//! New connections pass a task over that cannot have them (rule 4).

use lb_common::Verdict;
use lb_common::geneve::flag;
use lb_common::table::local_state;

use crate::cluster::{self, BOTH, HERE, SECOND, TASK, THERE, number, port};
use crate::frame::{ACK, Geneve, Packet, open, read};
use crate::handshake::establish;
use crate::rig::Rig;

#[test]
fn a_draining_task_keeps_its_connections_and_gets_no_new_ones() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        rig.change_local(TASK, |local| local.state = local_state::DRAINING);
        rig.set_head(net.pool(port::HERE), number::SECOND);
        let data = Packet::tcp(client, front, ACK);
        assert_eq!(
            read(&rig.uplink(&data.frame()).sent(Verdict::Delivered)).to,
            net.task()
        );
        let mut other = client;
        other.set_port(40_001);
        // The ingress has not heard of the drain and still names it.
        let named = Geneve::to(TASK, &Packet::syn(other, front)).frame();
        assert_eq!(
            read(&rig.uplink(&named).sent(Verdict::Delivered)).to,
            net.second()
        );
        rig.set_head(net.pool(port::HERE), number::TASK);
        // It is the head again only when no member is active: then better than nobody.
        other.set_port(40_002);
        let syn = Packet::syn(other, front).frame();
        assert_eq!(read(&rig.uplink(&syn).sent(Verdict::Delivered)).to, net.task());
    }
}

#[test]
fn a_task_whose_device_is_not_found_is_passed_over() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.change_local(TASK, |local| local.ifindex = 0);
        let (client, front) = (net.client(), net.front(port::HERE));
        for packet in [Packet::syn(client, front), Packet::udp(client, front)] {
            assert_eq!(
                read(&rig.uplink(&packet.frame()).sent(Verdict::Delivered)).to,
                net.second()
            );
        }
        rig.change_local(SECOND, |local| local.ifindex = 0);
        let mut other = client;
        other.set_port(40_001);
        rig.uplink(&Packet::syn(other, front).frame())
            .dropped(Verdict::NotListening);
    }
}

#[test]
fn a_runner_up_on_another_node_gets_the_connection_once() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.set_chain(net.pool(port::HERE), &[HERE, THERE], number::REMOTE, 0);
        rig.change_local(TASK, |local| local.ifindex = 0);
        let syn = Packet::syn(net.client(), net.front(port::HERE));
        let opened = open(&rig.uplink(&syn.frame()).sent(Verdict::Moved));
        assert_eq!(opened.inner[14..], syn.frame()[14..]);
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
        assert_eq!(opened.tunnel.flags, flag::MOVED);
        assert_eq!((opened.member(), opened.ingress()), (cluster::REMOTE, HERE));
        // The ingress of a connection that is handed on stays the ingress.
        let from_third = Geneve {
            node: cluster::THIRD,
            ..Geneve::to(TASK, &syn)
        };
        let mut from_third = from_third;
        from_third.tunnel.ingress = cluster::THIRD.to_be_bytes();
        let opened = open(&rig.uplink(&from_third.frame()).sent(Verdict::Moved));
        assert_eq!((opened.ingress(), opened.tunnel.device), (cluster::THIRD, 7));
        // Moved already: the client tries again.
        let moved = Geneve::to(TASK, &syn).flags(flag::MOVED).frame();
        rig.uplink(&moved).dropped(Verdict::NotListening);
        rig.set_chain(net.pool(port::HERE), &[HERE], number::SECOND, 0);
    }
}

//! Established flows stay on their task, and remember the way back (rules 1 and 9).

use lb_common::Verdict;
use lb_common::key::TCP;
use lb_common::table::local_state;

use crate::cluster::{self, BOTH, HERE, SECOND, TASK, THERE, number, port};
use crate::frame::{ACK, Geneve, Packet, read};
use crate::handshake::establish;
use crate::rig::Rig;

#[test]
fn an_established_flow_stays_on_its_task_whatever_the_head_is() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        rig.set_head(net.pool(port::HERE), number::SECOND);
        rig.change_local(TASK, |local| local.state = local_state::DRAINING);
        let data = Packet::tcp(client, front, ACK).payload(b"more");
        assert_eq!(
            read(&rig.uplink(&data.frame()).sent(Verdict::Delivered)).to,
            net.task()
        );
        let through = Geneve::to(SECOND, &data).frame();
        assert_eq!(
            read(&rig.uplink(&through).sent(Verdict::Delivered)).to,
            net.task()
        );
        rig.set_head(net.pool(port::HERE), number::TASK);
    }
}

#[test]
fn the_return_node_is_that_of_the_clients_last_packet() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let data = Packet::tcp(client, front, ACK);
        rig.uplink(&Geneve::to(TASK, &data).frame())
            .sent(Verdict::Delivered);
        let flow = rig.flow("FLOW", net, client, front, TCP).unwrap();
        assert_eq!((flow.node, flow.device), (THERE, 7));
        let rev = rig.rev("REV", net, net.task(), client, TCP).unwrap();
        assert_eq!(rev, (front, client, THERE, 7, 0));
        rig.uplink(&data.frame()).sent(Verdict::Delivered);
        let rev = rig.rev("REV", net, net.task(), client, TCP).unwrap();
        assert_eq!(rev, (front, client, HERE, rig.wire as u8, 0));
    }
}

#[test]
fn an_entry_whose_member_is_gone_counts_as_absent() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let mut other = client;
        other.set_port(40_001);
        rig.uplink(&Packet::udp(other, front).frame())
            .sent(Verdict::Delivered);
        rig.remove::<u64, lb_common::table::Local>("LOCAL", TASK);
        rig.uplink(&Packet::tcp(client, front, ACK).frame())
            .sent(Verdict::Reset);
        // UDP starts anew elsewhere, at once.
        let sent = read(
            &rig.uplink(&Packet::udp(other, front).frame())
                .sent(Verdict::Delivered),
        );
        assert_eq!(sent.to, net.second());
        let sent = read(
            &rig.uplink(&Packet::syn(client, front).frame())
                .sent(Verdict::Delivered),
        );
        assert_eq!(sent.to, net.second());
    }
}

#[test]
fn a_packet_with_no_hop_left_is_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for hops in [0, 1] {
            let syn = Packet {
                hops,
                ..Packet::syn(net.client(), net.front(port::HERE))
            };
            rig.uplink(&syn.frame()).dropped(Verdict::TtlExpired);
        }
        let syn = Packet {
            hops: 2,
            ..Packet::syn(net.client(), net.front(port::HERE))
        };
        let sent = read(&rig.uplink(&syn.frame()).sent(Verdict::Delivered));
        assert_eq!(sent.hops, 1);
    }
}

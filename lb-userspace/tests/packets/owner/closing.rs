//! Flows that end are translated to the last (rule 8).

use lb_common::Verdict;
use lb_common::key::TCP;
use lb_common::table::flow_state;

use crate::cluster::{self, BOTH, port};
use crate::frame::{ACK, FIN, Packet, RST};
use crate::handshake::{begin, establish};
use crate::rig::Rig;

#[test]
fn fin_and_rst_are_noted_and_the_flow_is_still_translated() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let state =
            |rig: &Rig| rig.flow("FLOW", net, client, front, TCP).unwrap().state & !flow_state::ANSWERED;
        rig.uplink(&Packet::tcp(client, front, FIN | ACK).frame())
            .sent(Verdict::Delivered);
        assert_eq!(state(&rig), flow_state::FIN_CLIENT);
        rig.task(&Packet::tcp(net.task(), client, FIN | ACK).frame())
            .sent(Verdict::Replied);
        assert_eq!(state(&rig), flow_state::FIN_CLIENT | flow_state::FIN_TASK);
        assert!(flow_state::is_closing(state(&rig)));
        rig.uplink(&Packet::tcp(client, front, ACK).frame())
            .sent(Verdict::Delivered);
        rig.uplink(&Packet::tcp(client, front, RST).frame())
            .sent(Verdict::Delivered);
        assert_ne!(state(&rig) & flow_state::RESET, 0);
        rig.task(&Packet::tcp(net.task(), client, ACK).frame())
            .sent(Verdict::Replied);
        rig.uplink(&Packet::tcp(client, front, ACK).frame())
            .sent(Verdict::Delivered);
    }
}

#[test]
fn a_syn_on_an_entry_that_outlived_its_connection_opens_a_new_one() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        // No namespace of the task is known: nobody can be asked, and the task's kernel decides.
        begin(&mut rig, client, front);
        assert!(rig.flow("FLOW", net, client, front, TCP).is_some());
        rig.uplink(&Packet::tcp(client, front, RST).frame())
            .sent(Verdict::Delivered);
        begin(&mut rig, client, front);
        assert_eq!(rig.flow("FLOW", net, client, front, TCP), None);
        assert!(rig.flow("HALF", net, client, front, TCP).is_some());
        establish(&mut rig, net, client, front);
    }
}

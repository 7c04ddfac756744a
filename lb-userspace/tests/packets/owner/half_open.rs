//! What a SYN makes, and what becomes of it (rules 2 and 5).

use lb_common::Verdict;
use lb_common::key::TCP;

use super::delivered;
use crate::cluster::{self, BOTH, HERE, TASK, THERE, number, port};
use crate::frame::{ACK, Geneve, Packet, RST, read};
use crate::handshake::{ISN, acknowledge, answer, begin, establish};
use crate::rig::Rig;

#[test]
fn a_syn_makes_a_half_open_entry_and_reaches_the_task() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let syn = Packet::syn(client, front);
        let sent = read(&rig.uplink(&syn.frame()).sent(Verdict::Delivered));
        assert_eq!(sent.mss(), Some(net.mss()));
        let mut expected = delivered(&syn, net.task());
        expected.options[2..4].copy_from_slice(&net.mss().to_be_bytes());
        assert_eq!(sent, expected);

        let half = rig.flow("HALF", net, client, front, TCP).expect("an entry");
        assert_eq!((half.tag, half.node, half.device), (TASK, HERE, rig.wire as u8));
        assert_eq!(u16::from_be_bytes(half.client_port), client.port());
        assert_eq!(half.state, 0);
        assert_eq!(rig.flow("FLOW", net, client, front, TCP), None);
        let rev = rig
            .rev("HALFREV", net, net.task(), client, TCP)
            .expect("a way back");
        assert_eq!(rev, (front, client, HERE, rig.wire as u8, 0));
    }
}

#[test]
fn a_syn_from_the_tunnel_remembers_the_ingress_and_its_device() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let syn = Packet::syn(client, front);
        let sent = read(
            &rig.uplink(&Geneve::to(TASK, &syn).frame())
                .sent(Verdict::Delivered),
        );
        assert_eq!(
            (sent.from, sent.to, sent.mss()),
            (client, net.task(), Some(net.mss()))
        );
        let half = rig.flow("HALF", net, client, front, TCP).expect("an entry");
        assert_eq!((half.tag, half.node, half.device), (TASK, THERE, 7));
    }
}

#[test]
fn a_retransmitted_syn_goes_to_the_same_task_after_the_slot_has_moved() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let syn = Packet::syn(client, front).frame();
        rig.uplink(&syn).sent(Verdict::Delivered);
        rig.set_head(net.pool(port::HERE), number::SECOND);
        let again = read(&rig.uplink(&syn).sent(Verdict::Delivered));
        assert_eq!(again.to, net.task());
        rig.set_head(net.pool(port::HERE), number::TASK);
    }
}

#[test]
fn the_acknowledgement_of_the_tasks_answer_establishes_the_flow() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let flow = rig.flow("FLOW", net, client, front, TCP).expect("an entry");
        assert_eq!((flow.tag, flow.node, flow.device), (TASK, HERE, rig.wire as u8));
        assert_eq!(flow.isn, ISN);
        assert_eq!(rig.flow("HALF", net, client, front, TCP), None);
        let rev = rig.rev("REV", net, net.task(), client, TCP).expect("a way back");
        assert_eq!(rev, (front, client, HERE, rig.wire as u8, 0));
        assert_eq!(rig.rev("HALFREV", net, net.task(), client, TCP), None);

        let data = acknowledge(client, front, ISN.wrapping_add(1)).payload(b"GET / HTTP/1.1\r\n\r\n");
        let sent = read(&rig.uplink(&data.frame()).sent(Verdict::Delivered));
        assert_eq!(sent, delivered(&data, net.task()));
    }
}

#[test]
fn another_acknowledgement_establishes_nothing() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        begin(&mut rig, client, front);
        // The task has not answered: nothing can be acknowledged.
        rig.uplink(&acknowledge(client, front, 1).frame())
            .sent(Verdict::Reset);
        rig.task(&answer(net, client).frame()).sent(Verdict::Replied);
        for far in [
            ISN.wrapping_sub(1),
            ISN,
            ISN.wrapping_add((1 << 16) + 1),
            ISN.wrapping_add(1 << 31),
        ] {
            rig.uplink(&acknowledge(client, front, far).frame())
                .sent(Verdict::Reset);
            assert_eq!(rig.flow("FLOW", net, client, front, TCP), None);
        }
        let last = ISN.wrapping_add(1 << 16);
        rig.uplink(&acknowledge(client, front, last).frame())
            .sent(Verdict::Delivered);
        assert!(rig.flow("FLOW", net, client, front, TCP).is_some());
    }
}

#[test]
fn a_client_that_refuses_the_syn_ack_is_heard_by_the_task() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        begin(&mut rig, client, front);
        rig.uplink(&Packet::tcp(client, front, RST).frame())
            .sent(Verdict::Delivered);
        assert!(rig.flow("HALF", net, client, front, TCP).is_some());
        assert!(rig.flow("FLOW", net, client, front, TCP).is_none());
    }
}

#[test]
fn a_refused_connection_may_be_tried_again() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        begin(&mut rig, client, front);
        let refusal = Packet {
            acknowledgement: 1_001,
            ..Packet::tcp(net.task(), client, RST | ACK)
        };
        let sent = read(&rig.task(&refusal.frame()).sent(Verdict::Replied));
        assert_eq!((sent.from, sent.to, sent.flags), (front, client, RST | ACK));
        rig.set_head(net.pool(port::HERE), number::SECOND);
        let again = read(
            &rig.uplink(&Packet::syn(client, front).frame())
                .sent(Verdict::Delivered),
        );
        assert_eq!(again.to, net.second());
        rig.set_head(net.pool(port::HERE), number::TASK);
    }
}

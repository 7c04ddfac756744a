//! UDP flows (rule 6), and their checksum.

use lb_common::Verdict;
use lb_common::key::UDP;
use lb_common::table::local_state;

use super::delivered;
use crate::cluster::{self, BOTH, Net, TASK, number, port};
use crate::frame::{ACK, Packet, read};
use crate::handshake::establish;
use crate::rig::Rig;

#[test]
fn a_udp_flow_is_half_open_until_the_task_answers() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let question = Packet::udp(client, front);
        for _ in 0..2 {
            let sent = read(&rig.uplink(&question.frame()).sent(Verdict::Delivered));
            assert_eq!(sent, delivered(&question, net.task()));
            assert_eq!(rig.flow("HALF", net, client, front, UDP).unwrap().tag, TASK);
            assert_eq!(rig.flow("FLOW", net, client, front, UDP), None);
        }
        let reply = Packet::udp(net.task(), client);
        let sent = read(&rig.task(&reply.frame()).sent(Verdict::Replied));
        assert_eq!((sent.from, sent.to), (front, client));
        assert_eq!(rig.flow("HALF", net, client, front, UDP), None);
        assert_eq!(rig.flow("FLOW", net, client, front, UDP).unwrap().tag, TASK);
        assert!(rig.rev("REV", net, net.task(), client, UDP).is_some());
        let sent = read(&rig.uplink(&question.frame()).sent(Verdict::Delivered));
        assert_eq!(sent, delivered(&question, net.task()));
    }
}

#[test]
fn a_udp_checksum_of_zero_stays_zero_and_none_becomes_zero() {
    let Some(mut rig) = Rig::new() else { return };
    cluster::locals(&mut rig, Net::Four);
    let net = Net::Four;
    let mut frame = Packet::udp(net.client(), net.front(port::HERE)).frame();
    frame[40..42].fill(0);
    let sent = read(&rig.uplink(&frame).sent(Verdict::Delivered));
    assert!(sent.unsummed);
    let mut reply = Packet::udp(net.task(), net.client()).frame();
    reply[40..42].fill(0);
    assert!(read(&rig.task(&reply).sent(Verdict::Replied)).unsummed);

    for net in BOTH {
        cluster::locals(&mut rig, net);
        // One of these payloads gives the packet to the task the sum 0, which is sent as ffff (RFC 768).
        let mut full = 0;
        for word in 0..=u16::MAX {
            if full > 0 {
                break;
            }
            let question = Packet::udp(net.client(), net.front(port::HERE)).payload(&word.to_be_bytes());
            let mut wanted = question.clone();
            wanted.to = net.task();
            wanted.hops -= 1;
            let at = wanted.frame().len() - 4;
            if wanted.frame()[at..at + 2] != [0xff, 0xff] {
                continue;
            }
            full += 1;
            let sent = rig.uplink(&question.frame()).sent(Verdict::Delivered);
            assert_eq!(sent[at..at + 2], [0xff, 0xff]);
            read(&sent);
        }
        assert_eq!(full, 1);
    }
}

#[test]
fn udp_leaves_a_task_that_fails_its_health_check() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let question = Packet::udp(client, front).frame();
        rig.uplink(&question).sent(Verdict::Delivered);
        rig.task(&Packet::udp(net.task(), client).frame())
            .sent(Verdict::Replied);
        establish(&mut rig, net, client, front);
        rig.change_local(TASK, |local| local.state = local_state::UNHEALTHY);
        rig.set_head(net.pool(port::HERE), number::SECOND);
        for _ in 0..2 {
            assert_eq!(
                read(&rig.uplink(&question).sent(Verdict::Delivered)).to,
                net.second()
            );
        }
        rig.task(&Packet::udp(net.second(), client).frame())
            .sent(Verdict::Replied);
        assert_eq!(
            read(&rig.uplink(&question).sent(Verdict::Delivered)).to,
            net.second()
        );
        let data = Packet::tcp(client, front, ACK).frame();
        assert_eq!(read(&rig.uplink(&data).sent(Verdict::Delivered)).to, net.task());
        rig.set_head(net.pool(port::HERE), number::TASK);
    }
}

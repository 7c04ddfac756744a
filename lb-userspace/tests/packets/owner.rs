//! The owner's rules 1, 2, 4, 5, 6, 8 and 9: entries, and the packets that the task sees.

use std::net::SocketAddr;

use lb_common::Verdict;
use lb_common::geneve::flag;
use lb_common::key::{Front, TCP, UDP};
use lb_common::table::{flow_state, local_state};

use crate::by_family;
use crate::cluster::{self, BOTH, HERE, Narrow, Net, SECOND, TASK, THERE, number, port};
use crate::frame::{ACK, FIN, Geneve, Packet, RST, SYN, Seen, open, read, seen};
use crate::rig::Rig;

/// First sequence number of a task's answer.
pub const ISN: u32 = 0xffff_ff00;

/// Opens a connection at `port` up to the client's first acknowledgement.
#[track_caller]
pub fn establish(rig: &mut Rig, net: Net, client: SocketAddr, front: SocketAddr) {
    rig.uplink(&Packet::syn(client, front).frame())
        .sent(Verdict::Delivered);
    rig.task(&answer(net, client).frame()).sent(Verdict::Replied);
    rig.uplink(&acknowledge(client, front, ISN.wrapping_add(1)).frame())
        .sent(Verdict::Delivered);
}

/// The task's SYN-ACK.
pub fn answer(net: Net, client: SocketAddr) -> Packet {
    Packet {
        sequence: ISN,
        options: vec![2, 4, 0x05, 0xb4],
        ..Packet::tcp(net.task(), client, SYN | ACK)
    }
}

pub fn acknowledge(client: SocketAddr, front: SocketAddr, acknowledgement: u32) -> Packet {
    Packet {
        acknowledgement,
        ..Packet::tcp(client, front, ACK)
    }
}

/// A client's packet as the task sees it.
fn delivered(packet: &Packet, task: SocketAddr) -> Seen {
    let before = seen(packet);
    Seen {
        to: task,
        hops: before.hops - 1,
        ..before
    }
}

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
fn the_mss_is_lowered_only_where_it_is_too_high() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let high = [0x05, 0xb4];
        let clamped = net.mss().to_be_bytes();
        for (source, options, at, expected) in [
            (1, vec![2, 4, 0x02, 0x18], 2, [0x02, 0x18]),
            (2, vec![2, 4, high[0], high[1]], 2, clamped),
            (3, vec![1, 2, 4, high[0], high[1], 1, 1, 0], 3, clamped),
            (4, vec![1, 1, 1, 2, 4, high[0], high[1], 1], 5, clamped),
            (5, vec![4, 2, 1, 1, 2, 4, 0xff, 0xff], 6, clamped),
        ] {
            let client = (net.client().ip(), source).into();
            let syn = Packet {
                options: options.clone(),
                ..Packet::tcp(client, net.front(port::HERE), SYN)
            };
            let sent = read(&rig.uplink(&syn.frame()).sent(Verdict::Delivered));
            let mut wanted = options;
            wanted[at..at + 2].copy_from_slice(&expected);
            assert_eq!(sent.options, wanted);
        }
        let bare = Packet::tcp(net.client(), net.front(port::HERE), SYN);
        let sent = read(&rig.uplink(&bare.frame()).sent(Verdict::Delivered));
        assert!(sent.options.is_empty());
    }
}

#[test]
fn options_that_cannot_be_do_not_confuse_the_clamp() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for options in [
            vec![2, 0, 0x05, 0xb4],
            vec![2, 1, 0x05, 0xb4],
            vec![8, 255, 2, 4, 0x05, 0xb4, 0, 0],
            vec![2, 4, 0x05, 0xb4, 3, 0, 0, 0],
            vec![0, 0, 0, 0, 2, 4, 0x05, 0xb4],
            vec![1; 40],
            vec![1, 1, 1, 2],
        ] {
            let syn = Packet {
                options,
                ..Packet::tcp(net.client(), net.front(port::HERE), SYN)
            };
            read(&rig.uplink(&syn.frame()).sent(Verdict::Delivered));
        }
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
        rig.uplink(&Packet::syn(client, front).frame())
            .sent(Verdict::Delivered);
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
        rig.uplink(&Packet::syn(client, front).frame())
            .sent(Verdict::Delivered);
        assert!(rig.flow("FLOW", net, client, front, TCP).is_some());
        rig.uplink(&Packet::tcp(client, front, RST).frame())
            .sent(Verdict::Delivered);
        rig.uplink(&Packet::syn(client, front).frame())
            .sent(Verdict::Delivered);
        assert_eq!(rig.flow("FLOW", net, client, front, TCP), None);
        assert!(rig.flow("HALF", net, client, front, TCP).is_some());
        establish(&mut rig, net, client, front);
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

#[test]
fn a_client_that_refuses_the_syn_ack_is_heard_by_the_task() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        rig.uplink(&Packet::syn(client, front).frame())
            .sent(Verdict::Delivered);
        rig.uplink(&Packet::tcp(client, front, RST).frame())
            .sent(Verdict::Delivered);
        assert!(rig.flow("HALF", net, client, front, TCP).is_some());
        assert!(rig.flow("FLOW", net, client, front, TCP).is_none());
    }
}

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

#[test]
fn a_refused_connection_may_be_tried_again() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        rig.uplink(&Packet::syn(client, front).frame())
            .sent(Verdict::Delivered);
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

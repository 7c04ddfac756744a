//! Owner rules 3 and 6: what nobody here knows is asked for along the chain, and answered with a reset when nobody has
//! it.

use lb_common::Verdict;
use lb_common::geneve::flag;
use lb_common::key::UDP;
use lb_common::table::{Settings, rev_flag};

use crate::cluster::{self, BOTH, HERE, Net, TASK, THERE, THIRD, number, port};
use crate::frame::{ACK, FIN, Geneve, Packet, RST, Seen, icmp_error, open, read};
use crate::handshake::establish;
use crate::relay::now;
use crate::rig::Rig;

/// The reset that answers `packet` (RFC 9293, section 3.10.7.1).
fn reset(packet: &Packet) -> Seen {
    let acknowledged = packet.flags & ACK != 0;
    let length = packet.payload.len() as u32
        + u32::from(packet.flags & crate::frame::SYN != 0)
        + u32::from(packet.flags & FIN != 0);
    let (sequence, acknowledgement, flags) = if acknowledged {
        (packet.acknowledgement, 0, RST)
    } else {
        (0, packet.sequence.wrapping_add(length), RST | ACK)
    };
    Seen {
        from: packet.to,
        to: packet.from,
        protocol: packet.protocol,
        flags,
        sequence,
        acknowledgement,
        options: vec![],
        payload: vec![],
        hops: 64,
        tos: 0,
        unsummed: false,
    }
}

fn segments(net: Net) -> Vec<Packet> {
    let (client, front) = (net.client(), net.front(port::HERE));
    let all = vec![
        Packet::tcp(client, front, ACK),
        Packet::tcp(client, front, ACK).payload(b"some data"),
        Packet::tcp(client, front, FIN | ACK).payload(&[9; 1200]),
        Packet::tcp(client, front, FIN),
        Packet::tcp(client, front, 0).payload(b"odd"),
        Packet {
            options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ..Packet::tcp(client, front, ACK)
        },
    ];
    all.into_iter()
        .flat_map(|packet| {
            let wraps = Packet {
                sequence: u32::MAX,
                acknowledgement: if packet.flags & ACK != 0 { u32::MAX } else { 0 },
                ..packet.clone()
            };
            [packet, wraps]
        })
        .collect()
}

#[test]
fn a_segment_that_nobody_knows_is_answered_by_a_reset_that_the_client_accepts() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for packet in segments(net) {
            let sent = rig.uplink(&packet.frame()).sent(Verdict::Reset);
            assert_eq!(read(&sent), reset(&packet), "{packet:?}");
        }
    }
}

#[test]
fn a_reset_for_a_packet_from_the_tunnel_goes_back_by_its_ingress() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for packet in segments(net) {
            let opened = open(
                &rig.uplink(&Geneve::to(TASK, &packet).frame())
                    .sent(Verdict::Reset),
            );
            assert_eq!(read(&opened.inner), reset(&packet));
            assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
            assert_eq!((opened.tunnel.flags, opened.tunnel.device), (flag::REPLY, 7));
            assert_eq!(opened.ingress(), HERE);
        }
    }
}

#[test]
fn a_reset_is_never_answered_by_a_reset() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for flags in [RST, RST | ACK] {
            let frame = Packet::tcp(net.client(), net.front(port::HERE), flags).frame();
            rig.uplink(&frame).dropped(Verdict::Unknown);
        }
    }
}

#[test]
fn an_unknown_packet_asks_the_first_of_the_chain_and_carries_the_rest() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        rig.set_chain(net.pool(port::HERE), &[THERE, HERE, THIRD], number::SECOND, 0);
        let packet = Packet::tcp(net.client(), net.front(port::HERE), ACK).payload(b"lost");
        let opened = open(&rig.uplink(&packet.frame()).sent(Verdict::Chased));
        assert_eq!(opened.inner[14..], packet.frame()[14..]);
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
        assert_eq!(opened.tunnel.flags, flag::CHASED);
        assert_eq!(opened.list(), [THIRD]);
        assert_eq!((opened.ingress(), opened.tunnel.device), (HERE, rig.wire as u8));
        // A reset of a connection that lives elsewhere must reach it too.
        let packet = Packet::tcp(net.client(), net.front(port::HERE), RST);
        rig.uplink(&packet.frame()).sent(Verdict::Chased);
    }
}

#[test]
fn a_chased_packet_goes_on_until_the_list_is_empty() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        // What this node itself thinks of the chain does not matter any more: lists only shrink.
        rig.set_chain(net.pool(port::HERE), &[THERE, HERE, THIRD], number::SECOND, 0);
        let packet = Packet::tcp(net.client(), net.front(port::HERE), ACK);
        let chased = Geneve::to(0, &packet).flags(flag::CHASED);
        let opened = open(
            &rig.uplink(&chased.clone().list(&[THIRD]).frame())
                .sent(Verdict::Chased),
        );
        assert_eq!(opened.outer.destination, [192, 0, 2, 13]);
        assert_eq!((opened.tunnel.flags, opened.list()), (flag::CHASED, vec![]));
        assert_eq!((opened.ingress(), opened.tunnel.device), (THERE, 7));
        let opened = open(&rig.uplink(&chased.frame()).sent(Verdict::Reset));
        assert_eq!(read(&opened.inner), reset(&packet));
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
    }
}

#[test]
fn the_holder_of_a_chased_flow_tells_the_ingress_with_its_next_reply() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        establish(&mut rig, net, client, front);
        let data = Packet::tcp(client, front, ACK).payload(b"here I am");
        let chased = Geneve::to(0, &data).flags(flag::CHASED).list(&[THIRD]);
        let sent = read(&rig.uplink(&chased.frame()).sent(Verdict::Delivered));
        assert_eq!((sent.from, sent.to), (client, net.task()));
        let rev = rig.rev("REV", net, net.task(), client, 6).unwrap();
        assert_eq!(rev, (front, client, THERE, 7, rev_flag::REHINT));
        let reply = Packet::tcp(net.task(), client, ACK).frame();
        let opened = open(&rig.task(&reply).sent(Verdict::ReplyRelayed));
        assert_eq!(opened.tunnel.flags, flag::REPLY | flag::REHINT);
        assert_eq!(opened.ingress(), HERE);
        let opened = open(&rig.task(&reply).sent(Verdict::ReplyRelayed));
        assert_eq!(opened.tunnel.flags, flag::REPLY);
    }
}

#[test]
fn chases_and_resets_have_their_limits() {
    let Some(mut rig) = Rig::new() else { return };
    rig.change("SETTINGS", 0, |settings: &mut Settings| {
        settings.chases = 0;
        settings.resets = 0;
    });
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let packet = Packet::tcp(net.client(), net.front(port::HERE), ACK).frame();
        rig.uplink(&packet).dropped(Verdict::ResetLimit);
        rig.set_chain(net.pool(port::HERE), &[HERE, THERE], number::SECOND, 0);
        rig.uplink(&packet).dropped(Verdict::ChaseLimit);
        let nobody = Packet::tcp(net.client(), net.front(port::NOBODY), ACK).frame();
        rig.uplink(&nobody).dropped(Verdict::ResetLimit);
    }
}

#[test]
fn without_an_agent_nobody_is_told_that_his_connection_does_not_exist() {
    let Some(mut rig) = Rig::new() else { return };
    let beat = |rig: &mut Rig, seconds_ago| {
        rig.change("SETTINGS", 0, |settings: &mut Settings| {
            settings.alive = now() - seconds_ago;
        });
    };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let unknown = Packet::tcp(net.client(), net.front(port::HERE), ACK).frame();
        let nobody = Packet::tcp(net.client(), net.front(port::NOBODY), ACK).frame();
        beat(&mut rig, 1);
        rig.uplink(&unknown).sent(Verdict::Reset);
        rig.uplink(&nobody).sent(Verdict::Reset);
        beat(&mut rig, 7);
        rig.uplink(&unknown).dropped(Verdict::StaleView);
        rig.uplink(&nobody).dropped(Verdict::StaleView);
        // What others may know is still asked.
        rig.set_chain(net.pool(port::HERE), &[HERE, THERE], number::SECOND, 0);
        rig.uplink(&unknown).sent(Verdict::Chased);
        rig.set_chain(net.pool(port::HERE), &[HERE], number::SECOND, 0);
    }
}

#[test]
fn a_flood_of_unknown_packets_is_answered_no_faster_than_the_limit() {
    let Some(mut rig) = Rig::new() else { return };
    rig.change("SETTINGS", 0, |settings: &mut Settings| settings.resets = 20);
    let net = Net::Four;
    let packet = Packet::tcp(net.client(), net.front(port::HERE), ACK).frame();
    let start = now();
    let before = rig.counted();
    for _ in 0..2_000 {
        rig.uplink(&packet);
    }
    let ticks = (now() - start + 1) as u64;
    let cpus = std::thread::available_parallelism().unwrap().get() as u64;
    let resets = rig.counted()[Verdict::Reset as usize] - before[Verdict::Reset as usize];
    assert!(
        (20..=20 * ticks * cpus).contains(&resets),
        "{resets} resets in {ticks} ticks"
    );
    let limited = rig.counted()[Verdict::ResetLimit as usize] - before[Verdict::ResetLimit as usize];
    assert_eq!(resets + limited, 2_000);
}

#[test]
fn udp_asks_the_chain_only_shortly_after_a_change() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let pool = net.pool(port::HERE);
        let (client, front) = (net.client(), net.front(port::HERE));
        let question = Packet::udp(client, front);
        rig.set_chain(pool, &[THERE, HERE, THIRD], number::SECOND, now());
        let opened = open(&rig.uplink(&question.frame()).sent(Verdict::Chased));
        assert_eq!(opened.outer.destination, [192, 0, 2, 12]);
        assert_eq!(opened.tunnel.flags, flag::CHASED | flag::CREATE);
        assert_eq!(opened.list(), [THIRD, HERE], "and back, to be made here");
        assert_eq!(rig.flow("HALF", net, client, front, UDP), None);
        // Nobody had it.
        let back = Geneve::to(TASK, &question).flags(flag::CHASED | flag::CREATE);
        assert_eq!(
            read(&rig.uplink(&back.frame()).sent(Verdict::Delivered)).to,
            net.task()
        );
        assert!(rig.flow("HALF", net, client, front, UDP).is_some());
        rig.uplink(&question.frame()).sent(Verdict::Delivered);
        // Long after the change: at once.
        rig.set_chain(pool, &[THERE, HERE, THIRD], number::SECOND, now() - 40);
        let mut other = client;
        other.set_port(40_001);
        rig.uplink(&Packet::udp(other, front).frame())
            .sent(Verdict::Delivered);
        // A chased packet without leave to create makes nothing.
        other.set_port(40_002);
        let chased = Geneve::to(0, &Packet::udp(other, front)).flags(flag::CHASED);
        rig.uplink(&chased.frame()).dropped(Verdict::Unknown);
        assert_eq!(rig.flow("HALF", net, other, front, UDP), None);
    }
}

#[test]
fn an_icmp_error_that_nobody_knows_is_chased_and_then_dropped() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let lost = Packet::tcp(net.front(port::HERE), net.client(), ACK).frame();
        let error = icmp_error(net.router(), &lost);
        rig.uplink(&error).dropped(Verdict::Unknown);
        rig.set_chain(net.pool(port::HERE), &[HERE, THERE], number::SECOND, 0);
        let opened = open_error(&rig.uplink(&error).sent(Verdict::Chased));
        assert_eq!(opened[14..], error[14..]);
        let last = Geneve::of(0, net.pool_of(port::HERE), &error)
            .flags(flag::CHASED)
            .frame();
        rig.uplink(&last).dropped(Verdict::Unknown);
    }
}

fn open_error(frame: &[u8]) -> Vec<u8> {
    let opened = open(frame);
    assert_eq!(opened.tunnel.flags, flag::CHASED);
    opened.inner
}

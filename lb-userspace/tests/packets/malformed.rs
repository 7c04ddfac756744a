//! What is malformed is never sent on, and every drop is counted under its reason.

use std::cell::RefCell;

use etherparse::SlicedPacket;
use lb_common::Verdict;
use lb_common::geneve::flag;
use lb_common::verdict::Outcome;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::cluster::{self, BOTH, Net, TASK, port};
use crate::frame::{ACK, FIN, Geneve, L3, Packet, RST, SYN, icmp_error, open, read};
use crate::rig::{Ran, Rig, TC_REDIRECT, TC_SHOT, TC_UNSPEC, XDP_PASS, XDP_TX};

/// The bytes that the IP header of a frame claims.
fn ip_packet(frame: &[u8]) -> &[u8] {
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]) as usize;
    let length = if frame[L3] >> 4 == 4 {
        word(L3 + 2)
    } else {
        40 + word(L3 + 4)
    };
    &frame[L3..L3 + length]
}

/// What must be true of any frame whatever: one count, and what is sent on is a whole packet, inside Geneve the same.
#[track_caller]
fn tc_is_right(ran: &Ran, frame: &[u8]) {
    let verdict = ran.verdict();
    match verdict.outcome() {
        Outcome::Passed => {
            assert_eq!(ran.action, TC_UNSPEC);
            assert_eq!(ran.frame, frame);
        }
        Outcome::Dropped => assert_eq!(ran.action, TC_SHOT),
        Outcome::Forwarded | Outcome::Answered => assert_eq!(ran.action, TC_REDIRECT),
    }
    match verdict {
        Verdict::Relayed => is_inside(&ran.frame, frame),
        Verdict::Delivered | Verdict::ReplyForwarded | Verdict::Replied => is_whole(&ran.frame[L3..]),
        Verdict::Reset => {
            read(&ran.frame);
        }
        _ => {}
    }
}

#[track_caller]
fn is_inside(sent: &[u8], frame: &[u8]) {
    // Ethernet may pad behind the packet.
    let length = u16::from_be_bytes([sent[L3 + 2], sent[L3 + 3]]) as usize;
    let opened = open(&sent[..L3 + length]);
    assert_eq!(&opened.inner[L3..], ip_packet(frame));
    is_whole(&opened.inner[L3..]);
}

/// A packet whose headers fit in it; a fragment need not have those that are in another.
#[track_caller]
fn is_whole(packet: &[u8]) {
    if !is_fragment(packet) {
        SlicedPacket::from_ip(packet).expect("a whole packet");
    }
}

fn is_fragment(packet: &[u8]) -> bool {
    if packet[0] >> 4 == 4 {
        return (packet[6] & 0x3f, packet[7]) != (0, 0);
    }
    let (mut next, mut at) = (packet[6], 40);
    while matches!(next, 0 | 43 | 60) {
        (next, at) = (packet[at], at + 8 + packet[at + 1] as usize * 8);
    }
    next == 44
}

/// XDP finishes what tc would have finished in the same way, or leaves the frame to it.
#[track_caller]
fn xdp_is_right(ran: &Ran, frame: &[u8], by_tc: &Ran) {
    match ran.action {
        XDP_PASS => {
            assert_eq!(ran.frame, frame);
            assert!(matches!(ran.verdicts[..], [] | [Verdict::HandedToTc]));
        }
        XDP_TX => {
            assert_eq!(ran.verdict(), by_tc.verdict());
            assert_eq!(ran.frame[L3 - 2..], by_tc.frame[L3 - 2..]);
        }
        action => panic!("action {action}, counted {:?}", ran.verdicts),
    }
}

/// Puts the frame in everywhere, and gives the verdict of tc.
#[track_caller]
fn put_in(rig: &mut Rig, frame: &[u8]) -> Verdict {
    if frame.len() < L3 + 20 || frame.len() < L3 + 40 && frame[12..14] == [0x86, 0xdd] {
        // The kernel makes no packet of it for a tc program.
        let ran = rig.xdp(frame);
        assert_eq!((ran.action, &ran.verdicts[..]), (XDP_PASS, &[][..]));
        return Verdict::NotOurs;
    }
    let by_tc = rig.uplink(frame);
    tc_is_right(&by_tc, frame);
    let by_xdp = rig.xdp(frame);
    xdp_is_right(&by_xdp, frame, &by_tc);
    tc_is_right(&rig.task(frame), frame);
    by_tc.verdict()
}

fn kinds(net: Net) -> Vec<Packet> {
    let client = net.client();
    let mut kinds = Vec::new();
    for port in [port::HERE, port::THERE, port::NOBODY] {
        let front = net.front(port);
        kinds.push(Packet::syn(client, front));
        kinds.push(Packet::tcp(client, front, ACK).payload(b"data"));
        kinds.push(Packet::udp(client, front));
    }
    kinds
}

#[test]
fn a_packet_cut_at_any_length_is_dropped_and_counted() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for packet in kinds(net) {
            let whole = packet.frame();
            // The transport header, where frontends are told from other addresses.
            let seen = whole.len() - packet.payload.len() - packet.options.len();
            for length in 14..whole.len() {
                let verdict = put_in(&mut rig, &whole[..length]);
                let expected = if length < seen && (packet.protocol == 6 || length < seen - 4) {
                    Verdict::NotOurs
                } else {
                    Verdict::Truncated
                };
                assert_eq!(
                    verdict,
                    expected,
                    "{length} of {} bytes of {packet:?}",
                    whole.len()
                );
            }
        }
    }
}

#[test]
fn an_icmp_error_cut_at_any_length_is_never_sent_on() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        for port in [port::HERE, port::THERE] {
            let reply = Packet::tcp(net.front(port), net.client(), ACK).frame();
            let whole = icmp_error(net.router(), &reply);
            for length in 14..whole.len() {
                let verdict = put_in(&mut rig, &whole[..length]);
                assert!(
                    matches!(verdict, Verdict::NotOurs | Verdict::Truncated),
                    "{verdict:?}"
                );
            }
        }
    }
}

#[test]
fn header_fields_that_cannot_be_are_dropped_under_their_reason() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let four = net == Net::Four;
        let l4 = L3 + if four { 20 } else { 40 };
        let length = if four { L3 + 2 } else { L3 + 4 };
        for port in [port::HERE, port::THERE, port::NOBODY] {
            let (client, front) = (net.client(), net.front(port));
            let tcp = Packet::tcp(client, front, ACK).payload(b"data").frame();
            let udp = Packet::udp(client, front).frame();
            let wrong = |frame: &[u8], at: usize, bytes: &[u8]| {
                let mut frame = frame.to_vec();
                frame[at..at + bytes.len()].copy_from_slice(bytes);
                frame
            };
            let mut cases = vec![
                (wrong(&tcp, l4 + 12, &[0x40]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 12, &[0x00]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 12, &[0x70]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 12, &[0xf0]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 13, &[SYN | FIN]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 13, &[SYN | RST]), Verdict::BadHeader),
                (wrong(&tcp, l4 + 13, &[0xff]), Verdict::BadHeader),
                (wrong(&udp, l4 + 4, &[0, 0]), Verdict::BadHeader),
                (wrong(&udp, l4 + 4, &[0, 7]), Verdict::BadHeader),
                (wrong(&udp, l4 + 4, &[0, 19]), Verdict::BadHeader),
                (wrong(&udp, l4 + 4, &[0xff, 0xff]), Verdict::BadHeader),
                (wrong(&tcp, length, &[0, 0]), Verdict::BadHeader),
                (wrong(&tcp, length, &[0, 19]), Verdict::BadHeader),
                (wrong(&udp, length, &[0, 7]), Verdict::BadHeader),
                (wrong(&tcp, length, &[0x05, 0xdc]), Verdict::Truncated),
                (wrong(&udp, length, &[0xff, 0xff]), Verdict::Truncated),
                (wrong(&tcp, L3, &[0x05]), Verdict::NotOurs),
                (wrong(&tcp, L3, &[0x54]), Verdict::NotOurs),
                (wrong(&tcp, L3 - 2, &[0x08, 0x06]), Verdict::NotOurs),
            ];
            if four {
                cases.push((wrong(&tcp, L3, &[0x44]), Verdict::NotOurs));
                cases.push((wrong(&tcp, L3, &[0x40]), Verdict::NotOurs));
            }
            for (frame, expected) in cases {
                assert_eq!(put_in(&mut rig, &frame), expected, "{port} {frame:02x?}");
            }
        }
    }
}

#[test]
fn ipv4_options_are_carried_by_the_tc_program() {
    let Some(mut rig) = Rig::new() else { return };
    for port in [port::HERE, port::THERE] {
        for options in [
            &[1, 1, 1, 0][..],
            &[0x44, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1; 40],
        ] {
            for packet in [
                Packet::syn(Net::Four.client(), Net::Four.front(port)),
                Packet::udp(Net::Four.client(), Net::Four.front(port)),
            ] {
                let frame = with_options(&packet.frame(), options);
                read(&frame);
                let expected = if port == port::HERE {
                    Verdict::Delivered
                } else {
                    Verdict::Relayed
                };
                assert_eq!(put_in(&mut rig, &frame), expected);
                let sent = rig.uplink(&frame).frame;
                let sent = read(&sent);
                let inside = if port == port::HERE {
                    Net::Four.task()
                } else {
                    sent.to
                };
                assert_eq!(sent.to, inside);
            }
        }
    }
}

/// The frame with IPv4 options put in.
fn with_options(frame: &[u8], options: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[L3] += options.len() as u8 / 4;
    let length = u16::from_be_bytes([frame[L3 + 2], frame[L3 + 3]]) + options.len() as u16;
    frame[L3 + 2..L3 + 4].copy_from_slice(&length.to_be_bytes());
    frame.splice(L3 + 20..L3 + 20, options.iter().copied());
    frame[L3 + 10..L3 + 12].fill(0);
    let sum = lb_common::checksum::sum(&frame[L3..L3 + 20 + options.len()]);
    frame[L3 + 10..L3 + 12].copy_from_slice(&(!lb_common::checksum::fold(sum)).to_ne_bytes());
    frame
}

#[test]
fn ipv6_extension_headers_are_carried_by_the_tc_program() {
    let Some(mut rig) = Rig::new() else { return };
    let net = Net::Six;
    cluster::locals(&mut rig, net);
    for port in [port::HERE, port::THERE] {
        for extensions in [&[(0, 8)][..], &[(60, 16)], &[(0, 8), (60, 24)], &[(43, 64)]] {
            let packet = Packet::tcp(net.client(), net.front(port), SYN);
            let frame = with_extensions(&packet.frame(), extensions);
            read(&frame);
            let expected = if port == port::HERE {
                Verdict::Delivered
            } else {
                Verdict::Relayed
            };
            assert_eq!(put_in(&mut rig, &frame), expected, "{extensions:?}");
            let sent = rig.uplink(&frame).sent(expected);
            if port == port::HERE {
                assert_eq!(read(&sent).to, net.task());
            }
        }
        // More than are followed, or longer: the node's own stack may have it.
        for extensions in [&[(0, 8), (60, 8), (43, 8)][..], &[(60, 80)]] {
            let frame = with_extensions(
                &Packet::tcp(net.client(), net.front(port), SYN).frame(),
                extensions,
            );
            assert_eq!(put_in(&mut rig, &frame), Verdict::NotOurs, "{extensions:?}");
        }
        // A header that says it is longer than the packet.
        let mut frame = with_extensions(&Packet::udp(net.client(), net.front(port)).frame(), &[(60, 8)]);
        frame[L3 + 41] = 7;
        assert_eq!(put_in(&mut rig, &frame), Verdict::NotOurs);
    }
}

/// The frame with extension headers (protocol number, bytes) put in, filled with padding options.
fn with_extensions(frame: &[u8], extensions: &[(u8, usize)]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let mut next = frame[L3 + 6];
    for &(number, length) in extensions.iter().rev() {
        let mut header = vec![next, (length / 8 - 1) as u8];
        if number == 43 {
            // A routing header with no segment left (RFC 8200, section 4.4).
            header.extend([4, 0]);
            header.resize(length, 0);
        } else {
            header.extend([1, length as u8 - 4]);
            header.resize(length, 0);
        }
        frame.splice(L3 + 40..L3 + 40, header);
        next = number;
    }
    frame[L3 + 6] = next;
    let length = (frame.len() - L3 - 40) as u16;
    frame[L3 + 4..L3 + 6].copy_from_slice(&length.to_be_bytes());
    frame
}

/// A datagram's first or later fragment: `offset` in units of eight bytes, and whether more come.
fn fragment(net: Net, port: u16, id: u8, offset: u16, more: bool) -> Vec<u8> {
    let packet = Packet::udp(net.client(), net.front(port)).payload(&[7; 56]);
    let mut frame = packet.frame();
    let l4 = L3 + if net == Net::Four { 20 } else { 40 };
    if offset > 0 {
        // No transport header there.
        frame[l4..].fill(9);
    } else {
        // The datagram is longer than this fragment.
        frame[l4 + 4..l4 + 6].copy_from_slice(&200u16.to_be_bytes());
    }
    match net {
        Net::Four => {
            frame[L3 + 5] = id;
            let field = offset | if more { 0x2000 } else { 0 };
            frame[L3 + 6..L3 + 8].copy_from_slice(&field.to_be_bytes());
            frame[L3 + 10..L3 + 12].fill(0);
            let sum = lb_common::checksum::sum(&frame[L3..l4]);
            frame[L3 + 10..L3 + 12].copy_from_slice(&(!lb_common::checksum::fold(sum)).to_ne_bytes());
        }
        Net::Six => {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            let header = [frame[L3 + 6], 0, high, low, 0, 0, 0, id];
            frame.splice(l4..l4, header);
            frame[L3 + 6] = 44;
            frame[L3 + 5] += 8;
        }
    }
    frame
}

#[test]
fn later_fragments_follow_the_first_and_without_it_are_nobodys() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for (port, expected) in [(port::HERE, Verdict::Delivered), (port::THERE, Verdict::Relayed)] {
            let later = fragment(net, port, port as u8, 8, false);
            assert_eq!(put_in(&mut rig, &later), Verdict::NotOurs);
            let first = fragment(net, port, port as u8, 0, true);
            assert_eq!(put_in(&mut rig, &first), expected);
            assert_eq!(put_in(&mut rig, &later), expected);
            assert_eq!(
                put_in(&mut rig, &fragment(net, port, 77, 8, true)),
                Verdict::NotOurs
            );
            let sent = rig.uplink(&later).sent(expected);
            if port == port::THERE {
                assert_eq!(open(&sent).inner[L3..], later[L3..]);
                continue;
            }
            let (addresses, payload) = if net == Net::Four {
                (L3 + 12, L3 + 20)
            } else {
                (L3 + 8, L3 + 40)
            };
            assert_eq!(
                sent[payload..],
                later[payload..],
                "no port is written where there is none"
            );
            let task = match net.task().ip() {
                std::net::IpAddr::V4(task) => task.octets().to_vec(),
                std::net::IpAddr::V6(task) => task.octets().to_vec(),
            };
            assert_eq!(sent[addresses + task.len()..addresses + 2 * task.len()], task);
            if net == Net::Four {
                assert_eq!(
                    lb_common::checksum::fold(lb_common::checksum::sum(&sent[L3..payload])),
                    0xffff
                );
            }
        }
    }
}

/// Frames that concern us, to be damaged.
fn whole() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for net in BOTH {
        for packet in kinds(net) {
            frames.push(packet.frame());
            frames.push(Geneve::to(TASK, &packet).frame());
            frames.push(Geneve::to(TASK, &packet).flags(flag::CHASED).list(&[13]).frame());
            let reply = Packet {
                from: packet.to,
                to: packet.from,
                ..packet
            };
            frames.push(Geneve::reply(0, &reply).frame());
            frames.push(icmp_error(net.router(), &reply.frame()));
        }
        frames.push(with_extra(net));
        frames.push(fragment(net, port::HERE, 1, 0, true));
        frames.push(fragment(net, port::THERE, 1, 8, false));
    }
    frames
}

fn with_extra(net: Net) -> Vec<u8> {
    let packet = Packet::syn(net.client(), net.front(port::THERE));
    match net {
        Net::Four => with_options(&packet.frame(), &[1; 8]),
        Net::Six => with_extensions(&packet.frame(), &[(0, 8), (60, 16)]),
    }
}

fn run(cases: u32, strategy: impl Strategy<Value = Vec<u8>>, rig: Rig) {
    let rig = RefCell::new(rig);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let outcome = TestRunner::new(config).run(&strategy, |frame| {
        put_in(&mut rig.borrow_mut(), &frame);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

#[test]
fn random_bytes_are_never_sent_on() {
    let Some(rig) = Rig::new() else { return };
    let four = vec(any::<u8>(), 16..400).prop_map(|mut frame| {
        frame[12..15].copy_from_slice(&[8, 0, 0x45]);
        frame
    });
    let six = vec(any::<u8>(), 16..400).prop_map(|mut frame| {
        frame[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        frame
    });
    run(500, prop_oneof![vec(any::<u8>(), 14..200), four, six], rig);
}

#[test]
fn damaged_packets_are_dropped_or_sent_on_whole() {
    let Some(rig) = Rig::new() else { return };
    let damaged = (
        prop::sample::select(whole()),
        vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        prop::option::of(any::<prop::sample::Index>()),
        0..40usize,
    )
        .prop_map(|(mut frame, bytes, cut, padding)| {
            for (at, byte) in bytes {
                // The Ethernet addresses say nothing.
                let at = 12 + at.index(frame.len() - 12);
                frame[at] = byte;
            }
            match cut {
                Some(cut) => frame.truncate(14 + cut.index(frame.len() - 14)),
                None => frame.resize(frame.len() + padding, 0xee),
            }
            frame
        });
    run(2_000, damaged, rig);
}

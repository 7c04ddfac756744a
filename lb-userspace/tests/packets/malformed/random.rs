//! Any bytes at all, and whole packets damaged at random.

use std::cell::RefCell;

use lb_common::geneve::flag;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::kinds;
use crate::cluster::{BOTH, Net, TASK, port};
use crate::frame::{Geneve, Packet, fragment, icmp_error, with_extensions, with_options};
use crate::judge::put_in;
use crate::rig::Rig;

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

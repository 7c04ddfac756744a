//! What must hold for any frame whatever, well made or not: it is counted once, and what is sent on is a whole packet.

use etherparse::SlicedPacket;
use lb_common::Verdict;
use lb_common::verdict::Outcome;

use crate::frame::{L3, open, read};
use crate::rig::{Ran, Rig, TC_REDIRECT, TC_SHOT, TC_UNSPEC, XDP_PASS, XDP_TX};

/// Puts the frame in everywhere, and gives the verdict of tc.
#[track_caller]
pub fn put_in(rig: &mut Rig, frame: &[u8]) -> Verdict {
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

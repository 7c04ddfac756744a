//! The dry run says what `uplink` would do, and changes nothing.

use lb_common::key::{FlowKey, Front, RevKey};
use lb_common::table::{
    ChainSlot, Flow, HeadBlock, Hint, Last, Local, Member, Node, Pool, Rev, Settings, Uplink, local_state,
};
use lb_common::trace::{NOTHING, STEPS, Step, Trace};
use lb_common::{Plain, V4, V6, Verdict};

use crate::cluster::{self, BOTH, HERE, Net, SLOTS, TASK, THERE, number, port};
use crate::frame::{ACK, FIN, Packet, RST, icmp_error};
use crate::handshake::{acknowledge, answer, establish};
use crate::relay::now;
use crate::rig::{Rig, TC_SHOT};

/// Everything that the programs could have changed.
fn dump(rig: &Rig) -> Vec<String> {
    let mut lines = Vec::new();
    family::<V4>(rig, "4", &mut lines);
    family::<V6>(rig, "6", &mut lines);
    table::<u64, Local>(rig, "LOCAL", &mut lines);
    table::<V4, u16>(rig, "PEER4", &mut lines);
    array::<Pool>(rig, "POOL", 16, &mut lines);
    array::<HeadBlock>(rig, "HEAD", 16, &mut lines);
    array::<ChainSlot>(rig, "CHAIN", 16 * SLOTS, &mut lines);
    array::<Member>(rig, "MEMBER", 8, &mut lines);
    array::<Node>(rig, "NODE", 32, &mut lines);
    array::<Uplink>(rig, "UPLINK", 256, &mut lines);
    array::<Settings>(rig, "SETTINGS", 1, &mut lines);
    lines.sort();
    lines.push(format!("COUNTER {:?}", rig.counted()));
    lines
}

fn family<A: std::fmt::Debug + Copy + 'static>(rig: &Rig, digit: &str, lines: &mut Vec<String>)
where
    Front<A>: Plain,
    FlowKey<A>: Plain,
    RevKey<A>: Plain,
    Rev<A>: Plain,
{
    table::<Front<A>, u32>(rig, &format!("FRONT{digit}"), lines);
    for name in ["HALF", "FLOW"] {
        table::<FlowKey<A>, Flow>(rig, &format!("{name}{digit}"), lines);
    }
    table::<FlowKey<A>, Hint>(rig, &format!("HINT{digit}"), lines);
    table::<FlowKey<A>, Last>(rig, &format!("LAST{digit}"), lines);
    for name in ["HALFREV", "REV"] {
        table::<RevKey<A>, Rev<A>>(rig, &format!("{name}{digit}"), lines);
    }
}

fn table<K: Plain + std::fmt::Debug, V: Plain + std::fmt::Debug>(
    rig: &Rig,
    name: &str,
    lines: &mut Vec<String>,
) {
    for (key, value) in rig.all::<K, V>(name) {
        lines.push(format!("{name} {key:?} {value:?}"));
    }
}

fn array<V: Plain + std::fmt::Debug>(rig: &Rig, name: &str, entries: u32, lines: &mut Vec<String>) {
    for index in 0..entries {
        lines.push(format!("{name} {index} {:?}", rig.get::<V>(name, index)));
    }
}

/// Traces the packet, then puts it in: nothing changes by the first, and the second does as the first said.
#[track_caller]
fn agrees(rig: &mut Rig, frame: &[u8]) -> Trace {
    rig.set("TRACE", 0, Trace::BLANK);
    let before = dump(rig);
    assert_eq!(rig.trace(frame).action, TC_SHOT);
    assert_eq!(dump(rig), before);
    let trace: Trace = rig.get("TRACE", 0);
    assert_ne!(trace.verdict, NOTHING);
    assert!((trace.len as usize) <= STEPS);
    let ran = rig.uplink(frame);
    assert_eq!(
        trace.verdict,
        ran.verdict() as u32,
        "uplink says {:?}, trace {trace:?}",
        ran.verdict()
    );
    trace
}

fn steps(trace: &Trace) -> Vec<Step> {
    let taken = trace.steps[..trace.len as usize].iter();
    taken.filter_map(|taken| Step::of(taken.step)).collect()
}

#[test]
fn trace_changes_nothing_and_says_what_uplink_then_does() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let syn = Packet::syn(client, front).frame();
        let data = Packet::tcp(client, front, ACK).payload(b"data").frame();
        // Unknown, new, known half, half answered, established, closing, gone.
        let trace = agrees(&mut rig, &data);
        assert_eq!(trace.verdict, Verdict::Reset as u32);
        assert!(steps(&trace).contains(&Step::FlowMiss));
        let trace = agrees(&mut rig, &syn);
        assert_eq!(
            (trace.member, trace.node, trace.pool),
            (TASK, HERE, net.pool(port::HERE))
        );
        assert!(steps(&trace).contains(&Step::Front));
        assert!(steps(&agrees(&mut rig, &syn)).contains(&Step::HalfHit));
        rig.task(&answer(net, client).frame());
        agrees(&mut rig, &acknowledge(client, front, 1 << 30).frame());
        let right = acknowledge(client, front, crate::handshake::ISN.wrapping_add(1)).frame();
        assert!(steps(&agrees(&mut rig, &right)).contains(&Step::Acknowledges));
        assert!(steps(&agrees(&mut rig, &data)).contains(&Step::FlowHit));
        for flags in [FIN | ACK, RST] {
            agrees(&mut rig, &Packet::tcp(client, front, flags).frame());
        }
        agrees(&mut rig, &syn);
        let udp = Packet::udp(client, front).frame();
        for _ in 0..2 {
            agrees(&mut rig, &udp);
        }
        let quoted = Packet::tcp(front, client, ACK).frame();
        agrees(&mut rig, &icmp_error(net.router(), &quoted));
    }
}

#[test]
fn trace_agrees_about_every_kind_of_frontend() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        for port in [
            port::THERE,
            port::NOBODY,
            port::UNRESOLVED,
            port::AFFINE,
            port::NONE,
        ] {
            let (client, front) = (net.client(), net.front(port));
            for packet in [
                Packet::syn(client, front),
                Packet::tcp(client, front, ACK),
                Packet::udp(client, front),
            ] {
                agrees(&mut rig, &packet.frame());
            }
        }
        let trace = agrees(
            &mut rig,
            &Packet::syn(net.client(), net.front(port::THERE)).frame(),
        );
        assert_eq!(trace.node, THERE);
        assert!(steps(&trace).contains(&Step::Sent));
    }
}

#[test]
fn trace_agrees_about_chases_moves_and_drains() {
    let Some(mut rig) = Rig::new() else { return };
    for net in BOTH {
        cluster::locals(&mut rig, net);
        let (client, front) = (net.client(), net.front(port::HERE));
        let pool = net.pool(port::HERE);
        establish(&mut rig, net, client, front);
        let mut other = client;
        other.set_port(40_001);
        rig.set_chain(pool, &[THERE, HERE], number::REMOTE, now());
        let trace = agrees(&mut rig, &Packet::tcp(other, front, ACK).frame());
        assert_eq!((trace.verdict, trace.node), (Verdict::Chased as u32, THERE));
        agrees(&mut rig, &Packet::udp(other, front).frame());
        rig.change_local(TASK, |local| local.ifindex = 0);
        let trace = agrees(&mut rig, &Packet::syn(other, front).frame());
        assert_eq!((trace.verdict, trace.node), (Verdict::Moved as u32, THERE));
        rig.set_chain(pool, &[HERE], number::SECOND, 0);
        agrees(&mut rig, &Packet::syn(other, front).frame());
        rig.change_local(TASK, |local| local.state = local_state::DRAINING);
        other.set_port(40_002);
        agrees(&mut rig, &Packet::syn(other, front).frame());
        agrees(&mut rig, &Packet::tcp(client, front, ACK).frame());
    }
    let malformed = Packet::tcp(
        Net::Four.client(),
        Net::Four.front(port::HERE),
        FIN | crate::frame::SYN,
    );
    agrees(&mut rig, &malformed.frame());
    let frame = Packet::syn(Net::Four.client(), Net::Four.front(port::HERE)).frame();
    agrees(&mut rig, &frame[..frame.len() - 1]);
}

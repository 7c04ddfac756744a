//! Return rules: what a task says goes back to the client, by the way its packets come.

use lb_common::geneve::flag;
use lb_common::key::{FlowKey, RevKey};
use lb_common::table::{Flow, Rev, flow_state, rev_flag};
use lb_common::{Address, Verdict};

use super::Path;
use super::back::send_back;
use super::case::{Case, Ends};
use super::create;
use super::fragment;
use super::globals::self_node;
use super::icmp;
use super::relay::way;
use super::rewrite::rewrite;
use super::skb::Skb;
use super::tables;
use crate::frame::Frame;
use crate::parse::{Kind, L4_MASK, Packet, Part, verify};
use crate::wire::{Tcp, tcp};

/// The key under which a packet, if it is a reply, has its way back.
#[inline(always)]
pub fn way_back<A: Address>(packet: &Packet<A>) -> RevKey<A> {
    RevKey {
        task: packet.key.client,
        client: packet.key.front,
        task_port: packet.key.client_port,
        client_port: packet.key.front_port,
        protocol: packet.key.protocol,
    }
}

/// Return rule 1, for a packet from a task whose way back, if it is a reply, would be at `case.back`: [`Verdict::Replied`]
/// means that [`undo`] shall send it back. `None` where it is no reply.
#[inline(never)]
pub fn reply<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Option<Verdict> {
    let packet = &case.packet;
    let key = case.back;
    let (rev, half) = match V::revs().get_ptr_mut(&key) {
        Some(rev) => (rev, false),
        None => (V::half_revs().get_ptr_mut(&key)?, true),
    };
    // SAFETY: a live map value; fields are written as single aligned words.
    let rev = unsafe { &mut *rev };
    if let Err(verdict) = verify(skb, packet) {
        return Some(verdict);
    }
    if packet.part == Part::First {
        fragment::keep::<V>(packet);
    }
    let flow = FlowKey {
        client: rev.client,
        front: rev.front,
        client_port: rev.client_port,
        front_port: rev.front_port,
        protocol: key.protocol,
    }
    .in_realm(rev.realm);
    // Before anything is moved: a half-open flow's memory may be another's as soon as its entry is removed.
    case.arrival.node = rev.node;
    case.arrival.device = rev.device;
    if rev.realm != 0 {
        case.arrival.flags = flag::SCOPED;
    }
    if rev.flags & rev_flag::REHINT != 0 {
        case.arrival.flags |= flag::REHINT;
        rev.flags = 0;
    }
    case.ends = Ends {
        source: rev.front,
        destination: rev.client,
        source_port: rev.front_port,
        destination_port: rev.client_port,
    };
    if half {
        if !answered::<V>(skb, packet, &key, &flow) {
            return Some(Verdict::Unknown);
        }
    } else {
        observe::<V>(packet, &flow, rev, case.now);
    }
    Some(Verdict::Replied)
}

/// Makes the packet one from the frontend, and sends it back.
#[inline(never)]
pub fn undo<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let node = case.arrival.node;
    if node != self_node() && matches!(way::<V>(skb, &case.packet, node), Err(Verdict::TooBig)) {
        return Verdict::TooBig;
    }
    let changed = match case.packet.kind {
        Kind::IcmpError => icmp::translate::<V>(skb, case, false),
        _ => rewrite::<V>(skb, case),
    };
    match changed {
        Ok(()) => send_back::<V>(skb, case),
        Err(verdict) => verdict,
    }
}

/// The task answers a half-open flow. False where the connection is another task's by now: its answer would be taken for
/// that task's.
#[inline(never)]
fn answered<V: Path>(
    skb: Skb,
    packet: &Packet<V::Address>,
    back: &RevKey<V::Address>,
    flow: &FlowKey<V::Address>,
) -> bool {
    let Some(half) = V::halves().get_ptr_mut(flow) else {
        return true;
    };
    // SAFETY: a live map value; an entry evicted meanwhile is written in vain.
    let half: &mut Flow = unsafe { &mut *half };
    let is_its = tables::local(half.tag).is_some_and(|local| {
        half.client_port == back.client_port
            && local.port == back.task_port
            && V::Address::narrow(local.address) == back.task
    });
    if !is_its {
        // A late answer to a question is as good as any.
        return !matches!(packet.kind, Kind::Tcp);
    }
    match packet.kind {
        Kind::Tcp if packet.flags & tcp::RST != 0 => half.state |= flow_state::RESET,
        Kind::Tcp if packet.flags & (tcp::SYN | tcp::ACK) == tcp::SYN | tcp::ACK => {
            if let Some(segment) = skb.at::<Tcp>(packet.l4 as usize & L4_MASK) {
                half.isn = u32::from_be_bytes(segment.sequence);
                half.state |= flow_state::ANSWERED;
            }
        }
        // A UDP flow that is answered is one that the table of established flows has room for.
        Kind::Udp => {
            create::establish::<V>(flow, half, back);
        }
        _ => {}
    }
    true
}

/// Notes what a reply tells of an established flow.
#[inline(always)]
fn observe<V: Path>(
    packet: &Packet<V::Address>,
    key: &FlowKey<V::Address>,
    rev: &mut Rev<V::Address>,
    now: u32,
) {
    if rev.tick != now {
        rev.tick = now;
    }
    if packet.flags & (tcp::FIN | tcp::RST) != 0
        && let Some(flow) = V::flows().get_ptr_mut(key)
    {
        let end = if packet.flags & tcp::RST != 0 {
            flow_state::RESET
        } else {
            flow_state::FIN_TASK
        };
        // SAFETY: a live map value; one byte is written.
        unsafe { (*flow).state |= end };
    }
}

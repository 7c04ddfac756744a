//! Return rules: what a task says goes back to the client, by the way its packets come.

use aya_ebpf::bindings::{BPF_FIB_LOOKUP_SKIP_NEIGH, bpf_fib_lookup as Fib};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use lb_common::geneve::flag;
use lb_common::key::{FlowKey, RevKey};
use lb_common::table::{CHAIN, Flow, Rev, flow_state, node_flag, pool_flag, rev_flag};
use lb_common::{Address, Verdict, hash};

use super::Path;
use super::case::{Arrival, Case};
use super::choose::Choice;
use super::create;
use super::fragment;
use super::globals::self_node;
use super::icmp;
use super::relay::{relay, way};
use super::rewrite::{Ends, rewrite};
use super::skb::Skb;
use super::tables::{self, NODE, POOL, UPLINK};
use super::tunnel;
use crate::frame::{Frame, L3};
use crate::parse::{Kind, L4_MASK, Packet, Part, verify};
use crate::wire::{ETHERTYPE_IPV6, Tcp, tcp};

/// Return rule 1, for a packet from a task's device: [`Verdict::Replied`] means that [`undo`] shall send it back.
/// `None` where it is no reply.
#[inline(never)]
pub fn reply<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Option<Verdict> {
    let packet = &case.packet;
    let key = RevKey {
        task: packet.key.client,
        client: packet.key.front,
        task_port: packet.key.client_port,
        client_port: packet.key.front_port,
        protocol: packet.key.protocol,
    };
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
    };
    // Before anything is moved: a half-open flow's memory may be another's as soon as its entry is removed.
    case.arrival.node = rev.node;
    case.arrival.device = rev.device;
    if rev.flags & rev_flag::REHINT != 0 {
        case.arrival.flags = flag::REHINT;
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

/// Sends a packet that now reads "from the frontend, to the client", as `case.ends` have it, by the node and the
/// device of `case.arrival`.
#[inline(never)]
pub fn send_back<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let ends = &case.ends;
    let flow = FlowKey {
        client: ends.destination,
        front: ends.source,
        client_port: ends.destination_port,
        front_port: ends.source_port,
        protocol: case.packet.key.protocol,
    };
    let Arrival { node, device, .. } = case.arrival;
    let rehint = case.arrival.flags & flag::REHINT;
    if node == self_node() {
        if rehint != 0 {
            tunnel::hint::<V>(&flow, self_node(), case.now);
        }
        return leave::<V>(skb, &flow.client, device, Verdict::Replied);
    }
    if leaves_here::<V>(&flow, node) {
        return leave::<V>(skb, &flow.client, 0, Verdict::Replied);
    }
    let entropy = hash::flow_hash(0, flow.client, flow.ports(), flow.protocol as u8) as u16;
    case.choice = Choice {
        tag: 0,
        pool: u32::MAX,
        slot: 0,
        node,
        entropy,
        vni: 0,
        flags: 0,
    };
    case.arrival = Arrival {
        member: 0,
        node: self_node(),
        device,
        flags: flag::REPLY | rehint,
        list: [0; CHAIN],
    };
    relay::<V>(skb, case, Verdict::ReplyRelayed)
}

/// Rule 9: the ingress node is down or gone, and any node may speak for a VIP.
#[inline(always)]
fn leaves_here<V: Path>(flow: &FlowKey<V::Address>, node: u16) -> bool {
    let Some(node) = NODE.get(node as u32) else {
        return false;
    };
    if node.flags & (node_flag::KNOWN | node_flag::DOWN) == node_flag::KNOWN {
        return false;
    }
    tables::front::<V>(&flow.to())
        .and_then(|pool| POOL.get(pool))
        .is_some_and(|pool| pool.flags & pool_flag::VIP != 0)
}

/// Out of the device that ends in `device`, or of the one that the routing table gives where that is 0.
#[inline(always)]
pub fn leave<V: Path>(skb: Skb, client: &V::Address, device: u8, verdict: Verdict) -> Verdict {
    let uplink = UPLINK.get(device as u32).map_or(0, |uplink| uplink.ifindex);
    let wanted = if device == 0 { 0 } else { uplink };
    let six = V::ETHERTYPE == ETHERTYPE_IPV6;
    if wanted != 0 && !six {
        return skb.to_neighbour(wanted, verdict);
    }
    let routed = route::<V>(skb, client);
    if wanted != 0 && routed != wanted {
        return by_gateway(skb, device, verdict);
    }
    match routed {
        0 => Verdict::Failed,
        ifindex => skb.to_neighbour(ifindex, verdict),
    }
}

/// Out of an uplink that the routing table would not choose, to its own IPv6 gateway.
#[inline(always)]
fn by_gateway(skb: Skb, device: u8, verdict: Verdict) -> Verdict {
    let Some(uplink) = UPLINK.get(device as u32) else {
        return Verdict::Failed;
    };
    if uplink.family6 == 0 {
        return skb.to_neighbour(uplink.ifindex, verdict);
    }
    skb.to_gateway6(uplink, verdict)
}

/// The device that the routing table gives for an address, 0 where it gives none.
#[inline(always)]
fn route<V: Path>(skb: Skb, destination: &V::Address) -> u32 {
    // SAFETY: all zeroes is a valid value of this plain structure.
    let mut fib: Fib = unsafe { core::mem::zeroed() };
    fib.ifindex = skb.ifindex();
    V::fill(&mut fib, *destination);
    // SAFETY: the structure lives on the stack and its size is given.
    let result = unsafe {
        bpf_fib_lookup(
            skb.raw().cast(),
            &mut fib,
            size_of::<Fib>() as i32,
            BPF_FIB_LOOKUP_SKIP_NEIGH,
        )
    };
    if result == 0 && skb.length() > L3 {
        fib.ifindex
    } else {
        0
    }
}

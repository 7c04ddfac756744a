//! Replies of tasks in the node's own network namespace, on their way out of a device: no device of a task's own shows them to
//! us before the kernel has routed them.

use lb_common::key::{FlowKey, RevKey};
use lb_common::table::{HOST_TASK, Rev};
use lb_common::{Address, Verdict};

use super::case::Case;
use super::inbound::ethertype;
use super::open::open;
use super::reply::{reply, undo, way_back};
use super::skb::Skb;
use super::tables::{self, Tables};
use super::{Path, too_big};
use crate::frame::Frame;
use crate::parse::{Four, Kind, L4_MASK, Six};
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Tcp, tcp};

/// A packet that leaves by a device. What only passes through this node, be it by our own programs' doing, costs one look.
#[inline(always)]
pub fn answer(skb: Skb) -> Verdict {
    if skb.came_in() {
        return Verdict::NotOurs;
    }
    match ethertype(skb) {
        ETHERTYPE_IPV4 => of_host::<Four>(skb),
        ETHERTYPE_IPV6 => of_host::<Six>(skb),
        _ => Verdict::NotOurs,
    }
}

#[inline(never)]
fn of_host<V: Path>(skb: Skb) -> Verdict {
    let Some(case) = open::<V>(skb, 0, 0) else {
        return Verdict::NotOurs;
    };
    case.leaving = skb.ifindex();
    case.back = way_back(&case.packet);
    if is_anothers::<V>(skb, case) {
        return Verdict::NotOurs;
    }
    let verdict = match reply::<V>(skb, case) {
        None if is_from_elsewhere::<V>(case) => reply::<V>(skb, case),
        verdict => verdict,
    };
    match verdict {
        Some(Verdict::Replied) => match undo::<V>(skb, case) {
            Verdict::TooBig => too_large::<V>(skb, case),
            verdict => verdict,
        },
        Some(verdict) => verdict,
        None => Verdict::NotOurs,
    }
}

/// Whether the node's kernel begins another connection under the ends of a flow that has ended: of a client that asked for the
/// task's own port, where no frontend is. That flow is forgotten.
#[inline(never)]
fn is_anothers<V: Path>(skb: Skb, case: &Case<V::Address>) -> bool {
    let packet = &case.packet;
    if !matches!(packet.kind, Kind::Tcp) || packet.flags & (tcp::SYN | tcp::ACK) != tcp::SYN | tcp::ACK {
        return false;
    }
    let Some(rev) = V::revs().get_ptr(&case.back) else {
        return false;
    };
    // SAFETY: a live map value, copied.
    let key = flow_key(unsafe { &*rev }, &case.back);
    let Some(flow) = V::flows().get_ptr(&key) else {
        return false;
    };
    // SAFETY: as above, one aligned word.
    let isn = unsafe { (*flow).isn };
    let Some(segment) = skb.at::<Tcp>(packet.l4 as usize & L4_MASK) else {
        return false;
    };
    if u32::from_be_bytes(segment.sequence) == isn {
        return false;
    }
    let _ = V::revs().remove(&case.back);
    let _ = V::flows().remove(&key);
    true
}

/// Whether a datagram may be an answer from another of the node's addresses than the one that was asked: that of the device it
/// leaves by, where the task's socket is bound to none. The way back is looked for under the node's own address then.
#[inline(always)]
fn is_from_elsewhere<V: Path>(case: &mut Case<V::Address>) -> bool {
    let own = V::own_address();
    if !matches!(case.packet.kind, Kind::Udp) || case.back.task == own {
        return false;
    }
    case.back.task = own;
    true
}

/// The answer to a reply that does not fit the tunnel.
#[inline(always)]
fn too_large<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    match behind::<V>(&case.back) {
        0 => Verdict::TooBig,
        device => too_big::to_host_task::<V>(skb, case, device),
    }
}

/// Index of `portico1`, as the flow's member has it; 0 where it has none.
#[inline(never)]
fn behind<V: Tables>(back: &RevKey<V::Address>) -> u32 {
    let rev = match V::revs().get_ptr(back) {
        Some(rev) => Some(rev),
        None => V::half_revs().get_ptr(back),
    };
    let Some(rev) = rev else { return 0 };
    // SAFETY: a live map value, copied.
    let key = flow_key(unsafe { &*rev }, back);
    let flow = match V::flows().get_ptr(&key) {
        Some(flow) => Some(flow),
        None => V::halves().get_ptr(&key),
    };
    let Some(flow) = flow else { return 0 };
    // SAFETY: a live map value, one aligned word.
    let tag = unsafe { (*flow).tag };
    tables::local(tag).map_or(0, |local| local.ifindex & !HOST_TASK)
}

/// The flow that a way back is of.
#[inline(always)]
fn flow_key<A: Address>(rev: &Rev<A>, back: &RevKey<A>) -> FlowKey<A> {
    FlowKey {
        client: rev.client,
        front: rev.front,
        client_port: rev.client_port,
        front_port: rev.front_port,
        protocol: back.protocol,
    }
    .in_realm(rev.realm)
}

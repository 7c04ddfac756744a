//! What the sockets of the node itself come before: connections that they have, and what is new where this node's proxy serves.

use lb_common::Verdict;
use lb_common::key::{RevKey, TCP, UDP};
use lb_common::table::{namespace, pool_flag};
use lb_common::trace::Step;

use super::case::Case;
use super::skb::Skb;
use super::{Path, note, owner, socket};
use crate::frame::Frame;
use crate::parse::{Kind, L4_MASK};
use crate::wire::{Tcp, tcp};

/// Flags of a choice that is of concern here.
pub const CONCERNED: u32 = pool_flag::HOST_SOCKETS | pool_flag::PROXIED;

/// What becomes of the packet before the rules of the packet programs; `None`: they go on. A connection that the proxy has
/// not goes on with them wherever it is, so that neither plane takes the other's.
#[inline(never)]
pub fn before<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>) -> Option<Verdict> {
    if case.packet.key.transport() == TCP as u32 && is_host_socket::<V>(skb, case) {
        note::step::<DRY>(Step::HostSocket, 0);
        return Some(Verdict::HostSocket);
    }
    if case.choice.flags & pool_flag::PROXIED == 0 {
        return None;
    }
    let proxied = match case.packet.kind {
        // One that is repeated, or forged, on a connection of a task here: its kernel answers it. A listener would begin
        // another connection with it, and take the segments of the first for segments of that.
        Kind::Tcp => case.packet.is_new() && !owner::takes::<V>(skb, case),
        // Datagrams have no beginning: whoever has the flow here goes on with it, and with the errors about it.
        _ => case.packet.key.transport() == UDP as u32 && !owner::holds::<V, DRY>(case),
    };
    // Where no packet program can know more of it the kernel answers.
    if !proxied && case.choice.tag != 0 {
        return None;
    }
    note::step::<DRY>(Step::Proxied, 0);
    Some(Verdict::Proxied)
}

/// Whether the node itself has this connection, and not from us.
#[inline(always)]
fn is_host_socket<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> bool {
    let packet = &case.packet;
    case.back = RevKey {
        task: packet.key.front,
        client: packet.key.client,
        task_port: packet.key.front_port,
        client_port: packet.key.client_port,
        protocol: packet.key.transport(),
    };
    match V::state(skb, &case.back, namespace::OWN) {
        0 => false,
        socket::LISTEN => awaits::<V>(skb, case),
        socket::TIME_WAIT if case.packet.is_new() => false,
        _ => !is_ours::<V>(&case.back),
    }
}

/// Whether the segment completes a handshake that the listener keeps in a cookie only.
#[inline(never)]
fn awaits<V: Path>(skb: Skb, case: &Case<V::Address>) -> bool {
    if !matches!(case.packet.kind, Kind::Tcp)
        || case.packet.flags & (tcp::SYN | tcp::RST | tcp::ACK) != tcp::ACK
    {
        return false;
    }
    match skb.at::<Tcp>(case.packet.l4 as usize & L4_MASK) {
        Some(segment) => V::awaits(skb, &case.back, namespace::OWN, &segment),
        None => false,
    }
}

/// Whether the way back is one of a flow that a task in the node's own namespace has.
#[inline(never)]
fn is_ours<V: Path>(back: &RevKey<V::Address>) -> bool {
    V::revs().get_ptr(back).is_some() || V::half_revs().get_ptr(back).is_some()
}

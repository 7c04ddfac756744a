//! Ingress rules: a packet for a frontend, from an uplink or from a task of this node.

use lb_common::geneve::PORT;
use lb_common::key::UDP;
use lb_common::table::{GIVEN, INSIDE, limit, pool_flag};
use lb_common::trace::Step;
use lb_common::{Verdict, tick};

use super::act::act;
use super::case::Case;
use super::choose::choose;
use super::globals::{self_address, self_node};
use super::open;
use super::owner::own;
use super::skb::Skb;
use super::tables::{self, POOL, UPLINK};
use super::{Path, clock, fragment, note, proxied, reply, scope, stay, too_big, tunnel};
use crate::frame::{Frame, L3};
use crate::parse::{Four, Kind, Packet, Part, Six, is_summed, verify};
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, tcp};

/// A pool without members drops what comes for this long, then it resets: its tasks may be on their way.
const EMPTY: u32 = tick::from_seconds(10);

/// A packet from an uplink: out of the tunnel, or for a frontend.
#[inline(always)]
pub fn uplink<const DRY: bool>(skb: Skb) -> Verdict {
    if skb.is_for_stack() {
        return Verdict::NotOurs;
    }
    match ethertype(skb) {
        ETHERTYPE_IPV4 => uplink4::<DRY>(skb),
        ETHERTYPE_IPV6 => uplink6::<DRY>(skb),
        _ => Verdict::NotOurs,
    }
}

#[inline(never)]
fn uplink6<const DRY: bool>(skb: Skb) -> Verdict {
    let Some(case) = open::open::<Six>(skb, skb.ifindex() as u8, 0) else {
        return Verdict::NotOurs;
    };
    conclude::<Six, DRY>(skb, case)
}

#[inline(never)]
fn uplink4<const DRY: bool>(skb: Skb) -> Verdict {
    let Some(case) = open::open::<Four>(skb, skb.ifindex() as u8, 0) else {
        return Verdict::NotOurs;
    };
    let key = &case.packet.key;
    if !DRY
        && key.protocol == UDP as u32
        && key.front_port == PORT.to_be_bytes()
        && key.front == self_address()
    {
        return tunnel::receive(skb);
    }
    conclude::<Four, DRY>(skb, case)
}

/// A packet from a task: a reply, or for a frontend.
#[inline(always)]
pub fn task(skb: Skb) -> Verdict {
    if skb.is_for_stack() {
        return Verdict::NotOurs;
    }
    match ethertype(skb) {
        ETHERTYPE_IPV4 => from_task::<Four>(skb),
        ETHERTYPE_IPV6 => from_task::<Six>(skb),
        _ => Verdict::NotOurs,
    }
}

#[inline(never)]
fn from_task<V: Path>(skb: Skb) -> Verdict {
    let Some(case) = open::open::<V>(skb, origin(skb.ifindex()), 0) else {
        return Verdict::NotOurs;
    };
    case.back = reply::way_back(&case.packet);
    match reply::reply::<V>(skb, case) {
        Some(Verdict::Replied) => match reply::undo::<V>(skb, case) {
            Verdict::TooBig => too_big::to_task::<V>(skb, case),
            verdict => verdict,
        },
        Some(verdict) => verdict,
        None => ask::<V>(skb, case),
    }
}

/// A packet of a client on this node that is no reply.
#[inline(always)]
fn ask<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let Some(front) = tables::asked_from_here::<V>(&case.packet.key.to()) else {
        return refuse::<V>(skb, case);
    };
    scope::mark::<V>(case);
    let verdict = serve::<V, false>(skb, case, front & !INSIDE);
    act::<V>(skb, case, verdict)
}

/// Nothing but what is for VIPs comes by `portico0`, and behind it is nobody who could say that a port is closed.
#[inline(always)]
fn refuse<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    if case.arrival.device == 0 || !is_segment(&case.packet) {
        return Verdict::NotOurs;
    }
    if let Err(verdict) = verify(skb, &case.packet) {
        return verdict;
    }
    let verdict = refusal::<false>(case.now);
    act::<V>(skb, case, verdict)
}

/// What the way back goes by: a task finds its answer by the routing table, which is device 0; the node itself behind
/// the device that it asked by.
#[inline(always)]
fn origin(ifindex: u32) -> u8 {
    let device = ifindex as u8;
    match UPLINK.get(device as u32) {
        Some(host) if host.ifindex == ifindex => device,
        _ => 0,
    }
}

#[inline(always)]
pub fn ethertype(skb: Skb) -> u16 {
    skb.at::<[u8; 2]>(L3 - 2).map_or(0, u16::from_be_bytes)
}

/// Decides, and acts unless this is a dry run.
#[inline(always)]
fn conclude<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let Some(front) = tables::front_and_reach::<V>(&case.packet.key.to()) else {
        note::step::<DRY>(Step::NoFront, 0);
        return Verdict::NotOurs;
    };
    let at = front & !INSIDE;
    note::step::<DRY>(Step::Front, at & !GIVEN);
    if front & INSIDE != 0 {
        // A dry run goes on: who asks for such an address asks on behalf of somebody inside.
        note::step::<DRY>(Step::Inside, 0);
        if !DRY {
            // Left to the stack it could be forwarded into `portico0`.
            return Verdict::Inside;
        }
    }
    let verdict = serve::<V, DRY>(skb, case, at);
    if DRY {
        verdict
    } else {
        act::<V>(skb, case, verdict)
    }
}

/// Ingress rules 1 to 4, for a frontend of the pool whose number is `at`, perhaps with [`GIVEN`].
#[inline(never)]
fn serve<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>, at: u32) -> Verdict {
    if let Err(verdict) = verify(skb, &case.packet) {
        return verdict;
    }
    if !DRY && case.packet.part == Part::First {
        fragment::keep::<V>(&case.packet);
    }
    if !decide::<V, DRY>(case, at) {
        return Verdict::NoMember;
    }
    if case.choice.flags & proxied::CONCERNED != 0
        && let Some(verdict) = proxied::before::<V, DRY>(skb, case)
    {
        return verdict;
    }
    if case.choice.tag == 0 {
        note::step::<DRY>(Step::NoHead, 0);
        return empty::<V, DRY>(case);
    }
    if case.choice.node == self_node() {
        note::step::<DRY>(Step::Here, 0);
        scope::enter::<V>(case);
        return own::<V, DRY>(skb, case);
    }
    note::step::<DRY>(Step::Sent, case.choice.node as u32);
    if V::HEADER == size_of::<Ipv4>() && !is_summed(skb) {
        return Verdict::BadHeader;
    }
    Verdict::Relayed
}

/// Fills in the choice; false where the pool's tables are not there.
#[inline(never)]
fn decide<V: Path, const DRY: bool>(case: &mut Case<V::Address>, at: u32) -> bool {
    let (key, new) = (&case.packet.key, case.packet.is_new());
    let Some(choice) = choose::<V, DRY>(key.client, key.client_port, &key.to(), new, at) else {
        return false;
    };
    case.choice = choice;
    if case.choice.flags & pool_flag::MIXED != 0
        && case.packet.key.transport() == UDP as u32
        && at & GIVEN == 0
    {
        stay::stay::<V, DRY>(case);
    }
    note::choice::<DRY>(&case.choice);
    case.arrival.member = case.choice.tag;
    true
}

/// The pool has no member at all.
#[inline(always)]
fn empty<V: Path, const DRY: bool>(case: &mut Case<V::Address>) -> Verdict {
    let since = POOL
        .get(case.choice.pool)
        .map_or(case.now, |pool| pool.empty_since);
    // A pool that has members, but none here at this instant, is being rewritten.
    if since == 0 || !is_segment(&case.packet) || tick::elapsed(case.now, since) <= EMPTY {
        return Verdict::NoMember;
    }
    refusal::<DRY>(case.now)
}

/// Whether a reset would answer it.
#[inline(always)]
fn is_segment<A>(packet: &Packet<A>) -> bool {
    packet.kind == Kind::Tcp && packet.flags & tcp::RST == 0 && packet.part != Part::Later
}

/// A reset, where this node's view is fresh and its limit allows.
#[inline(always)]
fn refusal<const DRY: bool>(now: u32) -> Verdict {
    if tables::settings().are_stale(now) {
        return Verdict::StaleView;
    }
    if !DRY && !clock::spend(limit::RESETS, tables::settings().resets, now) {
        return Verdict::ResetLimit;
    }
    Verdict::Reset
}

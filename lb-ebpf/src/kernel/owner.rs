//! The owner's rules: the node that runs a task knows its connections, and nobody else does.

use lb_common::geneve::flag;
use lb_common::key::RevKey;
use lb_common::table::{Flow, Local, flow_state, limit, local_state, namespace, rev_flag};
use lb_common::trace::Step;
use lb_common::{Verdict, handshake, tick};

use super::Path;
use super::case::Case;
use super::chain::{append, chain_of, others};
use super::choose::own_head;
use super::clock;
use super::create;
use super::globals::self_node;
use super::note;
use super::recover::recover;
use super::scope;
use super::skb::Skb;
use super::socket;
use super::tables::{local, settings};
use super::ways::{has_way_back, rev_key};
use crate::frame::Frame;
use crate::parse::{Kind, L4_MASK, Packet, Part};
use crate::wire::{Tcp, tcp};

/// How long a task may repeat its SYN-ACK (Linux: five times, 63 s in all), in ticks.
const OPENING: u32 = tick::from_seconds(64);
/// How long after a slot's change an unknown UDP packet is taken round the chain first (rule 6), in ticks.
const SETTLING: u32 = tick::from_seconds(30);

/// Takes a packet that came to this node as its owner, from the tunnel or from the node itself.
#[inline(never)]
pub fn own<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    match case.packet.kind {
        Kind::Tcp => own_tcp::<V, DRY>(skb, case),
        Kind::Udp => own_udp::<V, DRY>(skb, case),
        Kind::IcmpError => own_icmp::<V, DRY>(case),
    }
}

/// Whether a task here has the connection that a SYN names (rule 1): then the choice is changed to it.
#[inline(never)]
pub fn takes<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> bool {
    scope::enter::<V>(case);
    let known = match established::<V>(&case.packet) {
        Some(known) => Some(known),
        None => half_open::<V>(&case.packet),
    };
    let Some((flow, local)) = known else {
        return false;
    };
    case.back = rev_key::<V>(flow, local, &case.packet);
    let live = if local.namespace == namespace::UNKNOWN {
        !flow_state::is_closing(flow.state)
    } else {
        let state = socket::<V>(skb, &case.back, local.namespace);
        !matches!(state, 0 | socket::LISTEN | socket::TIME_WAIT)
    };
    if live {
        (case.choice.tag, case.choice.node) = (flow.tag, self_node());
    }
    live
}

/// Whether a task here has the flow of datagrams, and is not to be left: then the choice is changed to it. One that is left has the flow
/// no more, also when it is well again; what it still answers finds its way back.
#[inline(never)]
pub fn holds<V: Path, const DRY: bool>(case: &mut Case<V::Address>) -> bool {
    scope::enter::<V>(case);
    let mut left = false;
    for known in [established::<V>(&case.packet), half_open::<V>(&case.packet)] {
        if let Some((flow, local)) = known {
            if local.state != local_state::UNHEALTHY {
                (case.choice.tag, case.choice.node) = (flow.tag, self_node());
                return true;
            }
            left = true;
        }
    }
    if !DRY && left && case.packet.kind == Kind::Udp {
        let _ = V::flows().remove(&case.packet.key);
        let _ = V::halves().remove(&case.packet.key);
    }
    false
}

#[inline(always)]
fn own_tcp<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let packet = &case.packet;
    let new = packet.is_new();
    if let Some((flow, local)) = established::<V>(packet) {
        let closing = flow_state::is_closing(flow.state);
        // Where the task cannot be asked, its kernel decides, unless the flow has shown its end and a new one begins.
        let asked = (new || closing) && (local.namespace != namespace::UNKNOWN || new && closing);
        if !asked {
            return continue_flow::<V, DRY>(case, flow, local);
        }
        // Rule 1: a SYN on a live flow reaches the task only if the task has exactly that socket; its kernel answers
        // with a challenge ACK. Otherwise the entry outlived its connection, and so it did where nobody expects the tail
        // of a flow that closes: the client may use the tuple again, on a connection that another node has.
        case.back = rev_key::<V>(flow, local, packet);
        let state = socket::<V>(skb, &case.back, local.namespace);
        let tail = state == socket::TIME_WAIT && !new && packet.flags & (tcp::FIN | tcp::RST) != 0;
        if tail || !matches!(state, 0 | socket::LISTEN | socket::TIME_WAIT) {
            return continue_flow::<V, DRY>(case, flow, local);
        }
        if new && !DRY {
            let _ = V::revs().remove(&case.back);
            let _ = V::flows().remove(&packet.key);
        }
    }
    if let Some((half, local)) = half_open::<V>(packet) {
        if new {
            case.back = rev_key::<V>(half, local, packet);
            let whole = half.state & flow_state::RESET == 0 && has_way_back::<V>(case);
            if whole && has_socket::<V>(skb, &case.back, local.namespace) {
                return continue_half::<V, DRY>(case, half, local);
            }
            // Refused, or bound to be, or the task's answer would find no way back: a new connection.
            if !DRY {
                create::forget::<V>(case);
            }
            return create::create::<V, DRY>(skb, case);
        }
        let reset = packet.flags & (tcp::RST | tcp::ACK) == tcp::RST;
        if reset && tick::elapsed(case.now, half.tick) <= OPENING {
            // A refusal of the SYN-ACK. The task's kernel knows whether to believe it, and would repeat the SYN-ACK.
            return continue_half::<V, DRY>(case, half, local);
        }
        if packet.flags & tcp::ACK != 0 && acknowledges::<V>(skb, packet, half) {
            // Rule 2: the client has our SYN-ACK.
            note::step::<DRY>(Step::Acknowledges, 0);
            if DRY {
                return Verdict::Delivered;
            }
            return match create::promote::<V>(case, half, local) {
                Ok(flow) => continue_flow::<V, DRY>(case, flow, local),
                Err(verdict) => verdict,
            };
        }
        // Nothing is lost here that could be recovered: a repeated or forged SYN began this one, and the segment may be
        // of a connection that another node has.
        return unknown::<V, DRY>(case);
    }
    if new {
        return create::create::<V, DRY>(skb, case);
    }
    if recover::<V, DRY>(skb, case) {
        note::step::<DRY>(Step::Acknowledges, 1);
        if DRY {
            return Verdict::Delivered;
        }
        return match established::<V>(&case.packet) {
            Some((flow, local)) => continue_flow::<V, DRY>(case, flow, local),
            None => Verdict::FlowTableFull,
        };
    }
    unknown::<V, DRY>(case)
}

/// Whether the task has a socket that would take the segment; where it cannot be asked, its kernel decides.
#[inline(always)]
fn has_socket<V: Path>(skb: Skb, back: &RevKey<V::Address>, namespace: i32) -> bool {
    namespace == namespace::UNKNOWN || socket::<V>(skb, back, namespace) != 0
}

/// [`Lookup::state`](super::socket::Lookup::state), on a stack of its own.
#[inline(never)]
fn socket<V: Path>(skb: Skb, back: &RevKey<V::Address>, namespace: i32) -> u32 {
    V::state(skb, back, namespace)
}

#[inline(always)]
fn own_udp<V: Path, const DRY: bool>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let packet = &case.packet;
    if let Some((flow, local)) = established::<V>(packet)
        && local.state != local_state::UNHEALTHY
    {
        return continue_flow::<V, DRY>(case, flow, local);
    }
    if let Some((half, local)) = half_open::<V>(packet)
        && local.state != local_state::UNHEALTHY
    {
        case.back = rev_key::<V>(half, local, packet);
        if has_way_back::<V>(case) {
            return continue_half::<V, DRY>(case, half, local);
        }
    }
    // Rule 6: another node may hold the flow if the slot changed hands lately.
    if case.arrival.flags & flag::CHASED == 0 {
        let Some(chain) = chain_of(&case.choice) else {
            return create::create::<V, DRY>(skb, case);
        };
        // Another member than this node's own head is named where one of the two nodes has not heard of a change.
        let disputed = own_head(&case.choice) != case.arrival.member;
        let settled = chain.changed == 0 || tick::elapsed(case.now, chain.changed) >= SETTLING;
        if settled && !disputed {
            return create::create::<V, DRY>(skb, case);
        }
        case.arrival.list = others(chain);
        if case.arrival.list[0] == 0 {
            return create::create::<V, DRY>(skb, case);
        }
        append(&mut case.arrival.list, self_node());
        case.arrival.flags |= flag::CREATE;
        return chase::<V, DRY>(case);
    }
    if case.arrival.list[0] != 0 {
        return chase::<V, DRY>(case);
    }
    if case.arrival.flags & flag::CREATE != 0 {
        return create::create::<V, DRY>(skb, case);
    }
    Verdict::Unknown
}

#[inline(always)]
fn own_icmp<V: Path, const DRY: bool>(case: &mut Case<V::Address>) -> Verdict {
    let packet = &case.packet;
    let known = match established::<V>(packet) {
        Some(known) => Some(known),
        None => half_open::<V>(packet),
    };
    match known {
        Some((flow, local)) => {
            case.back = rev_key::<V>(flow, local, &case.packet);
            case.choice.tag = flow.tag;
            case.task = local.ifindex;
            Verdict::Delivered
        }
        None => unknown::<V, DRY>(case),
    }
}

/// The established entry of a packet's flow, if its member is here.
#[inline(always)]
fn established<V: Path>(packet: &Packet<V::Address>) -> Option<(&'static mut Flow, &'static mut Local)> {
    // SAFETY: entries of FLOW go only when the agent or rule 1 removes them; the memory is not re-used for another
    // kind of object while the program runs, and fields are written as single aligned words.
    let flow = unsafe { &mut *V::flows().get_ptr_mut(&packet.key)? };
    let local = local(flow.tag)?;
    Some((flow, local))
}

/// The half-open entry of a packet's flow, if its member is here.
#[inline(always)]
fn half_open<V: Path>(packet: &Packet<V::Address>) -> Option<(&'static mut Flow, &'static mut Local)> {
    // SAFETY: as for `established`; an entry evicted meanwhile is written in vain.
    let half = unsafe { &mut *V::halves().get_ptr_mut(&packet.key)? };
    let local = local(half.tag)?;
    Some((half, local))
}

/// Whether the segment acknowledges the SYN-ACK that the task sent (rule 2).
#[inline(always)]
fn acknowledges<V: Path>(skb: Skb, packet: &Packet<V::Address>, half: &Flow) -> bool {
    let Some(segment) = skb.at::<Tcp>(packet.l4 as usize & L4_MASK) else {
        return false;
    };
    let acknowledgement = u32::from_be_bytes(segment.acknowledgement);
    half.state & flow_state::ANSWERED != 0 && handshake::acknowledges(acknowledgement, half.isn)
}

/// A packet of a flow that is held here.
#[inline(never)]
fn continue_flow<V: Path, const DRY: bool>(
    case: &mut Case<V::Address>,
    flow: &mut Flow,
    local: &mut Local,
) -> Verdict {
    note::step::<DRY>(Step::FlowHit, flow.state as u32);
    case.choice.tag = flow.tag;
    case.choice.node = self_node();
    note::choice::<DRY>(&case.choice);
    if DRY {
        return Verdict::Delivered;
    }
    case.task = local.ifindex;
    case.back = rev_key::<V>(flow, local, &case.packet);
    let packet = &case.packet;
    if packet.flags & tcp::FIN != 0 {
        flow.state |= flow_state::FIN_CLIENT;
    }
    if packet.flags & tcp::RST != 0 {
        flow.state |= flow_state::RESET;
    }
    if flow.tick != case.now {
        flow.tick = case.now;
    }
    let chased = case.arrival.flags & flag::CHASED != 0;
    if chased || flow.node != case.arrival.node || flow.device != case.arrival.device {
        // Rule 9: the reply goes by the way the client's packet came. Rule 7: after a chase the ingress is told.
        flow.node = case.arrival.node;
        flow.device = case.arrival.device;
        if let Some(rev) = V::revs().get_ptr_mut(&case.back) {
            // SAFETY: as for `established`.
            let rev = unsafe { &mut *rev };
            rev.node = case.arrival.node;
            rev.device = case.arrival.device;
            if chased {
                rev.flags |= rev_flag::REHINT;
            }
        }
    }
    Verdict::Delivered
}

/// A SYN, or a UDP packet, of a flow that the task has not answered yet.
#[inline(never)]
fn continue_half<V: Path, const DRY: bool>(
    case: &mut Case<V::Address>,
    half: &mut Flow,
    local: &mut Local,
) -> Verdict {
    note::step::<DRY>(Step::HalfHit, 0);
    case.choice.tag = half.tag;
    case.choice.node = self_node();
    note::choice::<DRY>(&case.choice);
    if DRY {
        return Verdict::Delivered;
    }
    case.task = local.ifindex;
    case.back = rev_key::<V>(half, local, &case.packet);
    if half.node != case.arrival.node || half.device != case.arrival.device {
        half.node = case.arrival.node;
        half.device = case.arrival.device;
        if let Some(rev) = V::half_revs().get_ptr_mut(&case.back) {
            // SAFETY: as for `established`.
            let rev = unsafe { &mut *rev };
            rev.node = case.arrival.node;
            rev.device = case.arrival.device;
        }
    }
    Verdict::Delivered
}

/// Rule 3: nobody here knows the flow; somebody along the chain may.
#[inline(never)]
fn unknown<V: Path, const DRY: bool>(case: &mut Case<V::Address>) -> Verdict {
    note::step::<DRY>(Step::FlowMiss, 0);
    if case.arrival.flags & flag::CHASED == 0 {
        // Without a chain nobody here can tell that the flow is nobody's.
        let Some(chain) = chain_of(&case.choice) else {
            return Verdict::NotHere;
        };
        case.arrival.list = others(chain);
    }
    if case.arrival.list[0] != 0 {
        return chase::<V, DRY>(case);
    }
    note::step::<DRY>(Step::ChaseEnd, 0);
    let packet = &case.packet;
    if packet.kind != Kind::Tcp || packet.flags & tcp::RST != 0 || packet.part == Part::Later {
        return Verdict::Unknown;
    }
    // Others may have moved the flow meanwhile, and the task to a node that is not in this chain.
    if settings().are_stale(case.now) {
        return Verdict::StaleView;
    }
    if !DRY && !clock::spend(limit::RESETS, settings().resets, case.now) {
        return Verdict::ResetLimit;
    }
    Verdict::Reset
}

/// The packet goes to the first of the list.
#[inline(never)]
fn chase<V: Path, const DRY: bool>(case: &mut Case<V::Address>) -> Verdict {
    if !DRY && !clock::spend(limit::CHASES, settings().chases, case.now) {
        return Verdict::ChaseLimit;
    }
    let [first, rest @ ..] = case.arrival.list;
    case.arrival.flags |= flag::CHASED;
    case.choice.node = first;
    case.arrival.list = [rest[0], rest[1], rest[2], rest[3], rest[4], 0];
    note::step::<DRY>(Step::Chase, first as u32);
    note::choice::<DRY>(&case.choice);
    Verdict::Chased
}

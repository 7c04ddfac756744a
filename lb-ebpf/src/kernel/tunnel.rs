//! What comes out of the tunnel: a client's packet for a task here, or a reply for a client of ours.

use lb_common::Verdict;
use lb_common::geneve::{NotOurs, OVERHEAD, Tunnel, flag};
use lb_common::key::FlowKey;

use super::Path;
use super::act::act;
use super::case::{Case, Choice};
use super::choose::slot;
use super::fragment;
use super::globals::{cookie, self_node};
use super::hint::hint;
use super::leave::leave;
use super::open;
use super::owner::own;
use super::skb::Skb;
use super::tables::{self, PEER4, TUNNEL};
use crate::frame::{Frame, L3};
use crate::parse::{Four, Part, Six, verify};
use crate::wire::{ETHERTYPE_IPV6, Ipv4};

/// Takes a Geneve packet to this node's underlay address.
#[inline(always)]
pub fn receive(skb: Skb) -> Verdict {
    match unwrap(skb) {
        Ok(tunnel) if tunnel.protocol == ETHERTYPE_IPV6.to_be_bytes() => inner::<Six>(skb, tunnel),
        Ok(tunnel) => inner::<Four>(skb, tunnel),
        Err(verdict) => verdict,
    }
}

/// Checks sender, cookie and lengths, and takes the headers off.
#[inline(always)]
fn unwrap(skb: Skb) -> Result<&'static Tunnel, Verdict> {
    let outer: Ipv4 = skb.at(L3).ok_or(Verdict::Truncated)?;
    // SAFETY: the value is copied at once.
    if unsafe { PEER4.get(outer.source) }.is_none() {
        return Err(Verdict::UnknownPeer);
    }
    if outer.version_and_words != 0x45 {
        return Err(Verdict::BadGeneve);
    }
    // In memory of its own: the stack takes no unaligned words.
    let tunnel = TUNNEL.get_ptr_mut(0).ok_or(Verdict::Failed)?;
    // SAFETY: the element of this CPU, which one program at a time uses.
    let tunnel = unsafe { &mut *tunnel };
    let words: [u32; size_of::<Tunnel>() / 4] = skb.at(L3 + size_of::<Ipv4>()).ok_or(Verdict::Truncated)?;
    // SAFETY: as many bytes, in a map value, which lies on a word's boundary.
    unsafe {
        (&raw mut *tunnel)
            .cast::<[u32; size_of::<Tunnel>() / 4]>()
            .write(words)
    };
    match tunnel.check(cookie()) {
        Ok(()) => {}
        Err(NotOurs::Cookie) => return Err(Verdict::WrongCookie),
        Err(NotOurs::Format) => return Err(Verdict::BadGeneve),
    }
    let length = u16::from_be_bytes(outer.length) as usize;
    let udp = u16::from_be_bytes(tunnel.udp_length) as usize;
    if length > skb.length() - L3
        || udp + size_of::<Ipv4>() != length
        || length < OVERHEAD + size_of::<Ipv4>()
    {
        return Err(Verdict::Truncated);
    }
    let six = tunnel.protocol == ETHERTYPE_IPV6.to_be_bytes();
    skb.close_tunnel(six)?;
    skb.put(L3 - 2, tunnel.protocol).ok_or(Verdict::Failed)?;
    Ok(tunnel)
}

#[inline(never)]
fn inner<V: Path>(skb: Skb, tunnel: &Tunnel) -> Verdict {
    let realm = if tunnel.flags & flag::SCOPED != 0 {
        u16::from_be_bytes(tunnel.ingress)
    } else {
        0
    };
    let Some(case) = open::open::<V>(skb, tunnel.device, realm) else {
        return Verdict::BadHeader;
    };
    if let Err(verdict) = verify(skb, &case.packet) {
        return verdict;
    }
    if case.packet.part == Part::First {
        fragment::keep::<V>(&case.packet);
    }
    if tunnel.flags & flag::REPLY != 0 {
        return forward::<V>(skb, case, tunnel);
    }
    if !address::<V>(case, tunnel) {
        return Verdict::NotHere;
    }
    let verdict = own::<V, false>(skb, case);
    act::<V>(skb, case, verdict)
}

/// Fills in pool, slot and what the option says; false where the frontend is not known here.
#[inline(never)]
fn address<V: Path>(case: &mut Case<V::Address>, tunnel: &Tunnel) -> bool {
    let Some(number) = tables::front_anywhere::<V>(&case.packet.key.to()) else {
        return false;
    };
    let key = &case.packet.key;
    let Some((pool, slot, entropy)) = slot::<V>(key.client, key.ports(), key.protocol as u8, number) else {
        return false;
    };
    // The sender means another pool by this frontend: one of us has yet to learn of a change.
    let [_, _, _, _, _, vni @ ..] = pool.id.to_be_bytes();
    if tunnel.vni != vni {
        return false;
    }
    let member = u64::from_be_bytes(tunnel.member);
    case.choice = Choice {
        tag: member,
        pool: number,
        slot,
        member: 0,
        node: self_node(),
        entropy,
        vni: pool.id as u32,
        flags: pool.flags,
    };
    case.arrival.member = member;
    case.arrival.node = u16::from_be_bytes(tunnel.ingress);
    case.arrival.flags = tunnel.flags;
    for (node, wire) in case.arrival.list.iter_mut().zip(tunnel.list) {
        *node = u16::from_be_bytes(wire);
    }
    true
}

/// Return rule 2: a reply goes out by the device its client came in on, if it comes from a frontend, or from another
/// node's published port, which clients on this node may have asked.
#[inline(never)]
fn forward<V: Path>(skb: Skb, case: &Case<V::Address>, tunnel: &Tunnel) -> Verdict {
    let key = &case.packet.key;
    let flow = FlowKey {
        client: key.front,
        front: key.client,
        client_port: key.front_port,
        front_port: key.client_port,
        protocol: key.protocol,
    };
    if tables::front_from_here::<V>(&flow.to()).is_none() {
        return Verdict::ForgedReply;
    }
    if tunnel.flags & flag::REHINT != 0 {
        hint::<V>(&flow, u16::from_be_bytes(tunnel.ingress), case.now);
    }
    leave::<V>(skb, &flow.client, tunnel.device, 0, Verdict::ReplyForwarded)
}

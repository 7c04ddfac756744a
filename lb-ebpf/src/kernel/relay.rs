//! Sending a packet to another node: untouched, inside Geneve.

use lb_common::Verdict;
use lb_common::checksum;
use lb_common::geneve::{OVERHEAD, Tunnel};
use lb_common::key::UDP;
use lb_common::table::{Node, node_flag};

use super::case::{Arrival, Case, Choice};
use super::globals::cookie;
use super::skb::Skb;
use super::tables::{NODE, Tables};
use crate::frame::{Frame, L3};
use crate::parse::Packet;
use crate::wire::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4};

/// Sends the packet to `case.choice.node` with `case.arrival` in the option; counted as `verdict`.
#[inline(never)]
pub fn relay<V: Tables>(skb: Skb, case: &Case<V::Address>, verdict: Verdict) -> Verdict {
    match send::<V>(skb, case) {
        Ok(ifindex) => skb.to_neighbour(ifindex, verdict),
        Err(failed) => failed,
    }
}

#[inline(always)]
fn send<V: Tables>(skb: Skb, case: &Case<V::Address>) -> Result<u32, Verdict> {
    let Case {
        packet,
        choice,
        arrival,
        ..
    } = case;
    let node = way::<V>(skb, packet, choice.node)?;
    let inner = packet.end as usize - L3;
    let (outer, tunnel) = headers::<V>(node, choice, arrival, inner, outer_tos::<V, _>(skb));
    skb.open_tunnel(V::ETHERTYPE == ETHERTYPE_IPV6)?;
    skb.put(L3 - 2, ETHERTYPE_IPV4.to_be_bytes())
        .ok_or(Verdict::Failed)?;
    skb.put(L3, outer).ok_or(Verdict::Failed)?;
    skb.put(L3 + size_of::<Ipv4>(), tunnel).ok_or(Verdict::Failed)?;
    Ok(node.ifindex)
}

/// The node, if there is a way to it that the packet fits.
#[inline(always)]
pub fn way<V: Tables>(skb: Skb, packet: &Packet<V::Address>, node: u16) -> Result<&'static Node, Verdict> {
    let node = NODE.get(node as u32).ok_or(Verdict::NoNode)?;
    if node.flags & node_flag::KNOWN == 0 || node.ifindex == 0 {
        return Err(Verdict::NoNode);
    }
    // A super-packet leaves as segments of the size its sender chose.
    let largest = match skb.segment() {
        0 => packet.end as usize - L3,
        // A TCP header is at least 20 bytes; its options come off the segment.
        segment => packet.l4 as usize - L3 + 20 + segment,
    };
    if largest + OVERHEAD > node.mtu as usize {
        return Err(Verdict::TooBig);
    }
    Ok(node)
}

/// DSCP and ECN of the inner packet go on the outer one (RFC 2983, RFC 6040).
#[inline(always)]
pub fn outer_tos<V: Tables, F: Frame>(frame: F) -> u8 {
    let [first, second]: [u8; 2] = frame.at(L3).unwrap_or([0; 2]);
    if V::HEADER == size_of::<Ipv4>() {
        second
    } else {
        first << 4 | second >> 4
    }
}

/// The headers that carry `inner` bytes of IP packet to `node`.
#[inline(always)]
pub fn headers<V: Tables>(
    node: &Node,
    choice: &Choice,
    arrival: &Arrival,
    inner: usize,
    tos: u8,
) -> (Ipv4, Tunnel) {
    let vni = choice.vni as u64;
    let mut tunnel = Tunnel::new(cookie(), V::ETHERTYPE, inner as u16, choice.entropy, vni);
    tunnel.member = arrival.member.to_be_bytes();
    tunnel.ingress = arrival.node.to_be_bytes();
    tunnel.device = arrival.device;
    tunnel.flags = arrival.flags;
    for (wire, node) in tunnel.list.iter_mut().zip(arrival.list) {
        *wire = node.to_be_bytes();
    }
    let length = ((inner + OVERHEAD) as u16).to_be_bytes();
    let sum = node.partial_sum + u16::from_ne_bytes([0, tos]) as u32 + u16::from_ne_bytes(length) as u32;
    let outer = Ipv4 {
        version_and_words: 0x45,
        tos,
        length,
        id: [0; 2],
        fragment: [0x40, 0],
        ttl: 64,
        protocol: UDP,
        checksum: (!checksum::fold(sum)).to_ne_bytes(),
        source: node.source,
        destination: node.address,
    };
    (outer, tunnel)
}

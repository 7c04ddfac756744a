//! The answer to a packet that does not fit the tunnel: the size that does (RFC 1191, section 4; RFC 4443, section 3.2).

use aya_ebpf::helpers::generated::bpf_csum_diff;
use lb_common::geneve::OVERHEAD;
use lb_common::table::limit;
use lb_common::{Verdict, checksum};

use super::case::Case;
use super::globals::self_node;
use super::header::{is_offloaded, word};
use super::leave::leave;
use super::skb::Skb;
use super::tables::{NODE, settings};
use super::{Path, clock};
use crate::frame::{Frame, L3};
use crate::parse::Kind;
use crate::wire;

/// Bytes quoted of the transport header: enough for the checksum of TCP to lie within.
const QUOTED: usize = 20;
/// Bytes of an ICMP header.
const ICMP_HEADER: usize = 8;

/// Tells the client that its packet is too large for the way to `case.choice.node`.
#[inline(never)]
pub fn to_client<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    if case.arrival.node != self_node() {
        // It came through a tunnel as large as the next; the client is another node's.
        return Verdict::Failed;
    }
    let source = case.packet.key.front;
    match build::<V>(skb, case, case.choice.node, &source) {
        Ok(()) => leave::<V>(
            skb,
            &case.packet.key.client,
            case.arrival.device,
            0,
            Verdict::TooBig,
        ),
        Err(verdict) => verdict,
    }
}

/// Tells the task, on whose device the packet came in, that its reply is too large for the way to
/// `case.arrival.node`.
#[inline(never)]
pub fn to_task<V: Path>(skb: Skb, case: &mut Case<V::Address>) -> Verdict {
    let source = case.packet.key.front;
    match build::<V>(skb, case, case.arrival.node, &source) {
        Ok(()) => skb.to_peer(skb.ifindex(), Verdict::TooBig),
        Err(verdict) => verdict,
    }
}

/// The same for a task in the node's own namespace: the answer comes to it out of `device`, the far end of `portico0`.
#[inline(never)]
pub fn to_host_task<V: Path>(skb: Skb, case: &mut Case<V::Address>, device: u32) -> Verdict {
    // Where this leads back to: strict reverse-path filters let it pass.
    match build::<V>(skb, case, case.arrival.node, &V::node_vip()) {
        Ok(()) => skb.to_host(device, Verdict::TooBig),
        Err(verdict) => verdict,
    }
}

/// Turns the packet into the answer, in place.
#[inline(always)]
fn build<V: Path>(
    skb: Skb,
    case: &mut Case<V::Address>,
    node: u16,
    source: &V::Address,
) -> Result<(), Verdict> {
    let Some(node) = NODE.get(node as u32) else {
        return Err(Verdict::NoNode);
    };
    if !clock::spend(limit::RESETS, settings().resets, case.now) {
        return Err(Verdict::ResetLimit);
    }
    let packet = &case.packet;
    let l4 = L3 + V::HEADER;
    let field = match packet.kind {
        Kind::Tcp => l4 + wire::TCP_CHECKSUM,
        Kind::Udp => l4 + wire::UDP_CHECKSUM,
        Kind::IcmpError => return Err(Verdict::Failed),
    };
    if packet.l4 as usize != l4 {
        return Err(Verdict::Failed);
    }
    let kept: [u8; 2] = skb.at(field).ok_or(Verdict::Truncated)?;
    let offloaded = is_offloaded(skb, field)?;
    skb.put(field, kept).ok_or(Verdict::Truncated)?;
    let quote = V::HEADER + QUOTED;
    skb.resize(L3 + quote)?;
    let mut sum = sum_at(skb, L3, V::HEADER)?;
    // A device still writes this checksum: what it covers will add up to the complement of what stands there now.
    sum += if offloaded {
        (!u16::from_ne_bytes(kept)) as u32
    } else {
        sum_at(skb, l4, QUOTED)?
    };
    skb.open(V::HEADER + ICMP_HEADER)?;
    let destination = &packet.key.client;
    let payload = (ICMP_HEADER + quote) as u16;
    V::write(skb, source, destination, V::ICMP, payload)?;
    let ([kind, code], [high, low]) = (V::TOO_BIG, node.mtu.saturating_sub(OVERHEAD as u16).to_be_bytes());
    sum += word([kind, code]) + word([high, low]);
    if V::ICMP == wire::ICMPV6 {
        sum += V::pseudo(source, destination, V::ICMP, payload);
    }
    let [a, b] = (!checksum::fold(sum)).to_ne_bytes();
    skb.put(l4, [kind, code, a, b, 0, 0, high, low])
        .ok_or(Verdict::Failed)
}

/// The sum of `length` bytes (a multiple of four) at `offset`, folded.
#[inline(always)]
fn sum_at(skb: Skb, offset: usize, length: usize) -> Result<u32, Verdict> {
    let from = skb.start() + offset;
    if from + length > skb.end() {
        return Err(Verdict::Truncated);
    }
    // SAFETY: the bytes lie between start and end; nothing is subtracted.
    let sum = unsafe { bpf_csum_diff(core::ptr::null_mut(), 0, from as *mut _, length as u32, 0) };
    Ok(checksum::fold(sum as u32) as u32)
}

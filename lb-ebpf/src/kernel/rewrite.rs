//! Changing a packet's ends: addresses, ports, hops, and the checksums that follow.

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR, bpf_fib_lookup as Fib};
use lb_common::checksum::Difference;
use lb_common::{V4, V6, Verdict};

use super::case::Case;
use super::globals::ipv6_csum_flag;
use super::mss;
use super::skb::Skb;
use super::tables::settings;
use crate::frame::{Frame, L3};
use crate::parse::{Family, Four, Kind, L4_MASK, Part, Six};
use crate::wire::{self, tcp};

/// Offset in an IPv4 header of what changes: TTL, with the protocol and the checksum beside it, and the addresses.
const IPV4_TTL: usize = 8;

/// What rewriting needs to know of a family.
pub trait Rewrite: Family {
    /// What replacing both addresses does to the pseudo header's sum.
    fn addresses(old: [&Self::Address; 2], new: [&Self::Address; 2]) -> Difference;

    /// Flags for the transport checksum when addresses change.
    fn checksum_flags() -> u64;

    /// Writes both addresses, and a TTL lower by `hops`, into the IP header at `offset`.
    fn readdress(
        skb: Skb,
        offset: usize,
        source: &Self::Address,
        destination: &Self::Address,
        hops: u8,
    ) -> Result<(), Verdict>;

    /// The MSS that fits the tunnel, 0 where any does.
    fn mss() -> u16;

    /// Asks a routing question about `destination`.
    fn fill(fib: &mut Fib, destination: Self::Address);
}

impl Rewrite for Four {
    #[inline(always)]
    fn addresses(old: [&V4; 2], new: [&V4; 2]) -> Difference {
        Difference::new()
            .replace4(*old[0], *new[0])
            .replace4(*old[1], *new[1])
    }

    #[inline(always)]
    fn checksum_flags() -> u64 {
        BPF_F_PSEUDO_HDR as u64
    }

    #[inline(always)]
    fn readdress(skb: Skb, offset: usize, source: &V4, destination: &V4, hops: u8) -> Result<(), Verdict> {
        // By words, and no more than changes.
        let [first, from, to]: [u32; 3] = skb.at(offset + IPV4_TTL).ok_or(Verdict::Truncated)?;
        let [ttl, protocol, sum @ ..] = first.to_ne_bytes();
        if hops != 0 && ttl <= hops {
            return Err(Verdict::TtlExpired);
        }
        let [a, b] = Self::addresses([&from.to_ne_bytes(), &to.to_ne_bytes()], [source, destination])
            .replace2([ttl, protocol], [ttl - hops, protocol])
            .apply(sum);
        let changed = [[ttl - hops, protocol, a, b], *source, *destination].map(u32::from_ne_bytes);
        skb.put(offset + IPV4_TTL, changed).ok_or(Verdict::Truncated)
    }

    #[inline(always)]
    fn mss() -> u16 {
        settings().mss4
    }

    #[inline(always)]
    fn fill(fib: &mut Fib, destination: V4) {
        fib.family = 2;
        fib.__bindgen_anon_4.ipv4_dst = u32::from_ne_bytes(destination);
    }
}

/// On a stack of its own: eight words of addresses would crowd the caller's.
#[inline(never)]
fn replaced(old: &V6, new: &V6) -> u32 {
    Difference::new().replace16(old, new).wide()
}

impl Rewrite for Six {
    #[inline(always)]
    fn addresses(old: [&V6; 2], new: [&V6; 2]) -> Difference {
        Difference::of_wide(replaced(old[0], new[0])).and(Difference::of_wide(replaced(old[1], new[1])))
    }

    #[inline(always)]
    fn checksum_flags() -> u64 {
        BPF_F_PSEUDO_HDR as u64 | ipv6_csum_flag()
    }

    #[inline(always)]
    fn readdress(skb: Skb, offset: usize, source: &V6, destination: &V6, hops: u8) -> Result<(), Verdict> {
        // Field by field: a copy of the header would not fit the stack.
        let [next, hop_limit]: [u8; 2] = skb.at(offset + 6).ok_or(Verdict::Truncated)?;
        if hops != 0 && hop_limit <= hops {
            return Err(Verdict::TtlExpired);
        }
        // No header checksum makes up for the hop limit.
        let hop = Difference::new().replace2([next, hop_limit], [next, hop_limit - hops]);
        skb.put(offset + 6, [next, hop_limit - hops])
            .ok_or(Verdict::Truncated)?;
        skb.put(offset + 8, *source).ok_or(Verdict::Truncated)?;
        skb.put(offset + 24, *destination).ok_or(Verdict::Truncated)?;
        skb.changed(hop.wide());
        Ok(())
    }

    #[inline(always)]
    fn mss() -> u16 {
        settings().mss6
    }

    #[inline(always)]
    fn fill(fib: &mut Fib, destination: V6) {
        fib.family = 10;
        // SAFETY: sixteen bytes either way.
        fib.__bindgen_anon_4.ipv6_dst = unsafe { core::mem::transmute::<V6, [u32; 4]>(destination) };
    }
}

/// Gives a packet the ends of its case and one hop less to live; its transport checksum follows (RFC 1624), a UDP checksum of zero
/// stays zero (RFC 768). On SYN and SYN-ACK the MSS is clamped to what fits the tunnel: a flow that is local now may
/// be relayed later.
#[inline(never)]
pub fn rewrite<V: Rewrite>(skb: Skb, case: &Case<V::Address>) -> Result<(), Verdict> {
    let Case { packet, ends, .. } = case;
    let l4 = packet.l4 as usize & L4_MASK;
    let key = &packet.key;
    let (checksum, mangled) = match packet.kind {
        Kind::Tcp => (l4 + wire::TCP_CHECKSUM, 0),
        _ => (l4 + wire::UDP_CHECKSUM, BPF_F_MARK_MANGLED_0 as u64),
    };
    V::readdress(skb, L3, &ends.source, &ends.destination, 1)?;
    if packet.part == Part::Later {
        return Ok(());
    }
    let addresses = V::addresses([&key.client, &key.front], [&ends.source, &ends.destination]);
    skb.checksum(checksum, addresses.wide(), V::checksum_flags() | mangled)?;
    let (old_ports, new_ports) = (
        [
            key.client_port[0],
            key.client_port[1],
            key.front_port[0],
            key.front_port[1],
        ],
        [
            ends.source_port[0],
            ends.source_port[1],
            ends.destination_port[0],
            ends.destination_port[1],
        ],
    );
    if old_ports != new_ports {
        let ports = Difference::new().replace4(old_ports, new_ports);
        skb.checksum(checksum, ports.wide(), mangled)?;
        skb.put(l4, new_ports).ok_or(Verdict::Truncated)?;
    }
    if packet.flags & tcp::SYN != 0 {
        mss::clamp(skb, packet.l4, V::mss());
    }
    Ok(())
}

//! A packet for a client of this node, on its way out.

use aya_ebpf::bindings::{BPF_FIB_LOOKUP_SKIP_NEIGH, bpf_fib_lookup as Fib};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use lb_common::Verdict;
use lb_common::table::node_flag;

use super::Path;
use super::skb::Skb;
use super::tables::UPLINK;
use crate::frame::{Frame, L3};
use crate::wire::ETHERTYPE_IPV6;

/// Out of the device that ends in `device`, or of the one that the routing table gives where that is 0. What is about to
/// leave by the device `leaving` just goes on where that is the one.
#[inline(always)]
pub fn leave<V: Path>(skb: Skb, client: &V::Address, device: u8, leaving: u32, verdict: Verdict) -> Verdict {
    let uplink = UPLINK.get(device as u32).map_or(0, |uplink| uplink.ifindex);
    let wanted = if device == 0 { 0 } else { uplink };
    if leaving != 0 && (wanted == 0 || wanted == leaving) {
        return Verdict::RepliedByHost;
    }
    if wanted != 0 && is_host(device) {
        return skb.to_host(wanted, verdict);
    }
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

/// Whether the device is the far end of `portico0`, and the client this node itself.
#[inline(always)]
pub fn is_host(device: u8) -> bool {
    UPLINK
        .get(device as u32)
        .is_some_and(|uplink| uplink.xdp & node_flag::HOST as u32 != 0)
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

//! Where a client's address means something: everywhere, or on this node only, as bridges have the same subnets on every
//! node.

use aya_ebpf::btf_maps::lpm_trie::Key;
use lb_common::geneve::flag;

use super::Path;
use super::case::Case;
use super::globals::self_node;

/// The verifier accepts no unaligned word on the stack.
#[repr(C, align(8))]
struct Aligned<T>(T);

/// Whether the address lies in a network that the configuration calls flat.
#[inline(never)]
pub fn is_flat<V: Path>(address: &V::Address) -> bool {
    lies_flat::<V>(address)
}

/// The same on the caller's stack.
#[inline(always)]
pub fn lies_flat<V: Path>(address: &V::Address) -> bool {
    let key = Aligned(Key::new(size_of::<V::Address>() as u32 * 8, *address));
    V::flats().get(&key.0).is_some()
}

/// Marks a packet of a client on this node, unless its address is the node's own or lies in a flat network. The node's own
/// packets come by `portico1`, with what is forwarded there; who else has its address has forged it.
#[inline(always)]
pub fn mark<V: Path>(case: &mut Case<V::Address>) {
    let client = &case.packet.key.client;
    let of_node = case.arrival.device != 0 && V::is_own(client);
    if !of_node && !is_flat::<V>(client) {
        case.arrival.flags |= flag::SCOPED;
    }
}

/// From here on the packet's flow is that of a client of this node, if it is marked.
#[inline(always)]
pub fn enter<V: Path>(case: &mut Case<V::Address>) {
    if case.arrival.flags & flag::SCOPED != 0 {
        case.packet.key.protocol |= (self_node() as u32) << 16;
    }
}

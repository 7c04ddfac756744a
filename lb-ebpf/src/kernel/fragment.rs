//! Fragments: the first one's ports are kept for the others. A later fragment that overtakes its first is left to the
//! kernel, which has no use for it; its sender repeats the datagram if it matters.

use lb_common::key::FragmentKey;

use super::tables::Tables;
use crate::parse::Packet;

#[inline(always)]
fn key<A: Copy>(packet: &Packet<A>) -> FragmentKey<A> {
    FragmentKey {
        source: packet.key.client,
        destination: packet.key.front,
        id: packet.id,
        protocol: packet.key.protocol,
    }
}

/// Keeps the ports of a first fragment that turned out to be ours.
#[inline(never)]
pub fn keep<V: Tables>(packet: &Packet<V::Address>) -> bool {
    let ([a, b], [c, d]) = (packet.key.client_port, packet.key.front_port);
    V::fragments().insert(&key(packet), &[a, b, c, d], 0).is_ok()
}

/// Gives a later fragment the ports of its first; false where that was not ours, or not seen.
#[inline(never)]
pub fn complete<V: Tables>(packet: &mut Packet<V::Address>) -> bool {
    let Some(ports) = V::fragments().get_ptr(&key(packet)) else {
        return false;
    };
    // SAFETY: a live map value, copied.
    let [a, b, c, d] = unsafe { *ports };
    packet.key.client_port = [a, b];
    packet.key.front_port = [c, d];
    true
}

//! Opening a case: what the packet is, and when it came.

use super::case::Case;
use super::skb::Skb;
use super::tables::Tables;
use super::{clock, fragment};
use crate::parse::{Packet, Part, sketch};

/// Opens the case of a packet that came in by a device of this node, or out of the tunnel from `realm`; `None` where it
/// cannot concern us.
#[inline(always)]
pub fn open<V: Tables>(skb: Skb, device: u8, realm: u16) -> Option<&'static mut Case<V::Address>> {
    let case = V::case()?;
    if !read::<V>(skb, &mut case.packet, realm) {
        return None;
    }
    case.arrival.blank(device);
    case.now = clock::now();
    case.leaving = 0;
    case.taken = false;
    Some(case)
}

#[inline(never)]
fn read<V: Tables>(skb: Skb, packet: &mut Packet<V::Address>, realm: u16) -> bool {
    let Some(sketched) = sketch::<V, _>(skb) else {
        return false;
    };
    *packet = sketched;
    packet.key.protocol |= (realm as u32) << 16;
    packet.part != Part::Later || fragment::complete::<V>(packet)
}

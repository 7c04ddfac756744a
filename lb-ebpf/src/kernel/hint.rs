//! What an ingress remembers of a flow that is not where its slot's head is.

use lb_common::key::FlowKey;
use lb_common::table::{BLOCK, Hint};

use super::Path;
use super::choose::slot;
use super::tables::{self, HEAD};

/// Rule 7: remembers that `node` holds the flow, although its slot's head is elsewhere.
#[inline(never)]
pub fn hint<V: Path>(flow: &FlowKey<V::Address>, node: u16, now: u32) -> u32 {
    let Some(pool) = tables::front_from_here::<V>(&flow.to()) else {
        return 0;
    };
    let Some((pool, slot, _)) = slot::<V>(flow.client, flow.ports(), flow.protocol as u8, pool) else {
        return 0;
    };
    if V::hints()
        .insert(
            flow,
            &Hint {
                node,
                pad: 0,
                tick: now,
            },
            0,
        )
        .is_err()
    {
        return 0;
    }
    if let Some(block) = HEAD.get_ptr_mut(pool.head + slot / BLOCK) {
        // The target has no atomic "or". A bit lost to another CPU costs its flows a hop, nothing else.
        // SAFETY: an aligned word of a live map value.
        unsafe {
            let hinted = &raw mut (*block).hinted;
            hinted.write_volatile(hinted.read_volatile() | 1 << (slot % BLOCK));
        }
    }
    1
}

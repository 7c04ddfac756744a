//! The nodes that can have a flow, as this one's table has them.

use lb_common::table::{CHAIN as CHAIN_LENGTH, ChainSlot, NO_TABLE};

use super::case::Choice;
use super::globals::self_node;
use super::tables::{CHAIN, POOL};

/// The chain of a packet's slot, where this node hosts the pool.
#[inline(always)]
pub fn chain_of(choice: &Choice) -> Option<&'static ChainSlot> {
    let pool = POOL.get(choice.pool)?;
    if pool.chain == NO_TABLE {
        return None;
    }
    CHAIN.get(pool.chain + choice.slot)
}

/// The chain's nodes without this one.
#[inline(always)]
pub fn others(chain: &ChainSlot) -> [u16; CHAIN_LENGTH] {
    let mut list = [0u16; CHAIN_LENGTH];
    let mut filled = 0usize;
    for &node in &chain.nodes {
        if node != 0 && node != self_node() && filled < CHAIN_LENGTH {
            list[filled] = node;
            filled += 1;
        }
    }
    list
}

/// Puts `node` behind the last of the list; a full list loses its last.
#[inline(always)]
pub fn append(list: &mut [u16; CHAIN_LENGTH], node: u16) {
    for index in 0..CHAIN_LENGTH {
        if list[index] == 0 || index == CHAIN_LENGTH - 1 {
            list[index] = node;
            return;
        }
    }
}

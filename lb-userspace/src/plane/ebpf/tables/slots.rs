//! Head and chain tables, written slot by slot: only what changed.

use std::collections::BTreeSet;
use std::mem::offset_of;
use std::sync::atomic::Ordering;

use lb_common::placement::{self, Candidate};
use lb_common::table::{BLOCK, ChainSlot, HeadBlock, NO_MEMBER, NO_TABLE};

use super::super::mapped::{Mapped, set_u16};
use super::{Book, Tables, tick};
use crate::model::Pool;

/// Writes tables; several may at once, for different pools.
#[derive(Clone, Copy)]
pub(super) struct Writer<'t> {
    seed: u64,
    heads: &'t Mapped<HeadBlock>,
    chains: &'t Mapped<ChainSlot>,
}

/// Room for one table while it is computed.
#[derive(Default)]
pub(super) struct Scratch {
    heads: Vec<u16>,
    chains: Vec<ChainSlot>,
}

impl Tables {
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer {
            seed: self.seed,
            heads: &self.maps.head,
            chains: &self.maps.chain,
        }
    }
}

impl Writer<'_> {
    /// Brings the pool's head table, and its chain table where it has one, to what the pool's members ask for.
    /// Chains come first: by the time a head moves, its old holder can be found.
    pub(super) fn write(self, scratch: &mut Scratch, book: &Book, pool: &Pool) {
        let candidates: Vec<Candidate> = pool.members.iter().map(|member| member.candidate).collect();
        let offsets: Vec<u16> = candidates
            .iter()
            .map(|member| book.offset(member.tag).unwrap_or(NO_MEMBER))
            .collect();
        scratch.heads.resize(pool.slots as usize, NO_MEMBER);
        placement::fill_heads(self.seed, &candidates, &mut scratch.heads);
        let now = tick();
        let chain = (book.entry.chain != NO_TABLE).then_some(book.entry.chain);
        if let Some(first) = chain {
            scratch.chains.resize(pool.slots as usize, ChainSlot::default());
            placement::fill_chains(self.seed, &candidates, &mut scratch.chains);
            for (slot, wanted) in scratch.chains.iter().enumerate() {
                let next = offsets
                    .get(usize::from(wanted.next))
                    .copied()
                    .unwrap_or(NO_MEMBER);
                write_chain(self.chains, first + slot as u32, &ChainSlot { next, ..*wanted });
            }
        }
        for (slot, &index) in scratch.heads.iter().enumerate() {
            let wanted = offsets.get(usize::from(index)).copied().unwrap_or(NO_MEMBER);
            let slot = slot as u32;
            let head = self
                .heads
                .u16(book.entry.head + slot / BLOCK, member_offset(slot % BLOCK));
            if head.load(Ordering::Relaxed) != wanted {
                if let Some(first) = chain {
                    let changed = offset_of!(ChainSlot, changed);
                    self.chains
                        .u32(first + slot, changed)
                        .store(now, Ordering::Relaxed);
                }
                head.store(wanted, Ordering::Release);
            }
        }
    }

    /// The table for new connections while nodes are suspected: heads among the others.
    pub(super) fn write_fresh(
        self,
        scratch: &mut Scratch,
        book: &Book,
        pool: &Pool,
        suspected: &BTreeSet<u16>,
    ) {
        let members: Vec<Candidate> = pool
            .members
            .iter()
            .map(|member| member.candidate)
            .filter(|member| !suspected.contains(&member.node))
            .collect();
        let offsets: Vec<u16> = members
            .iter()
            .map(|member| book.offset(member.tag).unwrap_or(NO_MEMBER))
            .collect();
        scratch.heads.resize(pool.slots as usize, NO_MEMBER);
        placement::fill_heads(self.seed, &members, &mut scratch.heads);
        for (slot, &index) in scratch.heads.iter().enumerate() {
            let wanted = offsets.get(usize::from(index)).copied().unwrap_or(NO_MEMBER);
            let slot = slot as u32;
            set_u16(
                self.heads
                    .u16(book.entry.fresh + slot / BLOCK, member_offset(slot % BLOCK)),
                wanted,
            );
        }
    }

    /// Makes a new part of `HEAD` empty, as it may have been another pool's.
    pub(super) fn clear_heads(self, first: u32, blocks: u32) {
        for block in first..first + blocks {
            self.heads
                .u64(block, offset_of!(HeadBlock, hinted))
                .store(0, Ordering::Relaxed);
            for slot in 0..BLOCK {
                set_u16(self.heads.u16(block, member_offset(slot)), NO_MEMBER);
            }
        }
    }

    /// The same for `CHAIN`; every slot counts as changed now, since nothing is known of before.
    pub(super) fn clear_chains(self, first: u32, slots: u32) {
        let changed = tick();
        for slot in first..first + slots {
            write_chain(
                self.chains,
                slot,
                &ChainSlot {
                    next: NO_MEMBER,
                    ..ChainSlot::default()
                },
            );
            self.chains
                .u32(slot, offset_of!(ChainSlot, changed))
                .store(changed, Ordering::Relaxed);
        }
    }

    /// Offset of the head of a slot, as the kernel sees it.
    pub(super) fn head(self, first: u32, slot: u32) -> u16 {
        self.heads
            .u16(first + slot / BLOCK, member_offset(slot % BLOCK))
            .load(Ordering::Relaxed)
    }
}

/// All but the stamp. The runner-up and the nodes are words of their own: a packet that sees the new list and the old
/// runner-up takes a decision that some node's view allows.
fn write_chain(chains: &Mapped<ChainSlot>, index: u32, wanted: &ChainSlot) {
    for (at, &node) in wanted.nodes.iter().enumerate() {
        set_u16(chains.u16(index, offset_of!(ChainSlot, nodes) + 2 * at), node);
    }
    set_u16(chains.u16(index, offset_of!(ChainSlot, next)), wanted.next);
}

pub(super) fn member_offset(slot_in_block: u32) -> usize {
    offset_of!(HeadBlock, member) + 2 * slot_in_block as usize
}

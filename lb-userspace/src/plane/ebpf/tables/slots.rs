//! Head and chain tables, written slot by slot: only what changed.

use std::collections::BTreeSet;
use std::mem::offset_of;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU16, Ordering};

use lb_common::placement::{self, Candidate, State};
use lb_common::table::{BLOCK, BY_PROXY, ChainSlot, HeadBlock, NO_MEMBER, NO_TABLE, NOBODY_ELSE};

use super::super::mapped::{Mapped, set_u16};
use super::given::place;
use super::{Book, Tables, tick};
use crate::model::Pool;

/// Writes tables; several may at once, for different pools.
#[derive(Clone, Copy)]
pub(super) struct Writer<'t> {
    seed: u64,
    heads: &'t Mapped<HeadBlock>,
    chains: &'t Mapped<ChainSlot>,
    suspected: &'t BTreeSet<u16>,
    by_proxy: &'t BTreeSet<u16>,
    taken: &'t BTreeSet<(IpAddr, u16, u8)>,
}

/// Room for one table while it is computed.
#[derive(Default)]
pub(super) struct Scratch {
    pub heads: Vec<u16>,
    others: Vec<u16>,
    chains: Vec<ChainSlot>,
}

impl Tables {
    pub(super) fn writer(&self) -> Writer<'_> {
        Writer {
            seed: self.seed,
            heads: &self.maps.head,
            chains: &self.maps.chain,
            suspected: &self.suspected,
            by_proxy: &self.by_proxy,
            taken: &self.taken,
        }
    }
}

impl<'t> Writer<'t> {
    /// Brings the pool's tables, as many as it has, to what its members ask for. Chains come first: by the time a head
    /// moves, its old holder can be found.
    pub(super) fn write(self, scratch: &mut Scratch, book: &Book, pool: &Pool) {
        let members: Vec<Candidate> = pool.members.iter().map(|member| member.candidate).collect();
        self.write_chains(scratch, book, &members);
        self.write_heads(scratch, book, pool, &members);
        if book.entry.fresh != book.entry.head && self.diverts(pool) {
            self.write_fresh(scratch, book, pool, &members);
        }
    }

    /// Whether new connections of a pool go around suspected nodes. Where no other node has an active member they do not:
    /// most likely it is this node that is cut off, and if not, nothing is lost by trying.
    pub(super) fn diverts(self, pool: &Pool) -> bool {
        let suspected = |member: &Candidate| self.suspected.contains(&member.node);
        let mut members = pool.members.iter().map(|member| &member.candidate);
        members.clone().any(suspected)
            && members.any(|member| member.state == State::Active && !suspected(member))
    }

    /// Who can hold the flows of each slot, likeliest first; nodes that are suspected come last, as a chased packet ends at
    /// one that is down.
    fn write_chains(self, scratch: &mut Scratch, book: &Book, members: &[Candidate]) {
        let Some(first) = book.chain() else { return };
        let offsets = book.offsets(members);
        scratch
            .chains
            .resize(book.entry.slots as usize, ChainSlot::default());
        self.fill_chains(scratch, members);
        for (slot, wanted) in (first..).zip(&mut scratch.chains) {
            if !self.suspected.is_empty() {
                placement::put_last(&mut wanted.nodes, |node| self.suspected.contains(&node));
            }
            wanted.next = offset(&offsets, wanted.next);
            write_chain(self.chains, slot, wanted);
        }
    }

    /// What is sent along a chain, or to a runner-up, must find packet programs: as if there were no members without.
    fn fill_chains(self, scratch: &mut Scratch, members: &[Candidate]) {
        let Some(others) = self.others(members) else {
            placement::fill_chains(self.seed, members, &mut scratch.chains);
            return;
        };
        let reachable: Vec<Candidate> = others.iter().map(|&at| members[usize::from(at)]).collect();
        placement::fill_chains(self.seed, &reachable, &mut scratch.chains);
        for chain in &mut scratch.chains {
            chain.next = offset(&others, chain.next);
        }
    }

    /// Indices of the members that packets reach, where there are others.
    fn others(self, members: &[Candidate]) -> Option<Vec<u16>> {
        let is_reached = |member: &Candidate| !self.by_proxy.contains(&member.node);
        if self.by_proxy.is_empty() || members.iter().all(is_reached) {
            return None;
        }
        let members = (0..).zip(members).filter(|(_, member)| is_reached(member));
        Some(members.map(|(at, _)| at).collect())
    }

    /// Whether somebody else would get what is left to the proxy of a pool.
    pub(super) fn is_taken(self, pool: &Pool) -> bool {
        let mut frontends = pool.frontends.iter();
        !self.taken.is_empty() && frontends.any(|front| self.taken.contains(&place(pool, front)))
    }

    /// Fills `scratch.heads` with what the slots of the pool's head table shall be for these members.
    pub(super) fn rows(self, scratch: &mut Scratch, book: &Book, pool: &Pool, members: &[Candidate]) {
        let (offsets, slots) = (book.offsets(members), book.entry.slots as usize);
        scratch.heads.resize(slots, NO_MEMBER);
        placement::fill_heads(self.seed, members, &mut scratch.heads);
        let Some(others) = self.others(members) else {
            for head in &mut scratch.heads {
                *head = offset(&offsets, *head);
            }
            return;
        };
        let reachable: Vec<Candidate> = others.iter().map(|&at| members[usize::from(at)]).collect();
        scratch.others.resize(slots, NO_MEMBER);
        placement::fill_heads(self.seed, &reachable, &mut scratch.others);
        // Served by the others alone is better than by somebody else, or by nobody.
        let spared = !reachable.is_empty() && self.is_taken(pool);
        for (head, &other) in scratch.heads.iter_mut().zip(&scratch.others) {
            let member = members.get(usize::from(*head));
            *head = if member.is_some_and(|member| self.by_proxy.contains(&member.node)) {
                match offset(&offsets, offset(&others, other)) {
                    NO_MEMBER => BY_PROXY | NOBODY_ELSE,
                    other if spared => other,
                    other => BY_PROXY | other,
                }
            } else {
                offset(&offsets, *head)
            };
        }
    }

    fn write_heads(self, scratch: &mut Scratch, book: &Book, pool: &Pool, members: &[Candidate]) {
        let now = tick();
        self.rows(scratch, book, pool, members);
        for (slot, &wanted) in (0..).zip(&scratch.heads) {
            let head = self.slot(book.entry.head, slot);
            if head.load(Ordering::Relaxed) != wanted {
                if let Some(first) = book.chain() {
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
    fn write_fresh(self, scratch: &mut Scratch, book: &Book, pool: &Pool, members: &[Candidate]) {
        let mut members = members.to_vec();
        members.retain(|member| !self.suspected.contains(&member.node));
        self.rows(scratch, book, pool, &members);
        for (slot, &wanted) in (0..).zip(&scratch.heads) {
            set_u16(self.slot(book.entry.fresh, slot), wanted);
        }
    }

    /// Makes a new part of `HEAD` empty, as it may have been another pool's.
    pub(super) fn clear_heads(self, first: u32, blocks: u32) {
        for block in first..first + blocks {
            self.heads
                .u64(block, offset_of!(HeadBlock, hinted))
                .store(0, Ordering::Relaxed);
            for slot in 0..BLOCK {
                set_u16(self.slot(block, slot), NO_MEMBER);
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
        self.slot(first, slot).load(Ordering::Relaxed)
    }

    /// A slot of the head table that starts at block `first`.
    fn slot(self, first: u32, slot: u32) -> &'t AtomicU16 {
        let at = offset_of!(HeadBlock, member) + 2 * (slot % BLOCK) as usize;
        self.heads.u16(first + slot / BLOCK, at)
    }
}

impl Book {
    /// Where the pool's chain table starts, if it has one.
    fn chain(&self) -> Option<u32> {
        (self.entry.chain != NO_TABLE).then_some(self.entry.chain)
    }

    /// The offsets of these members, in their order.
    fn offsets(&self, members: &[Candidate]) -> Vec<u16> {
        let offset = |member: &Candidate| self.offset(member.tag).unwrap_or(NO_MEMBER);
        members.iter().map(offset).collect()
    }
}

/// The offset of the member at `index`, which is [`NO_MEMBER`] where there is none.
fn offset(offsets: &[u16], index: u16) -> u16 {
    offsets.get(usize::from(index)).copied().unwrap_or(NO_MEMBER)
}

/// All but the stamp. The runner-up and the nodes are words of their own: a packet that sees the new list and the old
/// runner-up takes a decision that some node's view allows. A packet that reads a list in the nanoseconds in which nodes
/// change places can miss one of them.
fn write_chain(chains: &Mapped<ChainSlot>, index: u32, wanted: &ChainSlot) {
    for (at, &node) in wanted.nodes.iter().enumerate() {
        set_u16(chains.u16(index, offset_of!(ChainSlot, nodes) + 2 * at), node);
    }
    set_u16(chains.u16(index, offset_of!(ChainSlot, next)), wanted.next);
}

//! Who else can hold a flow of a slot.

use super::score::{Draws, Rank};
use super::{Candidate, State, runner_up};
use crate::table::{CHAIN, ChainSlot, NO_MEMBER};

/// Entries of the ranking that are worked through at a time. Chains rarely need more, and what they need is found in
/// one pass over the members without allocating.
const BATCH: usize = 32;

/// Tags of the nodes that can hold a flow of `slot`, likeliest first; 0 ends the list.
///
/// A member that is no longer (or not yet) head holds flows if it was head once. It never was if two others were active
/// all its life and outranked it, two because one may have been passed over: it deflected a connection, was suspected,
/// or its change had not reached the node that chose. So a node is listed unless each of its members has two such
/// *excluders*, on two different nodes: a whole node is drained or suspected at once, which passes over all its members
/// but is one deviation.
///
/// - The member itself counts at the highest weight it ever had: it may have its flows from then.
/// - An excluder counts at its present weight. It excludes only those who came after its last activation and its last
///   change of weight, so this is the weight it had all their lives; a higher one would exclude members that were head.
/// - Unknown stamps exclude nobody.
pub fn chain(seed: u64, slot: u32, members: &[Candidate]) -> [u16; CHAIN] {
    let mut nodes = Nodes::default();
    let mut excluders = Excluders::default();
    let oldest = members.iter().map(|m| m.first).min().unwrap_or(0);
    let mut below = None;
    loop {
        let ranking = Ranking::new(seed, slot, members, below);
        for entry in ranking.entries() {
            let member = &members[entry.offset];
            if entry.claims && !excluders.exclude(member) && nodes.add(member.node) {
                return nodes.list;
            }
            if entry.excludes {
                excluders.add(member);
            }
        }
        below = match ranking.entries().last() {
            Some(last) if ranking.is_full() && excluders.second >= oldest => Some(last.place()),
            _ => return nodes.list,
        };
    }
}

/// [`chain`] and [`runner_up`] of slots 0, 1, 2 and so on; [`ChainSlot::changed`] is left as it is.
pub fn fill_chains(seed: u64, members: &[Candidate], slots: &mut [ChainSlot]) {
    for (slot, entry) in slots.iter_mut().enumerate() {
        entry.nodes = chain(seed, slot as u32, members);
        entry.next = match runner_up(seed, slot as u32, members) {
            Some(next) => next as u16,
            None => NO_MEMBER,
        };
    }
}

/// The nodes found so far.
#[derive(Default)]
struct Nodes {
    list: [u16; CHAIN],
    len: usize,
}

impl Nodes {
    /// Whether the list is full now.
    fn add(&mut self, node: u16) -> bool {
        if !self.list[..self.len].contains(&node) {
            self.list[self.len] = node;
            self.len += 1;
        }
        self.len == CHAIN
    }
}

/// The active members passed so far, as far as they decide whom they exclude: the earliest `last` of all, and the
/// earliest of those on other nodes.
struct Excluders {
    first: u64,
    node: u16,
    second: u64,
}

impl Default for Excluders {
    fn default() -> Self {
        Self {
            first: u64::MAX,
            node: 0,
            second: u64::MAX,
        }
    }
}

impl Excluders {
    fn add(&mut self, member: &Candidate) {
        if member.node == self.node {
            self.first = self.first.min(member.last);
        } else if member.last < self.first {
            self.second = self.first;
            (self.first, self.node) = (member.last, member.node);
        } else {
            self.second = self.second.min(member.last);
        }
    }

    fn exclude(&self, member: &Candidate) -> bool {
        self.second < member.first
    }
}

/// One place in the ranking of a slot. A member whose weight was higher once has two: where it may have been head, and
/// where it outranks others now.
#[derive(Clone, Copy)]
struct Entry {
    rank: Rank,
    offset: usize,
    claims: bool,
    excludes: bool,
}

impl Entry {
    /// Total order of the entries of a slot, a member's claim before its exclusion.
    fn place(&self) -> (Rank, bool) {
        (self.rank, self.claims)
    }
}

/// The next entries of a slot's ranking, best first.
struct Ranking {
    entries: [Entry; BATCH],
    len: usize,
}

impl Ranking {
    fn new(seed: u64, slot: u32, members: &[Candidate], below: Option<(Rank, bool)>) -> Self {
        const NONE: Entry = Entry {
            rank: Rank { score: 0, tag: 0 },
            offset: 0,
            claims: false,
            excludes: false,
        };
        let mut ranking = Self {
            entries: [NONE; BATCH],
            len: 0,
        };
        for (offset, member) in members.iter().enumerate() {
            let draws = Draws::new(seed, member.tag);
            let active = member.state == State::Active;
            let peak = member.peak.max(member.weight);
            let entry = |weight, claims, excludes| Entry {
                rank: Rank {
                    score: draws.best(slot, weight),
                    tag: member.tag,
                },
                offset,
                claims,
                excludes,
            };
            let claim = entry(peak, true, active && peak == member.weight);
            let rest = (active && peak != member.weight).then(|| entry(member.weight, false, true));
            for entry in [Some(claim), rest].into_iter().flatten() {
                if below.is_none_or(|below| entry.place() < below) {
                    ranking.insert(entry);
                }
            }
        }
        ranking
    }

    fn entries(&self) -> &[Entry] {
        &self.entries[..self.len]
    }

    fn is_full(&self) -> bool {
        self.len == BATCH
    }

    fn insert(&mut self, entry: Entry) {
        let at = self.entries().partition_point(|e| e.place() > entry.place());
        if at == BATCH {
            return;
        }
        self.len = (self.len + 1).min(BATCH);
        self.entries.copy_within(at..self.len - 1, at + 1);
        self.entries[at] = entry;
    }
}

#[cfg(test)]
mod tests;
